"""In which order formats of a `.t7` are tried, and when a reading is believed.

A wrong guess often reads on for a while, so that a good order saves most of the work, and a
reading that only seems right must not win.
"""

from __future__ import annotations

from typing import Any

import pytest

from torchlift.converters import t7
from torchlift.converters.t7 import LuaFunction, LuaObject, LuaTable, T7Error
from torchlift.converters.t7.class_layouts import ClassLayout
from torchlift.converters.t7.errors import TruncatedError
from torchlift.converters.t7.reading import format_search
from torchlift.converters.t7.reading.classes import Guess
from torchlift.converters.t7.reading.format_search import Attempt, find_format
from torchlift.converters.t7.reading.stream_format import StreamFormat

PLAIN = StreamFormat("binary", 8)
ITEMS = PLAIN._replace(layouts=frozenset({("my.Layer", ClassLayout("items"))}))
RESTARTING = PLAIN._replace(indices_restart=True)


def attempt(**parts: Any) -> Attempt:
    """Return the result of a reading; without anything said, of one object to the end."""
    usual: dict[str, Any] = {"format": PLAIN, "values": [1], "ends": [30], "trailing_bytes": 0}
    return Attempt(**(usual | {"error": None, "guesses": {}, "anomalies": []} | parts))


@pytest.mark.parametrize(
    ("parts", "progress"),
    [
        ({}, 30),
        # The first object tells; what follows may be its body.
        ({"values": [1, 2], "ends": [30, 50]}, 30),
        ({"anomalies": [20, 25]}, 20),
        ({"anomalies": [40]}, 30),
        ({"values": [], "ends": [], "error": T7Error("wrong", offset=70)}, 70),
        ({"values": [], "ends": [], "error": T7Error("wrong", offset=70), "anomalies": [60]}, 60),
        ({"values": [], "ends": [], "error": T7Error("wrong")}, 0),
        # Where a file is cut says nothing: the last class that was met may be wrong.
        (
            {
                "values": [],
                "ends": [],
                "error": TruncatedError("cut", offset=90),
                "guesses": {"a": Guess(10, False, 80), "b": Guess(40, False, 60)},
            },
            40,
        ),
        ({"values": [], "ends": [], "error": TruncatedError("cut", offset=90)}, 0),
    ],
)
def test_a_reading_is_as_far_as_nothing_seems_wrong(parts: dict[str, Any], progress: int) -> None:
    assert attempt(**parts).progress == progress


@pytest.mark.parametrize(
    ("parts", "furthest"),
    [
        ({}, 30),
        ({"values": [1, 2], "ends": [30, 50]}, 50),
        ({"error": T7Error("wrong", offset=70)}, 70),
        ({"values": [], "ends": [], "error": T7Error("wrong")}, 0),
        ({"error": T7Error("wrong", offset=10)}, 30),
    ],
)
def test_a_reading_went_so_far(parts: dict[str, Any], furthest: int) -> None:
    assert attempt(**parts).furthest == furthest


@pytest.mark.parametrize("count", [0, 2, 3, 4])
def test_a_class_of_its_own_may_write_several_objects(count: int) -> None:
    """What follows them tells how many: `write` of an unknown class may write anything."""
    body = "".join(f"1 {number} " for number in range(count))
    text = f"3 1 2 1 1 4 2 3 V 1 7 my.Pair {body}1 2 2 3 end "
    data = text.replace(" ", "\n").replace("V\n1", "V 1").encode()
    value = t7.loads(data, format="ascii")
    assert (value[1].class_name, value[1].body, value[2]) == ("my.Pair", [*range(count)], "end")


def test_the_fields_of_a_class_that_writes_two_tables_are_the_last_one() -> None:
    body = "3 3 1 2 1 a 1 1 3 4 1 2 1 b 1 2 "
    text = f"3 1 2 1 1 4 2 3 V 1 7 my.Pair {body}1 2 2 3 end "
    data = text.replace(" ", "\n").replace("V\n1", "V 1").encode()
    value = t7.loads(data, format="ascii")
    assert [dict(part.items()) for part in value[1].body] == [{"a": 1}, {"b": 2}]
    assert dict(value[1].fields.items()) == {"b": 2}


TABLE, SAME = LuaTable(), LuaTable()


