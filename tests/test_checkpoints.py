"""Somebody's checkpoint: what fits is loaded, the rest is listed, and no code in it is run.

The truth is the network that the tensors are of.
"""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from torchlift.converters.saved import SavedModel
from torchlift.transfer.errors import NetworkError
from torchlift.transfer.libraries.checkpoint import fill_from_state, read_state

INPUTS = torch.rand(3, 4, generator=torch.Generator().manual_seed(0))


def network(classes: int = 2, seed: int = 0) -> nn.Sequential:
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Linear(4, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, classes)
    ).eval()


def filled(file: Path, into: nn.Module) -> SavedModel:
    model = SavedModel(into, "logits")
    state, _ = read_state(file)
    fill_from_state(model, into, state, file.name)
    return model


def prefixed(prefix: str, module: nn.Module) -> dict[str, torch.Tensor]:
    return {f"{prefix}{name}": tensor for name, tensor in module.state_dict().items()}


@pytest.mark.parametrize(
    "prefix", ["", "module.", "model.", "_orig_mod.", "module.model.", "backbone.encoder."]
)
@pytest.mark.parametrize("key", [None, "state_dict", "model", "model_state_dict", "net"])
def test_weights_are_found_under_any_prefix_and_key(
    prefix: str, key: str | None, tmp_path: Path
) -> None:
    theirs, ours = network(seed=1), network(seed=2)
    state: Any = prefixed(prefix, theirs)
    others = {"epoch": 3, "optimizer": {"state": {}, "lr": 0.1}, "args": Namespace(lr=0.1)}
    torch.save(state if key is None else {key: state, **others}, tmp_path / "theirs.pth")
    model = filled(tmp_path / "theirs.pth", ours)
    assert torch.equal(ours(INPUTS), theirs(INPUTS))
    assert model.notes == []


def test_averaged_weights_go_before_the_others(tmp_path: Path) -> None:
    last, average, ours = network(seed=1), network(seed=2), network(seed=3)
    content = {"state_dict": last.state_dict(), "state_dict_ema": prefixed("module.", average)}
    torch.save(content, tmp_path / "timm.pth.tar")
    assert read_state(tmp_path / "timm.pth.tar")[1] == "state_dict_ema"
    filled(tmp_path / "timm.pth.tar", ours)
    assert torch.equal(ours(INPUTS), average(INPUTS))


def test_weights_two_levels_down_are_found(tmp_path: Path) -> None:
    theirs, ours = network(seed=1), network(seed=2)
    torch.save({"ema": {"module": theirs.state_dict(), "decay": 0.9}}, tmp_path / "a.pth")
    assert read_state(tmp_path / "a.pth")[1] == "ema.module"
    filled(tmp_path / "a.pth", ours)
    assert torch.equal(ours(INPUTS), theirs(INPUTS))


def test_the_prefix_is_that_of_most_names(tmp_path: Path) -> None:
    """Beside them, a tensor of another network may have a name of ours by chance."""
    theirs, ours = network(seed=1), network(seed=2)
    state = prefixed("model.", theirs) | {"0.bias": torch.full((8,), 9.0)}
    torch.save(state, tmp_path / "both.pth")
    model = filled(tmp_path / "both.pth", ours)
    assert torch.equal(ours(INPUTS), theirs(INPUTS))
    assert model.notes == []


def test_another_head_has_other_classes(tmp_path: Path) -> None:
    torch.save(network(5).state_dict(), tmp_path / "five.pth")
    torch.save(network(2).state_dict(), tmp_path / "two.pth")
    for file, labels in (("five.pth", None), ("two.pth", ["cat", "dog"])):
        module = network(2)
        model = SavedModel(module, "logits", labels=["cat", "dog"])
        fill_from_state(model, module, read_state(tmp_path / file)[0], file)
        assert model.labels == labels


def test_another_head_and_what_is_left_are_told_in_one_line(tmp_path: Path) -> None:
    theirs, ours = network(5, seed=1), network(2, seed=2)
    state = prefixed("model.", theirs)
    del state["model.1.num_batches_tracked"], state["model.1.bias"]
    state["criterion.weight"] = torch.ones(5)
    save_file(state, tmp_path / "five.safetensors")
    kept = ours[1].bias.clone()
    model = filled(tmp_path / "five.safetensors", ours)
    with torch.no_grad():
        theirs[1].bias.copy_(kept)
    assert torch.equal(ours(INPUTS), theirs(INPUTS))
    assert model.notes == [
        "the head has 5 outputs, as five.safetensors has, not 2",
        "five.safetensors: 7 tensors are loaded; not in it, so random: 1.bias; "
        "not used of it: criterion.weight",
    ]


def test_weights_of_another_network_are_refused_by_name(tmp_path: Path) -> None:
    other = nn.Sequential(nn.Linear(4, 9), nn.BatchNorm1d(9), nn.ReLU(), nn.Linear(9, 2))
    torch.save(other.state_dict(), tmp_path / "other.pth")
    with pytest.raises(NetworkError, match=r"other.pth does not fit .*0.weight is 9×4, 8×4 was"):
        filled(tmp_path / "other.pth", network())
    torch.save({"a": torch.ones(1), "b": torch.ones(2)}, tmp_path / "other.pth")
    with pytest.raises(NetworkError, match=r"0\.weight is not in it, but a, b"):
        filled(tmp_path / "other.pth", network())


