"""The shapes, parameters, bytes and multiply-adds of a network, layer by layer."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from typing import Any, TypeAlias

import torch
from torch import nn
from torch.utils._pytree import tree_leaves

from ...converters.errors import first_line
from ...converters.input_shapes import InputShape, InputShapes
from ...converters.modules.conversion import lua_paths
from ...converters.modules.forward_errors import explain
from ...converters.modules.meta_device import on_meta_device
from ...converters.saved.input_trial import example_inputs, free_size, torch_dtype
from ..errors import SummaryError
from .formulas import formula
from .operations import Operations

#: The shape of one example, or a list of shapes for a list of tensors.
Shape: TypeAlias = "tuple[int, ...] | list[Shape]"

#: The size of a free axis, where the network takes none of those that are tried.
_FREE = 64
#: The size of the batch: some layers squeeze a batch of one.
_BATCH = 2


@dataclass(frozen=True)
class LayerRow:
    """One run of a layer; a layer that runs several times has several rows.

    Attributes:
        torch_path: Its name in PyTorch; empty for the network itself.
        lua_path: The same layer as a Lua path, `get(2):get(9)`.
        torch_class: The name of its class.
        settings: Its constructor's arguments, as PyTorch prints them.
        kernel_size: The kernel size of a convolution or pooling layer, otherwise None.
        input_shape: Shape of its input for one example.
        output_shape: Shape of its output for one example.
        parameters: Elements of its parameters, without those that an earlier row counts.
        weight_bytes: Bytes of these parameters and of its running statistics.
        output_bytes: Bytes of its output for one example.
        multiply_adds: Multiply-adds for one example.
        formula: The calculation of the size of its output, or None (see `formula`).

    Example:
        >>> row = summarize(nn.Sequential(nn.Linear(4, 3)), (4,)).layers[0]
        >>> row.torch_path, row.lua_path, row.torch_class, row.parameters, row.multiply_adds
        ('0', 'get(1)', 'Linear', 15, 12)
    """

    torch_path: str
    lua_path: str
    torch_class: str
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
    """The layers of a network for one input shape.

    Attributes:
        input_shape: Shape of one example, such as (C, H, W).
        output_shape: Shape of the output for one example.
        layers: The layers, in the order in which they finish.
        depth: Number of layers with weights on the longest path through the network.

    Example:
        >>> summary = summarize(nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2)), (4,))
        >>> summary.output_shape, summary.parameters, summary.multiply_adds, summary.depth
        ((2,), 23, 18, 2)
    """

    input_shape: Shape
    output_shape: Shape
    layers: list[LayerRow]
    depth: int

    @property
    def parameters(self) -> int:
        """The number of elements of all parameters."""
        return sum(row.parameters for row in self.layers)

    @property
    def weight_bytes(self) -> int:
        """The bytes of all parameters and running statistics."""
        return sum(row.weight_bytes for row in self.layers)

    @property
    def output_bytes(self) -> int:
        """The bytes of the outputs of all layers for one example, which a training keeps."""
        return sum(row.output_bytes for row in self.layers)

    @property
    def multiply_adds(self) -> int:
        """The multiply-adds for one example."""
        return sum(row.multiply_adds for row in self.layers)

    def to_json(self) -> dict[str, Any]:
        """Return the summary as JSON values."""
        totals = ("parameters", "weight_bytes", "output_bytes", "multiply_adds")
        return {
            "input_shape": _as_lists(self.input_shape),
            "output_shape": self.output_shape,
            "depth": self.depth,
            **{name: getattr(self, name) for name in totals},
            "layers": [asdict(row) for row in self.layers],
        }


def summarize(network: nn.Module, input_shape: Sequence[int] | InputShapes) -> Summary:
    """Return the shapes and costs of a network in evaluation mode, without computing any values.

    A container has a row only if it changes the output of its last layer, as `Concat` does, or has
    parameters that none of its layers uses by itself.

    Args:
        network: It is not changed. Its tensors may be on the `meta` device.
        input_shape: Shape of one example, such as (3, 224, 224); or of several inputs.

    Raises:
        SummaryError: The network does not accept such an input.

    Example:
        >>> for row in summarize(nn.Sequential(nn.Conv2d(3, 8, 5), nn.Flatten()), (3, 9, 9)).layers:
        ...     print(row.torch_path, row.torch_class, row.output_shape)
        0 Conv2d (8, 5, 5)
        1 Flatten (200,)
    """
    network = on_meta_device(network).eval()
    dtype = next((t.dtype for t in network.parameters() if t.is_floating_point()), torch.float32)
    shapes = input_shape if isinstance(input_shape, InputShapes) else None
    shapes = shapes or InputShapes.single(tuple(input_shape))  # type: ignore[arg-type]
    free = free_size(network, shapes) or _FREE

    def draw(leaf: InputShape, sizes: tuple[int, ...]) -> torch.Tensor:
        kind = torch_dtype(leaf) if leaf.is_integer else dtype
        return torch.empty(sizes, dtype=kind, device="meta")

    input = example_inputs(shapes, _BATCH, free, draw)
    operations = Operations(input)
    recorder = _Recorder(network, operations)
    try:
        with recorder.hooks(), torch.no_grad(), operations:
            output = network(input)
    except Exception as error:  # layers raise different errors for an input that does not fit
        size = str(shapes).replace("x", "×")
        itself = f"{type(network).__name__}: {first_line(error)}"
        problem = explain(error, network, lua_paths) or itself
        raise SummaryError(f"the network does not take {size}: {problem}") from error
    return Summary(_shape(input), _shape(output), recorder.rows, operations.depth(output))


@dataclass
class _Run:
    """A layer that is running.

    Attributes:
        start: Multiply-adds of the pass before the layer started.
        children: Multiply-adds of its children.
        outputs: Outputs of its children.
    """

    start: int
    children: int = 0
    outputs: list[Any] = field(default_factory=list)


class _Recorder:
    """Adds a row for each layer that finishes."""

    def __init__(self, network: nn.Module, operations: Operations) -> None:
        self.network = network
        self.operations = operations
        self.rows: list[LayerRow] = []
        self._names = {id(layer): name for name, layer in network.named_modules()}
        self._counted: set[int] = set()
        self._runs: list[tuple[nn.Module, _Run]] = []

    def hooks(self) -> ExitStack:
        """Register hooks on all layers, until the stack is closed."""
        stack = ExitStack()
        for layer in self.network.modules():
            stack.enter_context(layer.register_forward_pre_hook(self._start))
            stack.enter_context(layer.register_forward_hook(self._finish))
        return stack

    def _start(self, layer: nn.Module, _inputs: Any) -> None:
        self._runs.append((layer, _Run(self.operations.multiply_adds)))

    def _finish(self, layer: nn.Module, inputs: Any, output: Any) -> None:
        _, run = self._runs.pop()
        multiply_adds = self.operations.multiply_adds - run.start
        if self._runs:
            self._runs[-1][1].children += multiply_adds
            self._runs[-1][1].outputs.append(output)
        parameters = self._new(layer.parameters())
        tensors = parameters + self._new(layer.buffers())
        is_childs_output = any(output is inner for inner in run.outputs)
        if is_childs_output and not tensors and multiply_adds == run.children:
            return
        name = self._names[id(layer)]
        shapes = _shape(inputs[0] if len(inputs) == 1 else list(inputs)), _shape(output)
        self.rows.append(
            LayerRow(
                torch_path=name,
                lua_path=lua_path(self.network, name),
                torch_class=type(layer).__name__,
                settings=layer.extra_repr(),
                kernel_size=_kernel(layer),
                input_shape=shapes[0],
                output_shape=shapes[1],
                parameters=sum(tensor.numel() for tensor in parameters),
                weight_bytes=sum(map(_bytes, tensors)),
                output_bytes=sum(map(_bytes, tree_leaves(output))) // _BATCH,
                multiply_adds=(multiply_adds - run.children) // _BATCH,
                formula=_formula(layer, *shapes),
            )
        )

    def _new(self, tensors: Iterable[torch.Tensor]) -> list[torch.Tensor]:
        """Return the tensors that no earlier row counts."""
        new = [tensor for tensor in tensors if id(tensor) not in self._counted]
        self._counted.update(map(id, new))
        return new


def lua_path(network: nn.Module, name: str) -> str:
    """Return the Lua path of a layer: `1.8` is `get(2):get(9)` (see `follow_lua_path`)."""
    steps, module = list[str](), network
    for child in name.split(".") if name else ():
        children = [name for name, inner in module._modules.items() if inner is not None]
        steps.append(f"get({children.index(child) + 1})")
        module = getattr(module, child)
    return ":".join(steps)


def _shape(value: Any) -> Shape:
    if isinstance(value, torch.Tensor):
        sizes = tuple(value.shape)
        return sizes[1:] if sizes[:1] == (_BATCH,) else sizes
    if isinstance(value, dict):
        value = list(value.values())
    return [_shape(item) for item in value] if isinstance(value, (list, tuple)) else ()


def _as_lists(shape: Shape) -> list[Any]:
    return [axis if isinstance(axis, int) else _as_lists(axis) for axis in shape]


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
    return value.nbytes if isinstance(value, torch.Tensor) else 0
