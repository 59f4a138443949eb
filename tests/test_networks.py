"""The labs' networks: parameters counted by hand, shapes, saving, ONNX.

The counts of convnet, lenet5 and AlexNet-OWT-BN are Torch7's, those of `tanhnet` and `net_width`
are printed in the book. The others are sums over the layers in the sources that the builders name.
"""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from support import FIXTURES, ROOT
from torch import nn
from torchvision.models import vgg11

from torchlift.converters import load_model
from torchlift.converters.inference import open_predictor
from torchlift.converters.onnx import export
from torchlift.converters.saved import SavedModel, infer_input_shape, infer_output_kind, load, save
from torchlift.transfer.networks import NETWORKS, convnet_bn
from torchlift.transfer.networks.googlenet import STAGES
from torchlift.transfer.networks.vgg import CONFIGURATIONS

IMAGENET = [name for name in NETWORKS if name.startswith(("alexnet", "vgg", "googlenet"))]
SMALL = [name for name in NETWORKS if name not in IMAGENET]


def conv(inputs: int, outputs: int, kernel: int, bias: bool = True) -> int:
    return inputs * outputs * kernel * kernel + bias * outputs


def linear(inputs: int, outputs: int) -> int:
    return inputs * outputs + outputs


def norm(planes: int) -> int:
    return 2 * planes


def vgg(*convolutions: int) -> int:
    classifier = linear(512 * 7 * 7, 4096) + linear(4096, 4096) + linear(4096, 1000)
    return sum(convolutions) + classifier + 2 * norm(4096)


def inception(
    inputs: int, one: int, three: tuple[int, int], double: tuple[int, int], last: int, bn: bool
) -> int:
    convolutions = [
        *([(inputs, one, 1)] if one else []),
        *((inputs, three[0], 1), (*three, 3)),
        *((inputs, double[0], 1), (*double, 3), (double[1], double[1], 3)),
        *([(inputs, last, 1)] if last else []),
    ]
    return sum(conv(*sizes) + bn * norm(sizes[1]) for sizes in convolutions)


def inception_network(bn: bool) -> int:
    # From the tables in googlenet.lua: inputs, 1×1, 3×3, double 3×3, projection.
    return (
        conv(3, 64, 7)
        + conv(64, 64, 1)
        + conv(64, 192, 3)
        + bn * (norm(64) + norm(64) + norm(192))
        + inception(192, 64, (64, 64), (64, 96), 32, bn)
        + inception(256, 64, (64, 96), (64, 96), 64, bn)
        + inception(320, 0, (128, 160), (64, 96), 0, bn)
        + conv(576, 576, 2)
        + bn * norm(576)
        + inception(576, 224, (64, 96), (96, 128), 128, bn)
        + inception(576, 192, (96, 128), (96, 128), 128, bn)
        + inception(576, 160, (128, 160), (128, 160), 96, bn)
        + inception(576, 96, (128, 192), (160, 192), 96, bn)
        + inception(576, 0, (128, 192), (192, 256), 0, bn)
        + conv(1024, 1024, 2)
        + bn * norm(1024)
        + inception(1024, 352, (192, 320), (160, 224), 128, bn)
        + inception(1024, 352, (192, 320), (192, 224), 128, bn)
        + linear(1024, 1000)
    )


VGG_A = [
    *(conv(3, 64, 3), conv(64, 128, 3), conv(128, 256, 3), conv(256, 256, 3)),
    *(conv(256, 512, 3), *(3 * [conv(512, 512, 3)])),
]
VGG_B = [*VGG_A, conv(64, 64, 3), conv(128, 128, 3)]
RES_BLOCK = conv(32, 32, 3, bias=False) + norm(32)
RES_BLOCK_64 = conv(64, 64, 3, bias=False) + norm(64)

