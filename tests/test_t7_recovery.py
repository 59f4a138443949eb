"""Classes with unknown layouts, and bytes that belong to no object.

What is protected: an unknown class is read as one object only if the rest of the file then parses
to its end. Otherwise other layouts are tried, and if none fits, the error has the class, its path
and its offset. Extra bytes at the end are reported.
"""

from __future__ import annotations

import re
import struct
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support import FIXTURES

from torchlift.converters import t7
from torchlift.converters.t7 import LuaObject, LuaTable, T7Error, T7Warning
from torchlift.converters.t7.class_layouts import ClassLayout, is_known, possible_layouts
from torchlift.converters.t7.reading.load import read_file

FORMS: list[dict[str, Any]] = [
    {"format": format, "long_size": size} for format in ("binary", "ascii") for size in (8, 4)
]

TABLE = LuaTable({"kW": 3, "weight": np.arange(4.0)})


def instance(layout: ClassLayout | None, *body: Any, name: str = "my.Layer") -> LuaObject:
    """Return an instance of a class that writes its body with a `write` method of its own."""
    value = LuaObject(name)
    value.body, value.layout = list(body), layout
    value.fields = next((part for part in body if isinstance(part, LuaTable)), LuaTable())
    return value


UNUSUAL: dict[str, LuaObject] = {
    "nothing": instance(ClassLayout("parts", "")),
    "two objects": instance(None, "header", TABLE),
    "three objects": instance(None, 1, TABLE, "end"),
    "four objects": instance(None, TABLE, 1, 2, 3),
    "a string": instance(None, "the only part"),
    "a long": instance(ClassLayout("parts", "l"), 77),
    "an int": instance(ClassLayout("parts", "i"), 77),
    "a double": instance(ClassLayout("parts", "d"), 0.25),
    "items": instance(ClassLayout("items"), LuaTable.from_list(["a", 2, TABLE])),
    "pairs": instance(ClassLayout("pairs"), LuaTable({"a": 1, "t": TABLE})),
}


def test_only_layouts_that_might_be_others_are_guesses() -> None:
    """The search for another layout does not begin with a class that has only one."""
    timer = instance(ClassLayout("parts", ""), name="torch.Timer")
    data = t7.dumps({"timer": timer, "layer": instance(None, TABLE)})
    assert list(read_file(data).guesses) == ["my.Layer"]


@pytest.mark.parametrize("form", FORMS, ids=str)
@pytest.mark.parametrize("kind", UNUSUAL)
def test_what_follows_an_unusual_body_is_read(kind: str, form: dict[str, Any]) -> None:
    """The instance and the values after it are read as they were written."""
    layer = UNUSUAL[kind]
    after = {"sizes": np.arange(3), "name": "after", "list": [1, 2, "three"]}
    data = t7.dumps({"layers": [layer, layer], "after": after}, **form)
    value = t7.loads(data)
    assert value["after"]["name"] == "after"
    assert value["after"]["list"].to_list() == [1, 2, "three"]
    assert value["after"]["sizes"].tolist() == [0, 1, 2]
    found = value["layers"][1]
    assert value["layers"][2] is found
    assert found.class_name == "my.Layer"
    assert list(found.fields) == list(layer.fields)
    assert len(found.body) == len(layer.body)
    assert t7.dumps(value, **form) == data, "numbers without a tag may be ints or doubles"


@pytest.mark.parametrize("kind", ["two objects", "a long", "items"])
def test_unusual_bodies_beside_an_unusual_key(kind: str) -> None:
    """Such a key is a sign of a wrong reading, but may be right."""
    data = t7.dumps({"layer": UNUSUAL[kind], "after": {True: "yes"}, "end": 5})
    value = t7.loads(data)
    assert (value["after"][True], value["end"]) == ("yes", 5)
    assert len(value["layer"].body) == len(UNUSUAL[kind].body)


def test_several_classes_at_once() -> None:
    first = instance(None, "header", TABLE, name="a.First")
    second = instance(ClassLayout("items"), LuaTable.from_list(["x", "y"]), name="b.Second")
    plain = instance(None, LuaTable({"x": 1}), name="c.Plain")
    layers = {"first": first, "plain": plain, "second": second, "again": plain}
    value = t7.loads(t7.dumps({"layers": layers, "name": "end"}))
    found = value["layers"]
    assert found["first"].body[0] == "header"
    assert found["plain"] is found["again"]
    assert found["second"].fields.to_list() == ["x", "y"]
    assert value["name"] == "end"


def test_an_instance_alone_in_its_file() -> None:
    """A string and a table are one body; a table, the default body, and a string are two values."""
    value = t7.loads(t7.dumps(UNUSUAL["two objects"]))
    assert value.body[0] == "header"
    assert value["kW"] == 3
    with pytest.warns(T7Warning, match="1 more object"):
        value = t7.loads(t7.dumps(instance(None, TABLE)) + t7.dumps("another"))
    assert value["kW"] == 3


