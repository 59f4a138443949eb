"""Frozen layers do not change: neither their parameters nor the statistics of a BatchNorm."""

from __future__ import annotations

import copy
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from support import FIXTURES
from torch import nn
from torch.nn import functional

from torchlift.cli.main import main
from torchlift.converters.errors import TorchliftError
from torchlift.converters.saved import TorchvisionNetwork
from torchlift.transfer.errors import FreezingError, HeadError, TrainingError
from torchlift.transfer.freezing import (
    Freezing,
    check_head_learns,
    count_parameters,
    frozen_at,
    frozen_modules,
    set_frozen,
)
from torchlift.transfer.heads import find_head
from torchlift.transfer.networks import convnet_bn
from torchlift.transfer.training.optimizer import parameter_groups

#: The modules of convnet_bn that have parameters, in order.
LAYERS = ("0", "1", "4", "5", "9", "11", "13")


def network_and_batch() -> tuple[nn.Module, torch.Tensor, torch.Tensor]:
    torch.manual_seed(0)
    return convnet_bn(3, 4), torch.randn(8, 3, 32, 32), torch.randint(0, 4, (8,))


def train_a_little(network: nn.Module, images: torch.Tensor, classes: torch.Tensor) -> None:
    """Train with an ordinary loop that does nothing about freezing."""
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1, momentum=0.9, weight_decay=0.1)
    for _ in range(3):
        network.train()
        optimizer.zero_grad()
        functional.cross_entropy(network(images), classes).backward()
        optimizer.step()


def changed_layers(before: nn.Module, after: nn.Module) -> set[str]:
    state = before.state_dict()
    return {
        name.rpartition(".")[0]
        for name, tensor in after.state_dict().items()
        if not torch.equal(tensor, state[name])
    }


@pytest.mark.parametrize(
    ("rule", "trained"),
    [
        ("none", LAYERS),
        ("all-but-head", ("13",)),
        ("until 9", ("9", "11", "13")),
        ("until get(6)", ("5", "9", "11", "13")),
        ("[0-5]", ("9", "11", "13")),
        ("1*", ("0", "4", "5", "9")),
    ],
)
def test_training_changes_exactly_the_layers_that_are_not_frozen(
    rule: str, trained: tuple[str, ...]
) -> None:
    network, images, classes = network_and_batch()
    set_frozen(network, frozen_modules(network, rule))
    before = copy.deepcopy(network)
    train_a_little(network, images, classes)
    assert changed_layers(before, network) == set(trained)


def test_without_evaluation_mode_the_statistics_would_change() -> None:
    # Proves that the test above can fail.
    network, images, classes = network_and_batch()
    for name, parameter in network.named_parameters():
        parameter.requires_grad_(name.startswith("13"))
    before = copy.deepcopy(network)
    train_a_little(network, images, classes)
    assert changed_layers(before, network) == {"1", "5", "13"}


def test_unfreezing_restores_gradients_and_modes() -> None:
    network, images, classes = network_and_batch()
    freezing = Freezing(freeze="all-but-head", unfreeze_at=3)
    assert frozen_at(network, freezing, 2) == frozen_modules(network, "all-but-head")
    for epoch in (1, 2, 3):
        set_frozen(network, frozen_at(network, freezing, epoch))
    before = copy.deepcopy(network)
    train_a_little(network, images, classes)
    assert changed_layers(before, network) == set(LAYERS)
    assert all(module.training for module in network.modules())


def test_the_layer_that_until_names_is_the_first_that_is_not_frozen() -> None:
    """A Dropout too, which has no weights: frozen, it would be off."""
    network = nn.Sequential(nn.Linear(2, 2), nn.Dropout(), nn.Sequential(nn.Linear(2, 2)))
    assert frozen_modules(network, "until 1") == {"0", "0.weight", "0.bias"}
    assert frozen_modules(network, "until 2") == {"0", "0.weight", "0.bias", "1"}
    assert frozen_modules(network, "until get(3):get(1)") == {"0", "0.weight", "0.bias", "1"}


