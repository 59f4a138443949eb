"""Containers: modules that pass their input to children (`Sequential.lua`, `Concat.lua`, …)."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.nn import functional

from ...t7 import LuaObject
from ..context import Context
from ..dtypes import dtype_name, tensor_class
from ..registry import layer, register


class _Container(nn.ModuleList):
    """A list of modules that can be called, and prints its settings as other layers do."""

    __repr__ = nn.Module.__repr__


@layer
class Concat(_Container):
    """`Concat.lua`: every child on the same input, their outputs joined along `dim`."""

    def __init__(self, *modules: nn.Module, dim: int = 0) -> None:
        super().__init__(modules)
        self.dim = dim

    def forward(self, input: Any) -> torch.Tensor:
        """A tensor or table → one tensor."""
        return torch.cat([module(input) for module in self], self.dim)

    def extra_repr(self) -> str:
        """Where the outputs are joined."""
        return f"dim={self.dim}"


@register("nn.Concat")
def concat(source: LuaObject, context: Context) -> nn.Module:
    """`Concat.lua`; the dimension counts the batch."""
    return Concat(*context.children(source), dim=int(source["dimension"]) - 1)


@layer
class DepthConcat(_Container):
    """`DepthConcat.lua`: Concat of outputs of different sizes, the smaller ones centred in zeros.

    Where the difference is odd, the extra zero comes after.
    """

    def __init__(self, *modules: nn.Module, dim: int = 0) -> None:
        super().__init__(modules)
        self.dim = dim

    def forward(self, input: Any) -> torch.Tensor:
        """A tensor or table → one tensor, as large as the largest output in each dimension."""
        outputs = [module(input) for module in self]
        largest = [max(sizes) for sizes in zip(*(output.shape for output in outputs), strict=True)]
        return torch.cat([self._centre(output, largest) for output in outputs], self.dim)

    def _centre(self, output: torch.Tensor, largest: list[int]) -> torch.Tensor:
        pads: list[int] = []
        for dim, size in enumerate(output.shape):
            missing = 0 if dim == self.dim else largest[dim] - size
            # functional.pad lists the last dimension first.
            pads[:0] = [missing // 2, missing - missing // 2]
        return functional.pad(output, pads)

    def extra_repr(self) -> str:
        """Where the outputs are joined."""
        return f"dim={self.dim}"


@register("nn.DepthConcat")
def depth_concat(source: LuaObject, context: Context) -> nn.Module:
    """`DepthConcat.lua`; the dimension counts the batch."""
    return DepthConcat(*context.children(source), dim=int(source["dimension"]) - 1)


@layer
class Parallel(_Container):
    """`Parallel.lua`: child i on slice i of the input, the outputs joined.

    Args:
        modules: one child a slice.
        input_dim: dimension that is sliced, and removed.
        output_dim: dimension of a child's output along which they are joined.
    """

    def __init__(self, *modules: nn.Module, input_dim: int = 0, output_dim: int = 0) -> None:
        super().__init__(modules)
        self.input_dim = input_dim
        self.output_dim = output_dim

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """(…, slices, …) → the children's outputs, joined."""
        slices = input.unbind(self.input_dim)
        return torch.cat([self[i](part) for i, part in enumerate(slices)], self.output_dim)

    def extra_repr(self) -> str:
        """Where the input is sliced and the outputs are joined."""
        return f"input_dim={self.input_dim}, output_dim={self.output_dim}"


@register("nn.Parallel")
def parallel(source: LuaObject, context: Context) -> nn.Module:
    """`Parallel.lua`; both dimensions count the batch."""
    return Parallel(
        *context.children(source),
        input_dim=int(source["inputDimension"]) - 1,
        output_dim=int(source["outputDimension"]) - 1,
    )


@layer
class ConcatTable(_Container):
    """`ConcatTable.lua`: every child on the same input, their outputs as a list."""

    def __init__(self, *modules: nn.Module) -> None:
        super().__init__(modules)

    def forward(self, input: Any) -> list[Any]:
        """Anything → one output a child."""
        return [module(input) for module in self]


@register("nn.ConcatTable")
def concat_table(source: LuaObject, context: Context) -> nn.Module:
    """`ConcatTable.lua`."""
    return ConcatTable(*context.children(source))


@layer
class ParallelTable(_Container):
    """`ParallelTable.lua`: child i on entry i of the input list, their outputs as a list."""

    def __init__(self, *modules: nn.Module) -> None:
        super().__init__(modules)

    def forward(self, input: list[Any]) -> list[Any]:
        """A list with an entry for every child → one output a child."""
        return [module(input[i]) for i, module in enumerate(self)]


@register("nn.ParallelTable")
def parallel_table(source: LuaObject, context: Context) -> nn.Module:
    """`ParallelTable.lua`."""
    return ParallelTable(*context.children(source))


