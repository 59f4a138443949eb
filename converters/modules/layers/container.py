"""Containers, which run their children (`Sequential.lua`, `Concat.lua`, …)."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.nn import functional

from ...t7 import LuaObject
from ..context import Context
from ..registry import layer, register
from .memory_order import join


class Container(nn.ModuleList):
    """A callable list of modules, whose repr() shows its arguments.

    Args:
        modules: The modules.
    """

    def __init__(self, *modules: nn.Module) -> None:
        super().__init__(modules)

    __repr__ = nn.Module.__repr__


@layer
class Concat(Container):
    """`Concat.lua`: every child applied to the same input, the outputs concatenated along `dim`.

    Args:
        modules: The children.
        dim: Dimension of the outputs, the batch included.
    """

    def __init__(self, *modules: nn.Module, dim: int = 0) -> None:
        super().__init__(*modules)
        self.dim = dim

    def forward(self, input: Any) -> torch.Tensor:
        """Map any input of the children to one tensor."""
        return self.combine([module(input) for module in self])

    def combine(self, outputs: list[torch.Tensor]) -> torch.Tensor:
        """Return the output for those of the children."""
        return join(outputs, self.dim)

    def extra_repr(self) -> str:
        """Return the arguments shown by repr()."""
        return f"dim={self.dim}"


@register("nn.Concat", ignored=("outputSize", "size"))
def concat(source: LuaObject, context: Context) -> nn.Module:
    """Convert `Concat.lua`: the children's outputs on one input, concatenated."""
    return Concat(*context.children(source), dim=int(source["dimension"]) - 1)


