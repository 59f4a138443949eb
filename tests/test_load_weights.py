"""`--weights`: the head has as many outputs as the weights, whatever the network was made with."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from torch import nn

from torchlift.cli.main import main
from torchlift.converters.saved import SavedModel, TorchvisionNetwork
from torchlift.transfer.errors import NetworkError
from torchlift.transfer.libraries.checkpoint import read_state
from torchlift.transfer.network_by_name import load_network, new_network

OWN_NETWORK = """
from torch import nn

def make():
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(4 * 6 * 6, 5))
"""


def seven_classes(tmp_path: Path) -> tuple[nn.Module, Path]:
    """Return a torchvision network of seven classes, and the file of its state dict."""
    torch.manual_seed(1)
    network = TorchvisionNetwork("resnet18", 7).network.eval()
    file = tmp_path / "seven.pth"
    torch.save(network.state_dict(), file)
    return network, file


@pytest.mark.parametrize("name", ["w.safetensors", "W.SAFETENSORS"])
def test_safetensors_are_known_by_their_suffix_in_any_letters(name: str, tmp_path: Path) -> None:
    weight = torch.arange(6.0).reshape(2, 3)
    save_file({"weight": weight}, tmp_path / name)
    state, _ = read_state(tmp_path / name)
    assert list(state) == ["weight"]
    assert torch.equal(state["weight"], weight)


@pytest.mark.parametrize(
    "key",
    [
        *("state_dict_ema", "model_ema", "ema_state_dict", "ema"),
        *("state_dict", "model_state_dict", "model", "network", "net", "module"),
    ],
)
def test_a_checkpoint_keeps_its_weights_under_a_usual_name(key: str, tmp_path: Path) -> None:
    torch.save({"epoch": 3, key: {"weight": torch.ones(2)}}, tmp_path / "c.pth")
    state, _ = read_state(tmp_path / "c.pth")
    assert {name: value.tolist() for name, value in state.items()} == {"weight": [1, 1]}


def test_a_torchvision_checkpoint_of_other_classes_computes_its_own_outputs(tmp_path: Path) -> None:
    network, file = seven_classes(tmp_path)
    model = load_network("torchvision:resnet18", str(file))
    inputs = torch.rand(2, 3, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(model.module(inputs), network(inputs), rtol=0, atol=0)
    assert any("7 outputs" in note and "not 1000" in note for note in model.notes)


def test_a_checkpoint_of_other_classes_is_fine_tuned(tmp_path: Path) -> None:
    _, file = seven_classes(tmp_path)
    random = np.random.default_rng(0)
    for name in ("cat", "dog"):
        (tmp_path / "images" / name).mkdir(parents=True)
        for index in range(4):
            pixels = random.integers(0, 256, (32, 32, 3), np.uint8)
            Image.fromarray(pixels).save(tmp_path / "images" / name / f"{index}.png")
    words = ["finetune", "torchvision:resnet18", str(tmp_path / "images"), "--weights", str(file)]
    words += ["--freeze", "conv1,layer1,layer4", "--epochs", "1", "--batch-size", "4"]
    words += ["--image-size", "32", "--input-size", "32", "--tracker", "none", "--workers", "0"]
    assert main([*words, "-o", str(tmp_path / "run")]) == 0
    assert (tmp_path / "run" / "model" / "config.json").is_file()


def test_a_network_of_ones_own_takes_weights_of_other_classes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "five_or_more.py").write_text(OWN_NETWORK, encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(4 * 6 * 6, 9))
    torch.save(network.state_dict(), tmp_path / "nine.pth")
    model = load_network("python:five_or_more:make", str(tmp_path / "nine.pth"))
    assert isinstance(model, SavedModel)
    assert model.module(torch.zeros(1, 3, 8, 8)).shape == (1, 9)
    # What differs in anything but the number of classes does not fit.
    other = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(4 * 5 * 5, 9))
    torch.save(other.state_dict(), tmp_path / "other.pth")
    with pytest.raises(NetworkError, match="does not fit the network"):
        load_network("python:five_or_more:make", str(tmp_path / "other.pth"))
    sys.modules.pop("five_or_more", None)


@pytest.mark.parametrize(
    ("key", "averaged"), [("state_dict", False), ("model", False), ("model_ema", True), ("", False)]
)
def test_only_averaged_weights_are_called_that(
    key: str, averaged: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "made_for_five.py").write_text(OWN_NETWORK, encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(4 * 6 * 6, 5))
    state = network.state_dict()
    torch.save({key: state} if key else state, tmp_path / "five.pth")
    notes = load_network("python:made_for_five:make", str(tmp_path / "five.pth")).notes
    said = [f"{tmp_path / 'five.pth'}: the averaged weights are taken ({key})"]
    assert notes == (said if averaged else [])
    sys.modules.pop("made_for_five", None)


def test_a_network_of_torchvision_is_trained_from_scratch_by_its_name() -> None:
    """With random weights, and as many outputs as the data has classes."""
    network = new_network("torchvision:squeezenet1_1", 3, 7).eval()
    assert network(torch.zeros(1, 3, 64, 64)).shape == (1, 7)
    with pytest.raises(NetworkError, match="no network 'squeezenet1_1'"):
        new_network("squeezenet1_1", 3, 7)


@pytest.mark.parametrize(("parameters", "fits"), [("c, n", True), ("c, n, k=1", True),
                                                  ("c", False), ("c, n, k", False)])  # fmt: skip
def test_a_function_takes_channels_and_classes(
    parameters: str, fits: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = f"from torch import nn\n\ndef make({parameters}):\n    return nn.Linear(2, 7)\n"
    (tmp_path / "made_for_data.py").write_text(text, encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    if fits:
        assert isinstance(new_network("python:made_for_data:make", 3, 7), nn.Linear)
    else:
        with pytest.raises(NetworkError, match=r"^python:made_for_data:make: make\(\) "):
            new_network("python:made_for_data:make", 3, 7)
    sys.modules.pop("made_for_data", None)


@pytest.mark.parametrize("content", ["network.safetensors", "model", ""])
def test_a_folder_of_weights_is_that_of_a_run_of_ones_own_network(
    content: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run whose model is complete says where that is; any other folder has no weights."""
    (tmp_path / "made_for_run.py").write_text(OWN_NETWORK, encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    run = tmp_path / "run"
    run.mkdir()
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(4 * 6 * 6, 5))
    if content == "model":
        (run / "model").mkdir()
    elif content:
        save_file(network.state_dict(), run / content)
    if content == "network.safetensors":
        model = load_network("python:made_for_run:make", str(run))
        assert torch.equal(model.module.get_parameter("2.weight"), network[2].weight)
    else:
        said = r"its model is complete: open .*model itself" if content else "holds no network"
        with pytest.raises(NetworkError, match=said):
            load_network("python:made_for_run:make", str(run))
    sys.modules.pop("made_for_run", None)
