"""Linear, sparse and elementwise layers, distances and weight normalization, beyond the fixtures.

Expected values come from a second implementation of Torch7's rules with other operations.
"""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from layer_support import export_error, lua
from support import relative_error
from torch import nn

from torchlift.converters import convert, t7
from torchlift.converters.modules import ConversionError, convert_recorded
from torchlift.converters.modules.layers.arithmetic import (
    Add,
    AddConstant,
    CMul,
    Constant,
    Mul,
    MulConstant,
)
from torchlift.converters.modules.layers.distance import Cosine, Euclidean
from torchlift.converters.modules.layers.embedding import LookupTable
from torchlift.converters.modules.layers.linear import PartialLinear
from torchlift.converters.modules.layers.sparse_linear import IndexLinear, SparseLinear
from torchlift.converters.modules.layers.weight_norm import WeightNorm


def random(*shape: int) -> torch.Tensor:
    return torch.randn(shape, dtype=torch.float64)


@pytest.mark.covers("nn.Add", "nn.CAdd", "nn.CMul", compared="outputs")
@pytest.mark.parametrize(
    ("size", "shape", "view"),
    [
        ((5,), (4, 5), (1, 5)),
        ((5, 6), (4, 5, 6), (1, 5, 6)),
        ((30,), (4, 5, 6), (1, 5, 6)),
        ((1, 3, 4, 5, 1), (3, 4, 5), (3, 4, 5)),
        ((1, 3, 4, 5, 1), (7, 3, 4, 5), (1, 3, 4, 5)),
        ((1, 3, 4, 5, 1), (7, 3, 4, 5, 2), (1, 3, 4, 5, 1)),
        ((3, 1, 1), (3, 4, 5), (3, 1, 1)),
        ((1, 4, 1), (3, 4, 5), (1, 4, 1)),
        ((2, 1, 1, 1), (2, 3, 4, 5), (2, 1, 1, 1)),
        ((3, 4), (1, 3, 4), (1, 3, 4)),
    ],
)
def test_weights_broadcast_over_the_input(
    size: tuple[int, ...], shape: tuple[int, ...], view: tuple[int, ...]
) -> None:
    weight, input = random(*size), random(*shape)
    assert torch.equal(convert(lua("nn.CMul", weight=weight))(input), input * weight.view(view))
    assert torch.equal(convert(lua("nn.CAdd", bias=weight))(input), input + weight.view(view))
    if len(size) == 1:
        assert torch.equal(convert(lua("nn.Add", bias=weight))(input), input + weight.view(view))


def test_add_with_one_bias() -> None:
    bias, input = random(1), random(2, 3, 4)
    assert torch.equal(convert(lua("nn.Add", bias=bias, scalar=True))(input), input + bias)


@pytest.mark.covers("nn.AddConstant", "nn.MulConstant", compared="outputs")
@pytest.mark.parametrize("constant", [2.5, 3, torch.tensor([0.1, 2.0, 3.0]).double()])
def test_constants_may_be_vectors(constant: Any) -> None:
    input = random(2, 3)
    added = convert(lua("nn.AddConstant", constant_scalar=constant))(input)
    assert torch.equal(added, input + constant)
    multiplied = convert(lua("nn.MulConstant", constant_scalar=constant))(input)
    assert torch.equal(multiplied, input * constant)


@pytest.mark.covers("nn.Constant", compared="outputs")
def test_constant_is_repeated_for_a_batch_only_with_n_input_dim() -> None:
    value = random(2, 3)
    assert torch.equal(convert(lua("nn.Constant", value=value))(random(4, 5)), value)
    module = convert(lua("nn.Constant", value=value, nInputDim=1))
    assert torch.equal(module(random(4, 5)), value.expand(4, 2, 3))
    assert torch.equal(module(random(5)), value)


def table(**fields: Any) -> nn.Module:
    return convert(lua("nn.LookupTable", weight=torch.arange(12.0).view(6, 2), **fields))


@pytest.mark.covers("nn.LookupTable", compared="outputs, gradients")
def test_lookup_indices_count_from_one_and_padding_has_no_gradient() -> None:
    module = table(paddingValue=2)
    output = module(torch.tensor([[1, 2, 6]]))
    assert torch.equal(output, torch.tensor([[[0.0, 1.0], [2.0, 3.0], [10.0, 11.0]]]))
    output.sum().backward()
    assert module.weight.grad.sum(1).tolist() == [2, 0, 0, 0, 0, 2]


