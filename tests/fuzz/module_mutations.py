"""Mutations of the objects in a `.t7`: fields removed, exchanged, or replaced by anything else."""

from __future__ import annotations

import functools
import math
import random
import warnings
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from torchlift.converters import t7
from torchlift.converters.modules.find import is_module
from torchlift.converters.t7 import LuaObject, LuaTable, TorchArray
from torchlift.converters.t7.reading.arrays import tensor_view

FIXTURES = Path(__file__).resolve().parents[2] / "fixtures"
#: Largest file that is mutated, and how many objects of one class are.
_MAX_BYTES, _PER_CLASS = 1 << 16, 4

_NUMBERS = (-1, 0, 1, 2, 2.5, -0.5, 7, 1e9, 2.0**31, -(2.0**40), 1e300, math.nan, math.inf)
_TEXTS = ("", "text", "mean", 'a"b\n', "x" * 300)


@functools.cache
def seeds(*folders: Path) -> list[bytes]:
    """Return modules of every class in the files of folders, each as the bytes of a `.t7`."""
    found: defaultdict[str, list[bytes]] = defaultdict(list)
    paths = (path for folder in folders for path in folder.rglob("*") if path.is_file())
    for path in sorted(paths):
        if path.stat().st_size > 1 << 24 or path.suffix in (".json", ".jsonl", ".txt", ".md"):
            continue
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", t7.T7Warning)
                value = t7.load(path)
        except t7.T7Error:
            continue
        for module in filter(is_module, _objects(value)):
            if len(found[module.class_name]) < _PER_CLASS:
                data = t7.dumps(module)
                if len(data) <= _MAX_BYTES:
                    found[module.class_name].append(data)
    return [data for name in sorted(found) for data in found[name]]


def draw(rng: random.Random, corpus: list[bytes]) -> bytes:
    """Return one of the modules with one to three mutations."""
    root = t7.loads(rng.choice(corpus))
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        tables = [table for table in _tables(root) if len(table)]
        if tables:
            _mutate(rng.choice(tables), root, rng, corpus)
    return t7.dumps(root)


def _mutate(table: LuaTable, root: Any, rng: random.Random, corpus: list[bytes]) -> None:
    """Change one entry of a table."""
    key = rng.choice(table.keys())
    if rng.random() < 0.1:
        other = rng.choice(table.keys())
        table[key], table[other] = table[other], table[key]
    elif rng.random() < 0.1:
        table[key] = None
    else:
        table[key] = rng.choice(_REPLACEMENTS)(table[key], root, rng, corpus)


_Replacement = Callable[[Any, Any, random.Random, list[bytes]], Any]


def _number(value: Any, root: Any, rng: random.Random, corpus: list[bytes]) -> Any:
    return rng.choice(_NUMBERS)


def _text(value: Any, root: Any, rng: random.Random, corpus: list[bytes]) -> Any:
    return rng.choice(_TEXTS)


def _boolean(value: Any, root: Any, rng: random.Random, corpus: list[bytes]) -> Any:
    return rng.random() < 0.5


def _table(value: Any, root: Any, rng: random.Random, corpus: list[bytes]) -> Any:
    return LuaTable.from_list([rng.choice((value, 1, root)) for _ in range(rng.randrange(4))])


def _doubled(value: Any, root: Any, rng: random.Random, corpus: list[bytes]) -> Any:
    """Return 2⁴⁰ times the value, in tables that hold each other twice."""
    for _ in range(40):
        value = LuaTable.from_list([value, value])
    return value


def _nested(value: Any, root: Any, rng: random.Random, corpus: list[bytes]) -> Any:
    """Return the value in many modules, one in another, or each in the next one twice."""
    count, width = rng.choice(((40, 2), (13, 2), (150, 1)))
    for _ in range(count):
        fields = LuaTable({"modules": LuaTable.from_list([value] * width)})
        value = LuaObject(rng.choice(("nn.Sequential", "nn.ConcatTable")), fields)
    return value


def _empty_tensor(value: Any, root: Any, rng: random.Random, corpus: list[bytes]) -> Any:
    return np.zeros(rng.choice(((0,), (0, 3))), rng.choice(("f4", "f8", "i8")))


