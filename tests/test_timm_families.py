"""Thirty networks of timm go all the way: fine-tuned, saved, opened, exported and checked.

Random weights and small images: one step shows that nothing about a network is found out after its
training. The truth beside ours is ONNX Runtime's output, and timm's own network.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from families_support import require_same_outputs, run, two_classes

from torchlift.converters.saved import TimmNetwork, load
from torchlift.transfer.network_by_name import load_network

timm = pytest.importorskip("timm")

#: Name → the size of its images: 64 or the smallest that it takes.
NETWORKS = {
    "convnext_atto": 64,
    "convnextv2_atto": 64,
    "cspresnet50": 64,
    "darknet53": 64,
    "densenet121": 64,
    "dla34": 64,
    "dpn48b": 64,
    "edgenext_xx_small": 64,
    "efficientnet_lite0": 64,
    "efficientvit_b0": 64,
    "fastvit_t8": 64,
    "ghostnet_050": 64,
    "hardcorenas_a": 64,
    "hrnet_w18_small": 64,
    "inception_next_atto": 64,
    "legacy_seresnet18": 64,
    "lcnet_050": 64,
    "mixnet_s": 64,
    "mobilenetv3_small_050": 64,
    "mobilenetv4_conv_small": 64,
    "mobilevit_xxs": 64,
    "pit_ti_224": 224,
    "poolformer_s12": 64,
    "regnety_002": 64,
    "repvgg_a0": 64,
    "resnetv2_50x1_bit": 64,
    "resnet18": 64,
    "swin_tiny_patch4_window7_224": 224,
    "tiny_vit_5m_224": 224,
    "vit_tiny_patch16_224": 224,
}


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return two_classes(tmp_path_factory.mktemp("families") / "images")


@pytest.mark.slow
@pytest.mark.parametrize("name", NETWORKS)
def test_a_family_of_timm_goes_all_the_way(name: str, images: Path, tmp_path: Path) -> None:
    size = NETWORKS[name]
    trained, model, graph = tmp_path / "run", tmp_path / "run" / "model", tmp_path / "model.onnx"
    options = ["--image-size", size, "--epochs", 1, "--batch-size", 8, "--workers", 0]
    if size == 64:
        options += ["--input-size", "64x64"]
    run("finetune", f"timm:{name}", images, *options, "--head", "probe", "-o", trained)
    run("export", model, graph)
    run("check", model, graph)
    run("extract", model, images, tmp_path / "features", "--layers", "penultimate")

    opened = load(model)
    module, inputs = opened.module, torch.rand(2, 3, size, size)
    assert isinstance(module, TimmNetwork)
    expected = require_same_outputs(module, graph, inputs)
    # timm's own network, filled with the saved weights, computes the same.
    own = timm.create_model(name, num_classes=2).eval()
    own.load_state_dict(module.network.state_dict())
    with torch.no_grad():
        assert torch.equal(own(inputs), expected)


def test_images_are_prepared_as_timm_does() -> None:
    """Of a photograph that is no square, with a crop, as timm's own transforms prepare it."""
    from PIL import Image
    from timm.data import create_transform, resolve_data_config

    pixels = np.random.default_rng(0).integers(0, 256, (40, 60, 3), np.uint8)
    photograph = Image.fromarray(pixels).resize((600, 400), Image.Resampling.BICUBIC)
    for name in ("resnet18.a1_in1k", "mobilenetv3_small_050.lamb_in1k"):
        model = load_network(f"timm:{name}")
        network = timm.create_model(name)
        transform = create_transform(**resolve_data_config({}, model=network))
        assert model.preprocessing is not None
        ours = model.preprocessing([photograph])
        np.testing.assert_allclose(ours[0], transform(photograph).numpy(), atol=1e-6)