UNPARSABLE = instance(ClassLayout("raw"), b"\x07\xff" * 9)


def test_a_class_without_a_fitting_layout() -> None:
    modules = [1, 2, {"indices": UNPARSABLE}, "end"]
    data = t7.dumps({"model": {"modules": modules}})
    with pytest.raises(T7Error, match=r"my\.Layer is written in a way") as error:
        t7.loads(data)
    assert error.value.path == "model.modules[3].indices"
    assert error.value.offset == data.index(b"my.Layer") + len("my.Layer")


@pytest.mark.parametrize("long_size", [8, 4])
def test_nil_is_a_part_of_a_body_too(long_size: int) -> None:
    data = t7.dumps([instance(None, 1, None, TABLE), "end"], long_size=long_size)
    found, end = t7.loads(data, long_size=long_size).to_list()
    assert (found.body[:2], found.fields["kW"], end) == ([1, None], 3, "end")


def test_of_several_unknown_classes_the_last_one_that_was_read_is_named() -> None:
    """Here the first one is read as it should be."""
    second = instance(ClassLayout("raw"), b"\x07\xff" * 9, name="b.Second")
    data = t7.dumps([instance(None, TABLE, name="a.First"), second])
    with pytest.raises(T7Error, match=r"^b\.Second is written in a way|: b\.Second") as error:
        t7.loads(data)
    assert error.value.path == "[2]"


def test_errors_of_truncated_files_mention_an_unknown_class() -> None:
    data = t7.dumps({"layer": instance(None, TABLE), "x": np.ones(100)})
    with pytest.raises(T7Error, match=r"truncated.*or my\.Layer at layer, byte \d+"):
        t7.loads(data[:-8])


def test_bytes_left_at_the_end() -> None:
    data = (FIXTURES / "formats" / "module_long4.t7").read_bytes()
    with pytest.warns(T7Warning, match="<bytes>: the last 6 bytes are not a Torch7 object"):
        value = t7.loads(data + b"\xffextra")
    assert value.class_name == "nn.Sequential"


def test_bytes_left_after_an_unknown_class() -> None:
    """They may be the rest of its body."""
    data = t7.dumps(instance(None, TABLE))
    with pytest.raises(T7Error, match=r"my\.Layer"):
        t7.loads(data + b"\xff\xff\xff")


def test_the_nul_of_a_memory_file(recwarn: pytest.WarningsRecorder) -> None:
    """`torch.MemoryFile` ends its storage with one (THMemoryFile.c)."""
    assert t7.loads(t7.dumps({"a": 1}) + b"\0")["a"] == 1
    assert not recwarn.list


@pytest.mark.parametrize("rest", [b"\0\0", b"\0\xff", b"\xff\0"])
def test_other_bytes_behind_an_object_are_said(rest: bytes) -> None:
    with pytest.warns(T7Warning, match="the last 2 bytes are not a Torch7 object"):
        assert t7.loads(t7.dumps({"a": 1}) + rest)["a"] == 1


@pytest.mark.parametrize("size", [5048, 2544, 2540])
@pytest.mark.parametrize("form", FORMS, ids=str)
def test_generators_of_every_machine(form: dict[str, Any], size: int) -> None:
    """sizeof(THGenerator) depends on the machine, and the file does not store it."""
    state = bytes(np.random.default_rng(0).integers(0, 256, size, dtype="u1"))
    generator = instance(None, state, name="torch.Generator")
    after = {"x": np.arange(3), "s": "end"}
    value = t7.loads(t7.dumps([generator, after], **form))
    assert value[1].body == [state]
    assert value[2]["s"] == "end"
    assert t7.dumps(value, **form) == t7.dumps([generator, after], **form)


@pytest.mark.parametrize(("long_size", "sizes"), [(8, [5048, 2544, 2540]), (4, [2544, 2540, 5048])])
def test_the_usual_size_of_a_generator_is_tried_first(long_size: int, sizes: list[int]) -> None:
    found = possible_layouts("torch.Generator", 1, long_size)
    assert [(layout.kind, layout.size) for layout in found] == [("raw", size) for size in sizes]


@pytest.mark.parametrize("version", [1, 2])
def test_data_parallel_tables_of_both_versions(version: int) -> None:
    """Version 1 writes one table; version 2 writes a header and a table."""
    table = LuaObject("nn.DataParallelTable", LuaTable({"dimension": 1}), version=version)
    if version == 2:
        table.body = [LuaTable({"gpus": 2}), table.fields]
    data = t7.dumps([table, {"name": "after"}])
    value = t7.loads(data)
    assert value[1]["dimension"] == 1
    assert len(value[1].body) == version
    assert value[2]["name"] == "after"
    assert t7.dumps(value) == data