class Code:
    """Would run a program where pickle is trusted."""

    def __reduce__(self) -> tuple[Any, ...]:
        return (print, ("it ran",))


@pytest.mark.parametrize("key", ["state_dict", "hook"])
def test_code_beside_the_weights_is_refused(
    key: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    torch.save({"state_dict": network().state_dict(), key: Code()}, tmp_path / "bad.pth")
    with pytest.raises(NetworkError, match="holds a Python object of"):
        read_state(tmp_path / "bad.pth")
    assert "it ran" not in capsys.readouterr().out


@pytest.mark.parametrize("content", [{}, {"epoch": 3}, {"state_dict": {"a": {"b": 1}}}, [1]])
def test_a_checkpoint_without_weights_is_refused(content: Any, tmp_path: Path) -> None:
    torch.save(content, tmp_path / "none.pth")
    with pytest.raises(NetworkError, match="no state dict"):
        read_state(tmp_path / "none.pth")


def test_a_value_that_holds_itself_holds_no_weights_without_end(tmp_path: Path) -> None:
    content: dict[str, Any] = {"epoch": 3}
    content["model"] = content
    torch.save(content, tmp_path / "cycle.pth")
    with pytest.raises(NetworkError, match="no state dict"):
        read_state(tmp_path / "cycle.pth")
    # Three keys may lead to the tensors, and no four.
    state: Any = network().state_dict()
    for depth in (1, 2, 3):
        torch.save({"net": state} if depth > 1 else state, tmp_path / "deep.pth")
        state = torch.load(tmp_path / "deep.pth", weights_only=True)
        if depth < 3:
            assert len(read_state(tmp_path / "deep.pth")[0]) == 9
    assert read_state(tmp_path / "deep.pth")[1] == "net.net"
    torch.save({"net": state}, tmp_path / "deep.pth")
    with pytest.raises(NetworkError, match="no state dict"):
        read_state(tmp_path / "deep.pth")


@pytest.mark.parametrize(
    ("beside", "is_state"),
    [({"epoch": 3}, True), ({"extra": {}}, True), ({"extra": {"a": 1}}, False), ({5: 1}, False)],
)
def test_tensors_beside_plain_values_are_weights(
    beside: dict[Any, Any], is_state: bool, tmp_path: Path
) -> None:
    """Beside another dict or numbered entries they are something else, such as an optimizer's."""
    torch.save({"w": torch.ones(2), **beside}, tmp_path / "w.pth")
    if is_state:
        assert list(read_state(tmp_path / "w.pth")[0]) == ["w"]
    else:
        with pytest.raises(NetworkError, match="no state dict"):
            read_state(tmp_path / "w.pth")


def test_a_head_of_other_inputs_is_not_taken() -> None:
    """Nor are its classes those of the network."""
    ours = network(2)
    state = network(5, seed=1).state_dict()
    state["3.weight"] = torch.ones(5, 6)
    model = SavedModel(ours, "logits", labels=["cat", "dog"])
    before = ours[3].weight.clone()
    fill_from_state(model, ours, state, "w.pth")
    assert torch.equal(ours[3].weight, before)
    assert model.labels == ["cat", "dog"]
    assert model.notes == [
        "w.pth: 7 tensors are loaded; not in it, so random: 3.weight, 3.bias; "
        "not used of it: 3.weight, 3.bias"
    ]


def test_a_name_behind_a_prefix_counts_if_its_tensor_fits() -> None:
    """Of two prefixes, that of more tensors of the right shapes; of two alike the shorter one."""
    theirs, ours = network(seed=1), network(seed=2)
    other = {f"net.{name}": torch.ones(7) for name in theirs.state_dict()}
    model = SavedModel(ours, "logits")
    fill_from_state(model, ours, prefixed("student.", theirs) | other, "w.pth")
    assert torch.equal(ours(INPUTS), theirs(INPUTS))
    twice = prefixed("a.longer.", network(seed=3)) | prefixed("short.", theirs)
    ours = network(seed=2)
    fill_from_state(SavedModel(ours, "logits"), ours, twice, "w.pth")
    assert torch.equal(ours(INPUTS), theirs(INPUTS))


@pytest.mark.parametrize(("more", "told"), [(4, "x4"), (5, "x4 and 1 more"), (1204, "and 1,200")])
def test_five_tensors_that_are_not_used_are_named(more: int, told: str) -> None:
    ours = network()
    state = ours.state_dict() | {f"x{index}": torch.ones(1) for index in range(more + 1)}
    model = SavedModel(ours, "logits")
    fill_from_state(model, ours, state, "w.pth")
    (note,) = model.notes
    assert note.startswith("w.pth: 9 tensors are loaded; not used of it: x0, x1, x2, x3, x4")
    assert told in note
    assert ("more" in note) == (more > 4)


def test_the_shape_of_a_single_number_is_named() -> None:
    scalar = nn.Module()
    scalar.register_parameter("scale", nn.Parameter(torch.ones(())))
    with pytest.raises(NetworkError, match="scale is 2×3, a number was expected"):
        fill_from_state(
            SavedModel(scalar, "features"), scalar, {"scale": torch.ones(2, 3)}, "w.pth"
        )