#: Parameters of each network with the channels and classes of its lab or paper.
PARAMETERS = {
    "softmax": linear(3 * 32 * 32, 10),
    "two_layer": linear(3 * 32 * 32, 500) + linear(500, 10),
    "convnet": 62_958,
    "convnet_bn": 62_958 + norm(8) + norm(16),
    "lenet5": 62_006,
    "lenet": conv(1, 20, 5) + conv(20, 50, 5) + linear(50 * 4 * 4, 500) + linear(500, 10),
    "logistic": linear(28 * 28, 10),
    "mlp30": linear(28 * 28, 30) + linear(30, 10),
    "small_cnn": conv(1, 4, 3) + conv(4, 8, 3) + linear(8 * 7 * 7, 10),
    "tanhnet": 18_090,
    "net_width": 38_386,
    "net_dropout": 38_386,
    "net_batch_norm": 38_386 + norm(32) + norm(16),
    "net_depth": conv(3, 32, 3)
    + conv(32, 16, 3)
    + conv(16, 16, 3)
    + linear(16 * 4 * 4, 32)
    + linear(32, 2),
    # The skip connection has no weights.
    "net_res": conv(3, 32, 3)
    + conv(32, 16, 3)
    + conv(16, 16, 3)
    + linear(16 * 4 * 4, 32)
    + linear(32, 2),
    # Ten layers share the weights of one.
    "net_res_deep_shared": conv(3, 32, 3) + RES_BLOCK + linear(32 * 8 * 8, 32) + linear(32, 2),
    "net_res_deep": conv(3, 32, 3) + 10 * RES_BLOCK + linear(32 * 8 * 8, 32) + linear(32, 2),
    "net_res_deep_projected": conv(3, 32, 3)
    + 5 * RES_BLOCK
    + conv(32, 64, 3, bias=False)
    + norm(64)
    + conv(32, 64, 1, bias=False)
    + 4 * RES_BLOCK_64
    + linear(64 * 8 * 8, 32)
    + linear(32, 2),
    "alexnet_owt_bn": 61_119_528,
    "vgg_bn_a": vgg(*VGG_A),
    "vgg_bn_b": vgg(*VGG_B),
    "vgg_bn_c": vgg(*VGG_B, conv(256, 256, 1), 2 * conv(512, 512, 1)),
    "vgg_bn_d": vgg(*VGG_B, conv(256, 256, 3), 2 * conv(512, 512, 3)),
    "vgg_bn_e": vgg(*VGG_B, 2 * conv(256, 256, 3), 4 * conv(512, 512, 3)),
    "googlenet": inception_network(bn=False),
    "googlenet_bn": inception_network(bn=True),
}

#: (C, H, W) of the small networks that do not take 3×32×32.
SHAPES = dict.fromkeys(("lenet", "logistic", "mlp30", "small_cnn"), (1, 28, 28))


def on_meta_device(name: str, *arguments: int) -> nn.Module:
    with torch.device("meta"):
        return NETWORKS[name](*arguments).eval()


def test_every_network_is_tested() -> None:
    assert list(PARAMETERS) == list(NETWORKS)


def test_the_documentation_names_every_network() -> None:
    page = (ROOT / "docs" / "networks.md").read_text(encoding="utf-8")
    assert [name for name in NETWORKS if f"`{name}`" not in page] == [
        *("vgg_bn_b", "vgg_bn_c", "vgg_bn_d")  # `vgg_bn_a` to `vgg_bn_e`
    ]


@pytest.mark.parametrize("name", NETWORKS)
def test_the_number_of_parameters_is_that_of_the_source(name: str) -> None:
    network = on_meta_device(name)
    assert sum(parameter.numel() for parameter in network.parameters()) == PARAMETERS[name]


