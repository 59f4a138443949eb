"""Distances and norms where their small constants and sizes matter (`Cosine.lua`, …)."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from layer_support import lua

from torchlift.converters import convert
from torchlift.converters.modules import ConversionError


def test_a_cosine_adds_its_small_number_to_both_norms() -> None:
    """`Cosine.lua`: a vector as short as 1e-12 has half of the cosine, two have a quarter."""
    tiny, one = 1e-12, 1.0
    weight = torch.tensor([[tiny, 0.0], [one, 0.0]], dtype=torch.float64)
    module = convert(lua("nn.Cosine", weight=weight))
    short = module(torch.tensor([tiny, 0.0], dtype=torch.float64)).tolist()
    assert short == pytest.approx([0.25, 0.5], rel=1e-9)
    long = module(torch.tensor([one, 0.0], dtype=torch.float64)).tolist()
    assert long == pytest.approx([0.5, 1.0], rel=1e-9)


@pytest.mark.parametrize("count", [1, 3])
def test_a_weight_norm_has_a_factor_for_each_output(count: int) -> None:
    source = lua(
        "nn.WeightNorm",
        modules=[lua("nn.Linear")],
        viewOut=np.array([2, 4]),
        v=torch.ones(2, 4),
        g=torch.ones(count),
    )
    problem = rf"g has {count} elements, but dimension 1 of the weight \(2, 4\) of nn\.Linear has 2"
    with pytest.raises(ConversionError, match=problem):
        convert(source)


def test_a_weight_norm_is_of_its_outputs_if_the_file_does_not_say() -> None:
    """`WeightNorm.lua`: outputDim is 1 by default, and 1e-4 is added to the squared norm."""
    v = torch.tensor([[3.0, 4.0], [0.0, 0.01]])
    fields = {"viewOut": np.array([2, 2]), "v": v, "g": torch.tensor([2.0, 5.0])}
    module = convert(lua("nn.WeightNorm", modules=[lua("nn.Linear")], **fields))
    expected = torch.stack([v[0] * 2 / 25.0001**0.5, v[1] * 5 / 0.0002**0.5])
    torch.testing.assert_close(module(torch.eye(2)).T, expected)


def test_a_weight_that_was_cleared_is_computed() -> None:
    """`clearState` leaves an empty one, which is not the weight of the last pass."""
    fields = {"v": torch.tensor([[3.0, 4.0]]), "g": torch.tensor([[10.0]])}
    module = convert(lua("nn.LinearWeightNorm", **fields, weight=torch.zeros(0))).eval()
    assert not module.keeps_weight
    torch.testing.assert_close(module(torch.eye(2)), torch.tensor([[6.0], [8.0]]))


def test_a_kept_weight_has_the_gradient_of_what_makes_it() -> None:
    """`LinearWeightNorm.lua` computes gradients of v and g, whatever weight it used."""
    fields = {"v": torch.tensor([[3.0, 4.0]]), "g": torch.tensor([[10.0]])}
    module = convert(lua("nn.LinearWeightNorm", **fields, weight=torch.ones(1, 2))).eval()
    module(torch.tensor([1.0, 0.0])).sum().backward()
    assert module.g.grad.flatten().tolist() == pytest.approx([0.6])


@pytest.mark.parametrize(("shape", "count"), [((4, 3, 1, 1), 4), ((4, 3, 1), 4), ((3,), 1)])
@pytest.mark.parametrize("name", ["DotProduct", "CosineDistance", "PairwiseDistance"])
def test_sizes_of_one_behind_a_row_do_not_matter(
    name: str, shape: tuple[int, ...], count: int
) -> None:
    first, second = torch.randn(shape), torch.randn(shape)
    rows = [each.reshape(count, 3) for each in (first, second)]
    module = convert(lua(f"nn.{name}"))
    assert module([first, second]).shape == (count,)
    torch.testing.assert_close(module([first, second]), module(rows))


def test_the_index_of_a_center_has_the_type_of_the_centers() -> None:
    module = convert(lua("nn.Kmeans", weight=torch.tensor([[0.0], [9.0]]).double()))
    output = module(torch.tensor([[8.0], [1.0]]))
    assert (output.tolist(), output.dtype) == ([2, 1], torch.float64)


@pytest.mark.parametrize("name", ["DotProduct", "CosineDistance", "PairwiseDistance"])
def test_the_second_input_takes_the_shape_of_the_first(name: str) -> None:
    """Torch7 only looks at how many numbers it has, in the order of its memory."""
    module, first, second = convert(lua(f"nn.{name}")), torch.randn(2, 3), torch.randn(3, 2)
    expected = module([first, second.reshape(2, 3)])
    assert expected.shape == (2,)
    assert torch.equal(module([first, second]), expected)
    assert torch.equal(module([first, second.flatten()]), expected)


@pytest.mark.parametrize("name", ["DotProduct", "CosineDistance", "PairwiseDistance"])
def test_what_is_no_batch_of_rows_is_refused(name: str) -> None:
    with pytest.raises(RuntimeError, match="shape"):
        convert(lua(f"nn.{name}"))([torch.ones(2, 3, 4), torch.ones(2, 3, 4)])