def ascii_file(words: str) -> bytes:
    """Return an ASCII file with the given lines, with spaces for `_`."""
    return words.replace(" ", "\n").replace("_", " ").encode() + b"\n"


def test_layers_of_2012() -> None:
    """`nnx` wrote fields after the table of `nn.Module`, as numbers without a type tag."""
    data = ascii_file(
        "3 1 2 1 1 4 2 3 V_1 12 nn.Threshold 3 3 1 2 3 val 1 0.5 0.25 0.5 1 2 2 3 end"
    )
    value = t7.loads(data)
    assert value[1]["val"] == 0.5
    assert value[1].body[1:] == [0.25, 0.5]
    assert value[2] == "end"
    assert t7.dumps(value, format="ascii") == data


def test_layers_of_2011() -> None:
    """Each class wrote its own fields after the two fields of `nn.Module`."""
    empty = "4 {} 3 V_1 18 torch.DoubleTensor 0 1 0"
    data = ascii_file(
        f"4 1 3 V_1 13 nn.Sequential {empty.format(2)} {empty.format(3)} 3 4 2 "
        f"1 1 4 5 3 V_1 17 nn.SpatialPadding {empty.format(6)} {empty.format(7)} 1 2 3 4 "
        f"1 2 4 8 3 V_1 7 nn.Tanh {empty.format(9)} {empty.format(10)}"
    )
    model = t7.loads(data)
    padding = model["modules"][1]
    assert [padding[f"pad_{side}"] for side in "lrtb"] == [1, 2, 3, 4]
    assert list(model["modules"][2].fields) == ["gradInput", "output"]
    assert t7.dumps(model, format="ascii") == data


def binary_file(words: str) -> bytes:
    """Return a binary file: ints, longs with an `l`, doubles with a `d`, strings."""
    data = b""
    for word in words.split():
        if number := re.fullmatch(r"(\d+)([ld]?)", word):
            data += struct.pack("<" + {"l": "q", "d": "d"}.get(number[2], "i"), int(number[1]))
        else:
            data += word.replace("_", " ").encode()
    return data


def test_numbers_of_layers_of_2011_have_their_own_widths() -> None:
    """`Select.lua` wrote an int and a long, `SoftMax.lua` a double and an int."""
    empty = "4 {} 3 V_1 18 torch.DoubleTensor 0 1l 0"
    data = binary_file(
        f"4 1 3 V_1 13 nn.Sequential {empty.format(2)} {empty.format(3)} 3 4 2 "
        f"1 1d 4 5 3 V_1 9 nn.Select {empty.format(6)} {empty.format(7)} 2 5l "
        f"1 2d 4 8 3 V_1 10 nn.SoftMax {empty.format(9)} {empty.format(10)} 7d 1"
    )
    select, softmax = t7.loads(data)["modules"].to_list()
    assert (select["dimension"], select["index"]) == (2, 5)
    assert (softmax["shift"], softmax["computeShift"]) == (7, 1)


def test_the_search_takes_bounded_time() -> None:
    """With many unknown classes and no fitting layout, the number of attempts is limited."""
    layers = [instance(None, 1, name=f"my.Layer{index}") for index in range(500)]
    data = t7.dumps([*layers, np.zeros(10)])[:-100] + struct.pack("<i", 99)
    start = time.process_time()
    with pytest.raises(T7Error):
        t7.loads(data)
    assert time.process_time() - start < 10


def test_a_key_that_is_neither_text_nor_number_is_counted_as_unusual(tmp_path: Path) -> None:
    """Of several ways to read a file, the search takes the one with the fewest."""
    for value, count in (({"a": 1, 2: 3}, 0), ({True: 1}, 1), ({True: 1, False: {True: 2}}, 3)):
        t7.save(value, tmp_path / "value.t7")
        assert len(read_file(tmp_path / "value.t7").anomalies) == count
    # So are a value of nil, which Lua does not store, and a key that occurs twice.
    for text in ("3 1 1 1 1 0 ", "3 1 2 1 1 1 5 1 1 1 5 "):
        (tmp_path / "value.t7").write_bytes(text.replace(" ", "\n").encode())
        assert len(read_file(tmp_path / "value.t7").anomalies) == 1


@pytest.mark.parametrize("number", [2**63, -(2**63) - 1])
def test_a_printed_number_that_fits_no_integer_is_an_error(number: int) -> None:
    longs = t7.dumps(np.array([7, 8], np.int64), format="ascii")
    assert t7.loads(longs).tolist() == [7, 8]
    # In a list over several lines; in one line, as Torch7 prints it, strtol's limit is the value.
    with pytest.raises(T7Error, match="expected a 64-bit integer"):
        t7.loads(longs.replace(b"7 8", f"7\n{number}".encode()))


