"""A run of a network of somebody's own classes: its weights, and how the network was made."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from torchlift.converters.images.preprocessing import Preprocessing
from torchlift.transfer.network_by_name import load_network
from torchlift.transfer.network_description import (
    NetworkDescription,
    find_description,
    write_description,
    write_weights,
)

OWN = """
import torch
from torch import nn

class Tied(nn.Module):
    def __init__(self, classes):
        super().__init__()
        self.first, self.second = nn.Linear(4, 4), nn.Linear(4, 4)
        self.second.weight = self.first.weight
        self.last = nn.Linear(4, classes)

    def forward(self, input):
        return self.last(self.second(self.first(input.flatten(1)).relu()).relu())

def make(channels, classes):
    return Tied(channels * classes)

def fixed():
    return Tied(6)

def with_softmax(channels=1, classes=9):
    return nn.Sequential(nn.Flatten(), nn.Linear(4, classes), nn.LogSoftmax(1))
"""


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    (tmp_path / "described_network.py").write_text(OWN, encoding="utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "described_network", raising=False)
    import described_network  # type: ignore[import-not-found]  # written by this test

    return described_network


def described(folder: Path, module: nn.Module, **changes: Any) -> NetworkDescription:
    """Write a run of a network, and return what it says."""
    entries = {
        "arguments": (),
        "head": None,
        "classes": 6,
        "output_kind": "logits",
        "labels": list("uvwxyz"),
        "input_shape": (1, 2, 2),
        "preprocessing": Preprocessing("gray", mean=(0.5,), std=(0.25,)),
        **changes,
    }
    description = NetworkDescription(**entries)
    folder.mkdir()
    write_description(description, folder)
    write_weights(module, folder)
    return description


@pytest.mark.parametrize(
    ("function", "arguments"), [("make", [2, 3]), ("fixed", []), ("fixed", [2, 3])]
)
def test_the_function_is_called_with_what_it_was_called_with(
    function: str, arguments: list[int], own: Any, tmp_path: Path
) -> None:
    """One without arguments is called without them. Tied weights are in the file twice."""
    torch.manual_seed(3)
    network = own.Tied(6).eval()
    described(tmp_path / "run", network, arguments=arguments)
    torch.manual_seed(4)
    model = load_network(f"python:described_network:{function}", str(tmp_path / "run"))
    images = torch.rand(5, 1, 2, 2)
    torch.testing.assert_close(model.module(images), network(images), rtol=0, atol=0)
    assert model.module.first.weight is model.module.second.weight
    assert (model.labels, model.input_shape) == (list("uvwxyz"), (1, 2, 2))
    assert model.preprocessing == Preprocessing("gray", mean=(0.5,), std=(0.25,))
    assert not model.module.training


@pytest.mark.parametrize(("head", "classes"), [("keep", 9), ("zeros", 6), ("probe", 6)])
def test_the_head_of_the_run_takes_the_place_of_the_functions(
    head: str, classes: int, own: Any, tmp_path: Path
) -> None:
    """A head that is kept has the old outputs; of all of them a softmax is taken away."""
    network = nn.Sequential(nn.Flatten(), nn.Linear(4, classes), nn.Identity()).eval()
    described(tmp_path / "run", network, head=head, classes=classes, labels=None)
    model = load_network("python:described_network:with_softmax", str(tmp_path / "run"))
    images = torch.rand(5, 1, 2, 2)
    torch.testing.assert_close(model.module(images), network(images), rtol=0, atol=0)
    assert (model.output_kind, model.labels) == ("logits", None)


def test_the_description_is_found_from_the_files_of_the_run(own: Any, tmp_path: Path) -> None:
    run = tmp_path / "run"
    description = described(run, own.Tied(6))
    checkpoint = run / "checkpoints" / "epoch-0001" / "model.safetensors"
    for place in (run, run / "network.safetensors", checkpoint):
        found = find_description(place)
        assert found is not None
        assert {**vars(found), "arguments": ()} == {**vars(description), "arguments": ()}
    # Not those of another run above.
    assert find_description(checkpoint.parent / "more" / "model.safetensors") is None
    assert find_description(tmp_path / "w.pth") is None
