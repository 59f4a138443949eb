"""Layers that do not fit each other: a network that takes no input at all."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from .conversion import lua_paths
from .meta_device import on_meta_device

#: The side of the image that is tried.
_SIDE = 256

#: What a layer calls the number of its channels, and what it does to them.
_CHANNELS = {"num_features": "normalizes", "in_channels": "takes"}


class _MisfitError(Exception):
    """A layer gets another number of channels than it has."""


def channel_misfit(module: nn.Module) -> str:
    """Return which layer of an image network gets another number of channels than it has.

    Args:
        module: A network that was converted; none of its values is computed.

    Returns:
        A sentence with the layer and both numbers; empty if all layers fit each other.

    Example:
        >>> network = nn.Sequential(nn.Conv2d(3, 16, 3), nn.BatchNorm2d(8))
        >>> channel_misfit(network)
        'the layers do not fit each other: 1 (BatchNorm2d) normalizes 8 channels, but gets 16'
    """
    first = next((one for one in module.modules() if isinstance(one, nn.Conv2d)), None)
    if first is None:
        return ""
    trial = on_meta_device(module)
    paths = lua_paths(module)
    for name, layer in trial.named_modules():
        shown = paths.get(name) or name
        layer.register_forward_pre_hook(_checked(f"{shown} ({type(layer).__name__})", first))
    image = torch.empty(2, first.in_channels, _SIDE, _SIDE, device="meta")
    dtype = next((one.dtype for one in module.parameters()), torch.float32)
    try:
        with torch.no_grad():
            trial(image.to(dtype))
    except _MisfitError as error:
        return str(error)
    except Exception:  # each layer raises its own class of exception; another size may fit
        return ""
    return ""


def _checked(name: str, first: nn.Conv2d) -> Callable[[nn.Module, Any], None]:
    """Return a hook that compares what a layer gets with its number of channels."""

    def check(layer: nn.Module, args: Any) -> None:
        given = args[0] if args else None
        if not isinstance(given, torch.Tensor) or given.dim() != 4:
            return
        for attribute, verb in _CHANNELS.items():
            count = getattr(layer, attribute, None)
            if isinstance(count, int) and count != given.shape[1]:
                raise _MisfitError(
                    f"the layers do not fit each other: {name} {verb} {count} channels, but gets "
                    f"{given.shape[1]}"
                )

    return check