@pytest.mark.parametrize("number", [2**63 - 1, -(2**63), 127, -127])
def test_a_list_over_several_lines_may_hold_every_integer(number: int) -> None:
    longs = t7.dumps(np.array([7, 8], np.int64), format="ascii")
    assert t7.loads(longs.replace(b"7 8", f"7\n{number}".encode())).tolist() == [7, number]


@pytest.mark.parametrize("dimensions", [-1, 65, 99, 2**31 - 1])
def test_an_impossible_number_of_dimensions_is_named(dimensions: int) -> None:
    whole = t7.dumps(np.zeros((2, 3), np.float32))
    name = b"torch.FloatTensor"
    at = whole.index(name) + len(name)
    assert struct.unpack_from("<i", whole, at) == (2,)
    damaged = whole[:at] + struct.pack("<i", dimensions) + whole[at + 4 :]
    with pytest.raises(T7Error, match=f"FloatTensor has {dimensions} dimensions"):
        t7.loads(damaged)


@pytest.mark.parametrize("layout", [(-2, -3, -3, 1), (-6, -1, 1, 1), (2, -3, 3, 1), (2, 3, -3, 1)])
def test_negative_sizes_and_strides_are_damage(layout: tuple[int, ...]) -> None:
    """Also where their products are those of the storage."""
    data = t7.dumps({"x": np.arange(6.0).reshape(2, 3)})
    usual = struct.pack("<4q", 2, 3, 3, 1)
    assert data.count(usual) == 1
    with pytest.raises(T7Error, match=r"a torch\.DoubleTensor has sizes") as error:
        t7.loads(data.replace(usual, struct.pack("<4q", *layout)))
    assert error.value.path == "x"


@pytest.mark.parametrize("form", FORMS, ids=str)
def test_a_storage_of_fewer_than_no_numbers_is_damage(form: dict[str, Any]) -> None:
    def counted(count: int) -> bytes:
        if form["format"] == "ascii":
            return b"torch.DoubleStorage\n%d\n" % count
        return b"torch.DoubleStorage" + struct.pack({8: "<q", 4: "<i"}[form["long_size"]], count)

    data = t7.dumps({"x": np.arange(6.0)}, **form)
    assert data.count(counted(6)) == 1
    with pytest.raises(T7Error, match=r"of -1 (elements|numbers) has a negative size") as error:
        t7.loads(data.replace(counted(6), counted(-1)), **form)
    assert error.value.path == "x"


def test_a_size_of_zero_leaves_the_others() -> None:
    data = ascii_file("4 1 3 V_1 17 torch.FloatTensor 3 4_0_5 5_5_1 1 0")
    assert t7.loads(data).shape == (4, 0, 5)


def test_an_error_in_a_key_has_the_path_of_the_table() -> None:
    data = t7.dumps({"a": {"b": 1.0}}, format="ascii").replace(b"2\n1\nb", b"9\n1\nb")
    with pytest.raises(T7Error, match="type tag from 0 to 8, found 9") as error:
        t7.loads(data, format="ascii")
    assert error.value.path == "a"


@pytest.mark.parametrize("wrong", ["4", None, LuaTable()])
def test_a_number_of_a_body_must_be_one(wrong: Any) -> None:
    value = instance(ClassLayout("parts", "od"), TABLE, wrong)
    with pytest.raises(T7Error, match=r"expected a number in the body of a my\.Layer"):
        t7.dumps(value)


@pytest.mark.parametrize("name", ["tds.AtomicCounter", "tds_atomic_counter"])
@pytest.mark.parametrize("form", FORMS)
def test_a_counter_is_one_number(name: str, form: dict[str, Any]) -> None:
    counter = LuaObject(name, version=0)
    counter.body = [5]
    value = t7.loads(t7.dumps([counter, "end"], **form))
    assert (value[1].body, value[2]) == ([5], "end")


@pytest.mark.parametrize(
    ("name", "known"), [("tds.Hash", True), ("nn.Linear", True), ("my.Layer", False)]
)
def test_a_class_is_known_by_name_or_package(name: str, known: bool) -> None:
    assert is_known(name) == known


@pytest.mark.parametrize("form", FORMS, ids=str)
def test_a_counter_of_tds_is_one_long(form: dict[str, Any]) -> None:
    counter = instance(ClassLayout("parts", "l"), 77, name="tds.AtomicCounter")
    found = t7.loads(t7.dumps([counter, "after"], **form))
    assert (found[1].body, found[2]) == ([77], "after")
