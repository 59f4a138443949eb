"""Layers on tables: cases that the fixtures do not cover.

Cases are elements paired by position instead of broadcasting, ties, inputs without a batch, and
string keys. Expected values come from numpy in float64.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from layer_support import lua
from support import relative_error
from torch import nn

from torchlift.converters import convert, t7
from torchlift.converters.modules.layers.memory_order import same_shape


def layer(class_name: str, **fields: Any) -> nn.Module:
    return convert(t7.LuaObject(f"nn.{class_name}", t7.LuaTable(fields)))


def random(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, dtype=torch.float64)


@pytest.mark.parametrize("dimension", [2, -1])
def test_tables_are_joined_along_a_dimension_counted_from_either_end(dimension: int) -> None:
    table = [random(2, 3), random(2, 1)]
    joined = layer("JoinTable", dimension=dimension)(table)
    assert torch.equal(joined, torch.cat(table, 1))


@pytest.mark.parametrize(
    ("class_name", "function"),
    [
        ("CAddTable", np.add),
        ("CMulTable", np.multiply),
        ("CSubTable", np.subtract),
        ("CDivTable", np.divide),
        ("CMaxTable", np.maximum),
        ("CMinTable", np.minimum),
    ],
)
def test_elements_are_paired_by_position(class_name: str, function: Any) -> None:
    column, flat = random(5, 1), random(5)
    output = layer(class_name)([column, flat])
    assert output.shape == (5, 1)
    expected = function(column[:, 0].numpy(), flat.numpy())
    assert relative_error(output[:, 0], torch.from_numpy(expected)) == 0
    with pytest.raises(RuntimeError):
        layer(class_name)([random(5, 1), random(1)])


def test_subtraction_and_division_use_two_entries() -> None:
    a, b, c = random(3, 2, 4)
    assert torch.equal(layer("CSubTable")([a, b, c]), a - b)
    assert torch.equal(layer("CDivTable")([a, b, c]), a / b)


def test_the_first_of_equal_values_has_the_gradient() -> None:
    for class_name in ("CMaxTable", "CMinTable"):
        inputs = [torch.ones(3, requires_grad=True) for _ in range(3)]
        layer(class_name)(inputs).sum().backward()
        assert [input.grad.tolist() for input in inputs] == [[1, 1, 1], [0, 0, 0], [0, 0, 0]]


def test_select_table_takes_keys_and_negative_indices() -> None:
    x = {"image": random(2), "label": random(1)}
    assert layer("SelectTable", index="label")(x) is x["label"]
    entries = list(x.values())
    assert layer("SelectTable", index=-2)(entries) is entries[0]
    with pytest.raises(IndexError):
        layer("SelectTable", index=3)(entries)


def test_narrow_table_stops_at_the_end() -> None:
    entries = list(random(3, 2))
    assert layer("NarrowTable", offset=2, length=5)(entries) == entries[1:]


def test_flatten_table_keeps_the_order() -> None:
    a, b, c, d = random(4, 2)
    assert layer("FlattenTable")([[a, [b]], c, [], [[d]]]) == [a, b, c, d]


@pytest.mark.parametrize("p", [1, 2, 3, 2.5])
def test_distances_equal_the_p_norm(p: float) -> None:
    a, b = random(2, 5, 3)
    difference = np.abs(a.numpy() - b.numpy())
    expected = (difference**p).sum(1) ** (1 / p)
    pairwise = layer("PairwiseDistance", norm=p)
    assert relative_error(pairwise([a, b]), torch.from_numpy(expected)) < 1e-14
    assert relative_error(pairwise([a[0], b[0]]), torch.from_numpy(expected[:1])) < 1e-14
    assert pairwise([a, a]).abs().max() == 0


def test_cosine_and_dot_product() -> None:
    a, b = random(2, 5, 3)
    dots = (a * b).sum(1)
    assert relative_error(layer("DotProduct")([a, b]), dots) < 1e-15
    assert layer("DotProduct")([a[0], b[0]]).shape == (1,)
    cosine = layer("CosineDistance")
    assert relative_error(cosine([a, b]), dots / (a.norm(dim=1) * b.norm(dim=1))) < 1e-11
    assert cosine([a[0], b[0]]).shape == (1,)
    # The added 1e-12 avoids a division by zero.
    assert cosine([torch.zeros(1, 3), b[:1]]).item() == 0


def test_matrix_products_without_a_batch() -> None:
    a, b, v = random(3, 4), random(3, 5), random(3)
    assert torch.equal(layer("MM", transA=True, transB=False)([a, b]), a.T @ b)
    assert torch.allclose(layer("MV", trans=True)([a, v]), a.T @ v)


@pytest.mark.parametrize("batched", [True, False])
@pytest.mark.parametrize("as_table", [True, False])
def test_mixture_of_experts(batched: bool, as_table: bool) -> None:
    gates, experts = random(6, 3), random(6, 3, 4, 2)
    expected = torch.einsum("nk,nkab->nab", gates, experts)
    mixture = layer("MixtureTable")
    if not batched:
        gates, experts, expected = gates[0], experts[0], expected[0]
    expert_input = list(experts.unbind(1 if batched else 0)) if as_table else experts
    assert relative_error(mixture([gates, expert_input]), expected) < 1e-14


def test_mixture_along_another_dimension() -> None:
    gates, experts = random(6, 3), random(6, 4, 3)
    expected = torch.einsum("nk,nak->na", gates, experts)
    assert relative_error(layer("MixtureTable", dim=3)([gates, experts]), expected) < 1e-14


@pytest.mark.parametrize(
    ("class_name", "fields"), [("SelectTable", {"index": 2}), ("NarrowTable", {"offset": 2})]
)
def test_a_selection_is_the_same_with_and_without_gradients(
    class_name: str, fields: dict[str, Any]
) -> None:
    """With gradients, the entries that are left out receive zeros."""
    module, table = layer(class_name, **fields), [random(2).requires_grad_() for _ in range(3)]
    with_gradients = module(table)
    with torch.no_grad():
        without = module(table)
    first, second = (
        value if isinstance(value, list) else [value] for value in (with_gradients, without)
    )
    assert len(first) == len(second) == 1
    assert torch.equal(first[0], table[1])
    assert torch.equal(second[0], table[1])
    first[0].sum().backward()
    assert [tensor.grad.tolist() for tensor in table if tensor.grad is not None] == [
        *([0, 0], [1, 1]),
        [0, 0],
    ]


def test_an_empty_table_has_no_columns() -> None:
    assert layer("ZipTable")([]) == []
    assert layer("FlattenTable")([[], [[]]]) == []


def test_the_small_number_of_a_cosine_is_inside_the_root() -> None:
    """Of vectors whose square it equals, the cosine with themselves is a half."""
    tiny = torch.tensor([[1e-6]], dtype=torch.float64)
    module = convert(lua("nn.CosineDistance"))
    assert module([tiny, tiny]).item() == pytest.approx(0.5, rel=1e-9)


def test_a_negative_dimension_counts_from_the_end_of_the_first_tensor() -> None:
    first, second = random(2, 3), random(2, 4, 1)
    joined = layer("JoinTable", dimension=-1)([first, second])
    assert torch.equal(joined, torch.cat([first, second[..., 0]], 1))


def test_an_entry_that_is_no_tensor_is_selected_beside_tensors_that_are_trained() -> None:
    assert layer("SelectTable", index=1)([2, random(3).requires_grad_()]) == 2


def test_the_first_of_joined_tensors_gives_the_other_sizes() -> None:
    """Torch7 copies as many numbers as there are, in the order of memory."""
    first, second = random(2, 3, 1), random(3, 2, 1)
    expected = torch.stack([first.flatten(), second.flatten()], 1).reshape(2, 3, 2)
    assert torch.equal(layer("JoinTable", dimension=3)([first, second]), expected)


def test_sums_with_one_tensor_have_its_shape() -> None:
    column, flat, row = random(2, 1), random(2), random(1, 2)
    sums = layer("CAddTensorTable")([column, [flat, row]])
    expected = [column + flat[:, None], column + row.T]
    assert [each.tolist() for each in sums] == [each.tolist() for each in expected]


def test_tables_need_not_be_lists_of_tensors_alone() -> None:
    """`FlattenTable.lua` and `ZipTable.lua` walk through what is numbered (`ipairs`)."""
    a, b, c = random(3, 2)
    assert layer("FlattenTable")([a, {"named": b}, [c]]) == [a, c]
    assert layer("ZipTable")([[a, b], [c]]) == [[a, c], [b]]


def test_a_mixture_takes_gates_and_experts_of_sizes_of_one() -> None:
    """What comes behind the experts is ignored; experts are paired in memory order."""
    gates, first, second = random(6, 2), random(6, 4), random(6, 4)
    expected = gates[:, :1] * first + gates[:, 1:] * second
    module = layer("MixtureTable")
    assert relative_error(module([gates[..., None], [first, second]]), expected) < 1e-14
    assert relative_error(module([gates, [first, second], gates]), expected) < 1e-14
    other = module([gates, [first[..., None], second[:, None]]])
    assert relative_error(other, expected[..., None]) < 1e-14


class Folded(nn.Module):
    """Adds a matrix to its transposed, element by element in memory, as in `CAddTable.lua`."""

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        first, second = same_shape([input.t(), input])
        return first + second


def test_shapes_that_are_equal_for_some_batches_fix_no_size_of_a_graph() -> None:
    batch = torch.export.Dim("batch")
    program = torch.export.export(Folded(), (random(5, 6),), dynamic_shapes=({0: batch},))
    for count in (3, 6, 9):
        input = random(count, 6)
        expected = input.t() + input.flatten().reshape(6, count)
        assert torch.equal(program.module()(input), expected)
