"""Which layer an error in a forward pass comes from: its paths, its arguments, and what came in."""

from __future__ import annotations

import sys
from typing import Any

import torch
from torch import nn
from torch.utils import _pytree as pytree

from .torch7_source import source_of


def explain(error: BaseException, network: nn.Module) -> str | None:
    """Return a sentence about the layer that an error was raised in.

    Args:
        error: An error that was raised during a call of the network.
        network: The network.

    Returns:
        The sentence; None if the error was not raised in a layer below the network.

    Example:
        >>> network = nn.Sequential(nn.Flatten(), nn.Linear(4, 2))
        >>> try:
        ...     network(torch.zeros(1, 5))
        ... except RuntimeError as error:
        ...     explain(error, network)
        'layer 1, Linear(in_features=4, out_features=2, bias=True), got an input of shape (1, 5)'
    """
    names = {id(module): name for name, module in network.named_modules()}
    found: tuple[nn.Module, Any] | None = None
    trace = error.__traceback__
    while trace is not None:
        values = trace.tb_frame.f_locals
        module = values.get("self")
        is_call = trace.tb_frame.f_code.co_name == "_call_impl"
        if is_call and isinstance(module, nn.Module) and names.get(id(module)):
            found = module, values.get("args")
        trace = trace.tb_next
    if found is None:
        return None
    module, inputs = found
    name = names[id(module)]
    lua = lua_paths(network).get(name)
    shapes = " and ".join(
        str(tuple(value.shape))
        for value in pytree.tree_leaves(inputs)
        if isinstance(value, torch.Tensor)
    )
    takes = (type(module).forward.__doc__ or "").strip().splitlines()
    is_ours = type(module).__module__.split(".")[0] == __name__.split(".")[0]
    hint = f" ({takes[0].rstrip('.')})" if takes and is_ours else ""
    where = f"layer {name}" if lua is None else f"layer {lua} (in PyTorch {name})"
    summary = " ".join(repr(module).split())
    summary = summary if len(summary) <= 120 else f"{type(module).__name__}(…)"
    return f"{where}, {summary}, got an input of shape {shapes or 'unknown'}{hint}"


def lua_paths(network: nn.Module) -> dict[str, str]:
    """Return the Lua path of each layer of a converted network by its name in PyTorch."""
    from .conversion import convert_recorded

    source = source_of(network)
    if source is None:
        return {}
    conversion = convert_recorded(source.object(network))
    paths = {id(layer.module): layer.path for layer in conversion.layers}
    named = conversion.module.named_modules()
    return {name: paths[id(module)] for name, module in named if id(module) in paths}


def note_layer(network: nn.Module, inputs: Any, output: Any) -> None:
    """Add to an error of a forward pass which layer it comes from; a forward hook of the network.

    PyTorch calls it after each forward pass, and while an error is handled if it was registered
    with `always_call=True`.
    """
    error = sys.exception()
    if error is not None and not getattr(error, "__notes__", None):
        text = explain(error, network)
        if text is not None:
            error.add_note(text)
