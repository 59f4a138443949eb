"""Naming a layer of a network: as PyTorch does, as Lua does, or by its role."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from torch import nn

from .errors import LayerError

#: What the last linear layer takes: the features that a classifier decides by.
PENULTIMATE = "penultimate"
#: What the network itself takes: pixels after preprocessing, to compare features with.
INPUT = "input"

#: `get(2):get(9)`, `model:get(2).modules[9]`: anything before the first step is a variable's name.
_LUA_STEP = r"(?:get\(\s*(\d+)\s*\)|modules\[\s*(\d+)\s*\])"
_LUA_PATH = re.compile(rf"(?:[\w.]+[:.])??{_LUA_STEP}(?:[:.]{_LUA_STEP})*")


@dataclass(frozen=True)
class Tap:
    """A place in a network where features are taken.

    Attributes:
        name: what the features are called: `penultimate`, `input`, or the layer's PyTorch name.
        layer: the layer's PyTorch name; empty for the network itself.
        before: take what the layer is given, not what it gives.
    """

    name: str
    layer: str
    before: bool = False

    def __str__(self) -> str:
        side = "the input of " if self.before else ""
        return f"{side}{self.layer or 'the network'}"


def find_tap(network: nn.Module, name: str) -> Tap:
    """The place that a name means.

    Args:
        network: the network.
        name: `penultimate` (what the last Linear takes), `input` (what the network takes), a
            PyTorch name (`1.8`) or a Lua path (`get(2):get(9)`, `modules[2].modules[9]`); both of
            the latter mean what the layer gives.

    Raises:
        LayerError: when there is no such layer; it lists those with a similar name.
    """
    layers = dict(network.named_modules(remove_duplicate=False))
    if name == INPUT:
        return Tap(name, "", before=True)
    if name == PENULTIMATE:
        return Tap(name, _last_linear(layers), before=True)
    if _LUA_PATH.fullmatch(name):
        layer = follow_lua_path(network, name)
        return Tap(layer, layer)
    if name in layers and name:
        return Tap(name, name)
    raise LayerError(f"no layer {name!r}; {_near(name, layers)}")


def find_taps(network: nn.Module, names: Sequence[str]) -> list[Tap]:
    """The places that several names mean, each once (see `find_tap`).

    Raises:
        LayerError: when no layer is named, or one that is not there.
    """
    taps = list(dict.fromkeys(find_tap(network, name) for name in names))
    if not taps:
        raise LayerError("no layer was named")
    return taps


def follow_lua_path(network: nn.Module, path: str) -> str:
    """The PyTorch name of the layer at a Lua path: `get(2):get(9)` is `1.8`.

    A converted network keeps structure and order, so that Lua's n-th child is PyTorch's (n-1)-th.

    Raises:
        LayerError: when a step leads nowhere; it says where the path ends.
    """
    steps = [int(get or modules) for get, modules in re.findall(_LUA_STEP, path)]
    module, names = network, list[str]()
    for step in steps:
        children = [name for name, child in module._modules.items() if child is not None]
        if not 1 <= step <= len(children):
            where = ".".join(names) or "the network"
            layers = dict(network.named_modules(remove_duplicate=False))
            raise LayerError(
                f"no layer {path!r}: {where} ({type(module).__name__}) has {len(children)} "
                f"children; {_near('.'.join([*names, str(step - 1)]), layers)}"
            )
        names.append(children[step - 1])
        module = getattr(module, names[-1])
    return ".".join(names)


def nearest(name: str, names: Iterable[str], count: int = 5) -> list[str]:
    """The most similar names, the best first."""
    return difflib.get_close_matches(name, list(names), n=count, cutoff=0.3)


def _last_linear(layers: dict[str, nn.Module]) -> str:
    linear = [name for name, layer in layers.items() if isinstance(layer, nn.Linear)]
    if not linear:
        last = [name for name in layers if name][-5:]
        raise LayerError(
            f"{PENULTIMATE!r} is what the last Linear takes, and this network has none; "
            f"name a layer, such as one of the last: {_listed(last, layers)}"
        )
    return linear[-1]


def _near(name: str, layers: dict[str, nn.Module]) -> str:
    names = [layer for layer in layers if layer]
    found = nearest(name, names) or names[-5:]
    return f"near: {_listed(found, layers)}, {PENULTIMATE}, {INPUT}"


def _listed(names: Sequence[str], layers: dict[str, nn.Module]) -> str:
    return ", ".join(f"{name} ({type(layers[name]).__name__})" for name in names)
