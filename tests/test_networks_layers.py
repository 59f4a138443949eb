"""What a count of parameters does not show of a built-in network: its settings and first weights.

The settings are those of the Lua files, the book and the papers that the builders name: of their
layers in the order in which they run, those that are no number of filters or units. A convolution
is written k5s2p1, pooling max3s2p1.
"""

from __future__ import annotations

import pytest
import torch
from torch import nn

from torchlift.converters.images.preprocessing import Preprocessing
from torchlift.transfer.networks import NETWORKS
from torchlift.transfer.networks.photo_filters import PhotoFilters, photo_filters

FIVE = "k5 relu max2 k5 relu max2 flatten linear relu linear relu linear"
TANH = "k3p1 tanh max2 k3p1 tanh max2 flatten linear tanh linear"
END = "flatten linear relu linear"
BLOCK = "k3p1 norm1e-05 relu identity add"
#: VGG's threshold gives 1e-6 where ReLU gives 0.
HIDDEN = "linear threshold0:1e-06 norm0.001 dropout0.5"

#: Inception modules, with the normalization that follows each ReLU or without.
POOL = {"avg": "avg3s1p1", "max": "max3s1p1"}


def vgg(*blocks: str) -> str:
    convolutions = " ".join(f"{block} max2" for block in blocks)
    return f"{convolutions} flatten {HIDDEN} {HIDDEN} linear"


def googlenet(norm: str) -> str:
    def layers(*kernels: str) -> str:
        return " ".join(f"{kernel} relu {norm}" for kernel in kernels)

    def module(pool: str, *, one: bool = True) -> str:
        first = layers("k1") if one else ""
        last = layers("k1") if one else ""
        branches = [first, layers("k1", "k3p1"), layers("k1", "k3p1", "k3p1"), pool, last]
        return " ".join(branches)

    avg, largest = POOL["avg"], POOL["max"]
    stem = norm or "relu"
    return " ".join(
        [
            f"k7s2p3 {stem} max3s2^ k1 {stem} k3p1 {stem} max3s2^",
            *(module(avg), module(avg), module(largest, one=False), f"k2s2 {norm}"),
            *(module(avg), module(avg), module(avg), module(avg)),
            *(module(largest, one=False), f"k2s2 {norm}", module(avg), module(largest)),
            "avg7s1 flatten linear",
        ]
    )


ONE, TWO, THREE, FOUR = ("k3p1 relu " * count for count in (1, 2, 3, 4))
SETTINGS = {
    "softmax": "flatten linear",
    "two_layer": END,
    "convnet": FIVE,
    "convnet_bn": FIVE.replace("k5", "k5 norm0.001"),
    "lenet5": FIVE,
    "lenet": f"k5 relu max2 k5 relu max2 {END}",
    "logistic": "flatten linear",
    "mlp30": END,
    "small_cnn": "k3p1 relu max2 k3p1 relu max2 flatten linear",
    "tanhnet": TANH,
    "net_width": TANH,
    "net_dropout": TANH.replace("max2", "max2 dropout2d0.4"),
    "net_batch_norm": TANH.replace("k3p1", "k3p1 norm1e-05"),
    "net_depth": f"k3p1 relu max2 k3p1 relu max2 k3p1 relu max2 {END}",
    "net_res": f"k3p1 relu max2 k3p1 relu max2 k3p1 relu identity add max2 {END}",
    "net_res_deep_shared": f"k3p1 relu max2 {BLOCK} max2 {END}",
    "net_res_deep": f"k3p1 relu max2 {' '.join([BLOCK] * 10)} max2 {END}",
    "net_res_deep_projected": (
        f"k3p1 relu max2 {' '.join([BLOCK] * 5)} k3s2p1 norm1e-05 relu k1s2 add "
        f"{' '.join([BLOCK] * 4)} {END}"
    ),
    "alexnet_owt_bn": (
        "k11s4p2 norm0.001 relu max3s2 k5p2 norm0.001 relu max3s2 k3p1 norm0.001 relu "
        "k3p1 norm0.001 relu k3p1 norm0.001 relu max3s2 flatten "
        + "dropout0.5 linear norm0.001 relu " * 2
        + "linear"
    ),
    "vgg_bn_a": vgg(ONE, ONE, TWO, TWO, TWO),
    "vgg_bn_b": vgg(TWO, TWO, TWO, TWO, TWO),
    "vgg_bn_c": vgg(TWO, TWO, *[f"{TWO}k1 relu"] * 3),
    "vgg_bn_d": vgg(TWO, TWO, THREE, THREE, THREE),
    "vgg_bn_e": vgg(TWO, TWO, FOUR, FOUR, FOUR),
    "googlenet": googlenet(""),
    "googlenet_bn": googlenet("norm0.001 relu"),
}


def window(kernel: int, stride: int, padding: int, usual: int) -> str:
    shown = [f"s{stride}" if stride != usual else "", f"p{padding}" if padding else ""]
    return "".join([str(kernel), *shown])


