"""Networks of other libraries as one layer: what their constructors get, and what is refused.

Stand-ins take the place of timm and transformers, so that nothing depends on them.
"""

from __future__ import annotations

import json
import sys
from importlib.machinery import ModuleSpec
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

from torchlift.converters.saved import (
    SavedModelError,
    TimmNetwork,
    TorchvisionNetwork,
    TransformersNetwork,
    transformers_network,
)
from torchlift.converters.saved.timm_network import LARGEST_IMAGE, MOST_CLASSES
from torchlift.converters.saved.torchvision_network import classifier_names
from torchlift.converters.saved.transformers_network import stored_config, with_current_names


class Small(nn.Module):
    """A stand-in for a network of timm."""

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.head = nn.Linear(1, num_classes)
        self.behind = nn.Linear(1, 9)

    def get_classifier(self) -> nn.Module:
        return self.head


@pytest.fixture
def built(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """What a stand-in for timm was asked to build."""
    asked: list[dict[str, Any]] = []
    timm = ModuleType("timm")

    def create_model(name: str, **options: Any) -> nn.Module:
        asked.append({"name": name, **options})
        if name == "broken":
            raise TypeError("no such argument")
        return Small(options["num_classes"])

    vars(timm).update(create_model=create_model, list_models=lambda: ["small", "broken"])
    timm.__spec__ = ModuleSpec("timm", None)
    monkeypatch.setitem(sys.modules, "timm", timm)
    return asked


def test_timm_builds_a_network_without_weights_for_so_many_classes(built: list[Any]) -> None:
    with torch.device("meta"):
        network = TimmNetwork("small", 7, img_size=96)
        TimmNetwork("small")
    assert (network.name, network.img_size, network.num_classes) == ("small", 96, 7)
    assert built == [
        {"name": "small", "pretrained": False, "num_classes": 7, "img_size": 96},
        {"name": "small", "pretrained": False, "num_classes": 1000},
    ]


@pytest.mark.parametrize(
    ("name", "classes", "size", "problem"),
    [
        ("small", 1, 1, ""),
        ("small", MOST_CLASSES, LARGEST_IMAGE, ""),
        ("small", 0, None, "^0 classes: 1 to 100,000 were expected"),
        ("small", 100_001, None, "^100001 classes: 1 to 100,000 were expected"),
        ("small", 2, 0, "^img_size=0: 1 to 4096 were expected"),
        ("small", 2, 4097, "^img_size=4097: 1 to 4096 were expected"),
        ("large", 2, None, "^timm has no architecture 'large'"),
        ("broken", 2, None, "^timm cannot build broken: no such argument"),
    ],
)
def test_sizes_beyond_those_of_any_network_of_timm_are_refused(
    name: str, classes: int, size: int | None, problem: str, built: list[Any]
) -> None:
    with torch.device("meta"):
        if not problem:
            assert TimmNetwork(name, classes, size).num_classes == classes
            return
        with pytest.raises(SavedModelError, match=problem):
            TimmNetwork(name, classes, size)
    assert len(built) == (name == "broken")


def test_torchvision_builds_classifiers_alone() -> None:
    names = classifier_names()
    assert {"resnet18", "vit_b_16", "googlenet"} <= set(names)
    assert not [name for name in names if "rcnn" in name or "deeplab" in name or "r3d" in name]
    for name in ("fasterrcnn_resnet50_fpn", "resnet19"):
        with pytest.raises(SavedModelError, match=f"torchvision has no classifier '{name}'"):
            TorchvisionNetwork(name)


@pytest.mark.parametrize("transform", [False, True])
def test_googlenet_has_no_second_classifier_and_the_inputs_that_are_told(transform: bool) -> None:
    with torch.device("meta"):
        network = TorchvisionNetwork("googlenet", 3, transform_input=transform)
    inner: Any = network.network
    assert (inner.aux_logits, inner.transform_input) == (False, transform)
    assert inner.aux1 is None
    assert (network.name, network.transform_input, network.num_classes) == (
        *("googlenet", transform, 3),
    )


def test_a_regnet_is_built_where_nothing_has_a_value() -> None:
    with torch.device("meta"):
        network = TorchvisionNetwork("regnet_y_400mf", 3)
    assert all(parameter.is_meta for parameter in network.parameters())
    assert network.num_classes == 3


def test_the_head_of_a_squeezenet_begins_above_zero() -> None:
    """A ReLU follows it: a class below zero for all images has no gradient."""
    network: Any = TorchvisionNetwork("squeezenet1_1", 4)
    assert network.network.classifier[1].bias.tolist() == [1] * 4


def test_an_mnasnet_takes_tensors_without_a_version() -> None:
    network = TorchvisionNetwork("mnasnet0_5", 3)
    state = {name: torch.ones_like(value) for name, value in network.state_dict().items()}
    assert not hasattr(state, "_metadata")
    network.load_state_dict(state)
    assert all(bool((value == 1).all()) for value in network.parameters())


CONFIG = {"model_type": "vit", "hidden_size": 8}


def test_what_does_not_describe_a_network_is_left_out_of_its_config() -> None:
    left_out = dict.fromkeys(
        (
            *("_name_or_path", "architectures", "auto_map", "dtype", "torch_dtype", "id2label"),
            *("label2id", "num_labels", "quantization_config", "transformers_version"),
        ),
        "x",
    )
    nothing = {"use_pretrained_backbone": False, "backbone_config": None}
    text = stored_config({**left_out, **CONFIG, **nothing})
    assert json.loads(text) == CONFIG | nothing
    assert text == json.dumps(CONFIG | nothing, sort_keys=True)
    for name in left_out:
        with pytest.raises(SavedModelError, match=f"has {name}, which would load something"):
            TransformersNetwork(json.dumps(CONFIG | {name: "x"}), 2)
    for name in ("use_pretrained_backbone", "backbone_config", "pretrained_path"):
        with pytest.raises(SavedModelError, match=f"has {name}, which would load something"):
            stored_config(CONFIG | {name: "x"})
    for other in ({"hidden_size": 8}, {"model_type": 5}):
        with pytest.raises(SavedModelError, match="has no model_type: it is not of transformers"):
            stored_config(other)


class Described:
    """A stand-in for a configuration of transformers."""

    def __init__(self, **settings: Any) -> None:
        self.settings = settings


class Classifier(nn.Module):
    """A stand-in for a classifier of transformers, in half precision as some files are."""

    def __init__(self, config: Described) -> None:
        super().__init__()
        self.config = config
        self.body = nn.Linear(12, 4).half()
        self.classifier = nn.Linear(4, config.settings["num_labels"])

    def forward(self, pixel_values: torch.Tensor, return_dict: bool) -> Any:
        assert return_dict
        return SimpleNamespace(logits=self.classifier(self.body(pixel_values.flatten(1))))


@pytest.fixture
def transformers(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """A stand-in for transformers; returns with which trust classifiers were built."""
    trusted: list[Any] = []

    def from_config(config: Described, trust_remote_code: bool) -> nn.Module:
        trusted.append(trust_remote_code)
        if "broken" in config.settings:
            raise RuntimeError("no such size")
        return Classifier(config)

    auto = ModuleType("transformers.models.auto.modeling_auto")
    vars(auto)["MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING_NAMES"] = {"vit": "ViT"}
    package = ModuleType("transformers")
    factory = SimpleNamespace(from_config=from_config)
    vars(package).update(CONFIG_MAPPING={"vit": Described}, AutoModelForImageClassification=factory)
    monkeypatch.setitem(sys.modules, "transformers", package)
    monkeypatch.setitem(sys.modules, auto.__name__, auto)
    monkeypatch.setattr(transformers_network, "require", lambda *_: None)
    return trusted


def test_a_classifier_of_transformers_gives_logits_in_single_precision(
    transformers: list[Any],
) -> None:
    text = json.dumps(CONFIG)
    network = TransformersNetwork(text, 3)
    inner: Any = network.network
    assert inner.config.settings == {"hidden_size": 8, "num_labels": 3}
    assert transformers == [False]
    assert {value.dtype for value in network.parameters()} == {torch.float32}
    assert (network.config, network.num_classes) == (text, 3)
    assert network.classifier is inner.classifier
    assert network(torch.ones(2, 3, 2, 2)).shape == (2, 3)
    with pytest.raises(SavedModelError, match="transformers cannot build this vit: no such size"):
        TransformersNetwork(json.dumps(CONFIG | {"broken": True}), 3)
    del inner.classifier
    assert network.classifier is inner


def test_weights_of_old_names_are_taken_and_random_ones_are_not(
    transformers: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    network = TransformersNetwork(json.dumps(CONFIG), 3)
    given = {
        "old.weight": torch.ones(4, 12),
        "classifier.bias": torch.ones(5),
        "other": torch.ones(1),
    }
    levels: list[Any] = [30]
    logging = ModuleType("transformers.utils.logging")
    vars(logging).update(
        get_verbosity=lambda: levels[-1],
        set_verbosity=levels.append,
        set_verbosity_error=lambda: levels.append(40),
        disable_progress_bar=lambda: levels.append("off"),
        enable_progress_bar=lambda: levels.append("on"),
    )
    utils = ModuleType("transformers.utils")
    vars(utils)["logging"] = logging
    monkeypatch.setitem(sys.modules, "transformers.utils", utils)

    def from_pretrained(place: None, **options: Any) -> Any:
        assert place is None
        assert options["config"] is network.network.config
        assert options["state_dict"] == given
        if len(levels) > 10:
            raise KeyError("nothing fits")
        loaded = Classifier(options["config"])
        nn.init.ones_(loaded.body.weight)
        found = {
            "mismatched_keys": [("classifier.bias", (5,), (3,))],
            "missing_keys": {"classifier.weight", "body.bias"},
            "unexpected_keys": ["other", "elsewhere"],
        }
        return loaded, found

    monkeypatch.setattr(Classifier, "from_pretrained", from_pretrained, raising=False)
    found = with_current_names(network, given)
    assert found.keys() == {"body.weight", "other"}
    assert found["other"] is given["other"]
    assert (found["body.weight"] == 1).all()
    # transformers says what it always says afterwards.
    assert levels == [30, 40, "off", 30, "on"]
    levels += [30] * 10
    with pytest.raises(SavedModelError, match="transformers does not take the weights: "):
        with_current_names(network, given)
    assert levels[-2:] == [30, "on"]
