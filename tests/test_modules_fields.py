"""No field of a file is ignored in silence: it is read, known to mean nothing, or a note."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from support import FIXTURES, wild_files

from torchlift.converters import TorchliftError, t7
from torchlift.converters.modules import ConversionError, convert_recorded, register
from torchlift.converters.modules.fields import ReadFields
from torchlift.converters.modules.find import is_module
from torchlift.converters.modules.registry import unregister_module
from torchlift.converters.t7 import LuaObject, LuaTable

UNUSED = "fields that are not used: "
PLANE = {"kW": 2, "kH": 2, "dW": 2, "dH": 2, "ceil_mode": False}

#: Class → the fields in other people's files that no converter uses.
IN_WILD_FILES = {
    "nn.Sequential": {"inputSize"},
    "nn.gModule": {"wordEmbed"},
}


def lua(class_name: str, version: int = 1, **fields: Any) -> LuaObject:
    return LuaObject(class_name, LuaTable(fields), version)


def notes_of(source: LuaObject) -> list[str]:
    return [note.text for note in convert_recorded(source).notes]


def modules_of(value: Any) -> Iterator[LuaObject]:
    """Yield the modules in a value that are in no other module."""
    seen: set[int] = set()
    waiting = [value]
    while waiting:
        item = waiting.pop()
        if id(item) in seen:
            continue
        seen.add(id(item))
        if is_module(item):
            yield item
        elif isinstance(item, (LuaObject, LuaTable)):
            waiting += (item.fields if isinstance(item, LuaObject) else item).values()


def unused_fields(path: Path) -> set[tuple[str, str]]:
    """Return the (class, field) of each note about an unused field in a file."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", t7.T7Warning)
            value = t7.load(path)
    except t7.T7Error:
        return set()
    found = set()
    for module in modules_of(value):
        try:
            notes = convert_recorded(module).notes
        except TorchliftError:
            continue
        for note in notes:
            if note.text.startswith(UNUSED):
                names = [
                    part.split(" = ")[0] for part in note.text.removeprefix(UNUSED).split(", ")
                ]
                found |= {(note.class_name, name) for name in names}
    return found


def test_an_unknown_field_is_a_note_with_its_value() -> None:
    source = lua("nn.Tanh", slope=0.5, mode="fast", table=LuaTable({1: 2}), more=np.ones((2, 3)))
    (note,) = notes_of(source)
    assert note == (f"{UNUSED}slope = 0.5, mode = 'fast', table = table of 1, more = array 2×3")


def test_many_unknown_fields_are_counted() -> None:
    (note,) = notes_of(lua("nn.Tanh", **{f"field{i}": i for i in range(20)}))
    assert note.endswith("field7 = 7 and 12 more")
    (note,) = notes_of(lua("nn.Tanh", **{f"field{i}": i for i in range(8)}))
    assert note.endswith("field7 = 7")


def test_buffers_gradients_and_names_of_converted_modules_are_no_notes() -> None:
    child = lua("nn.Tanh", output=np.ones(3), gradInput=np.ones(3), train=False, name="tanh")
    source = lua(
        "nn.Sequential",
        modules=LuaTable.from_list([child]),
        encoder=child,
        gradWeight=np.ones(2),
        _scratch=np.ones(2),
        state=LuaTable(),
    )
    assert notes_of(source) == []


def test_a_field_that_a_plugin_reads_or_ignores_is_no_note() -> None:
    @register("my.Layer", ignored=("loss",))
    def convert(source: LuaObject, context: Any) -> Any:
        return context.convert(lua("nn.Tanh"), str(source["step"]))

    try:
        assert notes_of(lua("my.Layer", step=".inner", loss=3)) == []
        assert notes_of(lua("my.Layer", step=".inner", other=3)) == [f"{UNUSED}other = 3"]
    finally:
        unregister_module(convert.__module__)


