"""Rules of other libraries' networks: whose tag counts, which names and sizes are taken."""

from __future__ import annotations

import json
import sys
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from torchlift.converters.saved import SavedModel
from torchlift.transfer.errors import NetworkError
from torchlift.transfer.libraries import (
    hugging_face,
    published,
    timm_models,
    torchvision_models,
)
from torchlift.transfer.libraries.checkpoint import fill_from_state, read_state
from torchlift.transfer.libraries.image_processor import preprocessing_of
from torchlift.transfer.network_by_name import load_network


@pytest.mark.parametrize(("missing", "fits"), [(1, True), (2, False), (3, False)])
def test_weights_that_lack_half_of_a_network_do_not_fit(missing: int, fits: bool) -> None:
    network = nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 2))
    state = {f"{name}": torch.ones_like(value) for name, value in network.state_dict().items()}
    given = dict(list(state.items())[missing:])
    model = SavedModel(network, "logits")
    if fits:
        fill_from_state(model, network, given, "a.pth")
        assert model.notes == ["a.pth: 3 tensors are loaded; not in it, so random: 0.weight"]
    else:
        before = network[2].weight.detach().clone()
        with pytest.raises(NetworkError, match=r"a\.pth does not fit the network"):
            fill_from_state(model, network, given, "a.pth")
        assert torch.equal(network[2].weight, before)


def test_a_tensor_of_another_shape_is_not_taken_though_it_has_as_many_numbers() -> None:
    network = nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 2))
    state = {name: torch.ones_like(value) for name, value in network.state_dict().items()}
    state["0.weight"] = state["0.weight"].T.contiguous()
    before = network[0].weight.detach().clone()
    model = SavedModel(network, "logits")
    fill_from_state(model, network, state, "a.pth")
    assert torch.equal(network[0].weight, before)
    said = "not in it, so random: 0.weight; not used of it: 0.weight"
    assert model.notes == [f"a.pth: 3 tensors are loaded; {said}"]


@pytest.mark.parametrize(
    ("edge", "part", "resized"), [(30, 0.8, 37), (28, 0.875, 32), (224, 0.95, 235)]
)
def test_the_larger_image_of_convnext_is_rounded_down(edge: int, part: float, resized: int) -> None:
    """As transformers does it: int(30 / 0.8) is 37."""
    found = preprocessing_of({"size": {"shortest_edge": edge}, "crop_pct": part})
    assert (found.size, found.crop) == (resized, (edge, edge))


class Described(nn.Module):
    """A stand-in for the network that transformers would build."""

    def __init__(self, config: str, num_classes: int) -> None:
        super().__init__()
        self.num_classes = num_classes


@pytest.mark.parametrize("names", [{"1": "ant", "2": "bee"}, {"0": "ant", "2": "bee"}])
def test_classes_are_numbered_from_0_without_gaps(
    names: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hugging_face, "TransformersNetwork", Described)
    config = {"architectures": ["ViTForImageClassification"], "model_type": "vit"}
    with pytest.raises(ValueError, match="id2label does not number the classes from 0"):
        hugging_face._of_transformers({**config, "id2label": names}, tmp_path)


@pytest.mark.parametrize(("count", "named"), [(2, False), (3, True), (4, False)])
def test_names_are_taken_if_there_is_one_for_each_output(count: int, named: bool) -> None:
    module: Any = SimpleNamespace(num_classes=3)
    names = ["ant", "bee", "cow", "dog"][:count]
    assert hugging_face._labels(names, module) == (names if named else None)
    assert hugging_face._labels(None, module) is None


class HubError(Exception):
    """Stands for the exceptions of huggingface_hub."""


