"""Streams of text: what `THDiskFile.c` prints, and what editors and other machines make of it."""

from __future__ import annotations

import math
import warnings
from pathlib import Path

import numpy as np
import pytest
from support import FIXTURES

from torchlift.converters import t7
from torchlift.converters.t7 import T7Error
from torchlift.converters.t7.reading.ascii import AsciiDecoder


def test_line_ends_of_windows_change_nothing() -> None:
    """Git and editors convert them, behind strings and bytes too; within a string they stay."""
    value = {
        "names": ["cat", "dog\nand owl"],
        "numbers": [index / 4 for index in range(40)],
        "x": np.arange(6, dtype=np.float32).reshape(2, 3),
        "bytes": np.arange(65, 70, dtype=np.uint8),
        "flag": True,
    }
    text = t7.dumps(value, format="ascii")
    windows = text.replace(b"\n", b"\r\n").replace(b"dog\r\nand", b"dog\nand")
    found = t7.loads(windows)
    assert found["names"].to_list() == ["cat", "dog\nand owl"]
    assert found["numbers"].to_list() == [index / 4 for index in range(40)]
    assert found["x"].tolist() == [[0, 1, 2], [3, 4, 5]]
    assert (found["bytes"].tolist(), found["flag"]) == ([65, 66, 67, 68, 69], True)
    assert len(windows) > len(text) + 100


@pytest.mark.parametrize(("end", "said"), [("\n", False), (" \n\n\t\n", False), ("\nx", True)])
def test_whitespace_at_the_end_of_a_text_is_nothing(end: str, said: bool) -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        assert t7.loads(f"5\n1\n{end}".encode()) is True
    assert [len(str(one.message)) > 0 for one in caught] == [True] * said


@pytest.mark.parametrize(
    ("number", "value"),
    [
        ("0.5", 0.5),
        ("-12", -12),
        ("+3", 3),
        ("1e-05", 1e-05),
        ("inf", math.inf),
        ("-inf", -math.inf),
        ("-1.#INF", -math.inf),
        ("9007199254740993", 2**53),
    ],
)
def test_a_number_is_what_was_printed(number: str, value: float) -> None:
    found = t7.loads(f"1\n{number}\n".encode())
    assert (found, type(found)) == (value, type(value))


@pytest.mark.parametrize(
    ("number", "negative"), [("nan", False), ("-nan", True), ("-1.#IND", True)]
)
def test_a_nan_keeps_its_sign(number: str, negative: bool) -> None:
    found = t7.loads(f"1\n{number}\n".encode())
    assert math.isnan(found)
    assert bool(np.signbit(found)) is negative


@pytest.mark.parametrize(
    ("text", "problem", "offset"),
    [
        ("9\n", "expected a type tag from 0 to 8, found 9", 0),
        ("-1\n", "expected a type tag from 0 to 8, found -1", 0),
        ("1\nx\n", "expected a number, found b'x", 2),
        ("2\nx\n", "expected an integer, found b'x", 2),
        ("2\n-3\nabc\n", "a string has a negative size", 5),
        ("2\n9\nabc\n", "a string needs 9 bytes and 4 are left", 4),
        ("", "an integer needs 1 bytes and 0 are left", 0),
    ],
)
def test_an_error_says_what_was_found_and_where(text: str, problem: str, offset: int) -> None:
    before = "3\n1\n2\n1\n1\n1\n1\n1\n2\n"
    with pytest.raises(T7Error) as error:
        t7.loads((before + text).encode(), format="ascii")
    assert problem in error.value.problem
    assert (error.value.offset, error.value.path) == (len(before) + offset, "[2]")


def test_numbers_may_stand_on_several_lines() -> None:
    """One by one where they do not fit one line, or where one of them is not a number."""
    head = "4\n1\n3\nV 1\n19\ntorch.DoubleStorage\n4\n"
    for numbers in ("1 2 3 4\n", "1 2\n3 4\n", "1\n2\n3\n4", "  1  2 3 4 \n"):
        assert t7.loads(f"{head}{numbers}".encode()).tolist() == [1, 2, 3, 4]
    found = t7.loads(f"{head}-nan 1.#INF 3 nan\n".encode())
    assert np.signbit(found).tolist() == [True, False, False, False]
    np.testing.assert_array_equal(found, [math.nan, math.inf, 3, math.nan])
    with pytest.raises(t7.TruncatedError, match="a number needs 1 bytes and 0 are left"):
        t7.loads(f"{head}1 2  3 \n".encode(), format="ascii")


