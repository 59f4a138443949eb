"""Layers that reshape, reduce and select: the rules of their Lua sources beyond the fixtures.

Cases are the batch rules of View and Reshape, dimensions and indices that count from 1, from the
end and without the batch, and the dtypes of casts. Expected values come from a second, slower
implementation of each rule.
"""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from torchlift.converters import convert, t7
from torchlift.converters.modules import ConversionError, keep_batch_dimension
from torchlift.converters.modules.layers.squeeze import Unsqueeze


def layer(class_name: str, **fields: Any) -> nn.Module:
    """Return the module of a Torch7 object with these fields."""
    return convert(t7.LuaObject(f"nn.{class_name}", t7.LuaTable(fields)))


def sizes(*values: int) -> np.ndarray:
    return np.array(values, dtype=np.int64)


def numbered(*shape: int) -> torch.Tensor:
    return torch.arange(math.prod(shape), dtype=torch.float32).reshape(shape)


def view_shape(shape: tuple[int, ...], size: tuple[int, ...], dims: int | None) -> list[int] | None:
    """Return the output shape of View.lua, or None if it raises an error.

    The batch is the product of the dimensions before the last `dims` ones (none by default) and,
    unless `size` has a -1, of the number of times that `size` fits into the rest. A batch of one is
    dropped if there are no dimensions before.
    """
    before = shape[: len(shape) - dims] if dims is not None else ()
    elements, size_numel = math.prod(shape[len(before) :]), math.prod(n for n in size if n != -1)
    if elements % size_numel:
        return None
    times = 1 if -1 in size else elements // size_numel
    batch = math.prod(before) * times
    example = [elements // size_numel if n == -1 else n for n in size]
    return example if batch == 1 and not before else [batch, *example]


SHAPES = [(2, 3, 4), (1, 3, 4), (3, 4), (12,), (5, 2, 3, 2), (1, 1, 12), (2, 2, 5)]
SIZES = [(12,), (3, 4), (2, 6), (-1,), (-1, 6), (2, -1), (4,), (1,), (6, -1)]


@pytest.mark.parametrize("dims", [None, 1, 2, 3])
def test_view_follows_the_rule_of_its_source(dims: int | None) -> None:
    compared = 0
    for shape, size in itertools.product(SHAPES, SIZES):
        if dims is not None and dims > len(shape):
            continue
        view = layer("View", size=sizes(*size), **({} if dims is None else {"numInputDims": dims}))
        expected = view_shape(shape, size, dims)
        if expected is None:
            with pytest.raises(RuntimeError):
                view(numbered(*shape))
        else:
            assert torch.equal(view(numbered(*shape)), numbered(*shape).reshape(expected))
            compared += 1
    assert compared > 20


def test_view_of_another_size_does_not_change_the_batch() -> None:
    # 2·15 elements would fit three rows of ten, but the 15 elements of an example do not.
    with pytest.raises(RuntimeError):
        layer("View", size=sizes(10), numInputDims=2)(numbered(2, 3, 5))


@pytest.mark.parametrize(
    ("mode", "shape", "expected"),
    [
        (None, (2, 3, 4), (2, 12)),
        (None, (3, 4), (12,)),
        (None, (1, 3, 4), (1, 12)),
        (None, (12,), (12,)),
        (None, (1, 12), (1, 12)),
        (True, (3, 4), None),
        (True, (1, 3, 4), (1, 12)),
        (False, (1, 3, 4), (12,)),
        (False, (2, 3, 4), None),
    ],
)
def test_reshape_batch_modes(mode: bool | None, shape: Any, expected: Any) -> None:
    reshape = layer("Reshape", size=sizes(12), **({} if mode is None else {"batchMode": mode}))
    if expected is None:
        with pytest.raises(RuntimeError):
            reshape(numbered(*shape))
    else:
        assert torch.equal(reshape(numbered(*shape)), numbered(*shape).reshape(expected))


def test_keep_batch_dimension_keeps_a_batch_of_one() -> None:
    model = nn.Sequential(
        layer("Squeeze"), layer("View", size=sizes(3, 4)), layer("Reshape", size=sizes(12))
    )
    assert model(numbered(1, 3, 1, 4)).shape == (12,)
    keep_batch_dimension(model)
    for batch in (1, 2, 7):
        assert model(numbered(batch, 3, 1, 4)).shape == (batch, 12)
        assert model[0](numbered(batch, 1, 4)).shape == (batch, 4)


def test_narrow_with_every_sign_of_index_and_length() -> None:
    input = numbered(2, 6)
    for index, length in itertools.product((-2, -1, 1, 2, 6), (-6, -5, -4, -2, -1, 1, 2)):
        size, first, count = 6, index, length
        if count < 0:
            count = size - index + length + 2
        if index < 0:
            first, count = 1, size - count
        if not (first >= 1 and count >= 1 and first + count - 1 <= size):
            continue
        output = layer("Narrow", dimension=-1, index=index, length=length)(input)
        assert torch.equal(output, input[:, first - 1 : first - 1 + count]), (index, length)


def test_keep_batch_dimension_does_not_change_a_view_that_takes_in_the_batch() -> None:
    model = layer("View", size=sizes(-1, 4))
    keep_batch_dimension(model)
    assert model(numbered(2, 3, 4)).shape == (6, 4)


def test_narrow_beyond_the_end_is_an_error() -> None:
    with pytest.raises((RuntimeError, IndexError)):
        layer("Narrow", dimension=2, index=5, length=3)(numbered(2, 6))


@pytest.mark.parametrize(
    ("class_name", "function"),
    [("Sum", torch.sum), ("Mean", torch.mean), ("Max", torch.amax), ("Min", torch.amin)],
)
def test_the_dimension_of_one_example(class_name: str, function: Any) -> None:
    x = torch.randn(2, 3, 4)
    assert torch.equal(layer(class_name, dimension=2)(x), function(x, 1))
    assert torch.equal(layer(class_name, dimension=-1)(x), function(x, 2))
    assert torch.equal(layer(class_name, dimension=-1, nInputDims=2)(x), function(x, 2))
    assert torch.equal(layer(class_name, dimension=1, nInputDims=2)(x), function(x, 1))
    assert torch.equal(layer(class_name, dimension=1, nInputDims=2)(x[0]), function(x[0], 0))
    # The input is neither one example nor a batch: the dimension is used unchanged.
    assert torch.equal(layer(class_name, dimension=1, nInputDims=1)(x), function(x, 0))
    assert layer(class_name, dimension=1)(x[0, 0]).shape == (1,)
    assert layer(class_name)(x).shape == (3, 4)


def test_the_first_of_equal_values_has_the_gradient() -> None:
    for class_name in ("Max", "Min"):
        x = torch.ones(2, 3, requires_grad=True)
        layer(class_name, dimension=2)(x).sum().backward()
        assert torch.equal(x.grad, torch.tensor([[1.0, 0, 0], [1, 0, 0]]))


def test_squeeze_drops_the_dimensions_that_torch7_drops() -> None:
    assert layer("Squeeze")(numbered(1, 1, 1)).shape == (1,)
    assert layer("Squeeze", dim=1)(numbered(1)).shape == (1,)
    assert layer("Squeeze", dim=2)(numbered(1, 3, 1)).shape == (1, 3, 1)
    assert layer("Squeeze", numInputDims=2)(numbered(1, 3, 1)).shape == (1, 3)
    assert layer("Squeeze", numInputDims=3)(numbered(1, 3, 1)).shape == (3,)
    assert layer("Squeeze", dim=2, numInputDims=2)(numbered(1, 3, 1)).shape == (1, 3)


def test_dimensions_that_do_not_count_the_batch() -> None:
    x = numbered(2, 3, 4)
    swap = t7.LuaTable.from_list([t7.LuaTable.from_list([1, 2])])
    assert torch.equal(layer("Transpose", permutations=swap)(x), x.transpose(0, 1))
    batched = layer("Transpose", permutations=swap, numInputDims=2)
    assert torch.equal(batched(x), x.transpose(1, 2))
    assert torch.equal(batched(x[0]), x[0].T)
    assert layer("Replicate", nfeatures=5, ndim=2)(x).shape == (2, 5, 3, 4)
    assert layer("Replicate", nfeatures=5, ndim=2, dim=3)(x[0]).shape == (3, 4, 5)
    assert layer("Unsqueeze", pos=3, numInputDims=2)(x).shape == (2, 3, 4, 1)
    assert layer("Collapse", nInputDim=2)(x[0]).shape == (12,)
    assert len(layer("SplitTable", dimension=1, nInputDims=2)(x)) == 3
    assert layer("JoinTable", dimension=1, nInputDims=2)([x, x]).shape == (2, 6, 4)
    assert layer("JoinTable", dimension=1, nInputDims=1)([x, x]).shape == (4, 3, 4)


@pytest.mark.parametrize(
    ("position", "dims", "shape", "expected"),
    [
        (1, None, (3, 4), (1, 3, 4)),
        (3, None, (3, 4), (3, 4, 1)),
        (1, 2, (5, 3, 4), (5, 1, 3, 4)),
        (0, 2, (5, 3, 4), (1, 5, 3, 4)),
        (-1, 2, (6, 5, 3, 4), (1, 6, 5, 3, 4)),
        (0, 2, (3, 4), None),
        (-1, 2, (5, 3, 4), None),
        (4, 2, (3, 4), None),
    ],
)
def test_a_new_dimension_may_stand_before_the_example(
    position: int, dims: int | None, shape: tuple[int, ...], expected: tuple[int, ...] | None
) -> None:
    module = layer("Unsqueeze", pos=position, numInputDims=dims)
    if expected is None:
        with pytest.raises(IndexError):
            module(torch.zeros(shape))
    else:
        assert module(torch.zeros(shape)).shape == expected


@pytest.mark.parametrize("kind", ["View", "Reshape"])
def test_examples_without_elements_hold_no_batch(kind: str) -> None:
    module = layer(kind, size=sizes(2, 0))
    keep_batch_dimension(module)
    assert not module.holds_batch(torch.zeros(3, 0))


@pytest.mark.parametrize(
    ("source", "target", "shape", "expected"),
    [
        ("bchw", "bhwc", (2, 3, 4, 5), lambda x: x.permute(0, 2, 3, 1)),
        ("bchw", "chwb", (2, 3, 4, 5), lambda x: x.permute(1, 2, 3, 0)),
        ("bchw", "bf", (2, 3, 4, 5), lambda x: x.reshape(2, 60)),
        # Only the first dimension and the batch are swapped before flattening.
        ("chwb", "bf", (2, 3, 4, 5), lambda x: x.permute(3, 1, 2, 0).reshape(5, 24)),
        ("tb", "bf", (4, 2), lambda x: x.T),
        ("tb", "b", (4, 2), lambda x: x[0]),
        ("bt", "b", (2, 4), lambda x: x[:, 0]),
        ("b", "bf", (3,), lambda x: x[:, None]),
        ("b", "bt", (3,), lambda x: x[:, None]),
        ("b*", "b*", (2, 3), lambda x: x),
        # One example: a batch dimension is added and removed again.
        ("bchw", "bf", (3, 4, 5), lambda x: x.reshape(60)),
        ("bchw", "bhwc", (3, 4, 5), lambda x: x.permute(1, 2, 0)),
        ("chwb", "bhwc", (3, 4, 5), lambda x: x.permute(1, 2, 0)),
        ("bhwc", "chwb", (3, 4, 5), lambda x: x.permute(2, 0, 1)),
        ("chwb", "bf", (3, 4, 5), lambda x: x.permute(1, 2, 0).reshape(60)),
    ],
)
def test_convert_between_layouts(source: str, target: str, shape: Any, expected: Any) -> None:
    module = layer("Convert", inputShape=source, outputShape=target, _type="torch.FloatTensor")
    assert torch.equal(module(numbered(*shape)), expected(numbered(*shape)))


@pytest.mark.parametrize(
    ("source", "target"),
    [("bchw", "bx"), ("bt", "bf"), ("bchw", "b"), ("bchw", "bt"), ("bf", "bt"), ("b", "bchw")],
)
def test_convert_refuses_what_torch7_refuses(source: str, target: str) -> None:
    with pytest.raises(ConversionError, match=f"'{source}' to '{target}'"):
        layer("Convert", inputShape=source, outputShape=target)


def test_dtypes_of_casts() -> None:
    labels = torch.tensor([1, 3], dtype=torch.uint8)
    double = layer("Convert", inputShape="b*", outputShape="b*", _type="torch.DoubleTensor")
    assert double(labels).dtype == torch.float64
    one_hot = layer("OneHot", outputSize=3, _type="torch.CudaTensor")
    assert torch.equal(one_hot(labels), torch.tensor([[1.0, 0, 0], [0, 0, 1]]))
    assert torch.equal(one_hot(2), torch.tensor([0.0, 1, 0]))
    with pytest.raises(RuntimeError):
        one_hot(torch.tensor([0]))


def test_index_and_masked_select() -> None:
    x = numbered(2, 4)
    output = layer("Index", dimension=2)([x, torch.tensor([4.0, 1, 1])])
    assert torch.equal(output, x[:, [3, 0, 0]])
    mask = torch.tensor([[0, 1, 0, 2], [1, 0, 0, 0]], dtype=torch.uint8)
    assert layer("MaskedSelect")([x, mask]).tolist() == [1, 3, 4]


@pytest.mark.parametrize("name", ["Double", "Float", "Long"])
def test_one_hot_vectors_are_of_the_type_of_the_file(name: str) -> None:
    output = layer("OneHot", outputSize=3, _type=f"torch.{name}Tensor")(torch.tensor([2]))
    assert output.dtype == getattr(torch, name.lower() if name != "Long" else "int64")
    assert output.tolist() == [[0, 1, 0]]


@pytest.mark.parametrize(("squeeze", "shape"), [(True, (2, 5)), (False, (2, 1, 5)), (None, (2, 5))])
@pytest.mark.parametrize("name", ["Sum", "Mean"])
def test_a_dimension_that_is_reduced_may_stay(
    name: str, squeeze: bool | None, shape: tuple[int, ...]
) -> None:
    fields = {} if squeeze is None else {"squeeze": squeeze}
    module = layer(name, dimension=2, nInputDims=-1, sizeAverage=name == "Mean", **fields)
    x = torch.arange(30.0).reshape(2, 3, 5)
    expected = x.mean(1) if name == "Mean" else x.sum(1)
    assert torch.equal(module(x), expected.reshape(shape))


def test_no_dimension_is_added_before_the_input() -> None:
    """Torch itself would count -2 from the end."""
    module = Unsqueeze(-2, num_input_dims=2)
    assert module(torch.ones(5, 4, 2, 3)).shape == (1, 5, 4, 2, 3)
    with pytest.raises(IndexError, match=r"no position -2 before an input \(4, 2, 3\)"):
        module(torch.ones(4, 2, 3))


@pytest.mark.parametrize(
    ("kind", "fields", "shape", "kept", "free"),
    [
        # A first size of 1 is no batch of a training, nor is the only size.
        ("View", {"size": (1, 12)}, (2, 12), (2, 1, 12), (2, 1, 12)),
        ("View", {"size": (4,)}, (4, 1), (1, 4), (4,)),
        # The example has two dimensions: none of them is the batch.
        ("View", {"size": (2, 12), "numInputDims": 2}, (2, 12), (1, 2, 12), (2, 12)),
        # Its first size was the batch, of which there may be more only in an exported network.
        ("View", {"size": (2, 12)}, (3, 12), (3, 12), None),
        ("Reshape", {"size": (2, 12)}, (3, 12), (3, 12), None),
        ("Reshape", {"size": (2, 12), "batchMode": False}, (3, 12), (3, 12), None),
        # The batch is in front of it.
        ("Reshape", {"size": (2, 12), "batchMode": True}, (2, 12), None, None),
        ("Reshape", {"size": (2, 12), "batchMode": True}, (3, 24), (3, 2, 12), (3, 2, 12)),
    ],
)
def test_the_first_size_is_a_batch_only_where_it_must_be(
    kind: str,
    fields: dict[str, Any],
    shape: tuple[int, ...],
    kept: tuple[int, ...] | None,
    free: tuple[int, ...] | None,
) -> None:
    """DeepMask's `nn.View(32, …)` holds the batch of its training (`keep_batch_dimension`)."""
    module = layer(kind, **{**fields, "size": sizes(*fields["size"])})
    for expected in (free, kept):
        if expected is None:
            with pytest.raises(RuntimeError):
                module(numbered(*shape))
        else:
            assert torch.equal(module(numbered(*shape)), numbered(*shape).reshape(expected))
        keep_batch_dimension(module)
