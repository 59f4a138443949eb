"""Finding a layer of a network by its PyTorch name, its Lua path, or its role."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from torch import nn

from ..converters.saved import NamedNetwork, last_weights
from .errors import LayerError

#: The input of the last linear layer: the features on which a classifier bases its decision.
PENULTIMATE = "penultimate"
#: The input of the network itself: preprocessed pixels, to compare features with.
INPUT = "input"
#: What the network gives, such as an embedding.
OUTPUT = "output"

#: `get(2):get(9)`, `model:get(2).modules[9]`; a variable's name may precede the first step.
_LUA_STEP = r"(?:get\(\s*(\d+)\s*\)|modules\[\s*(\d+)\s*\])"
_LUA_PATH = re.compile(rf"(?:[\w.]+[:.])??{_LUA_STEP}(?:[:.]{_LUA_STEP})*")


@dataclass(frozen=True)
class Tap:
    """A place in a network where features are taken.

    Attributes:
        name: The name of the features: `penultimate`, `input`, or the layer's PyTorch name.
        layer: The layer's PyTorch name; empty for the network itself.
        before: Take the layer's input instead of its output.
    """

    name: str
    layer: str
    before: bool = False

    def __str__(self) -> str:
        side = "the input of " if self.before else ""
        return f"{side}{self.layer or 'the network'}"


def find_tap(network: nn.Module, name: str) -> Tap:
    """Return the place that a name denotes.

    Args:
        network: The network.
        name: `penultimate` (the input of the head, which is the last Linear or, where there is
            none, the last Conv2d), `input` (the input of the network), `output` (what it gives), or
            a layer, whose output is taken: by its PyTorch name (`1.8`; of a network of torchvision
            or timm `layer4` too) or its Lua path (`get(2):get(9)`, `modules[2].modules[9]`).

    Raises:
        LayerError: If there is no such layer; the message lists similar names.

    Example:
        >>> from torch import nn
        >>> from torchlift.transfer.find_layers import find_tap
        >>> network = nn.Sequential(nn.Sequential(nn.Flatten(), nn.Linear(9, 4)), nn.ReLU())
        >>> find_tap(network, "get(1):get(2)")
        Tap(name='0.1', layer='0.1', before=False)
        >>> str(find_tap(network, "penultimate"))
        'the input of 0.1'
    """
    layers = dict(network.named_modules(remove_duplicate=False))
    if name in (INPUT, OUTPUT):
        return Tap(name, "", before=name == INPUT)
    if name == PENULTIMATE:
        return Tap(name, _head_of(network, layers), before=True)
    if _LUA_PATH.fullmatch(name):
        layer = follow_lua_path(network, name)
        return Tap(layer, layer)
    for spelling in spellings(network, name):
        if spelling in layers and spelling:
            return Tap(spelling, spelling)
    raise LayerError(f"no layer {name!r}; {_suggest(name, layers)}")


def spellings(network: nn.Module, name: str) -> tuple[str, ...]:
    """Return the PyTorch names, or patterns of them, that a person may mean by one.

    A network of torchvision or timm is the only child, `network`, of the module that names it in a
    saved model; `layer4` stands for `network.layer4` there.

    Example:
        >>> from torchlift.converters.saved import TorchvisionNetwork
        >>> spellings(TorchvisionNetwork("resnet18"), "layer4")
        ('layer4', 'network.layer4')
    """
    return (name, f"network.{name}") if isinstance(network, NamedNetwork) else (name,)


def find_taps(network: nn.Module, names: Sequence[str]) -> list[Tap]:
    """Return the places that several names denote, each place once (see `find_tap`).

    Raises:
        LayerError: If there is no name, or no such layer.
    """
    taps = list(dict.fromkeys(find_tap(network, name) for name in names))
    if not taps:
        raise LayerError("no layer was named")
    return taps


def follow_lua_path(network: nn.Module, path: str) -> str:
    """Return the PyTorch name of the layer at a Lua path: `1.8` for `get(2):get(9)`.

    Conversion keeps the structure and the order of a network, so Lua's n-th child is PyTorch's
    child n-1.

    Raises:
        LayerError: If a step leads nowhere; the message says where the path ends.
    """
    steps = [int(get or modules) for get, modules in re.findall(_LUA_STEP, path)]
    module, names = network, list[str]()
    for step in steps:
        children = [name for name, child in module._modules.items() if child is not None]
        if not 1 <= step <= len(children):
            parent = ".".join(names) or "the network"
            layers = dict(network.named_modules(remove_duplicate=False))
            raise LayerError(
                f"no layer {path!r}: {parent} ({type(module).__name__}) has {len(children)} "
                f"children; {_suggest('.'.join([*names, str(step - 1)]), layers)}"
            )
        names.append(children[step - 1])
        module = getattr(module, names[-1])
    return ".".join(names)


def nearest(name: str, names: Iterable[str], count: int = 5) -> list[str]:
    """Return the most similar names, the most similar first."""
    return difflib.get_close_matches(name, list(names), n=count, cutoff=0.3)


def _head_of(network: nn.Module, layers: dict[str, nn.Module]) -> str:
    name = last_weights(network)
    if name is not None:
        return name
    last = [name for name in layers if name][-5:]
    raise LayerError(
        f"{PENULTIMATE!r} is the input of the last Linear or Conv2d, and this network has none; "
        f"name a layer, such as one of the last: {_list(last, layers)}"
    )


def _suggest(name: str, layers: dict[str, nn.Module]) -> str:
    names = [layer for layer in layers if layer]
    similar = nearest(name, names) or names[-5:]
    return f"nearest names: {_list(similar, layers)}, {PENULTIMATE}, {INPUT}, {OUTPUT}"


def _list(names: Sequence[str], layers: dict[str, nn.Module]) -> str:
    return ", ".join(f"{name} ({type(layers[name]).__name__})" for name in names)
