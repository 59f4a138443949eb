"""The walk of an input's shape through a network."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from typing import Any, TypeAlias

import torch
from torch import nn
from torch.utils._pytree import tree_leaves

from ...converters.saved.shapes import on_meta_device
from ..errors import SummaryError
from .formulas import formula
from .operations import Operations

#: The shape of one example, or those of a table's entries.
Shape: TypeAlias = "tuple[int, ...] | list[Shape]"

#: Some layers drop a batch of one, so that two examples are walked through.
_BATCH = 2


@dataclass(frozen=True)
class LayerRow:
    """One layer on the way, each time it runs.

    Attributes:
        name: its PyTorch name; empty for the network itself.
        lua: the same as a Lua path, `get(2):get(9)`.
        class_name: of the layer.
        settings: its constructor's arguments, as PyTorch prints them.
        kernel_size: of a convolution or pooling, otherwise None.
        input_shape: of one example that it is given.
        output_shape: of what it makes of that.
        parameters: how many it has; those that were counted before do not count again.
        weight_bytes: of its parameters and running statistics.
        output_bytes: of its output for one example.
        multiply_adds: for one example.
        formula: how its output gets its size, or None.
    """

    name: str
    lua: str
    class_name: str
    settings: str
    kernel_size: list[int] | None
    input_shape: Shape
    output_shape: Shape
    parameters: int
    weight_bytes: int
    output_bytes: int
    multiply_adds: int
    formula: str | None


@dataclass(frozen=True)
class Summary:
    """A network for one input size.

    Attributes:
        input_shape: (C, H, W) of one example.
        output_shape: of what the network makes of it.
        layers: in the order in which they finish.
        depth: layers with weights on the longest way through the network.
    """

    input_shape: tuple[int, ...]
    output_shape: Shape
    layers: list[LayerRow]
    depth: int

    @property
    def parameters(self) -> int:
        """All of them."""
        return sum(row.parameters for row in self.layers)

    @property
    def weight_bytes(self) -> int:
        """Of all parameters and running statistics."""
        return sum(row.weight_bytes for row in self.layers)

    @property
    def output_bytes(self) -> int:
        """Of the outputs of all layers for one example: what a training has to keep."""
        return sum(row.output_bytes for row in self.layers)

    @property
    def multiply_adds(self) -> int:
        """For one example."""
        return sum(row.multiply_adds for row in self.layers)

    def to_json(self) -> dict[str, Any]:
        """As JSON values."""
        totals = ("parameters", "weight_bytes", "output_bytes", "multiply_adds")
        return {
            "input_shape": list(self.input_shape),
            "output_shape": self.output_shape,
            "depth": self.depth,
            **{name: getattr(self, name) for name in totals},
            "layers": [asdict(row) for row in self.layers],
        }


def summarize(network: nn.Module, input_shape: Sequence[int]) -> Summary:
    """Walk a shape through a network in evaluation mode; no number of it is computed.

    A container has a row only where it adds something to its last layer's output (`Concat` joins),
    or has parameters that none of its layers uses by itself.

    Args:
        network: it is not changed; its tensors may be on the `meta` device.
        input_shape: of one example, such as (3, 224, 224).

    Raises:
        SummaryError: when the network does not take such an input.
    """
    network = on_meta_device(network).eval()
    dtype = next((t.dtype for t in network.parameters() if t.is_floating_point()), torch.float32)
    given = torch.empty(_BATCH, *input_shape, dtype=dtype, device="meta")
    operations = Operations(given)
    walk = _Walk(network, operations)
    try:
        with walk.hooks(), torch.no_grad(), operations:
            output = network(given)
    except Exception as error:  # each layer says in its own way that an input does not fit
        size = "×".join(map(str, input_shape))
        where = f" at {walk.running}" if walk.running else ""
        said = (str(error).splitlines() or [type(error).__name__])[0]
        raise SummaryError(f"the network does not take {size}{where}: {said}") from error
    return Summary(tuple(input_shape), _shape(output), walk.rows, operations.depth(output))


@dataclass
class _Run:
    """A layer that is running: multiply-adds before it and inside its layers, their outputs."""

    before: int
    inside: int = 0
    outputs: list[Any] = field(default_factory=list)


class _Walk:
    """Makes a row of each layer that finishes."""

    def __init__(self, network: nn.Module, operations: Operations) -> None:
        self.network = network
        self.operations = operations
        self.rows: list[LayerRow] = []
        self._names = {id(layer): name for name, layer in network.named_modules()}
        self._counted: set[int] = set()
        self._runs: list[tuple[nn.Module, _Run]] = []

    @property
    def running(self) -> str:
        """The innermost layer that has started and not finished."""
        if not self._runs:
            return ""
        layer, _ = self._runs[-1]
        return f"{self._names[id(layer)]} ({type(layer).__name__})".strip()

    def hooks(self) -> ExitStack:
        """Watches all layers, until it is closed."""
        hooks = ExitStack()
        for layer in self.network.modules():
            hooks.enter_context(layer.register_forward_pre_hook(self._start))
            hooks.enter_context(layer.register_forward_hook(self._finish))
        return hooks

    def _start(self, layer: nn.Module, _inputs: Any) -> None:
        self._runs.append((layer, _Run(self.operations.multiply_adds)))

    def _finish(self, layer: nn.Module, inputs: Any, output: Any) -> None:
        _, run = self._runs.pop()
        spent = self.operations.multiply_adds - run.before
        if self._runs:
            self._runs[-1][1].inside += spent
            self._runs[-1][1].outputs.append(output)
        parameters = self._new(layer.parameters())
        tensors = parameters + self._new(layer.buffers())
        passes_on = any(output is inner for inner in run.outputs)
        if passes_on and not tensors and spent == run.inside:
            return
        name = self._names[id(layer)]
        shapes = _shape(inputs[0] if len(inputs) == 1 else list(inputs)), _shape(output)
        self.rows.append(
            LayerRow(
                name=name,
                lua=lua_path(self.network, name),
                class_name=type(layer).__name__,
                settings=layer.extra_repr(),
                kernel_size=_kernel(layer),
                input_shape=shapes[0],
                output_shape=shapes[1],
                parameters=sum(tensor.numel() for tensor in parameters),
                weight_bytes=sum(map(_bytes, tensors)),
                output_bytes=sum(map(_bytes, tree_leaves(output))) // _BATCH,
                multiply_adds=(spent - run.inside) // _BATCH,
                formula=_formula(layer, *shapes),
            )
        )

    def _new(self, tensors: Any) -> list[torch.Tensor]:
        """Those that no layer before has counted."""
        fresh = [tensor for tensor in tensors if id(tensor) not in self._counted]
        self._counted.update(map(id, fresh))
        return fresh


def lua_path(network: nn.Module, name: str) -> str:
    """A layer's place in Lua's words: `1.8` is `get(2):get(9)` (see `follow_lua_path`)."""
    steps, module = [], network
    for part in name.split(".") if name else ():
        steps.append(f"get({list(module._modules).index(part) + 1})")
        module = getattr(module, part)
    return ":".join(steps)


def _shape(value: Any) -> Shape:
    if isinstance(value, torch.Tensor):
        sizes = tuple(value.shape)
        return sizes[1:] if sizes[:1] == (_BATCH,) else sizes
    if isinstance(value, dict):
        value = list(value.values())
    return [_shape(item) for item in value] if isinstance(value, (list, tuple)) else ()


def _formula(layer: nn.Module, input: Shape, output: Shape) -> str | None:
    if isinstance(input, list) or isinstance(output, list):
        return None
    return formula(layer, input, output)


def _kernel(layer: nn.Module) -> list[int] | None:
    size = getattr(layer, "kernel_size", None)
    if isinstance(size, int):
        return [size]
    return list(size) if isinstance(size, (list, tuple)) else None


def _bytes(value: Any) -> int:
    return value.numel() * value.element_size() if isinstance(value, torch.Tensor) else 0
