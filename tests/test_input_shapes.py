"""What a network takes, as `--input` writes it and as the files of a saved model hold it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from torchlift.converters.input_shapes import InputShape, InputShapeError, InputShapes, parse_inputs

#: A text, the axes of its tensors, and their names in an exported file.
TEXTS: list[tuple[str, list[tuple[int | str, ...]], list[str]]] = [
    ("3x224x224", [("N", 3, 224, 224)], ["input"]),
    ("scalar", [("N",)], ["input"]),
    ("?xNx20", [("?", "N", 20)], ["input"]),
    ("N", [("N",)], ["input"]),
    ("t1x2", [("N", "t1", 2)], ["input"]),
    ("a=3,4", [("N", 3), ("N", 4)], ["a", "input_2"]),
    ("input=3,4", [("N", 3), ("N", 4)], ["input", "input_2"]),
    ("input_1=3", [("N", 3)], ["input_1"]),
    ("[3,[4,5]],b.c-d=6", [("N", 3), ("N", 4), ("N", 5), ("N", 6)], ["input_1", "input_2"]),
    (" [ 3 , 4 ] ", [("N", 3), ("N", 4)], ["input_1", "input_2"]),
    (f"{2**28}", [("N", 2**28)], ["input"]),
    (f"?x{2**28}", [("N", "?", 2**28)], ["input"]),
    (f"{'[' * 20}3{']' * 20}", [("N", 3)], ["input"]),
]


@pytest.mark.parametrize(("text", "axes", "names"), TEXTS)
def test_a_text_describes_inputs(
    text: str, axes: list[tuple[int | str, ...]], names: list[str]
) -> None:
    shapes = parse_inputs(text)
    assert [leaf.axes for leaf in shapes.leaves()] == axes
    assert shapes.names()[: len(names)] == names


@pytest.mark.parametrize("text", [text for text, _, _ in TEXTS])
def test_a_file_keeps_the_names_and_tables_of_inputs(text: str) -> None:
    """Also names that inputs without one have, where their number is another."""
    shapes = parse_inputs(text)
    again = InputShapes.from_json(shapes.to_json())
    assert again.names() == shapes.names()
    assert again.to_json() == shapes.to_json()
    assert str(again) == str(shapes)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        *(("", "was expected"), (",", "was expected"), ("3,", "was expected")),
        *(("3x0", "no size"), ("03", "no size"), ("-1", "no size"), ("1.5", "no size")),
        *(("Tx3", "no size"), ("batchx3", "the batch is N"), ("NxN", "once")),
        *(("3:float", "no dtype"), ("3:", "was expected"), ("=3", "was expected")),
        *(("1a=3", "was expected"), ("a=a=3", "was expected")),
        *(("[3", "not closed"), ("3]", "commas"), ("[3]4", "commas"), ("[]", "was expected")),
        *(("a=3,a=4", "two inputs are named a"), ("input_2=3,4", "two inputs are named input_2")),
        (f"{2**28 + 1}", "too large"),
        ("65536x4097", "too large"),
        (f"{'[' * 21}3{']' * 21}", "more than 20 deep"),
    ],
)
def test_what_describes_no_inputs_is_refused(text: str, message: str) -> None:
    with pytest.raises(InputShapeError, match=message):
        parse_inputs(text)


def test_a_file_names_the_dtype_and_the_free_axes() -> None:
    assert parse_inputs("[9],?x4xN:int64").to_json() == [
        [{"name": "input_1", "shape": ["batch", 9], "dtype": "float32"}],
        {"name": "input_2", "shape": [None, 4, "batch"], "dtype": "int64"},
    ]


def nested(depth: int) -> list[Any]:
    value: list[Any] = [{"shape": ["batch", 3]}]
    for _ in range(depth):
        value = [value]
    return value


@pytest.mark.parametrize(
    "values",
    [
        *(None, {}, [], "3", [3], [{}], [{"shape": 3}], [{"shape": ["batch", 0]}], [[]]),
        [{"shape": ["batch", 3], "dtype": "float"}],
        [{"shape": ["batch", 3], "name": "a"}, {"shape": ["batch", 3], "name": "a"}],
        nested(21),
    ],
)
def test_what_holds_no_inputs_in_a_file_is_refused(values: Any) -> None:
    with pytest.raises(InputShapeError):
        InputShapes.from_json(values)


def test_tables_of_a_file_may_be_as_deep_as_those_of_a_text() -> None:
    assert InputShapes.from_json(nested(20)).names() == ["input"]


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("3x32x48", (3, 32, 48)),
        ("3x32x48:float32", (3, 32, 48)),
        ("3x32x48:uint8", None),
        ("3x32x48:float16", None),
        ("image=3x32x48", None),
        ("3x?x48", None),
        ("3xNx32x48", None),
        ("32x48", None),
        ("1x3x32x48", None),
        ("3x32x48,3x32x48", None),
        ("[3x32x48]", None),
    ],
)
def test_one_image_of_a_fixed_size_is_told_from_the_rest(
    text: str, size: tuple[int, int, int] | None
) -> None:
    assert parse_inputs(text).image_shape == size


@pytest.mark.parametrize(
    ("text", "any_size", "free"),
    [
        ("3x?x?", True, True),
        ("3xhxw", True, True),
        ("?x?x?", False, True),
        ("3x?x48", False, True),
        ("3x32x48", False, False),
        ("3x?x?,3x?x?", False, True),
        ("3xNx?x?", False, True),
        ("9,?xN", False, True),
        ("9,4xN", False, False),
    ],
)
def test_an_image_of_any_size_is_told_from_the_rest(text: str, any_size: bool, free: bool) -> None:
    shapes = parse_inputs(text)
    assert (shapes.takes_any_size, shapes.has_free_axes) == (any_size, free)


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("3x?x?", [{0: "batch", 2: "height", 3: "width"}]),
        ("3xhx?", [{0: "batch", 2: "h", 3: "width"}]),
        ("?x20", [{0: "batch", 1: "size_1"}]),
        ("?x?,tx?", [{0: "batch", 1: "size_1", 2: "size_2"}, {0: "batch", 1: "t", 2: "size_3"}]),
        ("?xN", [{1: "batch", 0: "size_1"}]),
        ("3", [{0: "batch"}]),
    ],
)
def test_free_axes_have_names_of_their_own(text: str, names: list[dict[int, str]]) -> None:
    assert parse_inputs(text).axis_names() == names


@pytest.mark.parametrize(
    ("dtype", "is_integer"),
    [(None, False), ("float16", False), ("float64", False), ("int8", True), ("bool", True)],
)
def test_whole_numbers_are_told_from_others(dtype: str | None, is_integer: bool) -> None:
    assert InputShape(("N", 3), dtype).is_integer == is_integer


def test_a_batch_has_the_sizes_that_are_told() -> None:
    shape = InputShape((4, "t", "N", "?"))
    assert shape.sizes(batch=2, free=7) == (4, 7, 2, 7)
    assert (shape.batch_axis, shape.free_axes, shape.example_axes) == (2, (1, 3), (4, "t", "?"))
    assert str(shape) == "4xtxNx?"


def test_other_leaves_stand_in_the_same_tables() -> None:
    shapes = parse_inputs("[3,[4]],5")
    leaves = [InputShape(("N", size)) for size in (6, 7, 8)]
    assert str(shapes.with_leaves(leaves)) == "[6,[7]],8"
    assert isinstance(parse_inputs("3").tree, InputShape)
    assert isinstance(parse_inputs("3,4").tree, list)


@pytest.mark.parametrize(
    "dtype",
    [
        *("float16", "float32", "float64", "int8", "int16", "int32", "int64"),
        *("uint8", "bool"),
    ],
)
def test_an_input_has_a_dtype_of_numpys(dtype: str) -> None:
    (shape,) = parse_inputs(f"4:{dtype}").leaves()
    assert np.dtype(shape.dtype).name == dtype
    assert shape.is_integer == (np.dtype(dtype).kind in "iub")
    again = InputShapes.from_json(parse_inputs(f"4:{dtype}").to_json())
    # Where nothing is said, it is float32.
    assert str(again) == ("4" if dtype == "float32" else f"4:{dtype}")