def settings(layer: nn.Module) -> str:
    """A layer without its number of filters or units."""
    match layer:
        case nn.Conv2d():
            (kernel, _), (stride, _), (padding, _) = (
                layer.kernel_size,
                layer.stride,
                layer.padding,
            )
            assert (layer.groups, layer.dilation, layer.padding_mode) == (1, (1, 1), "zeros")
            return f"k{window(kernel, stride, int(padding), usual=1)}"
        case nn.MaxPool2d() | nn.AvgPool2d():
            name = "max" if isinstance(layer, nn.MaxPool2d) else "avg"
            sizes = (layer.kernel_size, layer.stride, layer.padding)
            kernel, stride, padding = (int(size) for size in sizes)  # type: ignore[arg-type]  # all square
            shown = f"{name}{window(kernel, stride, padding, usual=kernel)}"
            assert getattr(layer, "count_include_pad", True)
            return f"{shown}^" if layer.ceil_mode else shown
        case nn.BatchNorm2d() | nn.BatchNorm1d():
            assert layer.momentum == 0.1
            return f"norm{layer.eps:g}"
        case nn.Dropout() | nn.Dropout2d():
            return f"{type(layer).__name__.lower()}{layer.p:g}"
        case nn.Threshold():
            return f"threshold{layer.threshold:g}:{layer.value:g}"
    return {"CAddTable": "add"}.get(type(layer).__name__, type(layer).__name__.lower())


@pytest.mark.parametrize("name", NETWORKS)
def test_the_layers_are_those_of_the_source(name: str) -> None:
    with torch.device("meta"):
        network = NETWORKS[name]()
    leaves = [layer for layer in network.modules() if not any(True for _ in layer.children())]
    assert " ".join(map(settings, leaves)) == " ".join(SETTINGS[name].split())


def test_a_residual_block_begins_as_in_the_book() -> None:
    """He et al.'s normal weights, and a normalization that halves."""
    torch.manual_seed(0)
    convolution, norm = NETWORKS["net_res_deep"]()[3][0][0][0][:2]
    weight = convolution.weight.detach()
    # Of 9,216 weights: four standard errors are 3 %.
    assert weight.std().item() == pytest.approx((2 / (32 * 9)) ** 0.5, rel=0.03)
    assert weight.abs().max() > 3.5 * weight.std()  # not uniform
    assert torch.equal(norm.weight, torch.full((32,), 0.5))


def test_the_filters_of_photographs_do_what_they_are_called() -> None:
    """On a white square: its blur, its outline, and edges from dark to bright."""
    network = PhotoFilters().eval()
    image = torch.zeros(1, 1, 16, 16)
    image[..., 4:12, 4:12] = 1
    with torch.no_grad():
        seen = {name: layer(image)[0, 0] for name, layer in network.named_children()}
    assert seen["blur"][8, 8].item() == pytest.approx(1)
    assert seen["blur"][4, 8].item() == pytest.approx(2 / 3)
    for name in ("outline", "horizontal_edges", "vertical_edges"):
        assert seen[name][8, 8] == seen[name][0, 0] == 0
    assert seen["sharpen"][8, 8] == 1
    assert seen["sharpen"][4, 8] == 2
    assert seen["outline"][4, 8] == 3
    assert seen["horizontal_edges"][3, 8] == 4
    assert seen["horizontal_edges"][12, 8] == -4
    assert seen["vertical_edges"][8, 3] == 4
    assert torch.equal(seen["vertical_edges"], seen["horizontal_edges"].T)
    sizes = {name: tuple(values.shape) for name, values in seen.items()}
    assert sizes["no_padding"] == (14, 14)
    assert sizes["padding_2"] == (18, 18)
    assert (sizes["stride_2"], sizes["stride_4"]) == ((8, 8), (4, 4))
    assert (sizes["max_pool_8"], sizes["average_pool_2"]) == ((2, 2), (8, 8))
    assert seen["max_pool_8"].min() == 1
    assert seen["average_pool_8"].max() == 0.25


def test_every_filter_of_photographs_runs_on_the_image_itself() -> None:
    """A plot asks each layer what it gave: none of them sees what another one has done."""
    network, seen = PhotoFilters().eval(), dict[str, torch.Tensor]()
    image = torch.rand(2, 1, 16, 24, generator=torch.Generator().manual_seed(0))
    for name, layer in network.named_children():
        layer.register_forward_hook(
            lambda _, given, output, name=name: seen.update({name: given[0]})
        )
    with torch.no_grad():
        last = network(image)
    assert list(seen) == [name for name, _ in network.named_children()]
    assert all(given is image for given in seen.values())
    torch.testing.assert_close(last, torch.nn.functional.avg_pool2d(image, 8))
    model = photo_filters()
    assert (model.output_kind, model.preprocessing) == ("features", Preprocessing("gray"))
    assert not any(layer.training for layer in model.module.modules())
