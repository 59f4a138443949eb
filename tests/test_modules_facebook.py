"""Layers of fbnn and fbcunn, and hierarchical softmaxes, compared with loops and formulas."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from layer_support import layer, lua, rand
from torch.nn import functional

from torchlift.converters import convert
from torchlift.converters.modules import ConversionError

#: float64 against float64: only the order of summation differs.
EXACT = 1e-12


#: The cluster of each class, and its place in the cluster: sizes 3, 2 and 1, in no order.
MAPPING = [[1, 2], [3, 1], [1, 1], [2, 2], [2, 1], [1, 3]]


def loss_of_clusters(
    x: torch.Tensor, target: list[int], clusters: tuple[Any, Any], classes: dict[int, tuple]
) -> torch.Tensor:
    """Return the loss of each example by the definition: the cluster's, and the class's in it."""
    losses = []
    for row, index in zip(x, target, strict=True):
        cluster, place = MAPPING[index - 1]
        of_cluster = (clusters[0] @ row + clusters[1]).log_softmax(0)[cluster - 1]
        weight, bias = classes[cluster]
        losses.append(-(of_cluster + (weight @ row + bias).log_softmax(0)[place - 1]))
    return torch.stack(losses)


@pytest.mark.covers("nn.HSM", compared="outputs, gradients")
@pytest.mark.parametrize("dtype", ["int64", "float32"])
def test_hsm_sums_the_losses_of_clusters_and_classes(dtype: str) -> None:
    weight, bias, class_weight, class_bias = rand(3, 4), rand(3), rand(6, 4), rand(6)
    module = convert(
        lua(
            "nn.HSM",
            mapping=torch.tensor(MAPPING, dtype=getattr(torch, dtype)),
            unk_index=0,
            cluster_weight=weight,
            cluster_bias=bias,
            class_weight=class_weight,
            class_bias=class_bias,
        )
    )
    rows = {1: slice(0, 3), 2: slice(3, 5), 3: slice(5, 6)}
    classes = {c: (class_weight[place], class_bias[place]) for c, place in rows.items()}
    x = rand(6, 4).requires_grad_()
    target = [1, 2, 3, 4, 5, 6]
    expected = loss_of_clusters(x, target, (weight, bias), classes).sum()
    actual = module(x, torch.tensor(target))
    assert actual.item() == pytest.approx(expected.item(), rel=EXACT)
    gradients = [torch.autograd.grad(loss, x)[0] for loss in (actual, expected)]
    torch.testing.assert_close(*gradients, rtol=EXACT, atol=EXACT)
    one = module(x[3], 4)
    assert one.item() == pytest.approx(module(x[3:4], torch.tensor([4])).item(), rel=EXACT)


@pytest.mark.covers("nn.HLogSoftMax", compared="outputs")
@pytest.mark.parametrize("batch", [5, 1])
def test_h_log_soft_max_is_the_mean_loss_of_its_two_networks(batch: int) -> None:
    weight, bias, class_weight = rand(3, 4), rand(3), rand(3, 3 * 4)
    class_bias = rand(3, 3)
    class_bias[1, 2:] = class_bias[2, 1:] = -torch.inf
    linear = lua("nn.Linear", weight=weight, bias=bias)
    # The vectors of a cluster's classes, times the input, as lstm-char-cnn's nngraph computes them.
    scores = [
        lua("nn.LookupTable", weight=class_weight),
        lua("nn.View", size=np.array([3, 4]), numElements=12),
    ]
    product = [
        lua("nn.ParallelTable", modules=[_sequential(*scores), _view(4, 1)]),
        lua("nn.MM", transA=False, transB=False),
        lua("nn.Squeeze"),
    ]
    vectors = [_select(2), _select(1)]
    both = [
        _sequential(lua("nn.ConcatTable", modules=vectors), *product),
        _sequential(_select(2), lua("nn.LookupTable", weight=class_bias)),
    ]
    class_model = _sequential(
        lua("nn.ConcatTable", modules=both), lua("nn.CAddTable"), lua("nn.LogSoftMax")
    )
    module = convert(
        lua(
            "nn.HLogSoftMax",
            mapping=torch.tensor(MAPPING),
            cluster_model=_sequential(linear, lua("nn.LogSoftMax")),
            class_model=class_model,
        )
    )
    sizes = {1: 3, 2: 2, 3: 1}
    classes = {
        c: (class_weight[c - 1].reshape(3, 4)[:size], class_bias[c - 1, :size])
        for c, size in sizes.items()
    }
    x, target = rand(batch, 4), [6, 2, 4, 5, 1][:batch]
    expected = loss_of_clusters(x, target, (weight, bias), classes).mean()
    assert module(x, torch.tensor(target)).item() == pytest.approx(expected.item(), rel=EXACT)


def _sequential(*modules: Any) -> Any:
    return lua("nn.Sequential", modules=list(modules))


def _select(index: int) -> Any:
    return lua("nn.SelectTable", index=index)


def _view(*sizes: int) -> Any:
    return lua("nn.View", size=np.array(sizes), numElements=int(np.prod(sizes)))


def test_nodes_outside_a_tree_have_no_probability() -> None:
    """A number that is no node, or whose way does not lead to the root, is -inf; the root is 0."""
    module = layer(
        "nn.SoftMaxTree",
        rootId=1,
        weight=rand(3, 4),
        bias=rand(3),
        childParent=torch.tensor([[-1, -1], [1, 1], [1, 2], [5, 1]], dtype=torch.int32),
        parentChildren=torch.tensor([[1, 2], [-1, -1], [-1, -1], [-1, -1], [3, 1]]).int(),
    )
    output = module([rand(4, 4), torch.tensor([1, 2, 3, 4])])
    assert output[0] == 0
    assert output.isneginf().tolist() == [False, False, False, True]
    one = rand(1, 4).expand(2, 4)
    assert module([one, torch.tensor([2, 3])]).exp().sum().item() == pytest.approx(1, rel=EXACT)


@pytest.mark.covers("nn.TreeNLLCriterion", compared="outputs")
def test_the_loss_of_a_tree_is_minus_the_mean() -> None:
    x = rand(5)
    assert convert(lua("nn.TreeNLLCriterion"))(x, None).item() == -x.mean().item()


@pytest.mark.covers("nn.LocallyConnected", compared="outputs")
@pytest.mark.parametrize("on_gpu", [False, True])
def test_locally_connected_in_both_layouts(on_gpu: bool) -> None:
    """A kernel at each of 2×3 places of a 5×4 image, with a stride of 2 and 1 (H, W)."""
    weight, bias, x = rand(2, 2, 3, 3, 3, 2), rand(2, 2, 3), rand(2, 3, 5, 4)
    windows = x.unfold(2, 3, 2).unfold(3, 2, 1)
    expected = torch.einsum("ncyxhw,oyxchw->noyx", windows, weight) + bias
    if on_gpu:
        weight, bias = weight.permute(1, 2, 4, 5, 0, 3), bias.permute(1, 2, 0)
    sizes = {"nInputPlane": 3, "nOutputPlane": 2, "iW": 4, "iH": 5, "kW": 2, "kH": 3}
    module = layer("nn.LocallyConnected", weight=weight, bias=bias, dW=1, dH=2, **sizes)
    torch.testing.assert_close(module(x), expected, rtol=EXACT, atol=EXACT)


@pytest.mark.covers("nn.TemporalKMaxPooling", compared="outputs")
@pytest.mark.covers("nn.KMaxPooling", compared="outputs")
@pytest.mark.parametrize("name", ["nn.TemporalKMaxPooling", "nn.KMaxPooling"])
@pytest.mark.parametrize(("k_dynamic", "kept"), [(-1, 2), (0.5, 3), (0.1, 2)])
def test_k_max_pooling_rounds_its_fraction_down(name: str, k_dynamic: float, kept: int) -> None:
    x = rand(7, 4)
    output = layer(name, k=2, k_dynamic=k_dynamic)(x)
    for feature in range(4):
        column = x[:, feature].tolist()
        largest = sorted(column)[-kept:]
        assert output[:, feature].tolist() == [value for value in column if value in largest]


@pytest.mark.covers("nn.GroupKMaxPooling", compared="outputs")
@pytest.mark.parametrize(("k_dynamic", "frames", "kept"), [(-1, 7, 2), (0.5, 7, 3), (-1, 1, 1)])
def test_group_k_max_pooling_keeps_the_longest_frames(
    k_dynamic: float, frames: int, kept: int
) -> None:
    """By a loop; of two equal norms the first is kept, and frames that lack are zeros."""
    batch = rand(3, frames, 4)
    batch[:, -1] = -batch[:, 0]
    output = layer("nn.GroupKMaxPooling", k=2, k_dynamic=k_dynamic)(batch)
    for example, chosen in zip(batch, output, strict=True):
        norms = example.square().sum(1).tolist()
        longest = sorted(range(frames), key=lambda frame: -norms[frame])[:kept]
        assert torch.equal(chosen[:kept], example[sorted(longest)])
        assert not chosen[kept:].any()
    assert output.shape == (3, max(kept, 2), 4)
    assert torch.equal(layer("nn.GroupKMaxPooling", k=2, k_dynamic=k_dynamic)(batch[0]), output[0])


@pytest.mark.covers("nn.WeightedLookupTable", compared="outputs")
def test_weighted_lookup_table() -> None:
    weight = rand(5, 3)
    module = layer("nn.WeightedLookupTable", weight=weight)
    pairs = torch.tensor([[5, 0.5], [1, -2]], dtype=torch.float64)
    assert torch.equal(module(pairs), torch.stack([weight[4] * 0.5, weight[0] * -2]))


_FFT = ("FFT", "FBFFT", "FBFFTGemm", "FFTTiled", "FFTTiledAsync", "FFTTiledIterated")


@pytest.mark.parametrize("kind", [*_FFT, "FFTTiledSync", "CuFFT"])
def test_convolutions_by_ffts_are_convolutions(kind: str) -> None:
    weight, bias, x = rand(4, 3, 3, 2), rand(4), rand(2, 3, 6, 7)
    sizes = {"nInputPlane": 3, "nOutputPlane": 4, "kW": 2, "kH": 3, "dW": 1, "dH": 1}
    padding = {"padLeft": 1, "padRight": 1, "padUp": 2, "padDown": 2}
    module = layer(f"nn.SpatialConvolution{kind}", weight=weight, bias=bias, **sizes, **padding)
    expected = functional.conv2d(x, weight, bias, padding=(2, 1))
    torch.testing.assert_close(module(x), expected, rtol=EXACT, atol=EXACT)


def test_a_tree_without_families_or_with_too_few_weights_is_refused() -> None:
    def tree(children: list[list[int]], rows: int) -> Any:
        parent_of = torch.tensor([[-1, -1], [1, 1], [1, 2]], dtype=torch.int32)
        weights = {"weight": rand(rows, 4), "bias": rand(rows)}
        of_tree = {"childParent": parent_of, "parentChildren": torch.tensor(children).int()}
        return lua("nn.SoftMaxTree", rootId=1, **weights, **of_tree)

    none = [[-1, -1], [-1, -1], [-1, -1]]
    family = [[1, 2], [-1, -1], [-1, -1]]
    assert convert(tree(family, 2))
    with pytest.raises(ConversionError, match="the tree has no nodes with children"):
        convert(tree(none, 2))
    with pytest.raises(ConversionError, match="the children of node 1 have no weights"):
        convert(tree(family, 1))
