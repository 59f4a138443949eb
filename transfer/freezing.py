"""Keeping layers as they are while others are trained.

Frozen means two things: no gradient, and evaluation mode whatever the rest of the network is in.
The second is what is easily forgotten: a BatchNorm without gradients still moves its running
statistics in training mode.
"""

from __future__ import annotations

import fnmatch
from collections.abc import Iterator
from types import MethodType

from torch import nn

from .errors import FreezingError, LayerError
from .heads import find_head
from .layers import find_tap
from .training.options import Freezing


def frozen_at(network: nn.Module, freezing: Freezing, epoch: int) -> frozenset[str]:
    """The names of the parts that are frozen in an epoch; nothing else decides about it.

    Args:
        network: a classifier.
        freezing: the rule, and when it ends.
        epoch: counted from 1.

    Raises:
        FreezingError: when the rule means no layer, or leaves nothing to train.
    """
    if freezing.unfreeze_at is not None and epoch >= freezing.unfreeze_at:
        return frozenset()
    return frozen_modules(network, freezing.freeze)


def frozen_modules(network: nn.Module, rule: str) -> frozenset[str]:
    """The names of the modules and parameters that a rule freezes.

    Args:
        network: a classifier.
        rule: as `Freezing.freeze`. `until NAME` goes by the order of the layers in the network
            and takes the name as `extract` does, also a Lua path; a pattern (as in a shell)
            that fits a module's name stands for all within.

    Raises:
        FreezingError: when the rule means no layer, or leaves nothing to train.
    """
    parts = list(_part_names(network))
    if rule == "none":
        return frozenset()
    if rule == "all-but-head":
        head = find_head(network)
        chosen = [name for name in parts if head not in _with_ancestors(name)]
    elif rule.startswith("until "):
        chosen = parts[: parts.index(_layer(network, rule.removeprefix("until ").strip()))]
    else:
        chosen = [
            name
            for name in parts
            if any(fnmatch.fnmatchcase(above, rule) for above in _with_ancestors(name) if above)
        ]
    # A module is frozen only if all of its parts are.
    trained = {above for name in set(parts) - set(chosen) for above in _with_ancestors(name)}
    frozen = frozenset(chosen) - trained
    if not frozen:
        raise FreezingError(
            f"--freeze {rule!r} fits no layer: none, all-but-head, 'until NAME' or a pattern of "
            f"names was expected; the first names are {', '.join(parts[1:6])}"
        )
    if all(name in frozen for name, _ in network.named_parameters()):
        raise FreezingError(f"--freeze {rule!r} leaves nothing to train")
    return frozen


def set_frozen(network: nn.Module, frozen: frozenset[str]) -> None:
    """Freeze these parts of a network, and nothing else.

    Args:
        network: it is changed: what is not frozen gets gradients again and obeys `train()`.
        frozen: names of modules and parameters, from `frozen_at`.
    """
    for name, module in network.named_modules(remove_duplicate=False):
        vars(module).pop("train", None)
        if name in frozen:
            module.training = False
            # `network.train()` calls its children's `train`, and finds this one.
            vars(module)["train"] = MethodType(_stay, module)
    parameters = list(network.named_parameters(remove_duplicate=False))
    kept = {id(parameter) for name, parameter in parameters if name in frozen}
    for _, parameter in parameters:
        parameter.requires_grad_(id(parameter) not in kept)


def count_parameters(network: nn.Module, frozen: frozenset[str]) -> tuple[int, int]:
    """How many numbers of a network are trained and how many not, if these parts are frozen."""
    kept = sum(value.numel() for name, value in network.named_parameters() if name in frozen)
    return sum(value.numel() for value in network.parameters()) - kept, kept


def _stay(module: nn.Module, mode: bool = True) -> nn.Module:
    """A frozen module's `train`: it changes nothing."""
    return module


def _part_names(network: nn.Module) -> Iterator[str]:
    """The names of all modules and, behind its module's, of each parameter, in order."""
    for name, module in network.named_modules(remove_duplicate=False):
        yield name
        for parameter, _ in module.named_parameters(recurse=False, remove_duplicate=False):
            yield f"{name}.{parameter}" if name else parameter


def _with_ancestors(name: str) -> Iterator[str]:
    """`a.b.c` → `a.b.c`, `a.b`, `a` and the network's own name, which is empty."""
    while name:
        yield name
        name = name.rpartition(".")[0]
    yield ""


def _layer(network: nn.Module, name: str) -> str:
    """The PyTorch name of a layer that is named in any way."""
    try:
        return find_tap(network, name).layer
    except LayerError as error:
        raise FreezingError(f"--freeze 'until {name}': {error}") from None
