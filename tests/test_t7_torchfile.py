"""torchfile, another implementation, reads the same values from the files that it can read."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torchfile
from support import FIXTURES

from torchlift.converters import t7
from torchlift.converters.t7 import LuaFunction, LuaObject, LuaTable

FORMATS = FIXTURES / "formats"


def equals_torchfile(ours: Any, theirs: Any) -> bool:
    """Return whether a value equals torchfile's (with bytes, lists, whole floats as int).

    Repeated objects are compared once, and cycles end where they began.
    """
    return _equal(ours, theirs, set())


def _equal(ours: Any, theirs: Any, compared: set[tuple[int, int]]) -> bool:
    def equal(first: Any, second: Any) -> bool:
        return _equal(first, second, compared)

    if isinstance(ours, (LuaTable, LuaObject)):
        if (id(ours), id(theirs)) in compared:
            return True
        compared.add((id(ours), id(theirs)))
    if isinstance(ours, LuaTable):
        if isinstance(theirs, list):
            return len(ours) == len(theirs) and all(map(equal, ours.to_list(), theirs))
        if len(ours) != len(theirs):
            return False
        entries = zip(ours.items(), theirs.items(), strict=True)
        return all(equal(a, b) and equal(x, y) for (a, x), (b, y) in entries)
    if isinstance(ours, LuaObject):
        if isinstance(theirs, torchfile.TorchObject):
            return ours.class_name.encode() == theirs._typename and equal(ours.fields, theirs._obj)
        return equal(ours.fields, theirs)
    if isinstance(ours, LuaFunction):
        return ours.bytecode == theirs.dumped and equal(ours.upvalues, theirs.upvalues)
    if isinstance(ours, np.ndarray):
        # torchfile gives every empty tensor the shape (0,).
        return ours.dtype == theirs.dtype and np.array_equal(
            ours, theirs, equal_nan=ours.dtype.kind == "f"
        )
    return (ours.encode() if isinstance(ours, str) else ours) == theirs


#: Fixtures that torchfile 0.1.0 cannot read, reads wrong, or returns in an unknown form.
TORCHFILE_FAILS = {
    "custom_write": "no handler for the class",
    "cuda_half": "no half",
    "cuda_model": "no half",
    "halftensor": "no half",
    "halfstorage": "no half",
    "many_small_tensors": "compares each entry of a list with the list",
    "mixed_keys": "1 and true collide",
    "recursive": "a cycle",
    "table_key": "keys that are tables",
    "timer_generator": "no torch.Generator",
    "deep_nesting": "recursion",
    "two_objects": "several objects",
}


@pytest.mark.parametrize(
    "name",
    sorted(
        path.stem
        for path in FORMATS.glob("*.t7")
        if path.stem not in TORCHFILE_FAILS
        and not path.stem.endswith(("_ascii", "_bigendian", "_big", "_long4"))
        and not path.stem.startswith("bad_")
    ),
)
def test_torchfile_reads_the_same(name: str) -> None:
    path = FORMATS / f"{name}.t7"
    assert equals_torchfile(t7.load(path), torchfile.load(str(path)))