@pytest.mark.parametrize(
    ("source", "problem"),
    [
        (lua("nn.SpatialReSamplingEx", oheight=2, owidth=2, mode="cubic"), "mode = 'cubic'"),
        (lua("nn.UpSampling", scale_factor=2, mode="cubic"), "mode = 'cubic'"),
        (lua("cudnn.Tanh", mode="CUDNN_ACTIVATION_RELU"), "mode = 'CUDNN_ACTIVATION_RELU'"),
        (
            lua("cudnn.SpatialMaxPooling", **PLANE, mode="AVERAGE"),
            "mode = 'AVERAGE' is not known; known are 'CUDNN_POOLING_MAX'",
        ),
        *(
            (lua(f"cudnn.{name}", mode="CUDNN_SOFTMAX_MODE_OTHER"), "mode = 'CUDNN_SOFTMAX_MODE_O")
            for name in (
                *("LogSoftMax", "SoftMax", "SpatialLogSoftMax", "SpatialSoftMax"),
                *("VolumetricLogSoftMax", "VolumetricSoftMax"),
            )
        ),
        (lua("cudnn.SoftMax", mode="CUDNN_SOFTMAX_MODE_CHANNEL"), "known are .*MODE_INSTANCE"),
        (lua("cudnn.SpatialSoftMax", mode="CUDNN_SOFTMAX_MODE_INSTANCE"), "known .*MODE_CHANNEL"),
        (
            lua("cudnn.SpatialAveragePooling", **PLANE, mode="CUDNN_POOLING_AVERAGE_EXCLUDE"),
            "mode = 'CUDNN_POOLING_AVERAGE_EXCLUDE' is not known",
        ),
        (lua("nn.Tanh", version=9), "version 9 of nn.Tanh is not known"),
    ],
)
def test_an_unknown_mode_or_version_is_an_error(source: LuaObject, problem: str) -> None:
    with pytest.raises(ConversionError, match=problem):
        convert_recorded(source)


def test_a_relu_with_limits_is_a_threshold() -> None:
    """Its class inherits `updateOutput` from Threshold.lua, which uses both fields."""
    module = convert_recorded(lua("nn.ReLU", threshold=1, val=-2)).module
    assert module(torch.tensor([0.5, 1.5])).tolist() == [-2.0, 1.5]


@pytest.mark.parametrize("folder", ["cifar", "digits", "fuzz", "layers", "models"])
def test_no_field_of_a_fixture_is_unused(folder: str) -> None:
    files = [path for path in sorted((FIXTURES / folder).glob("*.t7")) if "train" not in path.stem]
    assert {path.name: found for path in files if (found := unused_fields(path))} == {}


@pytest.mark.slow
def test_the_unused_fields_of_other_peoples_files_are_known() -> None:
    files = wild_files()
    if not files:
        pytest.skip("needs the shared files")
    found = {entry for path in files for entry in unused_fields(path)}
    assert found <= {(name, key) for name, keys in IN_WILD_FILES.items() for key in keys}


def test_a_private_number_is_a_note_and_long_texts_are_cut() -> None:
    (note,) = notes_of(lua("nn.Tanh", _scale=2.0, text="x" * 100))
    assert "_scale = 2.0" in note
    assert f"text = '{'x' * 59}…" in note


def test_fields_are_described_from_the_last_that_was_read() -> None:
    fields = ReadFields(LuaTable({"a": 1, "b": 2, "c": 3}), lambda array: None)
    for name in ("a", "b", "a"):
        fields.get(name)
    assert fields.described_reads() == ["a = 1", "b = 2"]


@pytest.mark.parametrize("mode", ["CUDNN_POOLING_MAX", "CUDNN_POOLING_MAX_DETERMINISTIC", None])
def test_both_modes_of_cudnn_that_take_a_maximum_are_known(mode: str | None) -> None:
    module = convert_recorded(lua("cudnn.SpatialMaxPooling", **PLANE, mode=mode)).module
    assert module(torch.arange(4.0).reshape(1, 2, 2)).tolist() == [[[3]]]


@pytest.mark.parametrize(
    ("name", "value", "text"),
    [
        ("slope", LuaObject("nn.Tanh", LuaTable()), "slope = nn.Tanh"),
        ("2nd", 1, "'2nd' = 1"),
        ("count", np.array(2.0), "count = array"),
        ("text", "x" * 58, f"text = '{'x' * 58}'"),
        ("text", "x" * 59, f"text = '{'x' * 59}…"),
    ],
)
def test_a_field_is_described_in_a_few_words(name: str, value: Any, text: str) -> None:
    assert notes_of(lua("nn.Tanh", **{name: value})) == [f"{UNUSED}{text}"]


@pytest.mark.parametrize("more", [{}, {"other": 3}])
def test_fields_that_the_converter_of_another_class_reads_are_read(more: dict[str, int]) -> None:
    """`nn.LinearNB` is converted like `nn.Linear`."""
    source = lua("nn.LinearNB", weight=np.ones((2, 3)), **more)
    assert notes_of(source) == ([f"{UNUSED}other = 3"] if more else [])


@pytest.mark.parametrize("more", [{}, {"other": 3}])
def test_fields_without_meaning_for_another_class_have_none_for_its_likes(
    more: dict[str, int],
) -> None:
    """`inn.SpatialMaxPooling` is converted like nn's, which keeps the size of its last input."""
    source = lua("inn.SpatialMaxPooling", **PLANE, iwidth=5, iheight=4, **more)
    assert notes_of(source) == ([f"{UNUSED}other = 3"] if more else [])