@pytest.mark.covers("nn.LookupTable", compared="gradients")
def test_lookup_divides_gradients_by_frequency() -> None:
    module = table(shouldScaleGradByFreq=True)
    module(torch.tensor([3, 3, 3, 4])).sum().backward()
    assert module.weight.grad.sum(1).tolist() == [0, 0, 2, 2, 0, 0]


@pytest.mark.parametrize(("norm_type", "norm"), [(None, 5.0), (1, 7.0)])
def test_lookup_limits_the_norm_of_rows(norm_type: int | None, norm: float) -> None:
    weight = torch.tensor([[3.0, 4.0], [0.1, 0.0], [3.0, 4.0]])
    fields = {} if norm_type is None else {"normType": norm_type}
    module = convert(lua("nn.LookupTable", weight=weight, maxNorm=2, **fields))
    limited = weight[:2] * torch.tensor([[2 / norm], [1.0]])
    for training in (False, True):
        module.train(training)
        module.zero_grad()
        output = module(torch.tensor([1, 2]))
        output.sum().backward()
        assert relative_error(output, limited) < 1e-6
        assert module.weight.grad.tolist() == [[1, 1], [1, 1], [0, 0]]
        expected = torch.cat([limited, weight[2:]]) if training else weight
        assert relative_error(module.weight, expected) < 1e-6


def test_lookup_of_an_early_file_has_rows_of_any_shape() -> None:
    weight = random(4, 2, 3)
    output = convert(lua("nn.LookupTable", weight=weight))(torch.tensor([[4, 1]]))
    assert torch.equal(output, weight[[3, 0]][None])


def sparse_case() -> tuple[nn.Module, list[torch.Tensor], torch.Tensor]:
    """Return a SparseLinear, two examples, the second with padding, and the expected output."""
    weight, bias = random(3, 8), random(3)
    pairs = [
        torch.tensor([[1.0, 0.5], [8.0, -1.0]]).double(),
        torch.tensor([[2.0, 1.5], [0.0, 0.0]]).double(),
    ]
    dense = torch.zeros(2, 8, dtype=torch.float64)
    dense[0, 0], dense[0, 7], dense[1, 1] = 0.5, -1.0, 1.5
    module = convert(lua("nn.SparseLinear", weight=weight, bias=bias))
    return module, pairs, dense @ weight.T + bias


@pytest.mark.covers("nn.SparseLinear", compared="outputs")
def test_sparse_linear_takes_an_example_a_table_or_a_batch() -> None:
    module, pairs, expected = sparse_case()
    assert relative_error(module(pairs), expected) < 1e-12
    assert relative_error(module(torch.stack(pairs)), expected) < 1e-12
    assert relative_error(module(pairs[0]), expected[0]) < 1e-12
    assert torch.equal(module([]), module.bias)


@pytest.mark.covers("nn.IndexLinear", compared="outputs")
def test_index_linear_takes_an_example_tables_or_flat_tensors() -> None:
    weight, bias = random(8, 3), random(3)
    keys = [torch.tensor([1, 8]), torch.tensor([2, 2, 3])]
    values = [random(2), random(3)]
    dense = torch.zeros(2, 8, dtype=torch.float64)
    for row, key, value in zip(dense, keys, values, strict=True):
        row.index_add_(0, key - 1, value)
    expected = dense @ weight + bias
    module = convert(lua("nn.IndexLinear", weight=weight, bias=bias, offset=-1))
    assert relative_error(module([keys, values]), expected) < 1e-12
    flat = [torch.cat(keys), torch.cat(values), torch.tensor([2, 3])]
    assert relative_error(module(flat), expected) < 1e-12
    assert relative_error(module([keys[1], values[1]]), expected[1]) < 1e-12
    assert relative_error(module([keys[1], values[1], 3]), expected[1:]) < 1e-12
    module(flat).sum().backward()
    assert relative_error(module.weight.grad, dense.sum(0)[:, None].expand(8, 3)) < 1e-12