@pytest.mark.parametrize("problem", ["", "entry", "network"])
def test_a_file_that_a_repository_lacks_is_none_and_a_fault_a_sentence(
    problem: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub, errors = ModuleType("huggingface_hub"), ModuleType("huggingface_hub.errors")
    entry = type("EntryNotFoundError", (HubError,), {})
    asked: list[tuple[str, str]] = []

    def download(repository: str, name: str) -> str:
        asked.append((repository, name))
        if problem == "entry":
            raise entry("404")
        if problem == "network":
            raise OSError("no network\nat all")
        return str(tmp_path / name)

    vars(hub).update(hf_hub_download=download, try_to_load_from_cache=lambda *_: None)
    vars(errors).update(EntryNotFoundError=entry, HfHubHTTPError=type("Other", (HubError,), {}))
    hub.__spec__ = ModuleSpec("huggingface_hub", None)
    monkeypatch.setitem(sys.modules, "huggingface_hub", hub)
    monkeypatch.setitem(sys.modules, "huggingface_hub.errors", errors)
    monkeypatch.setattr(published, "require", lambda *_: None)
    # Nothing is fetched that nobody asked for.
    assert published.hub_file("a/b", "w.bin", False) is None
    assert asked == []
    if problem == "network":
        with pytest.raises(
            NetworkError, match=r"hf:a/b cannot be fetched: (OSError: )?no network$"
        ):
            published.hub_file("a/b", "w.bin", True)
    else:
        expected = None if problem else tmp_path / "w.bin"
        assert published.hub_file("a/b", "w.bin", True) == expected
    assert asked == [("a/b", "w.bin")]


@pytest.mark.parametrize(
    ("name", "tag", "asked"),
    [
        ("net", "", "net"),
        ("net.a1", "", "net.a1"),
        ("net", "b2", "net.b2"),
        ("net.a1", "b2", "net.b2"),
    ],
)
def test_the_tag_of_the_weights_counts_before_that_of_the_name(
    name: str, tag: str, asked: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[str] = []
    models = ModuleType("timm.models")

    def config(full: str) -> Any:
        seen.append(full)
        return SimpleNamespace(to_dict=lambda remove_null: {"url": "u"})

    vars(models).update(get_pretrained_cfg=config, list_pretrained=lambda pattern: [])
    monkeypatch.setitem(sys.modules, "timm", ModuleType("timm"))
    monkeypatch.setitem(sys.modules, "timm.models", models)
    monkeypatch.setattr(timm_models, "timm_architectures", lambda: ["net"])
    settings = timm_models._published(name, tag)
    assert seen == [asked]
    assert (settings["architecture"], settings["url"]) == ("net", "u")


@pytest.mark.parametrize(
    ("weights", "transforms"), [(None, False), ("DEFAULT", True), ("own.pth", True)]
)
def test_only_trained_networks_of_google_transform_their_inputs(
    weights: str | None, transforms: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Published weights of GoogLeNet and Inception are of inputs in another scale."""
    made: list[tuple[str, int, bool]] = []

    def network(name: str, classes: int, transform_input: bool) -> nn.Module:
        made.append((name, classes, transform_input))
        return nn.Identity()

    monkeypatch.setattr(torchvision_models, "TorchvisionNetwork", network)
    torchvision_models.torchvision_classifier("googlenet", 5, weights)
    assert made == [("googlenet", 5, transforms)]


def written(folder: Path, **config: Any) -> Path:
    """Write what the Hub keeps of a network."""
    folder.mkdir(exist_ok=True)
    config = {"architectures": ["ViTForImageClassification"], "model_type": "vit", **config}
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    save_file({"w": torch.zeros(1)}, folder / "model.safetensors")
    return folder


def test_a_folder_without_a_description_is_no_network(tmp_path: Path) -> None:
    """What is wrong with a description, and with its weights, is said of each."""
    written(tmp_path)
    (tmp_path / "config.json").unlink()
    with pytest.raises(NetworkError, match=r"there is no config\.json, which describes a network"):
        load_network(f"hf:{tmp_path}")
    (tmp_path / "config.json").write_text("{}", encoding="utf-8")
    with pytest.raises(NetworkError, match="neither that of a saved model nor of timm"):
        load_network(f"hf:{tmp_path}")


@pytest.mark.parametrize("index", ["{", "[]", '{"weight_map": {"w": "absent.safetensors"}}'])
def test_a_damaged_list_of_weights_is_named(index: str, tmp_path: Path) -> None:
    written(tmp_path)
    (tmp_path / "model.safetensors").unlink()
    file = tmp_path / "model.safetensors.index.json"
    file.write_text(index, encoding="utf-8")
    said = r"index\.json: there is no .*absent" if "absent" in index else r"index\.json: damaged: "
    with pytest.raises(NetworkError, match=said):
        load_network(f"hf:{tmp_path}")


@pytest.mark.parametrize(
    ("classes", "fits"),
    [
        (["ViTForImageClassification"], True),
        (["ViTModel", "ViTForImageClassification"], True),
        (["DeiTForImageClassificationWithTeacher"], False),
        (["BertForSequenceClassification", "BertModel"], False),
    ],
)
def test_only_classifiers_of_images_with_one_head_are_opened(
    classes: list[str], fits: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hugging_face, "TransformersNetwork", Described)
    config = {"architectures": classes, "model_type": "vit"}
    if fits:
        assert hugging_face._of_transformers(config, tmp_path).module.num_classes == 2
        return
    with pytest.raises(NetworkError) as error:
        load_network(f"hf:{written(tmp_path / 'm', architectures=classes)}")
    said = "config.json: it is of no image classifier with one head: " + ", ".join(classes)
    assert str(error.value).endswith(said)


@pytest.mark.parametrize(
    ("changes", "known"),
    [({}, True), ({"do_pad": True}, False), ({"image_std": [0.5, 0.0, 0.5]}, False)],
)
def test_a_preprocessing_that_is_not_known_is_asked_for(
    changes: dict[str, Any], known: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The network is opened all the same, with the size that its description has."""
    monkeypatch.setattr(hugging_face, "TransformersNetwork", Described)
    config = {"architectures": ["ViTForImageClassification"], "model_type": "vit", "image_size": 48}
    images = {"size": 32, "image_mean": [0.5] * 3, "image_std": [0.5] * 3, **changes}
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(images), encoding="utf-8")
    model = hugging_face._of_transformers(config, tmp_path)
    if known:
        assert (model.notes, model.input_shape) == ([], (3, 32, 32))
        assert model.preprocessing is not None
    else:
        (note,) = model.notes
        assert note.startswith("preprocessor_config.json: ")
        assert note.endswith(": give mean=… and std=…")
        assert (model.preprocessing, model.input_shape) == (None, (3, 48, 48))


@pytest.mark.parametrize("library", ["transformers", "timm"])
def test_weights_of_an_older_transformers_have_their_current_names(
    library: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Timm's are taken as they are."""

    class Network(nn.Module):
        num_classes = 2

        def __init__(self) -> None:
            super().__init__()
            self.network = nn.Linear(3, 2)

    class OfTransformers(Network):
        pass

    def renamed(module: nn.Module, state: dict[str, Any]) -> dict[str, Any]:
        assert isinstance(module, OfTransformers)
        return {name.replace("gamma", "weight"): value for name, value in state.items()}

    monkeypatch.setattr(hugging_face, "TransformersNetwork", OfTransformers)
    monkeypatch.setattr(hugging_face, "with_current_names", renamed)
    monkeypatch.setattr(
        hugging_face, "_of_transformers", lambda *_: SavedModel(OfTransformers(), "logits")
    )
    monkeypatch.setattr(hugging_face, "_of_timm", lambda *_: SavedModel(Network(), "logits"))
    written(tmp_path, **({"architecture": "net"} if library == "timm" else {}))
    weight = "gamma" if library == "transformers" else "weight"
    state = {weight: torch.ones(2, 3), "bias": torch.ones(2)}
    save_file(state, tmp_path / "model.safetensors")
    model = load_network(f"hf:{tmp_path}")
    assert torch.equal(model.module.get_parameter("network.weight"), torch.ones(2, 3))
    assert model.notes == []


def test_an_archive_that_is_damaged_within_is_one_sentence(tmp_path: Path) -> None:
    """Torch raises whatever the damaged part leads to."""
    file = tmp_path / "w.pth"
    torch.save({"w": torch.ones(3)}, file)
    state, _ = read_state(file)
    assert torch.equal(state["w"], torch.ones(3))
    content = file.read_bytes()
    assert content.count(b"little") == 1
    file.write_bytes(content.replace(b"little", b"middle"))
    with pytest.raises(NetworkError, match=r"w\.pth: cannot be read: .*middle") as error:
        read_state(file)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "names", [("model.safetensors", "pytorch_model.bin"), ("pytorch_model.bin",)]
)
def test_weights_are_read_from_the_first_file_that_is_there(
    names: tuple[str, ...], tmp_path: Path
) -> None:
    for name in names:
        if name.endswith(".bin"):
            torch.save({"w": torch.full((1,), 2.0)}, tmp_path / name)
        else:
            save_file({"w": torch.ones(1)}, tmp_path / name)
    # An index is for those that have neither.
    (tmp_path / "model.safetensors.index.json").write_text("damaged", encoding="utf-8")
    state = hugging_face._read_weights(tmp_path)
    assert state["w"].item() == (1 if len(names) == 2 else 2)


def test_a_network_of_torchvision_is_at_rest_with_the_numbers_of_its_weights() -> None:
    from torchvision.models import MobileNet_V3_Large_Weights

    weights = MobileNet_V3_Large_Weights.IMAGENET1K_V1
    model = torchvision_models.torchvision_classifier("mobilenet_v3_large", 7, "IMAGENET1K_V1")
    assert not any(layer.training for layer in model.module.modules())
    transforms, found = weights.transforms(), model.preprocessing
    assert found is not None
    assert (list(found.mean), list(found.std)) == (transforms.mean, transforms.std)
    assert (found.resize, found.size, found.crop) == ("pil-bilinear", 256, (224, 224))
    assert (found.color, found.value_range) == ("RGB", 1)
    assert (model.input_shape, model.output_kind) == ((3, 224, 224), "logits")
    with torch.no_grad():
        assert model.module(torch.zeros(1, 3, 64, 64)).shape == (1, 7)


def test_a_network_of_another_library_is_at_rest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Network(nn.Module):
        num_classes = 2

        def __init__(self) -> None:
            super().__init__()
            self.network = nn.Linear(1, 1, bias=False)

    monkeypatch.setattr(hugging_face, "_of_timm", lambda *_: SavedModel(Network(), "logits"))
    written(tmp_path, architecture="net")
    save_file({"weight": torch.ones(1, 1)}, tmp_path / "model.safetensors")
    model = load_network(f"hf:{tmp_path}")
    assert not any(layer.training for layer in model.module.modules())
