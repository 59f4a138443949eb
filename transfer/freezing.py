"""Freezing layers while the others are trained.

A frozen layer has no gradients and stays in evaluation mode, whatever mode the network is in. The
second is easily forgotten: a BatchNorm without gradients still updates its running statistics in
training mode.

Importing this file does not import torch: the command line takes its options from `Freezing`.
"""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Iterator
from dataclasses import dataclass
from types import MethodType
from typing import TYPE_CHECKING

from .errors import FreezingError, HeadError, LayerError, TrainingError, check_numbers, check_option

if TYPE_CHECKING:
    from torch import nn


#: What separates rules; a pattern may have commas in brackets.
_COMMA = re.compile(r",(?![^\[]*\])")


@dataclass(frozen=True)
class Freezing:
    """Which layers are frozen, until when, and how fast the others learn.

    Attributes:
        freeze: What is not trained: none, all-but-head, "until NAME" (every layer before NAME), or
            a pattern of layer names such as "features.*"; several with commas between, such as 0,1.
        unfreeze_at: The epoch, counted from 1, from which everything is trained.
        unfreeze: Layers that are trained from an epoch on, such as 2:layer4,4:layer3; before that,
            everything but the head is frozen, unless --freeze says otherwise.
        body_lr: Learning rate of all layers before the head; by default the head's.
        layer_decay: Factor on the learning rate for each layer, from the head down.
    """

    freeze: str = "none"
    unfreeze_at: int | None = None
    unfreeze: str | None = None
    body_lr: float | None = None
    layer_decay: float = 1.0

    def __post_init__(self) -> None:
        check_numbers(self)
        start = self.unfreeze_at
        check_option(
            self, "unfreeze_at", start is None or start >= 1, "at least 1: epochs count from 1"
        )
        check_option(self, "body_lr", self.body_lr is None or self.body_lr > 0, "positive")
        check_option(self, "layer_decay", 0 < self.layer_decay <= 1, "above 0 and at most 1")
        if start is not None and self.rule == "none":
            raise TrainingError(f"unfreeze_at={start} needs layers to unfreeze: freeze=…")
        self.steps()

    @property
    def rule(self) -> str:
        """What is frozen at first: all but the head, if only `unfreeze` is given."""
        return "all-but-head" if self.unfreeze and self.freeze == "none" else self.freeze

    def steps(self) -> list[tuple[int, str]]:
        """Return the epochs in which more is trained, with the rule for what.

        Raises:
            TrainingError: `unfreeze` is no list of epochs with layers.

        Example:
            >>> Freezing(unfreeze="2:layer4,4:layer3").steps()
            [(2, 'layer4'), (4, 'layer3')]
        """
        steps = []
        for part in map(str.strip, _COMMA.split(self.unfreeze)) if self.unfreeze else ():
            epoch, _, layer = part.partition(":")
            if not epoch.isdecimal() or int(epoch) < 1 or not layer:
                raise TrainingError(
                    f"unfreeze={self.unfreeze!r}: {part!r} is no epoch, counted from 1, with a "
                    "layer, such as 2:layer4"
                )
            steps.append((int(epoch), layer))
        return steps

    def changes(self) -> list[int]:
        """Return the epochs from which more is trained, in order."""
        found = {epoch for epoch, _ in self.steps()} | {self.unfreeze_at}
        return sorted(epoch for epoch in found if epoch is not None)


def frozen_at(network: nn.Module, freezing: Freezing, epoch: int) -> frozenset[str]:
    """Return the names of the modules and parameters that are frozen in an epoch.

    Args:
        network: A classifier.
        freezing: The rule, and the epoch that ends it.
        epoch: Counted from 1.

    Raises:
        FreezingError: The rule matches no layer, or leaves nothing to train.
    """
    at_first = frozen = frozen_modules(network, freezing.rule)
    names = list(_module_and_parameter_names(network))
    weights = {*network.state_dict(keep_vars=True)}
    for start, rule in freezing.steps():
        found = _all_names(network, _matches(network, names, rule))
        if not found & at_first:
            reason = "is not frozen" if found else "matches no layer"
            raise FreezingError(f"unfreeze={rule!r} {reason}; frozen is {freezing.rule}")
        if not any(found.intersection(_with_ancestors(name)) for name in weights):
            raise FreezingError(f"unfreeze={rule!r} names layers without weights: nothing to train")
        if epoch >= start:
            frozen = _whole(names, {*frozen} - found)
    if freezing.unfreeze_at is not None and epoch >= freezing.unfreeze_at:
        return frozenset()
    return frozen


def check_head_learns(network: nn.Module, freezing: Freezing) -> None:
    """Check that a head of zeros, through which no gradient passes, is not frozen.

    Raises:
        FreezingError: The head is frozen and its weights are zero: nothing can be learned.
    """
    from .heads import find_head

    frozen = frozen_at(network, freezing, 1)
    if not frozen:
        return
    try:
        name = find_head(network)
    except HeadError:
        return
    weight = getattr(network.get_submodule(name), "weight", None)
    if name in frozen and weight is not None and not weight.any():
        raise FreezingError(
            f"freeze={freezing.rule!r} freezes the head {name}, whose weights are zero: nothing "
            "could be learned. Freeze other layers, or begin with a fitted head: head='probe'"
        )