@pytest.mark.covers("nn.IndexLinear", compared="outputs")
def test_index_linear_normalizes_by_the_largest_value_so_far() -> None:
    weight = torch.cat([torch.zeros(4, 4), torch.ones(4, 2)], 1).double()
    weight[:, 3] = 0.25
    module = convert(lua("nn.IndexLinear", weight=weight, bias=torch.zeros(2).double()))
    example = [torch.tensor([1, 2]), torch.tensor([-4.0, 0.5]).double()]
    assert module(example).tolist() == [0.5, 0.5]  # -1 and 1, and two biases
    assert module.weight[:3, :3].tolist() == [[4, 0.25, 1], [0.5, 2, 1], [0, 0, 0]]
    module.eval()
    assert module([example[0], example[1] / 2]).tolist() == [0.5, 0.5]  # -0.5 and 0.5
    assert module([example[0], example[1] * 9]).tolist() == [0.5, 0.5]  # clipped to -1 and 1


def test_weight_decay_is_noted() -> None:
    layer = lua("nn.SparseLinear", weight=random(1, 2), bias=random(1), weightDecay=0.1)
    assert "weightDecay" in convert_recorded(layer).notes[0].text


@pytest.mark.covers("nn.PartialLinear", compared="outputs")
def test_partial_linear_computes_its_partition() -> None:
    weight, bias, input = random(6, 5), random(1, 6), random(2, 5)
    network = lua(
        "nn.Sequential",
        modules=[lua("nn.ParallelTable", modules=[lua("nn.Identity"), lua("nn.L", weight=weight)])],
    )
    layer = lua("nn.PartialLinear", network=network, bias=bias, partition=torch.tensor([4.0, 1.0]))
    module = convert(layer)
    assert relative_error(module(input), (input @ weight.T + bias)[:, [3, 0]]) < 1e-12
    assert [tuple(parameter.shape) for parameter in module.parameters()] == [(6, 5), (6,)]
    plain = lua("nn.PartialLinear", network=network, partition=torch.tensor([4.0, 1.0]))
    assert relative_error(convert(plain)(input), (input @ weight.T)[:, [3, 0]]) < 1e-12
    # All columns in their order are a linear layer, with or without a bias; others are chosen.
    for order in (torch.arange(6), torch.tensor([5, 0, 3, 1, 4, 2])):
        for given in ({"bias": bias}, {}):
            module = convert(
                lua("nn.PartialLinear", network=network, partition=order + 1.0, **given)
            )
            expected = (input @ weight.T + given.get("bias", 0))[:, order]
            assert relative_error(module(input), expected) < 1e-12


@pytest.mark.covers("nn.Cosine", "nn.WeightedEuclidean", compared="outputs")
def test_distances_for_an_example_and_a_batch() -> None:
    weight, scale, input = random(5, 3), random(5, 3), random(2, 5)
    module = convert(lua("nn.WeightedEuclidean", weight=weight, diagCov=scale))
    expected = torch.stack(
        [((row[:, None] - weight) * scale).square().sum(0).sqrt() for row in input]
    )
    assert relative_error(module(input), expected) < 1e-12
    assert relative_error(module(input[0]), expected[0]) < 1e-12
    cosine = convert(lua("nn.Cosine", weight=weight.T))
    expected = nn.functional.cosine_similarity(input[:, None], weight.T, dim=2)
    assert relative_error(cosine(input), expected) < 1e-9
    assert relative_error(cosine(input[0]), expected[0]) < 1e-9
    assert cosine(torch.zeros(5).double()).tolist() == [0, 0, 0]


@pytest.mark.covers("nn.Kmeans", compared="outputs, gradients")
def test_kmeans_moves_centers_towards_their_examples() -> None:
    centers = torch.tensor([[0.0, 0.0], [10.0, 10.0], [50.0, 50.0]])
    module = convert(lua("nn.Kmeans", weight=centers, scale=0.5))
    input = torch.tensor([[1.0, 1.0], [9.0, 12.0], [3.0, 1.0]], requires_grad=True)
    output = module(input)
    assert output.tolist() == [1, 2, 1]
    output.sum().backward()
    # scale · (center - mean of its examples)
    expected = torch.tensor([[-1.0, -0.5], [0.5, -1.0], [0.0, 0.0]])
    assert relative_error(module.weight.grad, expected) < 1e-6
    assert input.grad is None


