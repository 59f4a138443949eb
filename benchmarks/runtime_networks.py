"""Twenty networks of every kind, with images or inputs to run them on, from seeds and fixtures."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torchvision
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from torchlift.converters.images.preprocessing import Preprocessing
from torchlift.converters.modules.layers.local_normalization import LocalResponseNorm
from torchlift.converters.modules.layers.upsampling import Upsample
from torchlift.converters.saved import SavedModel, open_model
from torchlift.transfer.data import read_dataset
from torchlift.transfer.networks import NETWORKS

FIXTURES = Path(__file__).resolve().parent.parent / "fixtures"

#: ImageNet's numbers, for networks from torchvision and others that have none of their own.
_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)

Network = tuple[SavedModel, Any]


def images(count: int, size: int, channels: int = 3) -> np.ndarray:
    """Return images (N, C, H, W) of gratings in one color on another, each with its own noise."""
    random = np.random.default_rng(size)
    rows, columns = np.mgrid[:size, :size] / size
    made = np.empty((count, channels, size, size), np.uint8)
    for image in made:
        angle, frequency = random.uniform(0, np.pi), random.uniform(2, 40)
        wave = np.sin(frequency * (rows * np.sin(angle) + columns * np.cos(angle))) / 2 + 0.5
        first, second = random.uniform(0, 255, (2, channels, 1, 1))
        noise = random.normal(0, random.uniform(0, 40), (channels, size, size))
        image[:] = np.clip(first + (second - first) * wave + noise, 0, 255)
    return made


def fixture(name: str, size: int, channels: int = 3, **details: Any) -> Network:
    """Return a network that Torch7 wrote."""
    return open_model(FIXTURES / f"{name}.t7", **details), images(64, size, channels)


def digits(name: str) -> Network:
    """Return a network of the digits lab, trained in Torch7, with digits."""
    model = open_model(
        FIXTURES / f"digits/{name}.t7", mean_std=FIXTURES / "digits/digits_meanStd.t7"
    )
    return model, read_dataset(FIXTURES / "digits/digits-test.t7").images[:128]


def seeded(module: nn.Module, size: int) -> Network:
    """Return a network with weights from a seed, and statistics that a training might leave."""
    for layer in module.modules():
        if isinstance(layer, (nn.Conv2d, nn.Linear)):
            nn.init.kaiming_normal_(layer.weight)
        elif isinstance(layer, _BatchNorm):
            nn.init.normal_(layer.running_mean, 0, 0.1)
            nn.init.uniform_(layer.running_var, 0.5, 1.5)
    preprocessing = Preprocessing("RGB", size=(size, size), value_range=1, mean=_MEAN, std=_STD)
    model = SavedModel(module.eval(), "logits", (3, size, size), None, preprocessing)
    return model, images(64, size)


def lab(name: str) -> Network:
    """Return a network of a lab for images of 32×32."""
    return seeded(NETWORKS[name](channels=3, classes=10), 32)


def vision(name: str) -> Network:
    """Return a network of torchvision with 100 classes, for images of 64×64."""
    return seeded(getattr(torchvision.models, name)(weights=None, num_classes=100), 64)


def small_transformer() -> Network:
    """Return torchvision's vision transformer, small."""
    transformer = torchvision.models.VisionTransformer(64, 16, 3, 4, 64, 128, num_classes=100)
    return seeded(transformer, 64)


def layers(*modules: nn.Module) -> Network:
    """Return a classifier with layers between its two linear ones."""
    pooling = nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 10)
    return seeded(nn.Sequential(nn.Conv2d(3, 16, 3), nn.ReLU(), *modules, *pooling), 32)


def text() -> Network:
    """Return a network of torch-rnn, which Torch7 wrote; its tokens and states are drawn."""
    return open_model(FIXTURES / "projects/torchrnn_lstm.t7", input="9:int64"), None


#: The networks by name.
MODELS: dict[str, Callable[[], Network]] = {
    "digits-lenet5 (Torch7)": lambda: digits("digits-lenet5"),
    "digits-lenet5-bn (Torch7)": lambda: digits("digits-lenet5-bn"),
    "cifar-convnet-bn (Torch7)": lambda: fixture(
        "cifar/cifar-convnet-bn", 32, mean_std=FIXTURES / "cifar/cifar_meanStd.t7"
    ),
    "convnet (Torch7)": lambda: fixture(
        "models/convnet", 32, mean=[0.5], std=[0.25], value_range=1, color="RGB"
    ),
    "alexnet-owt-bn, small (Torch7)": lambda: fixture(
        "models/alexnetowtbn_small", 224, mean=[*_MEAN], std=[*_STD], value_range=1, color="RGB"
    ),
    "fast-neural-style (Torch7)": lambda: fixture("projects/faststyle_none", 64, input="3x64x64"),
    "torch-rnn LSTM (Torch7)": text,
    "lab net_res_deep_projected": lambda: lab("net_res_deep_projected"),
    "lab net_depth": lambda: lab("net_depth"),
    "lab tanhnet": lambda: lab("tanhnet"),
    "resnet18": lambda: vision("resnet18"),
    "mobilenet_v2": lambda: vision("mobilenet_v2"),
    "squeezenet1_1": lambda: vision("squeezenet1_1"),
    "shufflenet_v2_x0_5": lambda: vision("shufflenet_v2_x0_5"),
    "efficientnet_b0": lambda: vision("efficientnet_b0"),
    "vision transformer, small": small_transformer,
    "layers: LRN of 5": lambda: layers(LocalResponseNorm(5, 5e-4, 0.75, 2.0)),
    "layers: LRN of 4": lambda: layers(LocalResponseNorm(4, 0.5, 0.75, 1.0)),
    "layers: transposed convolution, upsampling": lambda: layers(
        nn.ConvTranspose2d(16, 16, 3, stride=2, bias=True), Upsample(2, linear=True)
    ),
    "layers: L2 pooling, reflection padding, PReLU": lambda: layers(
        nn.ReflectionPad2d(2), nn.LPPool2d(2, 2), nn.PReLU(16)
    ),
}


def network(name: str) -> Network:
    """Return a network and uint8 images (N, C, H, W) to run it on; None where it takes others."""
    torch.manual_seed(0)
    return MODELS[name]()
