"""Which layer an error in a forward pass comes from: its paths, its arguments, and what came in."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any, TypeAlias

import torch
from torch import nn
from torch.utils import _pytree as pytree

#: Returns the Lua path of each layer of a network by its name in PyTorch (see `lua_paths`).
Paths: TypeAlias = Callable[[nn.Module], dict[str, str]]


def explain(error: BaseException, network: nn.Module, paths: Paths) -> str | None:
    """Return a sentence about the layer that an error was raised in.

    Args:
        error: An error that was raised during a call of the network.
        network: The network.
        paths: Returns the Lua paths of its layers.

    Returns:
        The sentence; None if the error was not raised in a layer below the network.

    Example:
        >>> network = nn.Sequential(nn.Flatten(), nn.Linear(4, 2))
        >>> try:
        ...     network(torch.zeros(1, 5))
        ... except RuntimeError as error:
        ...     explain(error, network, lambda network: {})
        'layer 1, Linear(in_features=4, out_features=2, bias=True), got an input of shape (1, 5)'
    """
    names = {id(module): name for name, module in network.named_modules()}
    found: tuple[nn.Module, Any] | None = None
    trace = error.__traceback__
    while trace is not None:
        values = trace.tb_frame.f_locals
        module = values.get("self")
        # `nn.Module._call_impl` runs every module; its frame has the module and its inputs.
        is_call = trace.tb_frame.f_code.co_name == "_call_impl"
        if is_call and isinstance(module, nn.Module) and names.get(id(module)):
            found = module, values.get("args")
        trace = trace.tb_next
    if found is None:
        return None
    module, inputs = found
    name = names[id(module)]
    lua = paths(network).get(name)
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


def note_layer(paths: Paths, network: nn.Module, inputs: Any, output: Any) -> None:
    """Add to an error of a forward pass which layer it comes from; a forward hook of the network.

    PyTorch calls it after each forward pass, and while an error is handled if it was registered
    with `always_call=True`.
    """
    error = sys.exception()
    # Without values nothing is computed: shapes are being tried, and nobody reads the message.
    is_trial = any(parameter.is_meta for parameter in network.parameters())
    if error is not None and not is_trial and not getattr(error, "__notes__", None):
        text = explain(error, network, paths)
        if text is not None:
            error.add_note(text)
