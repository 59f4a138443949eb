"""Cutting a network behind one of its layers, so that it can be saved without the rest."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import nn

from ...converters.inference.torch_module import inference_copy
from ...converters.saved import UpToLayer
from ..find_layers import Tap


def cut_network(network: nn.Module, tap: Tap, example: torch.Tensor) -> nn.Module:
    """Return the part of a network up to a layer, as a network that can be saved.

    A layer in a plain `nn.Sequential`, or in one inside another, is the last of a shorter one.
    Any other network is kept, ends at the layer (see `UpToLayer`), and loses the layers that it
    does not reach before.

    Args:
        network: In evaluation mode. Its layers are shared with the result.
        tap: The layer.
        example: Inputs (2, …).

    Example:
        >>> from torchlift.transfer.find_layers import find_tap
        >>> network = nn.Sequential(nn.Linear(4, 3), nn.Sequential(nn.ReLU(), nn.Linear(3, 2)))
        >>> cut_network(network, find_tap(network, "penultimate"), torch.zeros(2, 4))
        Sequential(
          (0): Linear(in_features=4, out_features=3, bias=True)
          (1): Sequential(
            (0): ReLU()
          )
        )
    """
    if not tap.layer:
        return nn.Sequential() if tap.before else network
    parents = tap.layer.split(".")[:-1]
    above = [network.get_submodule(".".join(parents[:depth])) for depth in range(len(parents) + 1)]
    if all(type(module) is nn.Sequential for module in above):
        return _shortened(network, tap.layer.split("."), tap.before)
    unused = list(_unused(network, tap, example))
    if not _runs(network, unused, example):
        unused = []
    return UpToLayer(network, tap.layer, tap.before, unused)


def _shortened(module: nn.Module, path: list[str], before: bool) -> nn.Module:
    """Return a nest of `nn.Sequential`, without what comes after a layer."""
    if not path:
        return module
    children = list(module._modules)
    at = children.index(path[0])
    kept = [module.get_submodule(name) for name in children[:at]]
    if len(path) == 1 and before:
        return nn.Sequential(*kept)
    return nn.Sequential(*kept, _shortened(module.get_submodule(path[0]), path[1:], before))


def _unused(network: nn.Module, tap: Tap, example: torch.Tensor) -> Iterator[str]:
    """Yield the names of layers with weights that do not run before a layer is reached.

    A layer that has run may use the weights of its children without calling them.
    """
    whole = UpToLayer(inference_copy(network), tap.layer, tap.before)
    begun: set[nn.Module] = set()
    ended: set[nn.Module] = set()
    for module in whole.modules():
        module.register_forward_pre_hook(lambda module, _: begun.add(module))
        module.register_forward_hook(lambda module, *_: ended.add(module))
    with torch.no_grad():
        whole(example)
    if tap.before:
        # Its hook came before the one that ends the pass.
        begun.discard(whole.network.get_submodule(tap.layer))

    def walk(module: nn.Module, path: str) -> Iterator[str]:
        for name, child in module.named_children():
            inner = f"{path}.{name}" if path else name
            if begun.isdisjoint(child.modules()):
                if any(True for _ in (*child.parameters(), *child.buffers())):
                    yield inner
            elif child not in ended:
                yield from walk(child, inner)

    yield from walk(whole.network, "")


def _runs(network: nn.Module, unused: list[str], example: torch.Tensor) -> bool:
    """Return whether a network runs to its end without some layers, as exporting it needs."""
    trial = inference_copy(network)
    for name in unused:
        trial.set_submodule(name, nn.Identity())
    try:
        with torch.no_grad():
            trial(example)
    except Exception:  # Layers raise anything for an input that does not fit.
        return False
    return True