@layer
class MapTable(_Container):
    """`MapTable.lua`: the same module on every entry of a list.

    Torch7 keeps a clone an entry; clones that the file holds are used for theirs, and usually
    share their parameters with the first. Entries beyond them get the first.
    """

    def __init__(self, *modules: nn.Module) -> None:
        super().__init__(modules)

    def forward(self, input: list[Any]) -> list[Any]:
        """A list of any length → one output an entry."""
        return [self[i if i < len(self) else 0](entry) for i, entry in enumerate(input)]


@register("nn.MapTable")
def map_table(source: LuaObject, context: Context) -> nn.Module:
    """`MapTable.lua`; `module` is the first of `modules` once more."""
    return MapTable(*context.children(source))


@layer
class Bottle(_Container):
    """`Bottle.lua`: leading dimensions are folded into one for the module, and unfolded again.

    Args:
        module: takes inputs of `num_input_dims` dimensions, the first of them a batch.
        num_input_dims: dimensions that the module takes.
    """

    def __init__(self, *modules: nn.Module, num_input_dims: int = 2) -> None:
        super().__init__(modules)
        self.num_input_dims = num_input_dims

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """(A, B, …) of any number of leading dimensions; they come out as they went in."""
        folded = input.dim() - self.num_input_dims
        if folded <= 0:
            return self[0](input)
        output = self[0](input.flatten(0, folded))
        return output.reshape([*input.shape[:folded], -1, *output.shape[1:]])

    def extra_repr(self) -> str:
        """Dimensions that the module takes."""
        return f"num_input_dims={self.num_input_dims}"


@register("nn.Bottle")
def bottle(source: LuaObject, context: Context) -> nn.Module:
    """`Bottle.lua`; `nOutputDim` follows from what the module gives."""
    return Bottle(*context.children(source), num_input_dims=int(source.get("nInputDim", 2)))


@layer
class DontCast(_Container):
    """`DontCast.lua`: a module that keeps its own number type inside a model of another.

    Args:
        modules: the module.
        cast_in: dtype that floating or other inputs are cast to, such as `float32`, or None.
        cast_out: dtype that outputs are cast to, or None.
    """

    def __init__(
        self, *modules: nn.Module, cast_in: str | None = None, cast_out: str | None = None
    ) -> None:
        super().__init__(modules)
        self.cast_in = cast_in
        self.cast_out = cast_out

    def forward(self, input: Any) -> Any:
        """What the module takes and gives, in other number types."""
        return _cast(self[0](_cast(input, self.cast_in)), self.cast_out)

    def extra_repr(self) -> str:
        """The casts."""
        return f"cast_in={self.cast_in}, cast_out={self.cast_out}"


def _cast(value: Any, dtype: str | None) -> Any:
    if dtype is None:
        return value
    if isinstance(value, list):
        return [_cast(item, dtype) for item in value]
    return value.to(getattr(torch, dtype))


@register("nn.DontCast")
def dont_cast(source: LuaObject, context: Context) -> nn.Module:
    """`DontCast.lua`; without `castin` and `castout` it only passes on."""
    if not source.get("castin") and not source.get("castout"):
        return nn.Sequential(*context.children(source))
    outer = tensor_class(source.get("output"))
    return DontCast(
        *context.children(source),
        cast_in=dtype_name(source["moduleType"]) if source.get("castin") else None,
        cast_out=dtype_name(outer) if source.get("castout") and outer else None,
    )


@register("nn.Sequential")
def sequential(source: LuaObject, context: Context) -> nn.Module:
    """`Sequential.lua`: the children one after the other; a child may stand in it twice."""
    return nn.Sequential(*context.children(source))


@register("nn.Decorator", "nn.NaN", "nn.Profile", "nn.GPU")
def decorator(source: LuaObject, context: Context) -> nn.Module:
    """`Decorator.lua`, and those that watch or place their only child and change no number."""
    return nn.Sequential(*context.children(source))


@register("nn.DataParallelTable", "nn.DataParallel")
def data_parallel(source: LuaObject, context: Context) -> nn.Module:
    """`DataParallelTable.lua` of cunn (and fbcunn's older one): a batch shared out among GPUs.

    All children are replicas of the first, which alone owns the parameters.
    """
    replicas = source["modules"]
    if len(replicas) > 1:
        context.note(f"{len(replicas)} replicas on as many GPUs: the first is kept")
    return nn.Sequential(context.convert(replicas[1], ".modules[1]"))


@register("nn.Container")
def bare_container(source: LuaObject, context: Context) -> nn.Module:
    """`Container.lua` itself: it holds modules and computes nothing."""
    return nn.ModuleList(context.children(source))


@register("nn.Module")
def bare_module(source: LuaObject, context: Context) -> nn.Module:
    """`Module.lua` itself: it computes nothing, and cannot be called here."""
    context.note("a bare nn.Module computes nothing")
    return nn.Module()