def test_layers_are_unfrozen_step_by_step() -> None:
    network, images, classes = network_and_batch()
    freezing = Freezing(unfreeze="2:9,4:4,4:5")
    trained = [{"13"}, {"9", "13"}, {"9", "13"}, {"4", "5", "9", "13"}]
    for epoch, expected in enumerate(trained, 1):
        set_frozen(network, frozen_at(network, freezing, epoch))
        before = copy.deepcopy(network)
        train_a_little(network, images, classes)
        assert changed_layers(before, network) == expected
    assert freezing.changes() == [2, 4]
    assert freezing.rule == "all-but-head"
    # The last step may be that everything is trained.
    ending = Freezing(freeze="until 9", unfreeze="2:5", unfreeze_at=3)
    assert ending.rule == "until 9"
    # Another rule than all but the head: what it does not freeze is trained from the start.
    assert "9" not in frozen_at(network, ending, 1)
    assert "5" not in frozen_at(network, ending, 2)
    assert "0" in frozen_at(network, ending, 2)
    assert frozen_at(network, ending, 3) == frozenset()


@pytest.mark.parametrize(
    ("unfreeze", "message"),
    [
        ("layer4", "'layer4' is no epoch, counted from 1, with a layer, such as 2:layer4"),
        ("0:9", "'0:9' is no epoch, counted from 1"),
        ("2:", "'2:' is no epoch"),
        ("2:nowhere", "unfreeze='nowhere' matches no layer; frozen is all-but-head"),
        ("2:13", "unfreeze='13' is not frozen; frozen is all-but-head"),
        ("2:2", "names layers without weights: nothing to train"),
    ],
)
def test_a_step_that_unfreezes_nothing_is_refused(unfreeze: str, message: str) -> None:
    network, _, _ = network_and_batch()
    with pytest.raises(TorchliftError, match=message):
        # Known before the first epoch, whenever the step would be.
        frozen_at(network, Freezing(unfreeze=unfreeze), 1)


def test_a_copy_of_a_frozen_network_is_frozen_independently() -> None:
    network, images, classes = network_and_batch()
    set_frozen(network, frozen_modules(network, "all-but-head"))
    other = copy.deepcopy(network)
    set_frozen(network, frozenset())
    before = copy.deepcopy(other)
    train_a_little(other, images, classes)
    assert changed_layers(before, other) == {"13"}


def test_parameters_of_a_container_are_frozen_by_their_own_names() -> None:
    class Embedded(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.token = nn.Parameter(torch.zeros(1, 1, 4))
            self.body = nn.Linear(4, 4)
            self.head = nn.Linear(4, 2)

    network = Embedded()
    set_frozen(network, frozen_modules(network, "all-but-head"))
    trained = [name for name, value in network.named_parameters() if value.requires_grad]
    assert trained == ["head.weight", "head.bias"]
    assert network.train().training
    assert not network.body.training
    assert network.head.training


def test_a_tied_weight_is_frozen_under_all_of_its_names() -> None:
    network = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 2))
    network[1].weight = network[0].weight
    set_frozen(network, frozen_modules(network, "0"))
    assert not network[1].weight.requires_grad
    assert network[1].bias.requires_grad


def test_trained_and_frozen_elements_are_counted() -> None:
    network, _, _ = network_and_batch()
    head, whole = 84 * 4 + 4, 62_958 + 48 - 6 * 84 - 6
    frozen = frozen_modules(network, "all-but-head")
    assert count_parameters(network, frozen) == (head, whole - head)


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        ("layer4", "freeze='layer4' matches no layer"),
        ("*", "leaves nothing to train"),
        ("until nowhere", "freeze='until nowhere': no layer 'nowhere'"),
    ],
)
def test_rules_that_cannot_apply_are_refused(rule: str, message: str) -> None:
    with pytest.raises(FreezingError, match=message):
        frozen_modules(convnet_bn(3, 4), rule)


def test_each_layer_has_its_own_learning_rate() -> None:
    network = convnet_bn(3, 4)
    freezing = Freezing(body_lr=0.01, layer_decay=0.5)
    groups = parameter_groups(network, 0.1, 1e-4, freezing)
    rates = {
        id(parameter): (group["lr"], group["weight_decay"])
        for group in groups
        for parameter in group["params"]
    }
    # Five layers with weights; a BatchNorm has the rate of its convolution.
    expected = {"0": 1 / 16, "1": 1 / 16, "4": 1 / 8, "5": 1 / 8, "9": 1 / 4, "11": 1 / 2}
    for name, parameter in network.named_parameters():
        layer = name.split(".")[0]
        rate, decay = rates[id(parameter)]
        assert rate == pytest.approx(0.1 if layer == "13" else 0.01 * expected[layer])
        assert decay == (1e-4 if parameter.dim() > 1 else 0)
    assert sum(len(group["params"]) for group in groups) == len(list(network.parameters()))
    assert len(parameter_groups(network, 0.1, 1e-4, Freezing())) == 2