def _small_tensor(value: Any, root: Any, rng: random.Random, corpus: list[bytes]) -> Any:
    shape = [rng.randrange(1, 5) for _ in range(rng.randrange(1, 5))]
    numbers = [rng.choice(_NUMBERS) for _ in range(math.prod(shape))]
    with np.errstate(all="ignore"), warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        return np.array(numbers).reshape(shape).astype(rng.choice(("f4", "f8", "i8", "u1")))


def _expanded_tensor(value: Any, root: Any, rng: random.Random, corpus: list[bytes]) -> Any:
    """Return a tensor of any size over a few numbers, with strides of 0 or 1."""
    kind, dtype = rng.choice((("Float", "f4"), ("Double", "f8"), ("Long", "i8")))
    rank = value.ndim if isinstance(value, np.ndarray) and value.ndim else rng.randrange(1, 5)
    sizes = [rng.choice((1, 3, 50, 70_000)) for _ in range(rank)]
    storage = np.ones(sum(sizes), dtype).view(TorchArray)
    storage.torch_class = f"torch.{kind}Storage"
    strides = [rng.choice((0, 0, 1)) for _ in sizes]
    return tensor_view(f"torch.{kind}Tensor", sizes, strides, 0, storage)


def _can_copy(value: Any) -> bool:
    """Return whether it is a tensor with numbers; an expanded one may stand for terabytes."""
    return isinstance(value, np.ndarray) and 0 < value.nbytes < 2**24


def _reshaped(value: Any, root: Any, rng: random.Random, corpus: list[bytes]) -> Any:
    """Return the tensor in another shape, or another part of it."""
    if not _can_copy(value):
        return rng.choice(_NUMBERS)
    array = np.array(value)
    return rng.choice((array.ravel(), array[None], array[:1], array.T, array.ravel()[:-1]))


def _damaged_tensor(value: Any, root: Any, rng: random.Random, corpus: list[bytes]) -> Any:
    """Return the tensor with one number changed."""
    if not _can_copy(value):
        return rng.choice(_NUMBERS)
    array = np.array(value)
    with np.errstate(all="ignore"), warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        array.flat[rng.randrange(array.size)] = np.float64(rng.choice(_NUMBERS)).astype(array.dtype)
    return array


def _inner(value: Any, root: Any, rng: random.Random, corpus: list[bytes]) -> Any:
    """Return another value of the same file: cycles, sharing, values of the wrong kind."""
    return rng.choice([root, *_objects(root), *_tables(root)])


def _other_module(value: Any, root: Any, rng: random.Random, corpus: list[bytes]) -> Any:
    return t7.loads(rng.choice(corpus))


def _other_class(value: Any, root: Any, rng: random.Random, corpus: list[bytes]) -> Any:
    """Return the object with the fields of another class."""
    if not isinstance(value, LuaObject):
        return LuaObject("nn.Identity")
    other = t7.loads(rng.choice(corpus))
    return LuaObject(value.class_name, other.fields, rng.choice((0, 1, 2, 9)))


_REPLACEMENTS: tuple[_Replacement, ...] = (
    *(_number, _number, _number, _text, _boolean, _table, _doubled, _nested, _empty_tensor),
    *(_small_tensor, _expanded_tensor, _reshaped, _damaged_tensor, _inner, _other_module),
    _other_class,
)


def _walk(value: Any) -> Iterator[Any]:
    """Yield the objects and tables in a value, each once."""
    seen: set[int] = set()
    waiting = [value]
    while waiting:
        item = waiting.pop()
        if isinstance(item, (LuaObject, LuaTable)) and id(item) not in seen:
            seen.add(id(item))
            yield item
            waiting += [item.fields] if isinstance(item, LuaObject) else item.values()


def _objects(value: Any) -> list[LuaObject]:
    return [item for item in _walk(value) if isinstance(item, LuaObject)]


def _tables(value: Any) -> list[LuaTable]:
    return [item for item in _walk(value) if isinstance(item, LuaTable)]
