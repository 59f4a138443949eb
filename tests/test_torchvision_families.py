"""One network of each family of torchvision goes all the way: trained, saved, exported, checked.

One step on eight images shows that nothing about a network is found out after its training.
"""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from families_support import require_same_outputs, run, two_classes

from torchlift.converters.saved import load

#: Name → the size of its images; 64 where the network takes any.
NETWORKS = {
    "alexnet": 64,
    "convnext_tiny": 64,
    "densenet121": 64,
    "efficientnet_b0": 64,
    "efficientnet_v2_s": 64,
    "googlenet": 64,
    "inception_v3": 96,
    "maxvit_t": 224,
    "mnasnet0_5": 64,
    "mobilenet_v2": 64,
    "mobilenet_v3_small": 64,
    "regnet_y_400mf": 64,
    "resnet18": 64,
    "resnext50_32x4d": 64,
    "shufflenet_v2_x0_5": 64,
    "squeezenet1_1": 64,
    "swin_t": 64,
    "vgg11_bn": 64,
    "vit_b_16": 224,
    "wide_resnet50_2": 64,
}


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return two_classes(tmp_path_factory.mktemp("families") / "images")


@pytest.mark.slow
@pytest.mark.parametrize("command", ["train", "finetune"])
@pytest.mark.parametrize("name", NETWORKS)
def test_a_family_of_torchvision_goes_all_the_way(
    name: str, command: str, images: Path, tmp_path: Path
) -> None:
    size = NETWORKS[name]
    trained, model, graph = tmp_path / "run", tmp_path / "run" / "model", tmp_path / "model.onnx"
    options = ["--image-size", size, "--epochs", 1, "--batch-size", 8, "--workers", 0]
    run(command, f"torchvision:{name}", images, *options, "-o", trained)
    run("export", model, graph, "--input-size", f"{size}x{size}")
    run("check", model, graph, "--input-size", f"{size}x{size}")
    run("extract", model, images, tmp_path / "features", "--layers", "penultimate")

    module, inputs = load(model).module, torch.rand(2, 3, size, size)
    require_same_outputs(module, graph, inputs)
