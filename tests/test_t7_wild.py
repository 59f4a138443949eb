"""Files that other people published since 2011 load completely.

What is protected: binary and ASCII, 8-byte and 4-byte longs (32-bit ARM), Lua 5.1 to 5.3 and
LuaJIT, layers from before 2013, unknown classes. The files cannot be redistributed; without them
these tests are skipped.
"""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torchfile
from support import SHARED, wild_files
from test_t7_torchfile import equals_torchfile

from torchlift.converters import t7
from torchlift.converters.t7 import LuaFunction, LuaObject, LuaTable, T7Error, T7Warning

WILD = SHARED / "wild"
FILES = sorted([*wild_files(), *WILD.glob("*.io.t7")])

#: A file that was truncated when it was published.
TRUNCATED = "jbr97+deepmask__model.t7"

#: Files with several objects: their number, and whether extra bytes follow.
SEVERAL = {
    "FreeeG+RNN__examples.t7": (34, True),
    "torch+demos__face-detector__face.net@f25a888": (3, False),
}


@pytest.mark.skipif(not FILES, reason="needs other people's files")
def test_there_are_many_files() -> None:
    assert len(FILES) > 80


def all_objects(value: Any) -> list[Any]:
    """Return all tables, instances, functions and arrays of a value."""
    seen: dict[int, Any] = {}
    stack = [value]
    while stack:
        item = stack.pop()
        if not isinstance(item, (LuaTable, LuaObject, LuaFunction, np.ndarray)) or id(item) in seen:
            continue
        seen[id(item)] = item
        if isinstance(item, LuaTable):
            stack += [*item.keys(), *item.values()]
        elif isinstance(item, LuaObject):
            stack += [item.fields, *item.body]
        elif isinstance(item, LuaFunction):
            stack.append(item.upvalues)
        else:
            stack.append(item.storage)
    return list(seen.values())


@pytest.mark.parametrize("path", FILES, ids=[path.name for path in FILES])
def test_published_files_are_read_to_their_end(path: Path) -> None:
    if path.name == TRUNCATED:
        with pytest.raises(
            T7Error, match=r"2,105,348 bytes and 746,857 are left.*truncated"
        ) as error:
            t7.load(path)
        assert error.value.path == "model.scoreBranch.modules[2].gradBias"
        return
    count, has_extra_bytes = SEVERAL.get(path.name, (1, False))
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always", T7Warning)
        values = t7.load_all(path)
    assert len(values) == count
    assert len(warned) == has_extra_bytes
    objects = all_objects(values)
    for item in objects:
        if isinstance(item, np.ndarray):
            assert item.dtype.isnative
            assert item.storage is None or item.dtype == item.storage.dtype
        if isinstance(item, LuaObject):
            assert item.class_name.isprintable()
            assert item.fields or item.body == [item.fields], f"{item.class_name} without fields"
    instances = [item for item in objects if isinstance(item, LuaObject)]
    assert all(isinstance(key, (str, int)) for item in instances for key in item.fields)


@pytest.mark.parametrize("path", FILES, ids=[path.name for path in FILES])
def test_torchfile_reads_published_files_alike(path: Path) -> None:
    """If torchfile can read the file, and the value can be compared."""
    if path.name == TRUNCATED:
        pytest.skip("torchfile returns uninitialized memory for missing elements")
    try:
        theirs = torchfile.load(str(path))
    except Exception as error:
        pytest.skip(f"torchfile fails: {type(error).__name__}")
    try:
        agrees = equals_torchfile(t7.load(path), theirs)
    except RecursionError:
        pytest.skip("a cycle")
    assert agrees


@pytest.mark.skipif(not FILES, reason="needs other people's files")
def test_layers_of_2011_have_their_fields() -> None:
    (path,) = WILD.glob("*face.net@f25a888")
    _, _, modules = t7.load_all(path)
    names = [layer.class_name for layer in modules.values()]
    assert names[:3] == ["nn.SpatialNormalization", "nn.SpatialConvolution", "nn.Tanh"]
    convolution = modules[2]
    assert (convolution["kW"], convolution["kH"], convolution["nOutputPlane"]) == (5, 5, 6)
    assert convolution["weight"].shape == (6, 1, 5, 5)
    assert modules[9]["fanin"] == 20


@pytest.mark.skipif(not FILES, reason="needs other people's files")
def test_layers_of_2012_have_their_fields() -> None:
    (path,) = WILD.glob("*face.net@a9a316d")
    layers = t7.load(path)["modules"]
    assert layers[1]["padW"] == 3
    assert layers[7]["weight"].shape == (128, 7, 7)
    assert layers[9]["fanout"] == 2
