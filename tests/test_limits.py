"""A limit is met from both sides: what just fits is taken, one more is refused.

Limits that large inputs would take are lowered here; `test_defaults.py` holds their values.
"""

from __future__ import annotations

import gzip
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from torchlift.converters import convert, t7
from torchlift.converters.errors import TorchliftError
from torchlift.converters.modules import context
from torchlift.converters.t7 import LuaObject, LuaTable, leaves
from torchlift.converters.t7.model import Candidate, list_candidates
from torchlift.converters.t7.reading import byte_stream


def refused(message: str | None) -> AbstractContextManager[Any]:
    return nullcontext() if message is None else pytest.raises(TorchliftError, match=message)


def lua(name: str, version: int = 1, **fields: Any) -> LuaObject:
    return LuaObject(name, LuaTable(fields), version)


def adaptive(height: int, width: int) -> LuaObject:
    return lua("nn.SpatialAdaptiveMaxPooling", H=height, W=width)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (lua("nn.Tanh", 4), None),
        (lua("nn.Tanh", 5), "version 5 of nn.Tanh is not known"),
        (adaptive(1, 4096), None),
        (adaptive(4096, 1), None),
        (adaptive(1, 4097), "to 1×4097"),
        (adaptive(4097, 1), "to 4097×1"),
        (adaptive(0, 1), "to 0×1"),
        (lua("nn.Reshape", size=np.ones(64, int)), None),
        (lua("nn.Reshape", size=np.ones(65, int)), "65 dimensions"),
    ],
)
def test_objects_at_the_limits_of_the_conversion(source: LuaObject, message: str | None) -> None:
    with refused(message):
        convert(source)


def expanded(rows: int) -> np.ndarray:
    return np.broadcast_to(np.float32(1), (rows, 1))


@pytest.mark.parametrize(
    ("rows", "message"),
    [([7], None), ([4, 4], None), ([8], "expanded from fewer"), ([4, 5], "expanded from fewer")],
)
def test_the_expanded_tensors_of_a_model_are_limited_together(
    rows: list[int], message: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(context, "MAX_EXPANDED", 6)
    layers = [lua("nn.Linear", weight=expanded(count)) for count in rows]
    with refused(message):
        convert(lua("nn.ConcatTable", modules=LuaTable.from_list(layers)))


@pytest.mark.parametrize(("size", "message"), [(100, None), (101, "decompresses to more than 100")])
def test_a_compressed_file_has_a_limit(
    size: int, message: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(byte_stream, "_ALWAYS_ALLOWED", 100)
    monkeypatch.setattr(byte_stream, "_MAX_EXPANSION", 1)
    text = "x" * (size - len(t7.dumps("")))
    with refused(message):
        assert t7.loads(gzip.compress(t7.dumps(text))) == text


@pytest.mark.parametrize(("factor", "message"), [(4, None), (2, "decompresses to more than")])
def test_the_limit_grows_with_the_compressed_file(
    factor: int, message: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What stands in an open file before the position counts on neither side."""
    text = "x" * 1000
    packed = gzip.compress(t7.dumps(text))
    assert 2 * len(packed) < 1000 < 40 * len(packed)
    monkeypatch.setattr(byte_stream, "_ALWAYS_ALLOWED", 1)
    monkeypatch.setattr(byte_stream, "_MAX_EXPANSION", 10 * factor)
    with refused(message):
        t7.loads(packed)


@pytest.mark.parametrize(
    ("kind", "value", "message"),
    [
        (".json", [np.ones(2), np.ones(3)], None),
        (".json", [np.ones(2), np.ones(4)], "6 numbers are too many for JSON"),
        (".npz", [np.ones(9)], None),
        (".npz", [expanded(6)], None),
        (".npz", [expanded(7)], "it is expanded to 7 elements from fewer"),
        (".safetensors", [expanded(7)], "it is expanded to 7 elements from fewer"),
    ],
)
def test_the_numbers_of_a_dump_are_limited(
    kind: str,
    value: list[np.ndarray],
    message: str | None,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(leaves, "_MAX_NUMBERS", 5)
    values: dict[str, leaves.Leaf] = {f"[{index}]": each for index, each in enumerate(value, 1)}
    with refused(message):
        leaves.write_leaves(values, tmp_path / f"out{kind}")


@pytest.mark.parametrize(("letters", "message"), [(200, None), (201, "cannot be the class")])
def test_a_class_name_has_a_length(letters: int, message: str | None) -> None:
    with refused(message):
        assert t7.loads(t7.dumps(lua("x" * letters))).class_name == "x" * letters


@pytest.mark.parametrize(
    ("count", "rest"), [(24, ""), (25, " and 1 more"), (1024, " and 1,000 more")]
)
def test_a_list_of_networks_ends(count: int, rest: str) -> None:
    found = [Candidate(f"[{index}]", lua("nn.Tanh"), 1) for index in range(1, count + 1)]
    assert list_candidates(found).partition("[24] (nn.Tanh)")[2] == rest


@pytest.mark.parametrize("write", [t7.dumps, lambda value: t7.dumps(value, format="ascii")])
@pytest.mark.parametrize(("dimensions", "message"), [(64, None), (65, "has 65 dimensions")])
def test_a_tensor_has_as_many_dimensions_as_numpy_can_hold(
    dimensions: int, message: str | None, write: Callable[[Any], bytes]
) -> None:
    data = write(np.zeros([1] * 64, "f4"))
    if dimensions == 65:
        for old, new in ((b"Tensor\x40\0", b"Tensor\x41\0"), (b"\n64\n", b"\n65\n")):
            data = data.replace(old, new)
    with refused(message):
        assert t7.loads(data).ndim == 64