@pytest.mark.parametrize("name", NETWORKS)
def test_a_network_takes_one_size_and_returns_logits_of_any_number_of_classes(name: str) -> None:
    size = (3, 224, 224) if name in IMAGENET else SHAPES.get(name, (3, 32, 32))
    assert infer_input_shape(on_meta_device(name)) == size
    for channels in (1, 3):
        network = on_meta_device(name, channels, 7)
        assert infer_input_shape(network) == (channels, *size[1:])
        assert network(torch.empty(2, channels, *size[1:], device="meta")).shape == (2, 7)
        assert infer_output_kind(network) == "logits"


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=pytest.mark.slow if n in IMAGENET else ()) for n in NETWORKS]
)
def test_a_saved_network_computes_the_same(name: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = NETWORKS[name](3, 10).eval()
    shape = infer_input_shape(network)
    assert shape is not None
    images = torch.rand(2, *shape)
    opened = load(save(SavedModel(network, "logits", shape), tmp_path / "model"))
    with torch.no_grad():
        assert torch.equal(opened.module(images), network(images))


@pytest.mark.parametrize(
    "name",
    [
        *("two_layer", "net_batch_norm", "net_res_deep_shared", "net_res_deep_projected"),
        *(pytest.param(name, marks=pytest.mark.slow) for name in ("vgg_bn_a", "googlenet_bn")),
    ],
)
def test_onnxruntime_computes_the_same(name: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = NETWORKS[name](3, 10).eval()
    model = SavedModel(network, "logits", infer_input_shape(network))
    export(model, tmp_path / "model.onnx")
    assert model.input_shape is not None
    images = torch.rand(3, *model.input_shape)
    with torch.no_grad():
        expected = network(images)
    actual = torch.from_numpy(open_predictor(tmp_path / "model.onnx", "cpu")(images.numpy()))
    # float32, through up to 60 layers.
    torch.testing.assert_close(actual, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", ["softmax", "convnet", "convnet_bn"])
def test_torch7s_own_files_have_the_same_layers(name: str) -> None:
    """With the weights of a file that Torch7 wrote, the network computes the file's outputs."""
    converted = load_model(FIXTURES / "models" / f"{name}.t7").float()
    built = NETWORKS[name]().eval()
    sources = [tensor for tensor in converted.state_dict().values() if tensor.is_floating_point()]
    targets = [tensor for tensor in built.state_dict().values() if tensor.is_floating_point()]
    for target, values in zip(targets, sources, strict=True):
        target.copy_(values.view_as(target))
    images = torch.rand(4, 3, 32, 32)
    with torch.no_grad():
        torch.testing.assert_close(built(images).log_softmax(1), converted(images))


def test_only_the_shared_network_repeats_one_block() -> None:
    blocks = {name: NETWORKS[name]()[3] for name in ("net_res_deep", "net_res_deep_shared")}
    assert len({id(block) for block in blocks["net_res_deep"]}) == 10
    assert len(blocks["net_res_deep_shared"]) == 10
    assert len({id(block) for block in blocks["net_res_deep_shared"]}) == 1


def test_a_skip_connection_adds_the_input() -> None:
    """The book's formula is relu(batch_norm(conv(x))) + x."""
    block = NETWORKS["net_res_deep"]()[3][0].train()
    convolution, batch_norm = block[0][0][0], block[0][0][1]
    x = torch.randn(4, 32, 16, 16)
    mean, var = convolution(x).mean((0, 2, 3)), convolution(x).var((0, 2, 3), unbiased=False)
    scaled = (convolution(x) - mean[:, None, None]) / (var + 1e-5).sqrt()[:, None, None]
    torch.testing.assert_close(block(x), (0.5 * scaled).relu() + x, rtol=1e-4, atol=1e-4)
    assert torch.equal(batch_norm.weight, torch.full((32,), 0.5))


def test_the_convolutions_of_vgg_are_torchvisions() -> None:
    with torch.device("meta"):
        expected = vgg11().features
    layers = on_meta_device("vgg_bn_a")[0]
    assert [str(layer) for layer in layers] == [
        str(layer).replace("inplace=True", "") for layer in expected
    ]
    assert [sum(map(len, CONFIGURATIONS[name])) + 3 for name in "ABCDE"] == [11, 13, 16, 16, 19]


def test_the_modules_of_googlenet_have_the_published_output_channels() -> None:
    planes = 192
    outputs = [planes := module.outputs(planes) for stage in STAGES for module in stage]
    assert outputs == [256, 320, 576, 576, 576, 576, 576, 1024, 1024, 1024]


def test_batch_normalization_has_the_constants_of_the_lab() -> None:
    norms = [layer for layer in convnet_bn().modules() if isinstance(layer, nn.BatchNorm2d)]
    assert [(norm.eps, norm.momentum) for norm in norms] == [(1e-3, 0.1), (1e-3, 0.1)]