def test_several_rules_freeze_what_any_of_them_does() -> None:
    network, _, _ = network_and_batch()
    both = frozen_modules(network, "0") | frozen_modules(network, "9")
    assert frozen_modules(network, "0, 9") == both
    with pytest.raises(FreezingError, match="'nope' matches no layer"):
        frozen_modules(network, "0,nope")
    with pytest.raises(FreezingError, match="nothing to train"):
        frozen_modules(network, "until 13,13")


@pytest.mark.parametrize("rule", ["layer4", "until layer3", "layer[12]*", "conv1,layer1.0"])
def test_a_layer_of_torchvision_needs_no_prefix(rule: str) -> None:
    """`layer4` is what torchvision calls it; in a saved model it is `network.layer4`."""
    wrapped = TorchvisionNetwork("resnet18", 10)
    inside = frozen_modules(wrapped.network, rule)
    assert frozen_modules(wrapped, rule) == {f"network.{name}" for name in inside if name} | (
        {"network"} if "" in inside else set()
    )


@pytest.mark.slow
def test_each_step_of_unfreezing_changes_its_layers_and_no_others(tmp_path: Path) -> None:
    """Weights, biases and running statistics, in the checkpoints of a run from the shell."""
    digits = FIXTURES / "digits"
    model, scale = str(digits / "digits-lenet5-bn.t7"), f"--mean-std={digits / 'digits_meanStd.t7'}"
    words = ["finetune", model, str(digits / "digits-train.t7"), scale, "--limit=200"]
    words += ["--head=probe", "--unfreeze=2:1?,4:[0-4]", "--schedule=constant", "--epochs=4"]
    assert main([*words, "--save-every=1", "--tracker=none", f"-o={tmp_path / 'run'}"]) == 0
    assert main(["convert", model, str(tmp_path / "0"), scale]) == 0
    folders = [tmp_path / "0"]
    folders += [tmp_path / "run" / "checkpoints" / f"epoch-000{epoch}" for epoch in (1, 2, 3, 4)]
    states = [load_file(folder / "model.safetensors") for folder in folders]
    changes = [
        {name.partition(".")[0] for name in after if not torch.equal(before[name], after[name])}
        for before, after in pairwise(states)
    ]
    layers = {name.partition(".")[0] for name in states[0]}
    head = max(layers, key=int)
    late = {layer for layer in layers if int(layer) >= 10}
    early = {layer for layer in layers if int(layer) <= 4}
    assert {head} < late
    assert early
    assert changes == [{head}, late, late, late | early]


def test_all_may_be_unfrozen_behind_steps() -> None:
    network, _, _ = network_and_batch()
    both = Freezing(unfreeze="2:11", unfreeze_at=3)
    assert "9" in frozen_at(network, both, 2)
    assert "11" not in frozen_at(network, both, 2)
    assert not frozen_at(network, both, 3)


def test_a_network_without_a_head_has_none_that_could_be_frozen() -> None:
    """A head of zeros that is frozen learns nothing."""
    headless = nn.Sequential(nn.BatchNorm2d(2), nn.PReLU())
    with pytest.raises(HeadError):
        find_head(headless)
    check_head_learns(headless, Freezing("0"))
    network = nn.Sequential(nn.Flatten(), nn.Linear(4, 3), nn.Linear(3, 2))
    nn.init.zeros_(network.get_parameter("2.weight"))
    check_head_learns(network, Freezing("1"))
    with pytest.raises(FreezingError, match="freezes the head 2, whose weights are zero"):
        check_head_learns(network, Freezing("2"))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"freeze": "0", "unfreeze_at": 0}, "unfreeze_at=0 must be at least 1"),
        ({"unfreeze_at": 3}, "unfreeze_at=3 needs layers to unfreeze: freeze="),
        ({"body_lr": 0.0}, r"body_lr=0\.0 must be positive"),
        ({"layer_decay": 0.0}, r"layer_decay=0\.0 must be above 0 and at most 1"),
        ({"layer_decay": 1.01}, "must be above 0 and at most 1"),
        ({"body_lr": float("inf")}, "body_lr=inf must be finite"),
        ({"freeze": "0", "unfreeze_at": 2.5}, r"unfreeze_at=2\.5 must be a whole number"),
        ({"layer_decay": "0.5"}, r"layer_decay='0\.5' must be a number"),
        # Before there is a network.
        ({"unfreeze": "2:9,layer4"}, "'layer4' is no epoch, counted from 1"),
    ],
)
def test_options_that_freeze_nothing_sensible_are_refused_at_once(
    options: dict[str, Any], message: str
) -> None:
    with pytest.raises(TrainingError, match=message):
        Freezing(**options)
    Freezing("0", unfreeze_at=1, body_lr=1e-9, layer_decay=1.0)
    # Steps freeze all but the head at first.
    assert Freezing(unfreeze="2:0", unfreeze_at=3).changes() == [2, 3]