def frozen_modules(network: nn.Module, rule: str) -> frozenset[str]:
    """Return the names of the modules and parameters that a rule freezes.

    Args:
        network: A classifier.
        rule: As in `Freezing.freeze`. `until NAME` follows the order of the layers in the network
            and accepts a PyTorch name or a Lua path (see `find_tap`). A pattern, as in a shell,
            that matches a module's name includes everything inside the module. Several rules, with
            commas between, freeze what any of them does.

    Raises:
        FreezingError: A rule matches no layer, or nothing is left to train.

    Example:
        >>> from torch import nn
        >>> network = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 4), nn.Linear(4, 2))
        >>> sorted(frozen_modules(network, "0,2"))
        ['0', '0.bias', '0.weight', '2', '2.bias', '2.weight']
    """
    if rule == "none":
        return frozenset()
    names = list(_module_and_parameter_names(network))
    matched: set[str] = set()
    for part in map(str.strip, _COMMA.split(rule)):
        found = _whole(names, _matches(network, names, part))
        if not found:
            raise FreezingError(
                f"freeze={part!r} matches no layer: none, all-but-head, 'until NAME' or a pattern "
                f"of names was expected; the first names are {', '.join(names[1:6])}"
            )
        matched |= found
    frozen = _whole(names, matched)
    if _frozen_ids(network, frozen) >= {id(parameter) for parameter in network.parameters()}:
        raise FreezingError(f"freeze={rule!r} leaves nothing to train")
    return frozen


def _matches(network: nn.Module, names: list[str], rule: str) -> set[str]:
    """Return the names that a single rule means."""
    from .find_layers import spellings
    from .heads import find_head

    if rule == "all-but-head":
        head = find_head(network)
        return {name for name in names if head not in _with_ancestors(name)}
    if rule.startswith("until "):
        return set(names[: names.index(_layer_name(network, rule.removeprefix("until ").strip()))])
    patterns = spellings(network, rule)
    return {
        name
        for name in names
        for above in _with_ancestors(name)
        if above and any(fnmatch.fnmatchcase(above, pattern) for pattern in patterns)
    }


def _whole(names: list[str], matched: set[str]) -> frozenset[str]:
    """Return matched names, but for modules that are matched only in part."""
    rest = {above for name in set(names) - matched for above in _with_ancestors(name)}
    return frozenset(matched - rest)


def set_frozen(network: nn.Module, frozen: frozenset[str]) -> None:
    """Freeze these modules and parameters of a network, and unfreeze all others.

    Args:
        network: Changed in place. What is not frozen has gradients and follows `train()`.
        frozen: Names of modules and parameters, from `frozen_at`.
    """
    for name, module in network.named_modules(remove_duplicate=False):
        vars(module).pop("train", None)
        if name in frozen:
            module.training = False
            # `network.train()` calls each child's `train`: this one shadows the class's method.
            vars(module)["train"] = MethodType(_keep_mode, module)
    frozen_ids = _frozen_ids(network, frozen)
    for parameter in network.parameters():
        parameter.requires_grad_(id(parameter) not in frozen_ids)


def count_parameters(network: nn.Module, frozen: frozenset[str]) -> tuple[int, int]:
    """Return how many elements of the parameters are trained, and how many are frozen."""
    frozen_ids = _frozen_ids(network, frozen)
    total = sum(value.numel() for value in network.parameters())
    kept = sum(value.numel() for value in network.parameters() if id(value) in frozen_ids)
    return total - kept, kept


def _all_names(network: nn.Module, names: set[str]) -> set[str]:
    """Return names with the other names of the same modules and parameters."""
    named = [
        *network.named_modules(remove_duplicate=False),
        *network.named_parameters(remove_duplicate=False),
    ]
    ids = {id(one) for name, one in named if name in names}
    return {name for name, one in named if id(one) in ids}


def _frozen_ids(network: nn.Module, frozen: frozenset[str]) -> set[int]:
    """Return the ids of the parameters that are frozen, under any of their names."""
    parameters = network.named_parameters(remove_duplicate=False)
    return {id(parameter) for name, parameter in parameters if name in frozen}


def _keep_mode(module: nn.Module, mode: bool = True) -> nn.Module:
    """Replace the `train` of a frozen module: the mode does not change."""
    return module


def _module_and_parameter_names(network: nn.Module) -> Iterator[str]:
    """Yield the name of each module, followed by those of its own parameters, in order."""
    for name, module in network.named_modules(remove_duplicate=False):
        yield name
        for parameter, _ in module.named_parameters(recurse=False, remove_duplicate=False):
            yield f"{name}.{parameter}" if name else parameter


def _with_ancestors(name: str) -> Iterator[str]:
    """Yield `a.b.c`, `a.b`, `a` and the network's own name, which is empty."""
    while name:
        yield name
        name = name.rpartition(".")[0]
    yield ""


def _layer_name(network: nn.Module, name: str) -> str:
    """Return the PyTorch name of a layer, from that name or a Lua path."""
    from .find_layers import find_tap

    try:
        return find_tap(network, name).layer
    except LayerError as error:
        raise FreezingError(f"freeze='until {name}': {error}") from None
