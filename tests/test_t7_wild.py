"""Files that other people wrote, from 2011 on: all of them load, with all that is in them.

What is protected: binary and ASCII, 8-byte and 4-byte longs (32-bit ARM), Lua 5.1 to 5.3 and
LuaJIT, layers from before 2013, classes nobody knows. The files are not ours to copy: without them
nothing here runs.
"""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torchfile
from support import SHARED, wild_files
from test_t7_formats import same

from torchlift.converters import t7
from torchlift.converters.t7 import LuaFunction, LuaObject, LuaTable, T7Error, T7Warning

WILD = SHARED / "wild"
FILES = sorted([*wild_files(), *WILD.glob("*.io.t7")])

#: Files that end early, as they were published.
TRUNCATED = "jbr97+deepmask__model.t7"

#: Holds tensors of OpenCL, whose layout nobody has described.
OPENCL = "WhoseSomebody+drdo-kurs"

#: Files with more than one object: how many, and whether bytes are left.
SEVERAL = {
    "FreeeG+RNN__examples.t7": (34, True),
    "torch+demos__face-detector__face.net@f25a888": (3, False),
}


@pytest.mark.skipif(not FILES, reason="other people's files are not here")
def test_there_are_many() -> None:
    assert len(FILES) > 80


def every_part(value: Any) -> list[Any]:
    """All tables, instances, functions and arrays of a value."""
    seen: dict[int, Any] = {}
    waiting = [value]
    while waiting:
        item = waiting.pop()
        if not isinstance(item, (LuaTable, LuaObject, LuaFunction, np.ndarray)) or id(item) in seen:
            continue
        seen[id(item)] = item
        if isinstance(item, LuaTable):
            waiting += [*item.keys(), *item.values()]
        elif isinstance(item, LuaObject):
            waiting += [item.fields, *item.body]
        elif isinstance(item, LuaFunction):
            waiting.append(item.upvalues)
        else:
            waiting.append(item.storage)
    return list(seen.values())


@pytest.mark.parametrize("path", FILES, ids=[path.name for path in FILES])
def test_it_loads(path: Path) -> None:
    if path.name == TRUNCATED:
        with pytest.raises(
            T7Error, match=r"2,105,348 bytes and 746,857 are left.*truncated"
        ) as error:
            t7.load(path)
        assert error.value.path == "model.scoreBranch.modules[2].gradBias"
        return
    if path.name.startswith(OPENCL):
        with pytest.raises(T7Error, match="torch.ClTensor is written in a way"):
            t7.load(path)
        return
    count, left = SEVERAL.get(path.name, (1, False))
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always", T7Warning)
        values = t7.load_all(path)
    assert len(values) == count
    assert len(warned) == left
    parts = every_part(values)
    for item in parts:
        if isinstance(item, np.ndarray):
            assert item.dtype.isnative
            assert item.storage is None or item.dtype == item.storage.dtype
        if isinstance(item, LuaObject):
            assert item.class_name.isprintable()
            assert item.fields or item.body == [item.fields], f"{item.class_name} without fields"
    assert all(isinstance(key, (str, int)) for key in _names(parts))


def _names(parts: list[Any]) -> list[Any]:
    """The keys of all fields."""
    return [key for item in parts if isinstance(item, LuaObject) for key in item.fields]


@pytest.mark.parametrize("path", FILES, ids=[path.name for path in FILES])
def test_torchfile_agrees(path: Path) -> None:
    """Where torchfile can read it, and shows it in a form that can be compared."""
    if path.name == TRUNCATED:
        pytest.skip("torchfile gives foreign memory for what is not there")
    try:
        theirs = torchfile.load(str(path))
    except Exception as error:
        pytest.skip(f"torchfile fails: {type(error).__name__}")
    try:
        agrees = same(t7.load(path), theirs)
    except RecursionError:
        pytest.skip("a cycle")
    assert agrees


@pytest.mark.skipif(not FILES, reason="other people's files are not here")
def test_layers_of_2011_have_their_fields() -> None:
    (path,) = WILD.glob("*face.net@f25a888")
    _, _, modules = t7.load_all(path)
    names = [layer.class_name for layer in modules.values()]
    assert names[:3] == ["nn.SpatialNormalization", "nn.SpatialConvolution", "nn.Tanh"]
    convolution = modules[2]
    assert (convolution["kW"], convolution["kH"], convolution["nOutputPlane"]) == (5, 5, 6)
    assert convolution["weight"].shape == (6, 1, 5, 5)
    assert modules[9]["fanin"] == 20


@pytest.mark.skipif(not FILES, reason="other people's files are not here")
def test_layers_of_2012_have_their_fields() -> None:
    (path,) = WILD.glob("*face.net@a9a316d")
    layers = t7.load(path)["modules"]
    assert layers[1]["padW"] == 3
    assert layers[7]["weight"].shape == (128, 7, 7)
    assert layers[9]["fanout"] == 2