@layer
class DepthConcat(Container):
    """`DepthConcat.lua`: `Concat` of outputs of different sizes, padded with zeros to the largest.

    Each output is centered; if the difference is odd, the extra zero comes last.

    Args:
        modules: The children.
        dim: Dimension of the outputs, the batch included.
    """

    def __init__(self, *modules: nn.Module, dim: int = 0) -> None:
        super().__init__(*modules)
        self.dim = dim

    def forward(self, input: Any) -> torch.Tensor:
        """Map any input of the children to one tensor with the largest size in each dimension."""
        return self.combine([module(input) for module in self])

    def combine(self, outputs: list[torch.Tensor]) -> torch.Tensor:
        """Return the output for those of the children."""
        # The first output gives the number of dimensions; others may have more, of size 1.
        rank = outputs[0].dim()
        outputs = [
            output if output.dim() == rank else output.reshape(output.shape[:rank])
            for output in outputs
        ]
        largest = [max(sizes) for sizes in zip(*(output.shape for output in outputs), strict=True)]
        return join([self._pad(output, largest) for output in outputs], self.dim)

    def _pad(self, output: torch.Tensor, largest: list[int]) -> torch.Tensor:
        pads: list[int] = []
        for dim, size in enumerate(output.shape):
            missing = 0 if dim == self.dim else largest[dim] - size
            # functional.pad lists the last dimension first.
            pads[:0] = [missing // 2, missing - missing // 2]
        return functional.pad(output, pads)

    def extra_repr(self) -> str:
        """Return the arguments shown by repr()."""
        return f"dim={self.dim}"


@register("nn.DepthConcat", ignored=("outputSize", "size"))
def depth_concat(source: LuaObject, context: Context) -> nn.Module:
    """Convert `DepthConcat.lua`: `Concat` of outputs padded with zeros to the same size."""
    return DepthConcat(*context.children(source), dim=int(source["dimension"]) - 1)


@layer
class Parallel(Container):
    """`Parallel.lua`: child i applied to slice i of the input, the outputs concatenated.

    Args:
        modules: One child for each slice.
        input_dim: Dimension of the input that is sliced and removed.
        output_dim: Dimension of the children's outputs along which they are concatenated.
    """

    def __init__(self, *modules: nn.Module, input_dim: int = 0, output_dim: int = 0) -> None:
        super().__init__(*modules)
        self.input_dim = input_dim
        self.output_dim = output_dim

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """Map (…, number of children, …) to the concatenated outputs."""
        slices = input.unbind(self.input_dim)
        return self.combine([self[i](item) for i, item in enumerate(slices)])

    def combine(self, outputs: list[torch.Tensor]) -> torch.Tensor:
        """Return the output for those of the children."""
        return join(outputs, self.output_dim)

    def extra_repr(self) -> str:
        """Return the arguments shown by repr()."""
        return f"input_dim={self.input_dim}, output_dim={self.output_dim}"


@register("nn.Parallel")
def parallel(source: LuaObject, context: Context) -> nn.Module:
    """Convert `Parallel.lua`: child i on slice i; both dimensions count the batch."""
    return Parallel(
        *context.children(source),
        input_dim=int(source["inputDimension"]) - 1,
        output_dim=int(source["outputDimension"]) - 1,
    )


@layer
class ConcatTable(Container):
    """`ConcatTable.lua`: every child applied to the same input, the outputs as a list."""

    def forward(self, input: Any) -> list[Any]:
        """Map any input of the children to a list with one output for each."""
        return [module(input) for module in self]


@register("nn.ConcatTable")
def concat_table(source: LuaObject, context: Context) -> nn.Module:
    """Convert `ConcatTable.lua`: a list of the children's outputs on one input."""
    return ConcatTable(*context.children(source))


@layer
class ParallelTable(Container):
    """`ParallelTable.lua`: child i applied to entry i of a list, the outputs as a list."""

    def forward(self, input: list[Any]) -> list[Any]:
        """Map a list with one entry for each child to a list of their outputs."""
        return [module(input[i]) for i, module in enumerate(self)]


@register("nn.ParallelTable")
def parallel_table(source: LuaObject, context: Context) -> nn.Module:
    """Convert `ParallelTable.lua`: child i on entry i of a table."""
    return ParallelTable(*context.children(source))


@layer
class MapTable(Container):
    """`MapTable.lua`: one module applied to every entry of a list.

    Torch7 clones the module for each entry; the clones usually share their parameters. Entry i is
    given to clone i if the file holds it, and to the first module otherwise.
    """

    def forward(self, input: list[Any]) -> list[Any]:
        """Map a list of any length to a list of as many outputs."""
        return [self.child(i)(entry) for i, entry in enumerate(input)]

    def child(self, index: int) -> nn.Module:
        """Return the module that an entry is given to."""
        return self[index if index < len(self) else 0]


@register("nn.MapTable")
def map_table(source: LuaObject, context: Context) -> nn.Module:
    """Convert `MapTable.lua`: one module on every entry of a table.

    `modules` holds the module and its clones; the field `module` is the first of them again.
    """
    return MapTable(*context.children(source))


@layer
class Bottle(Container):
    """`Bottle.lua`: a module applied to an input whose leading dimensions are flattened into one.

    Args:
        modules: One module, which takes inputs of `num_input_dims` dimensions.
        num_input_dims: Number of dimensions that the module takes, the batch included.
    """

    def __init__(self, *modules: nn.Module, num_input_dims: int = 2) -> None:
        super().__init__(*modules)
        self.num_input_dims = num_input_dims

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """Map (*leading, …) to an output with the same leading dimensions."""
        output: torch.Tensor = self[0](self.flatten(input))
        return self.unflatten(output, input.shape)

    def flatten(self, input: torch.Tensor) -> torch.Tensor:
        """Return the input of the module."""
        flattened = input.dim() - self.num_input_dims
        return input.flatten(0, flattened) if flattened > 0 else input

    def unflatten(self, output: torch.Tensor, shape: torch.Size) -> torch.Tensor:
        """Return the module's output with the leading dimensions of an input of this shape."""
        flattened = len(shape) - self.num_input_dims
        if flattened <= 0:
            return output
        return output.reshape([*shape[:flattened], -1, *output.shape[1:]])

    def extra_repr(self) -> str:
        """Return the arguments shown by repr()."""
        return f"num_input_dims={self.num_input_dims}"


@register("nn.Bottle", ignored=("nOutputDim", "dimDelta", "inShape", "outShape"))
def bottle(source: LuaObject, context: Context) -> nn.Module:
    """Convert `Bottle.lua`: a module on an input with flattened leading dimensions.

    `nOutputDim` is not needed: the module's output has that many dimensions.
    """
    return Bottle(*context.children(source), num_input_dims=int(source.get("nInputDim", 2)))


@register("nn.Sequential")
def sequential(source: LuaObject, context: Context) -> nn.Module:
    """Convert `Sequential.lua`: the children one after the other; a child may occur twice."""
    return nn.Sequential(*context.children(source))


@register("nn.Container")
def bare_container(source: LuaObject, context: Context) -> nn.Module:
    """Convert `Container.lua`, the base class: it holds modules and has no forward pass."""
    return nn.ModuleList(context.children(source))


@register("nn.Module")
def bare_module(source: LuaObject, context: Context) -> nn.Module:
    """Convert `Module.lua`, the base class: it has no forward pass."""
    context.note("a bare nn.Module has no forward pass")
    return nn.Module()