def test_a_center_of_few_examples_moves_as_in_lua() -> None:
    """`Kmeans.lua` adds 1e-7 to the number of examples, so that a center without any stays."""
    centers = torch.tensor([[0.0], [10.0], [50.0]], dtype=torch.float64)
    module = convert(lua("nn.Kmeans", weight=centers))
    module(torch.tensor([[2.0], [12.0], [9.0]], dtype=torch.float64)).sum().backward()
    expected = torch.tensor([[-2 / (1 + 1e-7)], [-1 / (2 + 1e-7)], [0.0]], dtype=torch.float64)
    torch.testing.assert_close(module.weight.grad, expected, rtol=1e-14, atol=0)


def normed(child: t7.LuaObject, shape: list[int], dim: int = 1) -> t7.LuaObject:
    """Return a WeightNorm as Torch7 writes it: no weight, and v with the outputs first."""
    n_out = shape[dim - 1]
    return lua(
        "nn.WeightNorm",
        modules=[child],
        outputDim=dim,
        viewOut=torch.tensor([n_out, *shape[: dim - 1], *shape[dim:]]),
        v=random(n_out, math.prod(shape) // n_out),
        g=random(n_out),
    )


def expected_weight(layer: t7.LuaObject, dim: int = 1) -> torch.Tensor:
    v, g = torch.from_numpy(layer["v"]), torch.from_numpy(layer["g"])
    rows = v * (g / (v.square().sum(1) + 1e-4).sqrt())[:, None]
    return rows.view(*layer["viewOut"].tolist()).transpose(0, dim - 1)


def test_weight_norm_of_a_linear_layer_rebuilds_its_weight() -> None:
    bias, input = random(4), random(3, 6)
    layer = normed(lua("nn.Linear", bias=bias), [4, 6])
    module = convert(layer)
    expected = input @ expected_weight(layer).T + bias
    assert relative_error(module(input), expected) < 1e-12
    assert [name for name, _ in module.named_parameters()] == ["v", "g", "module.bias"]
    assert "weight" not in layer["modules"][1]


@pytest.mark.covers("nn.WeightNorm", compared="outputs")
def test_weight_norm_along_another_dimension() -> None:
    input = random(2, 5, 8, 8)
    child = lua("nn.SpatialConvolution", nInputPlane=5, nOutputPlane=4, kW=3, kH=2, dW=1, dH=1)
    layer = normed(child, [4, 5, 2, 3], dim=2)
    weight = expected_weight(layer, 2)
    assert relative_error(convert(layer)(input), nn.functional.conv2d(input, weight)) < 1e-12


def test_weight_norm_of_distances() -> None:
    layer, input = normed(lua("nn.Euclidean"), [5, 3]), random(2, 5)
    expected = torch.cdist(input, expected_weight(layer).T)
    assert relative_error(convert(layer)(input), expected) < 1e-9


def test_weight_norm_of_a_nested_weight_in_another_order() -> None:
    bias, input = random(4), random(3, 7, 5)
    frames = {"inputFrameSize": 5, "outputFrameSize": 4, "kW": 2, "dW": 1, "bias": bias}
    layer = normed(lua("nn.TemporalConvolution", **frames), [4, 10])
    windows = torch.stack([input[:, t : t + 2].flatten(1) for t in range(6)], dim=1)
    expected = windows @ expected_weight(layer).T + bias
    assert relative_error(convert(layer)(input), expected) < 1e-12


def test_weight_norm_needs_a_weight() -> None:
    with pytest.raises(ConversionError, match=r"nn\.Tanh"):
        convert(normed(lua("nn.Tanh"), [4, 6]))


def test_linear_weight_norm_survives_a_row_of_zeros() -> None:
    v = torch.tensor([[3.0, 4.0], [0.0, 0.0]])
    module = convert(lua("nn.LinearWeightNorm", v=v, g=torch.tensor([[10.0], [1.0]])))
    output = module(torch.tensor([1.0, 1.0]))
    assert relative_error(output, torch.tensor([14.0, 0.0])) < 1e-6


def initialized(module: nn.Module) -> nn.Module:
    """Initialize a module's parameters and buffers."""
    for parameter in module.parameters():
        nn.init.normal_(parameter)
    for buffer in module.buffers():
        buffer.zero_()
    return module


LAYERS = [
    Add([5]),
    CMul([1, 5]),
    Mul(),
    AddConstant([1.0, 2.0, 3.0, 4.0, 5.0]),
    MulConstant(0.5),
    Constant([2, 3], num_input_dims=1),
    Euclidean(5, 3, weighted=True),
    Cosine(5, 3),
    PartialLinear(5, 3, 2),
    WeightNorm(nn.Linear(5, 3)),
]


@pytest.mark.slow
@pytest.mark.parametrize("layer", LAYERS, ids=lambda layer: type(layer).__name__)
def test_layers_export_with_a_dynamic_batch(layer: nn.Module) -> None:
    assert export_error(initialized(layer), torch.randn(2, 5)) < 1e-5


@pytest.mark.slow
@pytest.mark.parametrize(
    ("layer", "input"),
    [
        (LookupTable(7, 3, padding_idx=0), torch.tensor([[1, 2], [7, 7]])),
        (LookupTable(7, 3, max_norm=1.0), torch.tensor([[1, 2], [7, 7]])),
        (SparseLinear(8, 3), torch.tensor([[[1.0, 0.5], [8.0, 1.0]], [[2.0, 0.5], [0.0, 0.0]]])),
        (IndexLinear(8, 3), [torch.tensor([1, 2, 8]), torch.randn(3), torch.tensor([1, 2])]),
    ],
    ids=lambda value: type(value).__name__,
)
def test_index_layers_can_be_traced(layer: nn.Module, input: Any) -> None:
    program = torch.export.export(initialized(layer).eval(), (input,))
    assert relative_error(program.module()(input), layer(input)) < 1e-6
    assert torch.onnx.export(program, dynamo=True, verbose=False) is not None


def test_a_small_norm_is_limited_by_torch7s_formula() -> None:
    """`maxNorm / (norm + 1e-7)`: the constant matters where norms are as small."""
    weight = torch.tensor([[2e-6, 0.0], [3e-7, 4e-7]])
    module = convert(lua("nn.LookupTable", weight=weight, maxNorm=1e-6)).eval()
    output = module(torch.tensor([1, 2]))
    expected = torch.tensor([[2e-6 * 1e-6 / (2e-6 + 1e-7), 0.0], [3e-7, 4e-7]])
    torch.testing.assert_close(output, expected, rtol=1e-5, atol=0)


def test_linear_weight_norm_bounds_the_norm_from_below() -> None:
    """`LinearWeightNorm.lua` divides by the norm, or by eps where that is larger."""
    v, g = torch.tensor([[0.003, 0.004], [3.0, 4.0]]), torch.ones(2, 1)
    module = convert(lua("nn.LinearWeightNorm", v=v, g=g, eps=0.1))
    output = module(torch.tensor([1.0, 1.0]))
    torch.testing.assert_close(output, torch.tensor([0.07, 1.4]))


def test_linear_weight_norm_computes_its_weight_in_training_only() -> None:
    """`LinearWeightNorm.lua`: evaluation takes the weight of the file, or of the last training."""
    v, g, kept = torch.tensor([[3.0, 4.0]]), torch.tensor([[10.0]]), torch.tensor([[1.0, 2.0]])
    module = convert(lua("nn.LinearWeightNorm", v=v, g=g, weight=kept))
    ones = torch.ones(1, 2)
    assert [module.eval()(ones).item(), module.train()(ones).item()] == pytest.approx([3.0, 14.0])
    assert module.eval()(ones).item() == pytest.approx(14.0)


def test_a_layer_of_two_inputs_is_shown_with_its_sizes() -> None:
    weight = torch.zeros(5, 3, 4)
    assert "(3, 4, out_features=5)" in repr(convert(lua("nn.Bilinear", weight=weight)))


@pytest.mark.parametrize("padding", [0, 1, 3, 4, None])
def test_a_lookup_has_no_gradient_in_the_row_of_its_padding(padding: int | None) -> None:
    module = convert(lua("nn.LookupTable", weight=torch.ones(3, 2), paddingValue=padding))
    module(torch.tensor([1, 2, 3])).sum().backward()
    assert module.weight.grad.tolist() == [[float(row != padding)] * 2 for row in (1, 2, 3)]
