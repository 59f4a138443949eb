"""Copies of tensors from a mapped file are exact, and leave no page of the map in memory."""

from __future__ import annotations

import gc
import json
import os
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from torchlift.converters import t7
from torchlift.converters.t7.copying import _file_map, copy_array

#: More than one chunk, and not a whole number of pages.
COUNT = 3_000_001


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A FloatStorage of 12 MB with the elements 0, 1, 2, …, at an unaligned offset."""
    path = tmp_path_factory.mktemp("large") / "large.t7"
    head = struct.pack("<iii", 4, 1, 3) + b"V 1" + struct.pack("<i", 18) + b"torch.FloatStorage"
    head += struct.pack("<q", COUNT)
    assert len(head) % 4
    path.write_bytes(head + np.arange(COUNT, dtype="<f4").tobytes())
    return path


@pytest.mark.parametrize("writable", [True, False])
def test_copies_are_exact_and_aligned(large: Path, writable: bool) -> None:
    storage = t7.load(large, writable=writable)
    for array in (storage, storage[5:2_000_000], storage[::7], storage[:0], storage):
        copy = copy_array(array)
        np.testing.assert_array_equal(copy, np.asarray(array))
        assert copy.flags.aligned
        assert copy.flags.writeable
        assert not np.shares_memory(copy, array)


def test_changes_to_a_writable_map_are_copied_and_kept(large: Path) -> None:
    storage = t7.load(large)
    storage[2_000_000] = -1
    assert copy_array(storage)[2_000_000] == -1
    assert storage[2_000_000] == -1
    with pytest.raises(ValueError, match="read-only"):
        t7.load(large, writable=False)[0] = 1


def test_a_file_that_becomes_shorter_is_an_error(large: Path, tmp_path: Path) -> None:
    """Reading the map would end the process (SIGBUS)."""
    path = tmp_path / "shorter.t7"
    path.write_bytes(large.read_bytes())
    storage = t7.load(path, writable=False)
    os.truncate(path, 10_000_000)
    with pytest.raises(t7.T7Error, match="has become shorter"):
        copy_array(storage)


def test_the_file_is_closed_with_its_map(large: Path) -> None:
    storage = t7.load(large, writable=False)
    descriptor = _file_map(np.asarray(storage)).descriptor
    os.fstat(descriptor)
    del storage
    gc.collect()
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(descriptor)


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_no_page_of_a_read_only_map_stays_in_memory(large: Path) -> None:
    """Otherwise a model's weights would be in memory twice during a conversion."""
    program = f"""
import json, re
from torchlift.converters import t7
from torchlift.converters.t7.copying import _file_map, copy_array
def mapped():
    return int(re.search(r"RssFile:\\s*(\\d+)", open("/proc/self/status").read())[1])
storage = t7.load({str(large)!r}, writable=False)
before = mapped()
copy = copy_array(storage)
print(json.dumps(mapped() - before))
"""
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True)
    assert json.loads(result.stdout) < 1000  # KiB, of 11,719
