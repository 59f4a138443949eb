"""`hf:FOLDER` of transformers: image classifiers, from config and weights that it wrote itself."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from families_support import run, two_classes
from PIL import Image
from safetensors.torch import save_file
from torch import nn

from torchlift.converters.saved import (
    SavedModelError,
    TransformersNetwork,
    load,
    transformers_network,
)
from torchlift.transfer.errors import NetworkError
from torchlift.transfer.libraries import hugging_face
from torchlift.transfer.libraries.image_processor import preprocessing_of
from torchlift.transfer.network_by_name import load_network

SMALL = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
CONFIGS: dict[str, dict[str, Any]] = {
    "vit": {**SMALL, "intermediate_size": 16, "image_size": 32, "patch_size": 8},
    "convnext": {"hidden_sizes": [8, 8, 8, 8], "depths": [1, 1, 1, 1], "image_size": 32},
    "resnet": {
        "embedding_size": 8,
        "hidden_sizes": [8, 8],
        "depths": [1, 1],
        "layer_type": "basic",
    },
    "swin": {"embed_dim": 8, "depths": [1], "num_heads": [2], "image_size": 32, "patch_size": 4},
    "mobilenet_v2": {"image_size": 32},
}
PROCESSOR = {
    "do_resize": True,
    "size": {"height": 32, "width": 32},
    "resample": 3,
    "do_rescale": True,
    "rescale_factor": 1 / 255,
    "do_normalize": True,
    "image_mean": [0.5, 0.5, 0.5],
    "image_std": [0.5, 0.5, 0.5],
}


@pytest.mark.slow
@pytest.mark.parametrize("kind", CONFIGS)
def test_a_classifier_of_transformers_goes_all_the_way(kind: str, tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    images = two_classes(tmp_path / "images")
    names = {0: "ant", 1: "bee", 2: "cow"}
    config = transformers.AutoConfig.for_model(kind, **CONFIGS[kind], id2label=names)
    torch.manual_seed(0)
    theirs = transformers.AutoModelForImageClassification.from_config(config).eval()
    theirs.save_pretrained(tmp_path / "hub")
    (tmp_path / "hub" / "preprocessor_config.json").write_text(json.dumps(PROCESSOR))

    model = load_network(f"hf:{tmp_path / 'hub'}")
    inputs = torch.rand(2, 3, 32, 32)
    with torch.no_grad():
        assert torch.equal(model.module(inputs), theirs(inputs).logits)
    assert model.labels == ["ant", "bee", "cow"]
    assert model.notes == []

    trained = tmp_path / "run"
    options = ["--image-size", 40, "--epochs", 1, "--batch-size", 8, "--workers", 0]
    run("finetune", f"hf:{tmp_path / 'hub'}", images, *options, "--head", "probe", "-o", trained)
    run("export", trained / "model", tmp_path / "model.onnx")
    run("check", trained / "model", tmp_path / "model.onnx")
    opened = load(trained / "model")
    assert isinstance(opened.module, TransformersNetwork)
    assert opened.module(inputs).shape == (2, 2)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ("{", "damaged"),
        ("[]", "no model_type"),
        ('{"model_type": "vit", "auto_map": {"x": "y"}}', "auto_map, which would load something"),
        ('{"model_type": "vit", "backbone": "resnet18"}', "backbone, which would load something"),
        ('{"model_type": "vit", "hidden_size": 1e12}', "hidden_size: 1000000000000.0, which is no"),
        ('{"model_type": "bit", "depths": [3, 99999999]}', "depths: 99999999, which is no size"),
    ],
)
def test_a_config_that_names_code_or_no_sizes_is_refused(config: str, message: str) -> None:
    with pytest.raises(SavedModelError, match=message):
        TransformersNetwork(config, 2)


def test_images_are_prepared_as_pillow_does() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (40, 60, 3), np.uint8)
    image = Image.fromarray(pixels)
    expected = np.asarray(image.resize((32, 32), Image.Resampling.BICUBIC), np.float32) / 255
    prepared = preprocessing_of(PROCESSOR)([image])[0]
    np.testing.assert_allclose(prepared, (expected.transpose(2, 0, 1) - 0.5) / 0.5, atol=1e-6)


@pytest.mark.parametrize(
    ("changes", "size", "crop"),
    [
        ({"size": {"shortest_edge": 40}}, 40, None),
        ({"size": 40, "do_center_crop": True, "crop_size": 32}, 40, (32, 32)),
        ({"size": {"shortest_edge": 28}, "crop_pct": 0.875}, 32, (28, 28)),
        ({"size": {"shortest_edge": 384}, "crop_pct": 0.875}, (384, 384), None),
        ({"do_resize": False}, None, None),
    ],
)
def test_sizes_of_all_forms_are_read(changes: dict[str, Any], size: Any, crop: Any) -> None:
    preprocessing = preprocessing_of({**PROCESSOR, **changes})
    assert (preprocessing.size, preprocessing.crop) == (size, crop)


@pytest.mark.parametrize(
    ("changes", "value_range", "mean"),
    [
        ({}, 1, (0.5, 0.4, 0.3)),
        # What is left out is done, as transformers does it.
        ({"do_normalize": None, "do_rescale": None}, 1, (0.5, 0.4, 0.3)),
        ({"do_normalize": False}, 1, ()),
        ({"do_rescale": False}, 255, (0.5, 0.4, 0.3)),
        ({"rescale_factor": 1 / 127.5}, (0.0, 2.0), (0.5, 0.4, 0.3)),
        ({"rescale_factor": 0.00392156862745098}, 1, (0.5, 0.4, 0.3)),
    ],
)
def test_values_are_scaled_as_the_file_says(
    changes: dict[str, Any], value_range: Any, mean: tuple[float, ...]
) -> None:
    values = {**PROCESSOR, "image_mean": [0.5, 0.4, 0.3], "image_std": [0.1, 0.2, 0.3], **changes}
    given = {name: value for name, value in values.items() if value is not None}
    preprocessing = preprocessing_of(given)
    assert preprocessing.value_range == pytest.approx(value_range)
    assert preprocessing.mean == mean
    assert preprocessing.std == ((0.1, 0.2, 0.3) if mean else ())
    assert preprocessing.color == "RGB"
    assert preprocessing_of({**given, "do_flip_channel_order": True}).color == "BGR"


@pytest.mark.parametrize(
    ("number", "method"),
    [*((number, Image.Resampling(number)) for number in range(6)), (None, Image.Resampling(2))],
)
def test_the_numbers_of_resampling_are_those_of_pillow(
    number: int | None, method: Image.Resampling
) -> None:
    values = {name: value for name, value in PROCESSOR.items() if name != "resample"}
    values |= {} if number is None else {"resample": number}
    assert preprocessing_of(values).resize == f"pil-{method.name.lower()}"


class Described(nn.Module):
    """In place of a network of transformers, which is not installed everywhere."""

    def __init__(self, config: str, num_classes: int) -> None:
        super().__init__()
        self.num_classes = num_classes


@pytest.mark.parametrize(
    ("names", "labels", "classes"),
    [
        ({"0": "ant", "1": "bee", "2": "cow"}, ["ant", "bee", "cow"], 3),
        ({"1": "bee", "0": "ant"}, ["ant", "bee"], 2),
        # Names that transformers made up are none; two classes are left out of the file.
        ({"0": "LABEL_0", "1": "LABEL_1", "2": "LABEL_2"}, None, 3),
        (None, None, 2),
    ],
)
@pytest.mark.parametrize(
    ("processor", "shape"),
    [
        (None, (3, 48, 48)),
        (PROCESSOR, (3, 32, 32)),
        ({**PROCESSOR, "size": {"shortest_edge": 40}}, (3, 40, 40)),
        (
            {
                **PROCESSOR,
                "size": 40,
                "do_center_crop": True,
                "crop_size": {"height": 24, "width": 28},
            },
            (3, 24, 28),
        ),
    ],
)
def test_labels_and_the_size_of_inputs_are_those_of_the_files(
    names: Any,
    labels: Any,
    classes: int,
    processor: Any,
    shape: tuple[int, int, int],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(hugging_face, "TransformersNetwork", Described)
    config = {"architectures": ["ViTForImageClassification"], "model_type": "vit", "image_size": 48}
    if names is not None:
        config["id2label"] = names
    if processor is not None:
        (tmp_path / "preprocessor_config.json").write_text(json.dumps(processor), encoding="utf-8")
    model = hugging_face._of_transformers(config, tmp_path)
    assert (model.labels, model.module.num_classes) == (labels, classes)
    assert model.input_shape == shape
    assert len(model.notes) == (processor is None)


@pytest.mark.parametrize("names", [{"1": "a", "2": "b"}, {"0": "a", "2": "b"}, {"a": "0"}])
def test_classes_that_are_not_numbered_from_0_are_refused(
    names: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Which output is which class is not known then."""
    monkeypatch.setattr(hugging_face, "TransformersNetwork", Described)
    config = {"architectures": ["ViTForImageClassification"], "model_type": "vit"}
    text = json.dumps({**config, "id2label": names})
    (tmp_path / "config.json").write_text(text, encoding="utf-8")
    save_file({"w": torch.zeros(1)}, tmp_path / "model.safetensors")
    said = r"config\.json: id2label does not number the classes from 0$"
    with pytest.raises(NetworkError, match=said):
        load_network(f"hf:{tmp_path}")


@pytest.mark.parametrize("changes", [{"do_pad": True}, {"size": {"longest_edge": 4}}])
def test_what_is_done_to_images_and_not_known_is_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="is not known"):
        preprocessing_of({**PROCESSOR, **changes})


@pytest.mark.parametrize("kind", ["timm_wrapper", "bert"])
def test_only_image_classifiers_that_load_nothing_are_built(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The wrapper of timm takes its network by a name, which may be a place to load it from."""
    auto = ModuleType("transformers.models.auto.modeling_auto")
    known = {"vit": "ViT", "timm_wrapper": "TimmWrapper"}
    vars(auto)["MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING_NAMES"] = known
    package = ModuleType("transformers")
    vars(package).update(CONFIG_MAPPING={}, AutoModelForImageClassification=None)
    # Whether transformers is installed or not: nothing of it may be asked.
    monkeypatch.setitem(sys.modules, "transformers", package)
    monkeypatch.setitem(sys.modules, auto.__name__, auto)
    monkeypatch.setattr(transformers_network, "require", lambda *_: None)
    with pytest.raises(SavedModelError, match=f"transformers has no image classifier '{kind}'"):
        TransformersNetwork(json.dumps({"model_type": kind}), num_classes=2)
