"""What a network takes: the shape of one example for each input, as `--input` writes it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeAlias

from .errors import TorchliftError

#: The batch among the axes, and its name in a file.
BATCH, BATCH_AXIS = "N", "batch"
#: A free axis without a name.
FREE = "?"
#: The free axes of an image of any size, in a file.
SIZE_AXES = ("height", "width")
#: One number an example.
_SCALAR = "scalar"

#: The dtypes that an input may have.
DTYPES = (
    *("float16", "float32", "float64", "int8", "int16", "int32", "int64"),
    *("uint8", "bool"),
)
_LARGEST_AXIS = 2**28

_INPUT = re.compile(r"(?:(?P<name>[A-Za-z_][\w.-]*)=)?(?P<size>[^:=,\[\]]+)(?::(?P<dtype>[^:]+))?")


class InputShapeError(TorchliftError, ValueError):
    """A text does not describe what a network takes."""


@dataclass(frozen=True)
class InputShape:
    """One tensor that a network takes.

    Attributes:
        axes: Sizes, `?` or a name for a free axis, and `N` for the batch, which is first mostly.
        dtype: A numpy name; None for that of the network.
        name: Its name in an exported file; None for `input`, or `input_1` and so on.

    Example:
        >>> shape = InputShape(("N", "?", 20))
        >>> str(shape), shape.batch_axis, shape.sizes(batch=2, free=7)
        ('?x20', 0, (2, 7, 20))
    """

    axes: tuple[int | str, ...]
    dtype: str | None = None
    name: str | None = None

    @property
    def batch_axis(self) -> int:
        """The position of the batch."""
        return self.axes.index(BATCH)

    @property
    def example_axes(self) -> tuple[int | str, ...]:
        """The axes without the batch."""
        return tuple(axis for axis in self.axes if axis != BATCH)

    @property
    def free_axes(self) -> tuple[int, ...]:
        """The positions of the free axes, that of the batch left out."""
        return tuple(
            i for i, axis in enumerate(self.axes) if isinstance(axis, str) and i != self.batch_axis
        )

    @property
    def is_integer(self) -> bool:
        """Whether it holds whole numbers: indices, which count from 1, or a mask."""
        return self.dtype is not None and not self.dtype.startswith("float")

    def sizes(self, batch: int, free: int) -> tuple[int, ...]:
        """Return the shape of a batch, every free axis of one size."""
        return tuple(
            axis if isinstance(axis, int) else batch if axis == BATCH else free
            for axis in self.axes
        )

    def __str__(self) -> str:
        in_front = self.batch_axis == 0
        axes = self.example_axes if in_front else self.axes
        text = "x".join(map(str, axes)) or _SCALAR
        name = "" if self.name is None else f"{self.name}="
        return name + text + ("" if self.dtype is None else f":{self.dtype}")


#: A tensor, or a table of them.
Entry: TypeAlias = "InputShape | list[Entry]"


@dataclass(frozen=True)
class InputShapes:
    """All that a network takes: one tensor, or a table.

    Attributes:
        entries: What the network takes, in its order: tensors, and lists of them for tables.

    Example:
        >>> shapes = parse_inputs("image=3x32x32, [9, ?xN:int64]")
        >>> str(shapes), [str(leaf) for leaf in shapes.leaves()]
        ('image=3x32x32,[9,?xN:int64]', ['image=3x32x32', '9', '?xN:int64'])
        >>> shapes.names()
        ['image', 'input_2', 'input_3']
    """

    entries: list[Entry] = field(default_factory=list)

    @classmethod
    def single(cls, shape: Sequence[int | str], dtype: str | None = None) -> InputShapes:
        """Return what a network takes that has one input, whose batch is in front.

        Example:
            >>> str(InputShapes.single((3, 224, 224)))
            '3x224x224'
        """
        return cls([InputShape((BATCH, *shape), dtype)])

    @property
    def tree(self) -> Entry:
        """What the module is called with: a tensor, or a list of them."""
        only = self.entries[0] if len(self.entries) == 1 else None
        return list(self.entries) if only is None else only

    @property
    def image_shape(self) -> tuple[int, int, int] | None:
        """(C, H, W), if the only input is an image of that size."""
        only = self.tree
        if not isinstance(only, InputShape) or only.dtype not in (None, "float32"):
            return None
        sizes = tuple(axis for axis in only.axes if isinstance(axis, int))
        if only.batch_axis or len(only.axes) != 4 or len(sizes) != 3 or only.name is not None:
            return None
        return sizes[0], sizes[1], sizes[2]

    @property
    def takes_any_size(self) -> bool:
        """Whether the only input is an image whose height and width are free."""
        leaves = list(self.leaves())
        return len(leaves) == 1 and leaves[0].batch_axis == 0 and leaves[0].free_axes == (2, 3)

    @property
    def has_free_axes(self) -> bool:
        """Whether any axis but the batch is free."""
        return any(leaf.free_axes for leaf in self.leaves())

    def leaves(self) -> Iterator[InputShape]:
        """Yield the tensors, depth first."""

        def walk(entry: Entry) -> Iterator[InputShape]:
            if isinstance(entry, InputShape):
                yield entry
            else:
                for inner in entry:
                    yield from walk(inner)

        yield from walk(list(self.entries))

    def with_leaves(self, leaves: Sequence[InputShape]) -> InputShapes:
        """Return the same tables of other tensors."""
        waiting = iter(leaves)

        def build(entry: Entry) -> Entry:
            if isinstance(entry, InputShape):
                return next(waiting)
            return [build(inner) for inner in entry]

        return InputShapes([build(entry) for entry in self.entries])

    def names(self) -> list[str]:
        """Return the names of the inputs in an exported file."""
        leaves = list(self.leaves())
        numbered = interface_names("input", len(leaves))
        return [leaf.name or name for leaf, name in zip(leaves, numbered, strict=True)]

    def axis_names(self) -> list[dict[int, str]]:
        """Return the names of each input's free axes in an exported file, the batch among them.

        Example:
            >>> parse_inputs("3x?x?").axis_names()
            [{0: 'batch', 2: 'height', 3: 'width'}]
            >>> parse_inputs("tx20,?xN").axis_names()
            [{0: 'batch', 1: 't'}, {1: 'batch', 0: 'size_1'}]
        """
        image_axes = dict(zip((2, 3), SIZE_AXES, strict=True)) if self.takes_any_size else {}
        count = 0
        found = []
        for leaf in self.leaves():
            names = {leaf.batch_axis: BATCH_AXIS}
            for position in leaf.free_axes:
                name = str(leaf.axes[position])
                if name == FREE:
                    count += 1
                    name = image_axes.get(position, f"size_{count}")
                names[position] = name
            found.append(names)
        return found

    def __str__(self) -> str:
        def text(entry: Entry) -> str:
            if isinstance(entry, InputShape):
                return str(entry)
            return f"[{','.join(map(text, entry))}]"

        return ",".join(map(text, self.entries))

    def to_json(self) -> list[Any]:
        """Return `{"name", "shape", "dtype"}` for each tensor, and a list for a table.

        Example:
            >>> parse_inputs("?x20").to_json()
            [{'name': 'input', 'shape': ['batch', None, 20], 'dtype': 'float32'}]
        """
        names = iter(self.names())

        def entry_to_json(entry: Entry) -> Any:
            if not isinstance(entry, InputShape):
                return [entry_to_json(inner) for inner in entry]
            shown = {BATCH: BATCH_AXIS, FREE: None}
            axes = [shown.get(a, a) if isinstance(a, str) else a for a in entry.axes]
            return {"name": next(names), "shape": axes, "dtype": entry.dtype or "float32"}

        return [entry_to_json(entry) for entry in self.entries]

    @classmethod
    def from_json(cls, values: Any) -> InputShapes:
        """Return what `to_json` gave.

        Raises:
            InputShapeError: If the values are something else.

        Example:
            >>> str(InputShapes.from_json(parse_inputs("[9],a=?xN:int64").to_json()))
            '[9],a=?xN:int64'
        """

        def text(value: Any, depth: int = 0) -> str:
            if isinstance(value, list) and value and depth <= _DEEPEST:
                return f"[{','.join(text(inner, depth + 1) for inner in value)}]"
            shape = value.get("shape") if isinstance(value, dict) else None
            if not isinstance(shape, list):
                raise InputShapeError(f"an input with a shape was expected, not {value!r}")
            axes = [
                FREE if axis is None else BATCH if axis == BATCH_AXIS else axis for axis in shape
            ]
            size = "x".join(map(str, axes[1:] if axes[:1] == [BATCH] else axes)) or _SCALAR
            dtype = value.get("dtype")
            name = "" if value.get("name") is None else f"{value['name']}="
            return name + size + ("" if dtype in (None, "float32") else f":{dtype}")

        if not isinstance(values, list) or not values:
            raise InputShapeError(f"a list of inputs was expected, not {values!r}")
        shapes = parse_inputs(",".join(text(value) for value in values))
        leaves = list(shapes.leaves())
        usual = interface_names("input", len(leaves))
        return shapes.with_leaves(
            [
                replace(leaf, name=None) if leaf.name == name else leaf
                for leaf, name in zip(leaves, usual, strict=True)
            ]
        )


#: How deep tables may be nested.
_DEEPEST = 20


def interface_names(name: str, count: int) -> list[str]:
    """Return the names of the inputs or outputs: numbered from 1 if there are several.

    Example:
        >>> interface_names("output", 1), interface_names("output", 2)
        (['output'], ['output_1', 'output_2'])
    """
    return [name] if count == 1 else [f"{name}_{index}" for index in range(1, count + 1)]


def parse_inputs(text: str) -> InputShapes:
    """Return the inputs that a text such as `3x224x224` or `[16,16],4xN:int64` describes.

    One example's shape for each input, the batch left out, sizes joined by `x`; `?` or a name in
    lower-case letters without an `x` is a free axis, `N` the batch where it is not in front. Inputs
    are separated by commas; a table is in brackets. `scalar` is one number an example.

    Raises:
        InputShapeError: If the text does not describe inputs.

    Example:
        >>> parse_inputs("63:int64").tree
        InputShape(axes=('N', 63), dtype='int64', name=None)
        >>> parse_inputs("[20]").tree
        [InputShape(axes=('N', 20), dtype=None, name=None)]
        >>> parse_inputs("scalar:int64,tx8").names()
        ['input_1', 'input_2']
        >>> parse_inputs("3x0x4")  # doctest: +ELLIPSIS
        Traceback (most recent call last):
            ...
        torchlift.converters.input_shapes.InputShapeError: '3x0x4': a shape such as 3x224x224 ...
    """
    tokens = re.findall(r"[\[\],]|[^\[\],]+", re.sub(r"\s+", "", text))
    position = 0

    def entries(depth: int) -> list[Entry]:
        nonlocal position
        found: list[Entry] = []
        if depth > _DEEPEST:
            raise InputShapeError(f"tables are nested more than {_DEEPEST} deep")
        while True:
            token = tokens[position].strip() if position < len(tokens) else ""
            position += 1
            if token == "[":
                found.append(entries(depth + 1))
                if position > len(tokens) or tokens[position - 1] != "]":
                    raise InputShapeError(f"{text!r}: a bracket is not closed")
            elif token in ("", "]", ","):
                raise InputShapeError(f"{text!r}: a shape such as 3x224x224 or ?x20 was expected")
            else:
                found.append(_input_shape(token))
            after = tokens[position].strip() if position < len(tokens) else ""
            position += 1
            if after != ",":
                if after not in ("", "]") or (after == "]") != (depth > 0):
                    problem = "a bracket is not closed" if depth else "inputs have commas between"
                    raise InputShapeError(f"{text!r}: {problem}")
                return found

    shapes = InputShapes(entries(0))
    names = shapes.names()
    if doubled := next((name for name in names if names.count(name) > 1), None):
        raise InputShapeError(f"{text!r}: two inputs are named {doubled}")
    return shapes


def _input_shape(text: str) -> InputShape:
    found = _INPUT.fullmatch(text)
    if not found:
        raise InputShapeError(f"{text!r}: a shape such as 3x224x224, ?x20 or 63:int64 was expected")
    size, dtype = found["size"].strip(), (found["dtype"] or "").strip() or None
    if dtype is not None and dtype not in DTYPES:
        raise InputShapeError(f"{text!r}: {dtype} is no dtype: one of {', '.join(DTYPES)}")
    axes = () if size == _SCALAR else tuple(_axis(part, text) for part in size.split("x"))
    if axes.count(BATCH) > 1:
        raise InputShapeError(f"{text!r}: N stands for the batch, once")
    count = 1
    for axis in axes:
        count *= axis if isinstance(axis, int) else 1
    if count > _LARGEST_AXIS:
        raise InputShapeError(f"{text!r}: too large for an example")
    return InputShape(axes if BATCH in axes else (BATCH, *axes), dtype, found["name"])


def _axis(part: str, text: str) -> int | str:
    if re.fullmatch(r"[1-9]\d{0,9}", part):
        return int(part)
    if part == BATCH_AXIS or not (
        part in (FREE, BATCH) or re.fullmatch(r"[a-wyz_][a-wyz_0-9]*", part)
    ):
        hint = "the batch is N" if part == BATCH_AXIS else f"{part!r} is no size of an axis"
        raise InputShapeError(f"{text!r}: a shape such as 3x224x224 was expected: {hint}")
    return part