@pytest.mark.parametrize(
    ("parts", "single", "is_right"),
    [
        ({}, True, True),
        ({"error": T7Error("wrong")}, False, False),
        ({"values": [1, 1], "ends": [30, 50]}, True, True),
        # An object that comes twice has an index: the indices began anew.
        ({"values": [SAME, SAME], "ends": [30, 50]}, False, False),
        ({"values": [SAME, SAME], "ends": [30, 50], "format": RESTARTING}, False, True),
        ({"values": [SAME, TABLE], "ends": [30, 50]}, False, True),
        # Several objects may be the body of an unknown class that is inside something.
        *(
            (
                {
                    "values": [1] * count,
                    "ends": [30] * count,
                    "guesses": {name: Guess(10, outermost, 10, is_table=table)},
                    "format": format,
                },
                single,
                is_right,
            )
            for name, outermost, table, format, count, single, is_right in (
                ("my.Layer", True, True, PLAIN, 2, True, True),
                ("my.Layer", False, True, PLAIN, 2, True, False),
                ("my.Layer", False, True, PLAIN, 2, False, True),
                ("my.Layer", False, True, PLAIN, 1, True, True),
                ("my.Layer", True, False, PLAIN, 2, True, False),
                ("my.Layer", True, True, ITEMS, 2, True, False),
                ("nn.Layer", False, True, PLAIN, 2, True, True),
                ("nn.Layer", False, False, PLAIN, 2, True, False),
            )
        ),
    ],
)
def test_a_reading_is_right_if_it_is_whole_and_plausible(
    parts: dict[str, Any], single: bool, is_right: bool
) -> None:
    assert attempt(**parts).parses(single) is is_right


def guesses_in(*values: Any) -> dict[str, Guess]:
    data = b"".join(t7.dumps(value) for value in values)
    return find_format(data, 0, [RESTARTING], single=False).guesses


def test_an_instance_is_outermost_if_nothing_is_around_it() -> None:
    """Not by its index: other objects may stand before it, and a function has none."""
    layer = LuaObject("my.Layer")
    for values, is_outermost in (
        ([layer], True),
        ([{"a": 1}, layer], True),
        ([[[1], layer]], False),
        ([layer, [layer]], True),
        ([[layer], layer], False),
    ):
        assert guesses_in(*values)["my.Layer"].first_is_outermost is is_outermost
    function = LuaFunction(b"\x1bcode", tag=6)
    function.upvalues = layer
    assert guesses_in(function)["my.Layer"].first_is_outermost is False


def tried(data: bytes, monkeypatch: pytest.MonkeyPatch) -> list[StreamFormat]:
    """Return the formats in which a file that is damaged is read."""
    formats: list[StreamFormat] = []
    read_all = format_search._read_all

    def noted(buffer: Any, start: int, format: StreamFormat, *stop: int) -> Attempt:
        formats.append(format)
        return read_all(buffer, start, format, *stop)

    with monkeypatch.context() as patch:
        patch.setattr(format_search, "_read_all", noted)
        with pytest.raises(T7Error):
            t7.loads(data)
    return formats


def test_a_file_that_is_cut_is_not_read_in_other_layouts_of_known_classes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Downloads that stopped are common; layers of `nn` that write another body are rare."""
    for name, has_others in (
        ("nn.Layer", False),
        ("nn.Linear", False),  # Its body was another one in 2011.
        ("torch.Timer", False),
        ("my.Layer", True),
    ):
        layers = [LuaObject(name, {"a": "b"}) for _ in range(3)]
        found = tried(t7.dumps({"layers": layers, "text": "x" * 100})[:-50], monkeypatch)
        assert any(format.layouts for format in found) is has_others
        assert (len(found) > 4) is has_others
    # The bytes of a random generator have a size of their own on every machine.
    generator = LuaObject("torch.Generator")
    generator.body = [bytes(5048)]
    found = tried(t7.dumps([generator, "x" * 100])[:-50], monkeypatch)
    assert any(format.layouts for format in found if format.long_size == 8)


@pytest.mark.parametrize(
    ("counts", "best"), [([3, 1, 2], 1), ([2, 2], 0), ([1, 2], 0), ([2, 3, 0], 2), ([2, 0, 1], 1)]
)
def test_of_unusual_readings_the_least_unusual_one_wins(
    counts: list[int], best: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One without anything unusual ends the search; of equals the first one counts."""
    layouts = [
        PLAIN._replace(layouts=frozenset({("my.Layer", ClassLayout("parts", "o" * number))}))
        for number in range(2, 2 + len(counts))
    ]
    read = []

    def read_all(buffer: Any, start: int, format: StreamFormat) -> Attempt:
        if format == PLAIN:
            return attempt(values=[], ends=[], error=T7Error("wrong", offset=1))
        read.append(format)
        return attempt(format=format, anomalies=[9] * counts[layouts.index(format)])

    monkeypatch.setattr(format_search, "_read_all", read_all)
    monkeypatch.setattr(
        format_search, "_alternatives", lambda one: layouts if one.format == PLAIN else []
    )
    assert find_format(b"", 0, [PLAIN], single=True).format == layouts[best]
    assert len(read) == (counts.index(0) + 1 if 0 in counts else len(counts))
