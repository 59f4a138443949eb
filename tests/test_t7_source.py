"""A `.t7` can be opened from a path, bytes or an open file, compressed or not.

What is protected: the value is equal for every source; tensors of a file on disk are read when they
are accessed, and never written back; decompression has a limit; explicit options take effect.
"""

from __future__ import annotations

import bz2
import gc
import gzip
import io
import lzma
import os
import subprocess
import sys
import tempfile
import threading
import warnings
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support import FIXTURES
from test_t7_formats import VALUES, to_builtins

from torchlift.converters import t7
from torchlift.converters.t7 import T7Error, T7Warning, TorchArray
from torchlift.converters.t7.embedded import embedded_value, may_embed

LIST = FIXTURES / "formats" / "list.t7"
EXPECTED = VALUES["list"]


def test_paths_and_bytes() -> None:
    data = LIST.read_bytes()
    for source in (LIST, str(LIST), data, bytearray(data), memoryview(data)):
        assert to_builtins(t7.load(source)) == EXPECTED


def test_open_files_are_read_from_where_they_stand() -> None:
    data = LIST.read_bytes()
    with LIST.open("rb") as file, LIST.open("rb", buffering=0) as raw:
        for source in (file, raw, io.BytesIO(data)):
            assert to_builtins(t7.load(source)) == EXPECTED
    with tempfile.TemporaryFile("w+b") as file:
        file.write(bytes(5 + len(data)) + data[-1:])
        # Once a buffer was read, a seek inside it writes nothing to the disk.
        file.seek(0)
        file.read(1)
        file.seek(0)
        file.write(b"header" + data[:-1])
        file.seek(6)
        assert to_builtins(t7.load(file)) == EXPECTED, "from its position, though not flushed"


def test_a_file_opened_as_text() -> None:
    sentence = r'list\.t7: was opened as text; open it with "rb"'
    with LIST.open(encoding="latin-1") as file, pytest.raises(T7Error, match=sentence):
        t7.load(file)  # type: ignore[arg-type]  # the wrong type is the test


def test_a_pipe_is_read() -> None:
    read, write = os.pipe()
    with os.fdopen(write, "wb") as file:
        file.write(LIST.read_bytes())
    with os.fdopen(read, "rb") as file:
        assert to_builtins(t7.load(file)) == EXPECTED


COMPRESS: dict[str, Callable[[bytes], bytes]] = {
    "gz": gzip.compress,
    "bz2": bz2.compress,
    "xz": lzma.compress,
}


@pytest.mark.parametrize("kind", COMPRESS)
def test_compressed_files_are_read_in_all_their_parts(kind: str, tmp_path: Path) -> None:
    data = (FIXTURES / "formats" / "module_ascii.t7").read_bytes()
    packed = COMPRESS[kind](data[:100]) + COMPRESS[kind](data[100:])
    path = tmp_path / f"model.t7.{kind}"
    path.write_bytes(packed)
    for source in (path, packed, io.BytesIO(packed)):
        weight = t7.load(source)["modules"][1]["weight"]
        assert np.array_equal(weight, t7.load(data)["modules"][1]["weight"])
        weight[:] = 0


