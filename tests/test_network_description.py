"""A run of a network of somebody's own classes: its weights, and how the network was made."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from torchlift.converters.errors import WriteError
from torchlift.converters.images.preprocessing import Preprocessing
from torchlift.converters.saved import SavedModel
from torchlift.transfer.errors import NetworkError
from torchlift.transfer.network_by_name import load_network
from torchlift.transfer.network_description import (
    DESCRIPTION,
    WEIGHTS,
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


def test_the_description_is_found_from_the_files_of_the_run(
    own: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where a checkpoint is named from its own folder."""
    run = tmp_path / "run"
    description = described(run, own.Tied(6))
    checkpoint = run / "checkpoints" / "epoch-0001" / "model.safetensors"
    checkpoint.parent.mkdir(parents=True)
    monkeypatch.chdir(checkpoint.parent)
    for place in (run, run / "network.safetensors", checkpoint, checkpoint.name):
        found = find_description(place)
        assert found is not None
        assert {**vars(found), "arguments": ()} == {**vars(description), "arguments": ()}
    # Not those of another run above.
    assert find_description(checkpoint.parent / "more" / "model.safetensors") is None
    assert find_description(tmp_path / "w.pth") is None


def test_a_description_is_written_as_people_read_it(tmp_path: Path) -> None:
    described(tmp_path / "run", nn.Linear(4, 6), labels=["é", "猫"], classes=2)
    text = (tmp_path / "run" / DESCRIPTION).read_text(encoding="utf-8")
    assert '"猫"' in text
    assert text.endswith("}\n")


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"classes": 0}, "damaged: "),
        ({"classes": 1}, None),
        ({"arguments": [0]}, "damaged: "),
        ({"head": "other"}, "damaged: "),
        ({"output_kind": "x"}, "damaged: "),
        ({"labels": [1]}, "damaged: "),
        ({"input_shape": [1, 2]}, "damaged: "),
        ({"input_shape": None, "labels": None, "preprocessing": None}, None),
        ({"format": "x"}, "damaged: "),
        ({"format_version": 2, "classes": "new"}, "format version 2; .* reads 1: install"),
    ],
)
def test_what_a_description_says_is_checked(
    changes: dict[str, Any], problem: str | None, tmp_path: Path
) -> None:
    described(tmp_path / "run", nn.Linear(4, 6))
    file = tmp_path / "run" / DESCRIPTION
    values = {**json.loads(file.read_text(encoding="utf-8")), **changes}
    file.write_text(json.dumps(values), encoding="utf-8")
    if problem is None:
        found = find_description(tmp_path / "run")
        assert found is not None
        assert found.classes == values["classes"]
        assert isinstance(found.input_shape, tuple) or values["input_shape"] is None
        return
    with pytest.raises(NetworkError, match=problem):
        find_description(tmp_path / "run")
    file.unlink()
    assert find_description(tmp_path / "run") is None


@pytest.mark.parametrize("kind", ["independent_probabilities", "logits"])
def test_the_head_of_a_run_has_outputs_of_the_kind_of_the_function(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Any] = []
    for name in ("strip_softmax", "replace_head"):
        monkeypatch.setattr(
            f"torchlift.transfer.network_description.{name}",
            lambda *given, name=name, **named: asked.append((name, *given, named)),
        )
    module = nn.Linear(2, 2)
    for head in ("keep", "zeros", None):
        model = SavedModel(module, kind)
        NetworkDescription((), head, 6, "features", None, None, None).apply(model)
        assert model.output_kind == "features"
    assert asked == [
        ("strip_softmax", module, kind, {}),
        ("replace_head", module, 6, {"output_kind": kind}),
    ]


def test_files_of_a_run_are_whole_or_as_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A disk is full in the middle of either."""
    description = described(tmp_path / "run", nn.Linear(4, 6))
    before = {file.name: file.read_bytes() for file in (tmp_path / "run").iterdir()}

    def half(*given: Any, **named: Any) -> None:
        place = next(one for one in given if isinstance(one, Path))
        place.write_bytes(b"half")
        raise OSError(28, "full")

    monkeypatch.setattr(Path, "write_text", half)
    monkeypatch.setattr("torchlift.transfer.network_description.save_file", half)
    with pytest.raises(WriteError, match="full"):
        write_description(description, tmp_path / "run")
    with pytest.raises(WriteError, match="full"):
        write_weights(nn.Linear(4, 6), tmp_path / "run")
    assert {file.name: file.read_bytes() for file in (tmp_path / "run").iterdir()} == before


def test_weights_are_written_as_they_are_counted_whatever_their_memory(tmp_path: Path) -> None:
    """Channels last, as convolutions are trained, and a matrix that is stored as its columns."""
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Linear(2, 5))
    network[1].weight = nn.Parameter(torch.arange(10.0).view(2, 5).T)
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    write_weights(network, tmp_path)
    stored = load_file(tmp_path / WEIGHTS)
    assert stored.keys() == network.state_dict().keys()
    for name, value in network.state_dict().items():
        assert torch.equal(stored[name], value)