@pytest.mark.parametrize("limit", [1, 2, 3, 9])
def test_no_more_pairs_are_read_than_were_asked_for(limit: int) -> None:
    decoder = AsciiDecoder(b"1\n1\n1\n0.5\n1\n2\n1\n-7\n1\n3\n1\n9\n2\n1\na\n")
    pairs = decoder.number_pairs(limit)
    assert pairs is not None
    count = min(limit, 3)
    assert (pairs[0].tolist(), pairs[1].tolist()) == ([1, 2, 3][:count], [0.5, -7, 9][:count])
    # What follows is the next pair, or the text behind all of them.
    assert decoder.integer() == (1 if limit < 3 else 2)
    assert AsciiDecoder(b"2\n1\na\n1\n1\n").number_pairs(limit) is None


@pytest.mark.parametrize("dtype", ["u1", "i1"])
def test_bytes_are_written_as_they_are_with_a_line_end(dtype: str) -> None:
    """A storage of none has neither; one of line ends keeps them."""
    for values in ([10, 13, 0, 10], [10], []):
        array = np.array(values, dtype)
        data = t7.dumps([array, "end"], format="ascii")
        found = t7.loads(data)
        assert (found[1].tolist(), found[1].dtype, found[2]) == (values, np.dtype(dtype), "end")


def test_a_value_of_nil_is_no_entry_and_only_1_is_true() -> None:
    """`File.lua`: `self:readInt() == 1`."""
    found = t7.loads(b"3\n1\n3\n1\n1\n0\n1\n2\n5\n2\n1\n3\n5\n1\n")
    assert found.items() == [(2, False), (3, True)]


def test_a_storage_of_no_numbers_has_no_line() -> None:
    empty = "3\nV 1\n19\ntorch.DoubleStorage\n0\n"
    found = t7.loads(f"3\n1\n2\n1\n1\n4\n2\n{empty}1\n2\n2\n3\nend\n".encode())
    assert (found[1].tolist(), found[2]) == ([], "end")


def test_what_is_empty_is_written_without_a_line_as_torch7_does() -> None:
    assert t7.dumps(["", 1], format="ascii") == b"3\n1\n2\n1\n1\n2\n0\n1\n2\n1\n1\n"
    empty = np.zeros(0).view(t7.TorchArray)
    empty.torch_class = "torch.DoubleStorage"
    written = b"4\n1\n3\nV 1\n19\ntorch.DoubleStorage\n0\n"
    assert t7.dumps(empty, format="ascii") == written


def test_a_printed_number_keeps_its_value_in_a_smaller_type() -> None:
    """A float beyond its range is infinite, as C's conversion makes it, without a warning."""
    head = "4\n1\n3\nV 1\n18\ntorch.FloatStorage\n2\n"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = t7.loads(f"{head}1e300 0.1\n".encode())
    assert (found.dtype, found.tolist()) == (np.float32, [math.inf, float(np.float32(0.1))])


def test_a_text_is_read_where_the_file_stands(tmp_path: Path) -> None:
    """Its place in the file changes nothing about what is a text and what is damaged."""
    data = (FIXTURES / "formats" / "strings_ascii.t7").read_bytes()
    damaged = 'is plain text that begins with "3", not'
    for content, said in (
        (data, ""),
        (b"3\nbears and 4 wolves\n", damaged),
        (b'{"a": 1}', "is JSON text, not a .t7"),
    ):
        (tmp_path / "two").write_bytes(b"x" * 100 + content)
        with (tmp_path / "two").open("rb") as file:
            file.seek(100)
            if content is data:
                assert t7.load(file)[2] == "hello"
            else:
                with pytest.raises(T7Error, match=said):
                    t7.load(file)
