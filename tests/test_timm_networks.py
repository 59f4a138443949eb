"""`timm:NAME` and `hf:FOLDER` of timm: by name, with somebody's weights, saved and opened again.

A package of two small networks stands in for timm, so that nothing depends on it being installed;
tests/test_timm_families.py takes its own.
"""

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

from torchlift.cli.main import main
from torchlift.converters.saved import SavedModel, SavedModelError, TimmNetwork, load, save
from torchlift.transfer.errors import NetworkError
from torchlift.transfer.heads import find_head, replace_head
from torchlift.transfer.libraries.timm_models import described_by_timm
from torchlift.transfer.network_by_name import load_network, new_network

CFG = {
    "num_classes": 6,
    "input_size": (3, 16, 16),
    "crop_pct": 0.8,
    "interpolation": "bicubic",
    "mean": (0.5, 0.5, 0.5),
    "std": (0.25, 0.25, 0.25),
    "hf_hub_id": "timm/small.a1",
}


class Small(nn.Module):
    """Its head is not its last layer, and a buffer is not saved."""

    def __init__(self, num_classes: int, heads: int = 1) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 4, 3)
        self.fc = nn.Linear(4, num_classes)
        self.unused = nn.Linear(2, 2)
        self.heads = heads
        self.register_buffer("scale", torch.full((4,), 3.0), persistent=False)

    def get_classifier(self) -> Any:
        return self.fc if self.heads == 1 else (self.fc, self.unused)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.fc(self.conv1(x).mean((2, 3)) * self.scale)
        return logits


