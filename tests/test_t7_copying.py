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

from torchlift.converters import load_model, t7
from torchlift.converters.t7.copying import _place, copied_ahead, copy_array
from torchlift.converters.t7.model import parameters_of
from torchlift.converters.t7.reading.byte_stream import FileMap

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


@pytest.mark.parametrize("dtype", ["<f4", ">f4", "<i8", ">i8", "u1", ">f2"])
def test_copies_are_native_and_contiguous(dtype: str) -> None:
    """A transposed weight becomes rows in memory, as `safetensors` and ONNX write them."""
    array = np.arange(24).astype(dtype).reshape(2, 3, 4)
    for view in (array, array.T, array[:, ::2], array.transpose(1, 0, 2), array[1, 2, 3]):
        copy = copy_array(view)
        np.testing.assert_array_equal(copy, view)
        assert copy.shape == view.shape
        assert copy.flags.c_contiguous
        assert copy.dtype.isnative


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


def test_copies_that_were_started_ahead_are_exact_and_taken_once(large: Path) -> None:
    storage = t7.load(large, writable=False)
    parts = [storage[:2_500_000], storage[2_500_000:], storage[:2_500_000], storage[:10]]
    file, _ = _place(np.asarray(storage))
    with copied_ahead(parts):
        assert len(file.copies) == 2
        copies = [copy_array(part) for part in parts]
        assert not file.copies
    for part, copy in zip(parts, copies, strict=True):
        np.testing.assert_array_equal(copy, np.asarray(part))
        assert copy.flags.writeable
    copies[0][0] = -1
    assert copies[2][0] == 0


def test_copies_ahead_are_not_larger_than_their_file(large: Path) -> None:
    """Many views of one storage would ask for many times its memory."""
    storage = t7.load(large, writable=False)
    file, _ = _place(np.asarray(storage))
    views = [storage[start:] for start in range(10)]
    with copied_ahead(views):
        assert len(file.copies) == 1
        for view in views:
            np.testing.assert_array_equal(copy_array(view), np.asarray(view))


def test_copies_that_nobody_takes_are_dropped(large: Path) -> None:
    storage = t7.load(large, writable=False)
    file, _ = _place(np.asarray(storage))
    with pytest.raises(KeyError), copied_ahead([storage, storage[::2]]):
        raise KeyError
    assert not file.copies


def test_a_file_that_becomes_shorter_is_an_error_in_a_copy_ahead_too(
    large: Path, tmp_path: Path
) -> None:
    path = tmp_path / "shorter.t7"
    path.write_bytes(large.read_bytes())
    storage = t7.load(path, writable=False)
    os.truncate(path, 10_000_000)
    with copied_ahead([storage]), pytest.raises(t7.T7Error, match="has become shorter"):
        copy_array(storage)


def test_a_network_gets_the_weights_of_its_file(tmp_path: Path) -> None:
    """Its large weights are copied ahead, the small ones and gradients are not."""
    random = np.random.default_rng(0)
    fields = {
        "weight": random.standard_normal((600, 1000), np.float32),
        "bias": random.standard_normal(600, np.float32),
        "gradWeight": np.ones((600, 1000), np.float32),
        "gradBias": np.ones(600, np.float32),
    }
    t7.save(t7.LuaObject("nn.Linear", t7.LuaTable(fields)), tmp_path / "linear.t7")
    assert [array.shape for array in parameters_of(t7.load(tmp_path / "linear.t7"))] == [
        (600, 1000),
        (600,),
    ]
    linear = load_model(tmp_path / "linear.t7")
    np.testing.assert_array_equal(linear.weight.detach().numpy(), fields["weight"])
    np.testing.assert_array_equal(linear.bias.detach().numpy(), fields["bias"])


def test_the_file_is_closed_with_its_map(large: Path) -> None:
    storage = t7.load(large, writable=False)
    file, _ = _place(np.asarray(storage))
    descriptor = file.descriptor
    del file
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
from torchlift.converters.t7.copying import copy_array
def mapped():
    return int(re.search(r"RssFile:\\s*(\\d+)", open("/proc/self/status").read())[1])
storage = t7.load({str(large)!r}, writable=False)
before = mapped()
copy = copy_array(storage)
print(json.dumps(mapped() - before))
"""
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True)
    assert json.loads(result.stdout) < 1000  # KiB, of 11,719


def test_rows_that_overlap_are_copied_as_they_lie_in_memory() -> None:
    """As Torch7's `unfold` makes them: the copy has the elements once, and is its own."""
    memory = np.arange(6.0)
    rows = np.lib.stride_tricks.as_strided(memory, (4, 3), (8, 8))
    copied = t7.to_torch(rows)
    assert copied.stride() == (1, 1)
    assert copied.untyped_storage().nbytes() == 6 * 8
    assert np.array_equal(copied.numpy(), rows)
    copied[0, 1] = 9
    assert copied[1, 0] == 9
    assert memory.tolist() == [0, 1, 2, 3, 4, 5]


@pytest.mark.parametrize("dtype", ["<f8", ">f8", ">i4", ">f2"])
def test_large_arrays_of_the_other_byte_order_are_copied_as_numbers(
    dtype: str, tmp_path: Path
) -> None:
    """Of a read-only map, whose file large arrays are read from byte by byte."""
    numbers = (np.arange(2**17 // np.dtype(dtype).itemsize) % 1000).astype(dtype)
    numbers.tofile(tmp_path / "numbers")
    with (tmp_path / "numbers").open("rb") as stream:
        mapped = FileMap.of(stream)
    array = np.ndarray(numbers.shape, dtype, mapped)
    assert (_place(array) is not None) is array.dtype.isnative
    copied = copy_array(array)
    assert copied.dtype.isnative
    assert np.array_equal(copied, numbers)


@pytest.mark.parametrize("most", [1, 1000, 2**20])
def test_a_read_that_gives_less_than_was_asked_for_goes_on(
    most: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As reads from a network's disk may."""
    numbers = np.random.default_rng(0).integers(0, 256, 2**16 + 3, np.uint8)
    (tmp_path / "numbers").write_bytes(b"head" + numbers.tobytes())
    with (tmp_path / "numbers").open("rb") as stream:
        array = np.frombuffer(FileMap.of(stream), np.uint8)[4:]
    read = os.preadv
    monkeypatch.setattr(
        os, "preadv", lambda file, views, at: read(file, [view[:most] for view in views], at)
    )
    np.testing.assert_array_equal(copy_array(array), numbers)


def test_copies_need_not_know_how_many_processors_there_are(
    large: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: None)
    storage = t7.load(large, writable=False)
    np.testing.assert_array_equal(copy_array(storage), np.asarray(storage))


def test_parameters_come_once_for_each_module() -> None:
    """Of every depth, in tables too; a module that occurs twice is entered once."""

    def layer(name: str, **arrays: np.ndarray) -> t7.LuaObject:
        return t7.LuaObject(name, t7.LuaTable(arrays))

    weight, bias, own, data = np.zeros(1), np.ones(2), np.zeros(3), np.zeros(4)
    inner = layer("nn.Linear", weight=weight, bias=bias, output=data, gradOutput=data)
    other = layer("my.Layer", own=own, gradOwn=data, else_=data)
    network = layer("nn.Sequential")
    network.fields["modules"] = t7.LuaTable.from_list([inner, t7.LuaTable({"deep": other}), inner])
    network.fields["parent"] = network
    network.fields[1] = data
    assert sorted(len(array) for array in parameters_of(network)) == [1, 2, 3]
    assert {id(array) for array in parameters_of(network)} == {id(weight), id(bias), id(own)}
