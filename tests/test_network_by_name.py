"""What `load_network` opens by a name, and which options go to what opens it."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from checkpoint_support import linear, lua, lua_list, numbers, write
from torch import nn

from torchlift.converters.saved import SavedModel, TorchvisionNetwork
from torchlift.transfer import network_by_name as file
from torchlift.transfer.errors import NetworkError
from torchlift.transfer.network_by_name import load_network, new_network

OWN = """
from torch import nn

def make():
    return nn.Sequential(nn.Flatten(), nn.Dropout(), nn.Linear(4, 3)).train()

def fails(channels=1):
    return undefined

def defaults(channels=5):
    return nn.Sequential(nn.Linear(channels, 2))
"""


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with a module of functions that make networks."""
    (tmp_path / "made_by_name.py").write_text(OWN, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.delitem(sys.modules, "made_by_name", raising=False)
    return tmp_path


def test_a_file_before_a_network_of_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(NetworkError, match=r"lenet5 is a network without weights: `torchlift tra"):
        load_network("lenet5")
    write(linear(4, 3), tmp_path, "lenet5")
    assert load_network("lenet5").module(torch.zeros(2, 4)).shape == (2, 3)


def test_one_of_several_models_of_a_file_is_opened(tmp_path: Path) -> None:
    path = str(write(lua(a=linear(4, 3), b=linear(4, 5)), tmp_path))
    assert load_network(path, at="b").module(torch.zeros(2, 4)).shape == (2, 5)


@pytest.mark.parametrize("source", ["m.t7", "python:a:b", "hf:org/name", "lenet5"])
def test_only_what_is_published_can_be_downloaded(source: str) -> None:
    with pytest.raises(NetworkError, match=f"is for torchvision:NAME and timm:NAME, not {source}"):
        load_network(source, download=True)


@pytest.mark.parametrize("name", ["w.t7", "W.T7"])
def test_tensors_of_a_t7_are_taken_from_a_place_in_it(name: str, own: Path) -> None:
    wanted = [numbers(3, 4), numbers(3)]
    value = lua(old=lua_list(numbers(3, 4), numbers(3)), best=lua_list(*wanted))
    write(value, own, name)
    model = load_network("python:made_by_name:make", name, at="best")
    assert torch.equal(model.module[2].weight, torch.from_numpy(wanted[0]))
    (note,) = model.notes
    assert note.startswith(f"the weights are those of {name} by order and shape, best")
    with pytest.raises(NetworkError, match="a single network; leave out at='best'"):
        load_network("python:made_by_name:make", at="best")


def test_a_network_of_ones_own_is_at_rest_and_nothing_is_said_of_its_weights(own: Path) -> None:
    """They may be trained: a function can load them."""
    model = load_network("python:made_by_name:make", labels=None, input_size=None)
    assert not any(layer.training for layer in model.module.modules())
    assert model.notes == []
    assert model.output_kind == "logits"


def test_the_options_of_a_file_are_those_of_a_function_too(own: Path) -> None:
    (own / "names.txt").write_text("a\nb\nc\n", encoding="utf-8")
    model = load_network("python:made_by_name:make", labels=own / "names.txt")
    assert model.labels == ["a", "b", "c"]


def test_modules_of_the_current_folder_take_no_place_of_others(own: Path) -> None:
    """A file there may be named like a package that is imported later."""
    path = [*sys.path]
    path = [entry for entry in path if entry not in ("", str(own))]
    sys.path[:] = path
    load_network("python:made_by_name:make")
    assert sys.path == [*path, str(own)]
    # It is not added twice.
    load_network("python:made_by_name:make")
    assert sys.path == [*path, str(own)]


@pytest.mark.parametrize("name", [":make", "made_by_name", "made_by_name:none", "no_such:make"])
def test_a_function_that_is_not_there_is_named(name: str, own: Path) -> None:
    with pytest.raises(NetworkError, match=f"^python:{name}: "):
        load_network(f"python:{name}")


def test_a_fault_in_a_function_is_its_own(own: Path) -> None:
    with pytest.raises(NameError, match="undefined"):
        load_network("python:made_by_name:fails")


def test_a_function_with_defaults_is_called_without_arguments(own: Path) -> None:
    model = load_network("python:made_by_name:defaults")
    assert model.module(torch.zeros(2, 5)).shape == (2, 2)


@pytest.mark.parametrize(
    ("source", "weights", "asked"),
    [
        ("torchvision:resnet18", "IMAGENET1K_V1", ("torchvision", "resnet18", "IMAGENET1K_V1")),
        ("timm:resnet18", "a1_in1k", ("timm", "resnet18", "a1_in1k")),
        ("timm:resnet18", "w.pth", None),
        ("timm:resnet18", "folder/a1_in1k", None),
        ("python:made_by_name:make", "DEFAULT", None),
    ],
)
@pytest.mark.parametrize("download", [True, False])
def test_weights_without_a_suffix_or_a_folder_are_names_of_published_ones(
    source: str, weights: str, asked: Any, download: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("torchvision", "timm"):
        monkeypatch.setattr(file, f"{name}_weights", lambda *given, name=name: (name, *given))
    if asked is None:
        with pytest.raises(NetworkError, match=f"^{weights}: no such file$"):
            file._weights_file(source, weights, download)
    else:
        assert file._weights_file(source, weights, download) == (*asked, download)


@pytest.mark.parametrize(
    ("weights", "tag"), [(None, ""), ("DEFAULT", ""), ("a1_in1k", "a1_in1k"), ("here.pth", "")]
)
def test_the_tag_of_a_network_of_timm_is_that_of_its_published_weights(
    weights: str | None, tag: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "here.pth").touch()
    asked: list[Any] = []
    monkeypatch.setattr(file, "timm_classifier", lambda name, **given: asked.append((name, given)))
    file._without_weights("timm:resnet18", weights)
    assert asked == [("resnet18", {"tag": tag})]


def test_current_names_are_for_torchvision_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """And random weights are said where none are given."""
    asked: list[Any] = []
    state = {"old": torch.zeros(1)}
    network = TorchvisionNetwork("squeezenet1_1", 3)

    def made(*given: Any) -> SavedModel:
        return SavedModel(network, "logits", (3, 64, 64))

    monkeypatch.setattr(file, "_without_weights", made)
    monkeypatch.setattr(file, "_weights_file", lambda *given: Path("w.pth"))
    monkeypatch.setattr(file, "read_state", lambda path: (state, ""))
    monkeypatch.setattr(file, "with_current_names", lambda given: {"new": given["old"]})
    monkeypatch.setattr(file, "fill_from_state", lambda *given: asked.append(given[1:3]))
    for source, names in (("torchvision:squeezenet1_1", ["new"]), ("timm:x", ["old"])):
        asked.clear()
        model = load_network(source, "w")
        ((inner, filled),) = asked
        assert inner is network.network
        assert list(filled) == names
        assert model.notes == []
        assert load_network(source).notes == ["no weights were given: they are random"]


def test_a_network_of_another_library_takes_all_options_but_the_type_of_its_numbers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = SavedModel(nn.Flatten(), "logits")
    asked: list[Any] = []
    fetched: list[str] = []
    monkeypatch.setattr(file, "open_hugging_face", lambda folder: model)
    monkeypatch.setattr(file, "fetch_of_another_library", fetched.append)
    monkeypatch.setattr(file, "model_path", lambda source: tmp_path / "0123abc")
    monkeypatch.setattr(
        file, "apply_overrides", lambda *given, **named: asked.append((given, named))
    )
    load_network("hf:org/name", labels="l", dtype=None)
    assert asked == [((model, "hf:org/name"), {"labels": "l"})]
    assert fetched == ["hf:org/name"]
    assert model.notes == ["downloaded from hf:org/name, commit 0123abc"]
    (tmp_path / "here").mkdir()
    load_network(f"hf:{tmp_path / 'here'}", labels="l")
    assert (len(fetched), len(model.notes)) == (1, 1)


@pytest.mark.parametrize(
    ("source", "said"),
    [
        (
            "torchvision:resnet81",
            "torchvision has no classifier 'resnet81'; similar names: .*resnet18",
        ),
        ("torchvision:??", "similar names: see torchvision.models$"),
        ("timm:resnet81", "timm has no network 'resnet81'; similar names: .*resnet18"),
        ("timm:??.a1", r"timm has no network '\?\?\.a1'; similar names: see timm\.list_models"),
    ],
)
def test_a_name_that_a_library_does_not_have_is_one_sentence(source: str, said: str) -> None:
    pytest.importorskip(source.partition(":")[0])
    for make in (load_network, lambda name: new_network(name, 1, 10)):
        with pytest.raises(NetworkError, match=said):
            make(source)


def test_a_network_is_trained_from_scratch_by_a_name_that_is_known() -> None:
    assert [*new_network("softmax", 1, 7).parameters()][-1].shape == (7,)
    with pytest.raises(NetworkError, match=r"no network 'softmex': one of softmax, two_layer, "):
        new_network("softmex", 1, 7)


@pytest.mark.parametrize("source", ["m.t7", "hf:org/name", "lenet5"])
def test_what_has_weights_of_its_own_takes_no_others(source: str) -> None:
    with pytest.raises(NetworkError, match=rf"{source} has its own weights; leave out weights='w'"):
        load_network(source, "w")


def test_what_a_folder_of_another_library_lacks_is_the_same_each_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Random as it is, a command can be repeated; and the numbers of others go on as before."""

    def opened(folder: Path) -> SavedModel:
        return SavedModel(nn.Linear(3, 2), "logits")

    monkeypatch.setattr(file, "open_hugging_face", opened)
    found, rest = [], []
    for seed in (1, 2):
        torch.manual_seed(seed)
        found.append(load_network(f"hf:{tmp_path}").module.get_parameter("weight"))
        rest.append(torch.rand(3))
        torch.manual_seed(seed)
        assert torch.equal(rest[-1], torch.rand(3))
    assert torch.equal(*found)