def nested() -> nn.Sequential:
    """Return a body of two layers, a dropout between them, and a head inside another container."""
    body = nn.Sequential(nn.Linear(4, 4), nn.Dropout(), nn.Linear(4, 4))
    return nn.Sequential(body, nn.Sequential(nn.ReLU(), nn.Linear(4, 2)))


def test_what_holds_a_layer_that_is_trained_is_not_frozen_itself() -> None:
    """It would keep its mode, and so would all that is in it."""
    network = nested()
    inside = {"0.0", "0.0.weight", "0.0.bias", "0.1", "0.2", "0.2.weight", "0.2.bias"}
    assert frozen_modules(network, "all-but-head") == {"0", *inside, "1.0"}
    freezing = Freezing(unfreeze="2:0.2")
    left = inside - {"0.2", "0.2.weight", "0.2.bias"}
    assert frozen_at(network, freezing, 2) == {*left, "1.0"}
    set_frozen(network, frozen_at(network, freezing, 2))
    network.train()
    modes = {name: module.training for name, module in network.named_modules()}
    frozen = {name for name, training in modes.items() if not training}
    assert frozen == {"0.0", "0.1", "1.0"}


def test_a_later_step_may_name_what_is_trained_already() -> None:
    """Such as the whole of a stage behind a part of it."""
    network = nested()
    freezing = Freezing(unfreeze="2:0.2,3:0.2,4:0")
    assert frozen_at(network, freezing, 3) == frozen_at(network, freezing, 2)
    assert frozen_at(network, freezing, 4) == {"1.0"}


def test_running_statistics_are_worth_unfreezing() -> None:
    """A normalization without weights follows the new images from then on."""
    layers = (nn.Linear(4, 4), nn.BatchNorm1d(4, affine=False), nn.Linear(4, 2))
    network = nn.Sequential(*layers)
    assert "1" not in frozen_at(network, Freezing(unfreeze="2:1"), 2)


def test_a_layer_is_frozen_under_any_of_its_names() -> None:
    shared = nn.Sequential(nn.Dropout(), nn.Linear(4, 4))
    network = nn.Sequential(shared, nn.ReLU(), shared, nn.Linear(4, 2))
    frozen = frozen_modules(network, "2")
    set_frozen(network, frozen)
    assert count_parameters(network, frozen) == (10, 20)
    with pytest.raises(FreezingError, match="freeze='2,3' leaves nothing to train"):
        frozen_modules(network, "2,3")
    # So is it trained again under any of them.
    for freezing in (Freezing(unfreeze="2:0"), Freezing("0", unfreeze="2:2")):
        assert count_parameters(network, frozen_at(network, freezing, 1)) == (10, 20)
        assert count_parameters(network, frozen_at(network, freezing, 2)) == (30, 0)
    network.train()
    assert not shared[0].training
    assert not shared[1].weight.requires_grad
    assert network[3].weight.requires_grad


def test_a_comma_in_brackets_is_part_of_a_pattern_and_nothing_is_no_rule() -> None:
    network, _, _ = network_and_batch()
    assert frozen_modules(network, "[0,4]") == frozen_modules(network, "0,4")
    for rule in ("", "0,", ",0"):
        with pytest.raises(FreezingError, match="freeze='' matches no layer"):
            frozen_modules(network, rule)


def test_rates_are_those_of_the_layers_and_the_head_alone_has_its_own() -> None:
    """Without a factor for each layer; and with one, but the same rate for head and body."""
    network = nn.Sequential(nn.BatchNorm1d(4), nn.Linear(4, 4), nn.PReLU(), nn.Linear(4, 2))

    def rates(freezing: Freezing) -> list[float]:
        groups = parameter_groups(network, 0.1, 0.0, freezing)
        found = {id(one): group["lr"] for group in groups for one in group["params"]}
        assert all(group["lr"] == group["base_lr"] for group in groups)
        return [found[id(one)] for one in network.parameters()]

    head, body = [0.1] * 2, 0.02
    # A normalization before the first layer with weights has the rate of that.
    assert rates(Freezing(body_lr=body)) == [body] * 5 + head
    assert rates(Freezing(layer_decay=0.5)) == [0.05] * 5 + head
    assert rates(Freezing()) == [0.1] * 7
