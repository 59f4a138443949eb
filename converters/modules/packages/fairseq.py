"""Layers of fairseq-lua, a convolutional translator (`LinearizedConvolution.lua`, …)."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.nn import functional

from ...t7 import LuaObject
from ..context import Context
from ..layers.container import Container
from ..layers.identity import GradientReversal
from ..layers.matmul import MM
from ..layers.weight_norm import WeightNorm
from ..registry import layer, register


@layer
class ScaledSum(nn.Module):
    """`CAddTableMulConstant.lua`: the sum of several tensors, times a number.

    Args:
        scale: The number.
    """

    def __init__(self, scale: float) -> None:
        super().__init__()
        self.scale = scale

    def forward(self, input: list[torch.Tensor]) -> torch.Tensor:
        """Map a list of tensors of one shape to a tensor of that shape."""
        result = input[0]
        for tensor in input[1:]:
            result = result + tensor
        return result * self.scale

    def extra_repr(self) -> str:
        """Return the arguments shown by repr()."""
        return f"{self.scale}"


@register("nn.CAddTableMulConstant", ignored=("inplace",))
def c_add_table_mul_constant(source: LuaObject, context: Context) -> nn.Module:
    """Convert `CAddTableMulConstant.lua`: a scaled sum."""
    return ScaledSum(float(source["constant_scalar"]))


@layer
class GradMultiply(Container):
    """`GradMultiply.lua`: a module whose parameters get scaled gradients.

    Args:
        modules: The module.
        factor: What the gradients of its parameters are multiplied by.
    """

    def __init__(self, *modules: nn.Module, factor: float) -> None:
        super().__init__(*modules)
        self.factor = factor

    def forward(self, input: Any) -> Any:
        """Map an input of the module to its output."""
        if not (self.training and torch.is_grad_enabled()):
            return self[0](input)
        scaled = GradientReversal(-self.factor)
        parameters = {name: scaled(value) for name, value in self[0].named_parameters()}
        return torch.func.functional_call(self[0], parameters, (input,))

    def extra_repr(self) -> str:
        """Return the arguments shown by repr()."""
        return f"factor={self.factor}"


@register("nn.GradMultiply")
def grad_multiply(source: LuaObject, context: Context) -> nn.Module:
    """Convert `GradMultiply.lua`: a module with scaled gradients of its parameters."""
    return GradMultiply(*context.children(source), factor=float(source["factor"]))


@layer
class BeamableMM(MM):
    """`BeamableMM.lua`: a product of matrices, which in training mode shares the second one.

    With a beam, a training step of one time step takes the second matrix of every sentence once for
    all its hypotheses (the Lua's condition is the mode of training, not that of evaluation).

    Args:
        trans_a: Whether the matrices of the first input are transposed.
        trans_b: Whether the matrices of the second input are transposed.
        beam: Number of hypotheses of a sentence, 0 for none.
    """

    def __init__(self, trans_a: bool = False, trans_b: bool = False, beam: int = 0) -> None:
        super().__init__(trans_a, trans_b)
        self.beam = beam

    def forward(self, input: list[torch.Tensor]) -> torch.Tensor:
        """Map `[a, b]`, both (N, …) or both without N, to their product."""
        first, second = input
        if not (self.training and self.beam and first.dim() == 3 and first.shape[1] == 1):
            return super().forward(input)
        rows, sentences = first.shape[0], first.shape[0] // self.beam
        product = super().forward(
            [first.reshape(sentences, self.beam, -1), second[:: self.beam][:sentences]]
        )
        return product.reshape(rows, 1, -1)


@register("nn.BeamableMM")
def beamable_mm(source: LuaObject, context: Context) -> nn.Module:
    """Convert `BeamableMM.lua`: a product of matrices."""
    return BeamableMM(
        bool(source.get("transA", False)),
        bool(source.get("transB", False)),
        int(source.get("beam", 0)),
    )


@layer
class TemporalConvolutionTBC(nn.Module):
    """`TemporalConvolutionTBC.lua`: a convolution over the time of (time, batch, channels).

    Args:
        in_channels: Number of channels of the input.
        out_channels: Number of channels of the output.
        kernel_size: Number of time steps that it reads.
        padding: Number of zeros at both ends.
    """

    def __init__(
        self, in_channels: int, out_channels: int, kernel_size: int, padding: int = 0
    ) -> None:
        super().__init__()
        self.in_channels = in_channels
        self.out_channels = out_channels
        self.kernel_size = kernel_size
        self.padding = padding
        self.weight = nn.Parameter(torch.empty(kernel_size, in_channels, out_channels))
        self.bias = nn.Parameter(torch.empty(out_channels))

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """Map (T, B, in) to (T + 2 · padding - kernel_size + 1, B, out)."""
        weight = self.weight.permute(2, 1, 0)
        output = functional.conv1d(input.permute(1, 2, 0), weight, self.bias, padding=self.padding)
        return output.permute(2, 0, 1)

    def extra_repr(self) -> str:
        """Return the arguments shown by repr()."""
        return (
            f"{self.in_channels}, {self.out_channels}, kernel_size={self.kernel_size}, "
            f"padding={self.padding}"
        )


@register("nn.TemporalConvolutionTBC", ignored=("kw", "nIn", "nOut"))
def temporal_convolution_tbc(source: LuaObject, context: Context) -> nn.Module:
    """Convert `TemporalConvolutionTBC.lua` of fbnn; the weight is (kw, in, out)."""
    weight = source["weight"]
    kernel, n_in, n_out = weight.shape
    with torch.device("meta"):
        module = TemporalConvolutionTBC(n_in, n_out, kernel, int(source.get("pad", 0)))
    return context.fill(module, weight=weight, bias=source["bias"])


def one_step(
    input: torch.Tensor, kernel_size: int, state: list[torch.Tensor] | None
) -> torch.Tensor:
    """Return the last inputs that a step of a convolution reads, and keep them in its state.

    Args:
        input: Inputs (N, T, C), of which the last one counts.
        kernel_size: Number of inputs that the convolution reads.
        state: The inputs of the step before; empty before the first one, None outside a sequence.

    Returns:
        The inputs (N, kernel_size, C); those before the first one are zeros.
    """
    last = input[:, -1:]
    before = state[0] if state else last.new_zeros(last.shape[0], kernel_size, last.shape[2])
    inputs = torch.cat([before[:, 1:], last], 1)
    if state is not None:
        state[:] = [inputs]
    return inputs


@layer
class LinearizedConvolution(nn.Module):
    """`LinearizedConvolution.lua`: one step of a convolution over time.

    Args:
        in_channels: Number of channels of the input.
        out_channels: Number of channels of the output.
        kernel_size: Number of inputs that it reads: the last ones, zeros before the first.
    """

    def __init__(self, in_channels: int, out_channels: int, kernel_size: int) -> None:
        super().__init__()
        self.in_channels = in_channels
        self.out_channels = out_channels
        self.kernel_size = kernel_size
        self.weight = nn.Parameter(torch.empty(out_channels, kernel_size * in_channels))
        self.bias = nn.Parameter(torch.empty(out_channels))
        self.step_state: list[torch.Tensor] | None = None

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """Map (N, T, in), of which the last step counts, to (N, 1, out)."""
        inputs = one_step(input, self.kernel_size, self.step_state)
        return functional.linear(inputs.flatten(1), self.weight, self.bias).unsqueeze(1)

    def extra_repr(self) -> str:
        """Return the arguments shown by repr()."""
        return f"{self.in_channels}, {self.out_channels}, kernel_size={self.kernel_size}"


@register("nn.LinearizedConvolution", ignored=("inputBuffer", "tmpBuffer"))
def linearized_convolution(source: LuaObject, context: Context) -> nn.Module:
    """Convert `LinearizedConvolution.lua`; a call alone is the first step of a sequence."""
    weight, kernel = source["weight"], int(source["kw"])
    if not weight.size:
        raise context.error("it has no weight: fairseq's evaluate() copies it there before use")
    with torch.device("meta"):
        module = LinearizedConvolution(weight.shape[1] // kernel, weight.shape[0], kernel)
    return context.fill(module, weight=weight, bias=source["bias"])


@layer
class TrainEval(Container):
    """`TrainTestLayer.lua`, `ModeSwitch.lua`: one module for training mode, one for evaluation.

    Args:
        modules: The two modules.
    """

    def forward(self, input: Any) -> Any:
        """Map an input of the module of the mode to its output."""
        return self[0 if self.training else 1](input)


@register("nn.TrainTestLayer", ignored=("onTrain", "onEvaluate"))
def train_test_layer(source: LuaObject, context: Context) -> nn.Module:
    """Convert `TrainTestLayer.lua`: a module for each mode."""
    if source.get("train", True):
        context.note("onEvaluate, a Lua function that Torch7 calls before evaluation, does not run")
    return TrainEval(*context.children(source))


@layer
class TrainConvolutionEvalStep(Container):
    """`ConvBlockTrainTestLayer`: a convolution in training mode, and its steps in evaluation.

    Torch7 copies the weight when it leaves training mode; here both modes have one.

    Args:
        modules: The block for training mode; its second layer is the convolution.
    """

    def __init__(self, *modules: nn.Module) -> None:
        super().__init__(*modules)
        self.step_state: list[torch.Tensor] | None = None

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """Map (N, T, in) to the block's output, or in evaluation mode its last step to (N, 1, out).

        A call in evaluation mode outside a sequence is the first step of one.
        """
        if self.training:
            output: torch.Tensor = self[0](input)
            return output
        normalized = next(m for m in self[0].modules() if isinstance(m, WeightNorm))
        weight = normalized.normalized()
        inputs = one_step(input, weight.shape[0], self.step_state)
        bias = normalized.module.get_parameter("bias")
        step = inputs.flatten(1) @ weight.flatten(0, 1) + bias
        return step.unsqueeze(1)


@register("nn.ConvBlockTrainTestLayer")
def conv_block_train_test_layer(source: LuaObject, context: Context) -> nn.Module:
    """Convert `ConvBlockTrainTestLayer` of `fconv_model.lua`, by its module for training."""
    return TrainConvolutionEvalStep(context.convert(source["modules"][1], ".modules[1]"))


@layer
class SeqMultiply(nn.Module):
    """`SeqMultiply.lua`: the first tensor times the root of the second one's length."""

    def forward(self, input: list[torch.Tensor]) -> torch.Tensor:
        """Map `[x, y (N, T, …)]` to x · √T."""
        # A tensor, so that a traced graph keeps the length free.
        length = torch.full((), input[1].shape[1], dtype=input[0].dtype, device=input[0].device)
        return input[0] * length.sqrt()


@register("nn.SeqMultiply", ignored=("scale", "grads", "zeroGrads"))
def seq_multiply(source: LuaObject, context: Context) -> nn.Module:
    """Convert `SeqMultiply.lua`: a tensor times the root of another one's length."""
    return SeqMultiply()


@layer
class ZipAlong(nn.Module):
    """`ZipAlong.lua`: pairs of each entry of a list with one value."""

    def forward(self, input: list[Any]) -> list[list[Any]]:
        """Map `[[a, b, …], x]` to `[[a, x], [b, x], …]`."""
        return [[entry, input[1]] for entry in input[0]]


@register("nn.ZipAlong", ignored=("gradInputBase", "gradInputDup"))
def zip_along(source: LuaObject, context: Context) -> nn.Module:
    """Convert `ZipAlong.lua`: each entry of a table, paired with one value."""
    return ZipAlong()


@layer
class AppendOne(nn.Module):
    """`AppendBias.lua`: puts a 1 at the end of the last axis."""

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """Map (…, n) to (…, n + 1)."""
        return functional.pad(input, [0, 1], value=1.0)


@register("nn.AppendBias")
def append_bias(source: LuaObject, context: Context) -> nn.Module:
    """Convert `AppendBias.lua`: a 1 behind the last axis."""
    return AppendOne()