@pytest.mark.parametrize("kind", COMPRESS)
def test_damaged_compressed_files(kind: str) -> None:
    packed = COMPRESS[kind]((FIXTURES / "models" / "softmax.t7").read_bytes())
    with pytest.raises(T7Error, match=r"compressed file.* truncated \(download or copy it again"):
        t7.load(packed[: len(packed) // 2])
    middle = len(packed) // 2
    with pytest.raises(T7Error, match=r"compressed file.* download or copy it again"):
        t7.load(packed[:middle] + bytes(64) + packed[middle + 64 :])
    # Behind the beginning of the file nothing is as it should be.
    with pytest.raises(T7Error, match="is a damaged compressed file"):
        t7.load(packed[:10] + b"\xff" * 100)


def test_decompression_has_a_limit() -> None:
    """400 MB of zeros in a few hundred bytes."""
    bomb = bz2.compress(bytes(2**20)) * 400
    with pytest.raises(T7Error, match=r"decompresses to more than 268,435,456 bytes"):
        t7.load(bomb)


@pytest.mark.parametrize("variant", ["_long4", "_bigendian", "_big_long4", "_ascii", ""])
def test_right_options_change_nothing_and_wrong_ones_are_not_corrected(variant: str) -> None:
    """Right options change nothing; wrong options are not corrected."""
    data = (FIXTURES / "formats" / f"longtensor{variant}.t7").read_bytes()
    right: dict[str, Any] = {
        "long_size": 4 if variant.endswith("long4") else 8,
        "format": "ascii" if variant == "_ascii" else "binary",
        "byte_order": "big" if "_big" in variant else "little",
    }
    assert t7.load(data, **right).shape == (2, 3, 4)
    wrong_format = {"ascii": "binary", "binary": "ascii"}[right["format"]]
    with pytest.raises(T7Error):
        t7.load(data, **right | {"format": wrong_format})
    if variant == "":
        with pytest.warns(T7Warning, match=r"the last \d+ bytes are not"):
            assert t7.load(data, long_size=4).size == 0
    elif variant != "_ascii":
        with pytest.raises(T7Error):
            t7.load(data, **right | {"long_size": 12 - right["long_size"]})


@pytest.mark.parametrize("option", [{"long_size": 5}, {"format": "text"}, {"byte_order": "middle"}])
def test_options_that_do_not_exist_are_refused(option: dict[str, Any]) -> None:
    with pytest.raises(T7Error, match=rf"{next(iter(option))} must be .* or .*, not "):
        t7.load(LIST, **option)


def test_missing_files_and_folders(tmp_path: Path) -> None:
    with pytest.raises(T7Error, match=r"no\.t7: no such file"):
        t7.load(tmp_path / "no.t7")
    with pytest.raises(T7Error, match="is a folder"):
        t7.load(tmp_path)


def test_serialized_strings_and_storages() -> None:
    data = (FIXTURES / "formats" / "list.t7").read_bytes()
    storage = np.frombuffer(data, "i1").view(TorchArray)
    text = (FIXTURES / "formats" / "strings_ascii.t7").read_bytes()
    for source in (data, storage, storage.view("u1"), data + b"\0"):
        assert to_builtins(t7.loads(source)) == EXPECTED
    assert to_builtins(t7.loads(text.decode())) == VALUES["strings_ascii"]
    with pytest.raises(T7Error, match="expected an array of one-byte elements, not of float64"):
        t7.loads(np.zeros(3))


def test_strings_nested_in_a_file() -> None:
    inner = t7.dumps({"x": np.arange(3)})
    outer = t7.loads(t7.dumps({"string": inner, "storage": np.frombuffer(inner, "i1")}))
    for nested in outer.values():
        assert t7.loads(nested)["x"].tolist() == [0, 1, 2]


def test_only_a_row_of_bytes_may_be_a_nested_file() -> None:
    """An image of bytes is an image, whatever its first pixels are."""
    inner = t7.dumps({"x": 1})
    row = t7.loads(t7.dumps(np.frombuffer(inner, np.uint8)))
    for array in (row, row.view("i1"), row.storage):
        assert may_embed(array)
        assert embedded_value(array)["x"] == 1
    words = row[: len(row) // 4 * 4].view("i4")
    for array in (row[:7], row[:, None], words, row[::-1], np.asarray(row)):
        assert not may_embed(array)
    assert may_embed(inner)
    assert not may_embed(inner[:7])
    assert not may_embed(bytearray(inner))


def test_writing_to_a_tensor_does_not_change_the_file(tmp_path: Path) -> None:
    path = tmp_path / "x.t7"
    t7.save({"x": np.zeros(1000)}, path)
    before = path.read_bytes()
    t7.load(path)["x"][:] = 1
    assert path.read_bytes() == before


RESIDENT = """
import resource, sys
from torchlift.converters import t7
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
value = t7.load(sys.argv[1])
assert value["x"].shape == (16, 2**20) and value["x"][7, 5] == 0
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="peak memory is measured in other units")
def test_loading_does_not_read_the_tensors(tmp_path: Path) -> None:
    """The pages of 128 MB of weights do not become resident."""
    path = tmp_path / "x.t7"
    t7.save({"x": np.zeros((16, 2**20))}, path)
    result = subprocess.run(
        [sys.executable, "-c", RESIDENT, str(path)], capture_output=True, text=True, check=True
    )
    assert float(result.stdout) < 16


def test_garbage_collection_is_restored() -> None:
    """The reader disables it during a read; the caller may have disabled it before."""
    assert gc.isenabled()
    with pytest.raises(T7Error):
        t7.loads(b"\x03\0\0\0\x01")
    assert gc.isenabled()
    gc.disable()
    try:
        t7.load(LIST)
        assert not gc.isenabled()
    finally:
        gc.enable()


def test_several_threads_read_one_table() -> None:
    """A table of numbers is decoded at its first access, possibly on several threads at once."""
    table = t7.loads(t7.dumps(list(range(5000))))
    sums: list[int] = []
    threads = [threading.Thread(target=lambda: sums.append(sum(table.values()))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sums == [sum(range(5000))] * 8


def test_zlib_streams_are_not_decompressed() -> None:
    """Only gzip, bzip2 and xz are."""
    with pytest.raises(T7Error, match="type tag"):
        t7.load(zlib.compress(LIST.read_bytes()))


def test_several_xz_streams_are_read_as_one(tmp_path: Path) -> None:
    data = t7.dumps({"weights": np.arange(100.0)})
    packed = lzma.compress(data[:50]) + bytes(8) + lzma.compress(data[50:])
    assert t7.loads(packed)["weights"][99] == 99


def test_an_xz_dictionary_of_gigabytes_is_refused() -> None:
    """Its size takes a byte of the file; decompressing would ask for all of its memory."""
    filters = [{"id": lzma.FILTER_LZMA2, "preset": 0, "dict_size": 1 << 20}]
    packed = bytearray(lzma.compress(t7.dumps({"a": 1}), filters=filters))
    start = packed.index(bytes([0x21, 0x01]))  # the filter's number and its properties
    assert packed[start + 2] == 16  # 2^20 bytes
    packed[start + 2] = 37  # 3 GB
    header = (packed[12] + 1) * 4
    packed[12 + header - 4 : 12 + header] = zlib.crc32(packed[12 : 12 + header - 4]).to_bytes(
        4, "little"
    )
    for data in (bytes(packed), lzma.compress(b"") + bytes(packed)):
        with pytest.raises(t7.T7Error, match=r"[Mm]emory usage limit"):
            t7.loads(data)


@pytest.mark.parametrize("derive", [lambda a: a * 2, lambda a: a[1:], lambda a: a.T, np.sqrt])
def test_what_is_computed_from_a_tensor_of_a_file_is_written_as_an_array_is(derive: Any) -> None:
    """It keeps neither the class nor the storage of the tensor: it may be of another dtype."""
    array = t7.load(FIXTURES / "formats" / "floattensor.t7")
    derived = derive(array)
    assert t7.dumps(derived) == t7.dumps(np.asarray(derived))
    np.testing.assert_array_equal(t7.loads(t7.dumps(derived)), derive(np.asarray(array)))


def test_a_file_may_expand_by_a_factor_that_weights_stay_below(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Beyond what fits into any machine: 64 times, here of some hundred bytes."""
    monkeypatch.setattr("torchlift.converters.t7.reading.byte_stream._ALWAYS_ALLOWED", 1000)
    few = np.random.default_rng(0).integers(0, 2, 2000, np.uint8)
    for values, factor in ((few, 4), (np.repeat(few, 20), 20), (np.zeros(10**6, np.uint8), 500)):
        data = t7.dumps(values)
        packed = gzip.compress(data)
        assert len(data) / len(packed) > factor
        if factor < 64:
            assert len(data) / len(packed) < 64
            assert np.array_equal(t7.loads(packed), values)
        else:
            with pytest.raises(T7Error, match=f"more than {64 * len(packed):,} bytes, far more"):
                t7.loads(packed)


def test_a_compressed_file_is_read_where_it_stands(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is before it in an open file counts nowhere, neither for the limit."""
    packed = gzip.compress(t7.dumps({"x": np.zeros(10_000)}))
    (tmp_path / "two").write_bytes(b"x" * 100_000 + packed)
    with (tmp_path / "two").open("rb") as file:
        file.seek(100_000)
        assert t7.load(file)["x"].shape == (10_000,)
        monkeypatch.setattr("torchlift.converters.t7.reading.byte_stream._ALWAYS_ALLOWED", 1000)
        with pytest.raises(T7Error, match=f"more than {64 * len(packed):,} bytes") as error:
            t7.load(file)
    assert error.value.source == str(tmp_path / "two")


def test_xz_streams_may_have_zeros_between_them_of_any_number() -> None:
    data = t7.dumps({"a": 1, "b": 2})
    first = lzma.compress(data[:20])
    # Read a MiB at a time, of which the zeros may fill the rest and more.
    for zeros in (0, 4, 2**20, 2**20 - len(first) + 4, 2**20 - len(first)):
        packed = first + bytes(zeros) + lzma.compress(data[20:]) + bytes(zeros)
        assert t7.loads(packed)["b"] == 2
    with pytest.raises(T7Error, match="compressed file"):
        t7.loads(lzma.compress(data) + b"rest")


def test_a_path_that_cannot_be_opened_says_why(tmp_path: Path) -> None:
    file = tmp_path / "file.t7"
    t7.save(1, file)
    with pytest.raises(T7Error, match=r"x\.t7: cannot be read: Not a directory") as error:
        t7.load(file / "x.t7")
    assert error.value.source == str(file / "x.t7")


@pytest.mark.parametrize("read", [t7.load, t7.load_all, t7.loads])
def test_every_way_to_read_takes_the_same_options(read: Callable[..., Any]) -> None:
    data = (FIXTURES / "formats" / "longtensor_big_long4.t7").read_bytes()
    right = {"long_size": 4, "format": "binary", "byte_order": "big"}
    found = read(data, **right)
    assert (found[0] if read is t7.load_all else found).shape == (2, 3, 4)
    for wrong in ({"long_size": 8}, {"format": "ascii"}, {"byte_order": "little"}):
        with pytest.raises(T7Error):
            read(data, **{**right, **wrong})


def test_a_warning_points_to_the_line_that_reads(tmp_path: Path) -> None:
    (tmp_path / "a.t7").write_bytes(t7.dumps(1) + b"\xff")
    for read in (t7.load, t7.load_all):
        with pytest.warns(T7Warning, match=r"a\.t7: the last 1 bytes are not") as caught:
            read(tmp_path / "a.t7")
        assert [one.filename for one in caught] == [__file__]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("3\n1\n0\n", None),  # Shorter than any table with an entry.
        ("3\nbears and 4 wolves\n", None),
        ("3\n1\n1\n2\n1\na\n1\n5\n", 5),
        ("2\n5\nhello\n", None),
    ],
)
def test_a_text_is_entered_if_it_is_a_whole_table(text: str, value: int | None) -> None:
    for given in (text, text.encode()):
        found = embedded_value(given)
        assert (None if found is None else found["a"]) == value


def test_what_is_odd_in_a_nested_file_is_not_said_of_its_file() -> None:
    """Its last bytes are those of a buffer."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert embedded_value(t7.dumps({"a": 1}) + b"\xff\xff")["a"] == 1
        assert embedded_value(t7.dumps({"a": 1}) + t7.dumps({"a": 2}))["a"] == 1