@pytest.fixture(autouse=True)
def created(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the networks that were built by the package in place of timm."""
    names: list[str] = []
    timm, models = ModuleType("timm"), ModuleType("timm.models")

    def create_model(name: str, pretrained: bool, num_classes: int) -> nn.Module:
        assert not pretrained
        names.append(name)
        return Small(num_classes, 2 if name == "distilled" else 1)

    def get_pretrained_cfg(name: str) -> Any:
        if name.partition(".")[2] not in ("", "a1"):
            raise RuntimeError("Invalid pretrained tag")
        return SimpleNamespace(to_dict=lambda remove_null: dict(CFG))

    for attribute, value in {
        "list_models": lambda: ["small", "distilled"],
        "create_model": create_model,
        "models": models,
    }.items():
        setattr(timm, attribute, value)
    models.get_pretrained_cfg = get_pretrained_cfg  # type: ignore[attr-defined]  # a module of a test
    models.list_pretrained = lambda pattern: ["small.a1"]  # type: ignore[attr-defined]
    timm.__spec__ = ModuleSpec("timm", None)
    monkeypatch.setitem(sys.modules, "timm", timm)
    monkeypatch.setitem(sys.modules, "timm.models", models)
    return names


def six_classes(folder: Path) -> Small:
    """Write weights with six classes and names with a prefix, and return their network."""
    torch.manual_seed(7)
    network = Small(6).eval()
    state = {f"module.{name}": tensor for name, tensor in network.state_dict().items()}
    torch.save({"state_dict_ema": state, "epoch": 3}, folder / "ema.pth.tar")
    return network


def test_a_network_by_name_takes_weights_a_head_and_is_saved(tmp_path: Path) -> None:
    network = six_classes(tmp_path)
    model = load_network("timm:small.a1", str(tmp_path / "ema.pth.tar"))
    inputs = torch.rand(2, 3, 16, 16)
    with torch.no_grad():
        assert torch.equal(model.module(inputs), network(inputs))
    assert any("the averaged weights are taken (state_dict_ema)" in note for note in model.notes)
    assert model.preprocessing is not None
    assert (model.preprocessing.size, model.preprocessing.crop) == (20, (16, 16))
    assert (model.preprocessing.mean, model.preprocessing.resize) == ((0.5,) * 3, "pil-bicubic")

    assert find_head(model.module) == "network.fc"
    replace_head(model.module, 2, output_kind="logits")
    nn.init.normal_(model.module.get_submodule("network.fc").weight)
    before = torch.get_rng_state()
    opened = load(save(model, tmp_path / "model"))
    assert torch.equal(torch.get_rng_state(), before)
    assert isinstance(opened.module, TimmNetwork)
    assert (opened.module.name, opened.module.num_classes) == ("small", 2)
    assert torch.equal(opened.module(inputs), model.module(inputs))
    # The standalone source does the same.
    source: dict[str, Any] = {"__file__": str(tmp_path / "model" / "model.py"), "__name__": "m"}
    exec((tmp_path / "model" / "model.py").read_text(encoding="utf-8"), source)
    assert torch.equal(source["load"](tmp_path / "model")(inputs), model.module(inputs))


def test_random_weights_are_noted_and_the_same_each_time() -> None:
    first = load_network("timm:small")
    # Whatever was drawn before; and nothing is drawn from the generator of the program.
    torch.manual_seed(5)
    drawn = torch.rand(3)
    torch.manual_seed(5)
    second = load_network("timm:small")
    assert torch.equal(torch.rand(3), drawn)
    assert "no weights were given: they are random" in first.notes
    for one, other in zip(first.module.parameters(), second.module.parameters(), strict=True):
        assert torch.equal(one, other)
    assert new_network("timm:small", 3, 5)(torch.rand(2, 3, 16, 16)).shape == (2, 5)


@pytest.mark.parametrize(
    ("source", "weights", "message"),
    [
        ("timm:smal", None, "timm has no network 'smal'; similar names: small"),
        ("timm:hf-hub:somebody/net", None, "timm has no network"),
        ("timm:small", "b2", "weights='b2' is no file, and timm publishes a1 of small"),
        ("timm:small", "none.pth", "weights='none.pth' is no file, and timm publishes a1"),
    ],
)
def test_names_that_do_not_exist_are_refused(
    source: str, weights: str | None, message: str, created: list[str]
) -> None:
    with pytest.raises(NetworkError, match=message):
        load_network(source, weights)
    assert set(created) <= {"small"}


def test_published_weights_are_not_fetched_unasked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr("huggingface_hub.try_to_load_from_cache", lambda *_: None)
    assert main(["export", "timm:small", "--weights", "a1", str(tmp_path / "x.onnx")]) == 1
    assert "timm/small.a1 is not in the cache of the Hugging Face Hub: --download fetches it" in (
        capsys.readouterr().err
    )
    network = six_classes(tmp_path)
    save_file(network.state_dict(), tmp_path / "cached.safetensors")
    found = str(tmp_path / "cached.safetensors")
    monkeypatch.setattr("huggingface_hub.try_to_load_from_cache", lambda *_: found)
    model = load_network("timm:small", "a1")
    inputs = torch.rand(2, 3, 16, 16)
    with torch.no_grad():
        assert torch.equal(model.module(inputs), network(inputs))


def test_a_network_with_two_heads_is_refused_when_its_head_is_wanted() -> None:
    model = load_network("timm:distilled")
    with pytest.raises(SavedModelError, match="two heads"):
        replace_head(model.module, 2, output_kind="logits")


@pytest.mark.parametrize("name", ["hf-hub:somebody/network", "local-dir:/tmp/x", "none"])
def test_a_saved_model_names_architectures_only(
    name: str, tmp_path: Path, created: list[str]
) -> None:
    """What timm would load from elsewhere is no name of an architecture."""
    folder = save(SavedModel(TimmNetwork("small", 2), "logits"), tmp_path / "model")
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    config["structure"]["arguments"]["name"] = name
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    created.clear()
    with pytest.raises(SavedModelError, match="timm has no architecture"):
        load(folder)
    assert created == []


def hub_folder(folder: Path, **changes: Any) -> Small:
    """Write the folder that timm pushes to the Hub, and return its network."""
    folder.mkdir()
    network = six_classes(folder)
    save_file(network.state_dict(), folder / "model.safetensors")
    images = {name: CFG[name] for name in ("input_size", "crop_pct", "mean", "std")}
    names = ["ant", "bee", "cow", "dog", "eel", "fox"]
    config = {
        "architecture": "small",
        "num_classes": 6,
        "pretrained_cfg": images,
        "label_names": names,
        **changes,
    }
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    return network


def test_a_folder_of_timm_is_opened_with_its_classes(tmp_path: Path) -> None:
    network = hub_folder(tmp_path / "hub")
    model = load_network(f"hf:{tmp_path / 'hub'}")
    inputs = torch.rand(2, 3, 16, 16)
    with torch.no_grad():
        assert torch.equal(model.module(inputs), network(inputs))
    assert model.labels == ["ant", "bee", "cow", "dog", "eel", "fox"]
    assert model.preprocessing is not None
    assert model.preprocessing.size == 20
    # Weights of the Hub are float32 as they are: `--dtype` is for a `.t7`.
    plain = load_network(f"hf:{tmp_path / 'hub'}", dtype=None)
    assert {value.dtype for value in plain.module.parameters()} == {torch.float32}


def test_weights_in_several_files_are_read_as_their_index_says(tmp_path: Path) -> None:
    """Each is a file of the folder: a name that leads elsewhere is none."""
    folder = tmp_path / "hub"
    network = hub_folder(folder)
    (folder / "model.safetensors").rename(tmp_path / "whole.safetensors")
    state = network.state_dict()
    index = {name: f"model-{number % 2}.safetensors" for number, name in enumerate(sorted(state))}
    for file in set(index.values()):
        part = {name: state[name] for name in state if index[name] == file}
        save_file(part, folder / file)
    listed = folder / "model.safetensors.index.json"
    listed.write_text(json.dumps({"weight_map": index}), encoding="utf-8")
    inputs = torch.rand(2, 3, 16, 16)
    model = load_network(f"hf:{folder}")
    with torch.no_grad():
        assert torch.equal(model.module(inputs), network(inputs))
    assert model.notes == []
    for content, message in (
        ({"weight_map": {**index, "fc.bias": "../whole.safetensors"}}, "there is no .*whole"),
        ({"weight_map": {"x": str(tmp_path / "whole.safetensors")}}, "there is no .*whole"),
        ({"weight_map": {**index, "fc.bias": "model-9.safetensors"}}, "there is no .*model-9"),
        ({"weight_map": ["model-0.safetensors"]}, "weight_map"),
        ({}, "weight_map"),
    ):
        listed.write_text(json.dumps(content), encoding="utf-8")
        with pytest.raises(NetworkError, match=rf"index\.json: .*{message}"):
            load_network(f"hf:{folder}")


@pytest.mark.parametrize(
    ("changes", "size", "crop"),
    [
        # timm rounds down: 14 / 0.8 is 17.5.
        ({"input_size": (3, 14, 14)}, 17, (14, 14)),
        ({"crop_pct": None}, 18, (16, 16)),
        ({"input_size": None}, 280, (224, 224)),
        ({"crop_mode": "squash"}, (20, 20), (16, 16)),
        ({"input_size": (3, 14, 16)}, (17, 20), (14, 16)),
    ],
)
def test_images_get_the_size_of_timms_own_transform(
    changes: dict[str, Any], size: Any, crop: tuple[int, int]
) -> None:
    model = described_by_timm(TimmNetwork("small", 2), {**CFG, **changes})
    assert model.preprocessing is not None
    assert (model.preprocessing.size, model.preprocessing.crop) == (size, crop)
    assert model.input_shape == (3, *crop)
    assert model.notes == []


def test_what_timm_does_otherwise_is_noted() -> None:
    border = described_by_timm(TimmNetwork("small", 2), {**CFG, "crop_mode": "border"})
    assert border.notes == [
        "timm pads images of another shape to a square; here they are stretched"
    ]
    lanczos, chance = (
        described_by_timm(TimmNetwork("small", 2), {**CFG, "interpolation": name}).preprocessing
        for name in ("lanczos", "random")
    )
    assert lanczos is not None
    assert chance is not None
    assert (lanczos.resize, chance.resize) == ("pil-lanczos", "pil-bicubic")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_classes": "6"}, "num_classes is '6'; a whole number"),
        ({"architecture": "none"}, "timm has no architecture 'none'"),
        ({"model_args": {"checkpoint_path": "/tmp/x"}}, "model_args has checkpoint_path"),
        ({"pretrained_cfg": {"mean": [1]}}, "no entry 'pretrained_cfg.input_size'"),
    ],
)
def test_a_damaged_folder_is_refused(
    changes: dict[str, Any], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    hub_folder(tmp_path / "hub", **changes)
    assert main(["export", f"hf:{tmp_path / 'hub'}", str(tmp_path / "x.onnx")]) == 1
    assert message in capsys.readouterr().err
    assert not (tmp_path / "x.onnx").exists()


def test_a_folder_of_another_library_is_one_network(tmp_path: Path) -> None:
    hub_folder(tmp_path / "hub")
    with pytest.raises(NetworkError, match=r"hub is a single network; leave out at='net'"):
        load_network(f"hf:{tmp_path / 'hub'}", at="net")


@pytest.mark.parametrize("weights", ["DEFAULT", "a1"])
def test_weights_that_timm_does_not_publish_are_not_fetched(
    weights: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    fetched = NetworkError("fetched")

    def refuse(url: str, download: bool) -> Path:
        asked.append(url)
        raise fetched

    monkeypatch.setattr("torchlift.transfer.libraries.timm_models.weights_at", refuse)
    monkeypatch.setitem(CFG, "hf_hub_id", None)
    for download in (False, True):
        with pytest.raises(NetworkError, match=r"^timm publishes no weights of small$"):
            load_network("timm:small", weights, download=download)
    assert asked == []
    monkeypatch.setitem(CFG, "url", "https://weights")
    with pytest.raises(NetworkError, match="fetched"):
        load_network("timm:small", weights)
    assert asked == ["https://weights"]


def test_a_folder_of_something_else_is_refused(tmp_path: Path) -> None:
    hub_folder(tmp_path / "hub")
    (tmp_path / "hub" / "model.safetensors").unlink()
    with pytest.raises(NetworkError, match=r"no model\.safetensors or pytorch"):
        load_network(f"hf:{tmp_path / 'hub'}")
    (tmp_path / "hub" / "config.json").write_text("{}", encoding="utf-8")
    with pytest.raises(NetworkError, match="neither that of a saved model nor of timm"):
        load_network(f"hf:{tmp_path / 'hub'}")
