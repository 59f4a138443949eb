"""Comparing a converted module with a case that Torch7 recorded, outputs and gradients."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from support import relative_error

from torchlift.converters import t7
from torchlift.converters.modules import Conversion

#: Layers that draw random numbers: only the shapes of their outputs can be compared.
RANDOM = {"SpatialFractionalMaxPooling": "the pooling regions are drawn anew at each call"}

#: Torch7 ran the backward pass of these sequences in evaluation mode, in which all steps share the
#: buffers of the last one, so that its gradients are wrong (see `test_modules_sequences`).
SHARED_BUFFERS = {
    "rnn_BiSequencer",
    "rnn_MaskZero",
    "rnn_Recurrent",
    "rnn_Recursor",
    "rnn_Sequencer_FastLSTM",
    "rnn_Sequencer_GRU",
    "rnn_Sequencer_LSTM",
    "rnn_Sequencer_MuFuRu",
}

#: Containers that clone their child for each entry; Torch7 lists the parameters of every clone.
CLONING = {"nn.MapTable"}

#: Classes whose `parameters` Torch7 leaves empty: only the gradient of their input is recorded.
UNLISTED = {"nn.SpatialClassifier"}

#: Layers whose parameters PyTorch keeps in another order → the order of PyTorch's dimensions, of
#: parameters in the shape that the layer's C code gives them. Every other parameter has PyTorch's
#: order, whatever its shape.
ORDERS: dict[str, Callable[[t7.LuaObject, torch.Tensor], torch.Tensor]] = {
    # (multiplier, planes, …): the outputs of one plane follow each other in PyTorch.
    "nn.SpatialDepthWiseConvolution": lambda layer, value: value.transpose(0, 1),
    # (outputs, frames × features): each filter holds whole frames, PyTorch's are rows of features.
    "nn.TemporalConvolution": lambda layer, value: (
        value if value.dim() == 1 else value.unflatten(1, (int(layer["kW"]), -1)).transpose(1, 2)
    ),
}


def compare_with_torch7(conversion: Conversion, case: t7.LuaTable) -> dict[str, str | None]:
    """Assert that a converted module computes what Torch7 recorded.

    Args:
        conversion: The conversion of the case's module.
        case: `{name, class, mode, module, input, output}` and mostly
            `gradOutput, gradInput, gradParameters`.

    Returns:
        What was compared (`evaluation` or `training`, and `gradients`), with the reason where
        only shapes could be.
    """
    module, data = conversion.module, t7.to_torch(case)
    mode = "training" if module.training else "evaluation"
    if "mode" in data:
        assert module.training == (data["mode"] == "train")
    input = requiring_grad(data["input"])
    torch.manual_seed(0)
    output = module(without_leaves(input))
    if data["name"] in RANDOM:
        assert output.shape == data["output"].shape
        return {mode: RANDOM[data["name"]]}
    error = relative_error(output, data["output"])
    assert error < 1e-5, f"the output is off by {error:.1e}"

    if "gradInput" not in data or "gradError" in data or data["name"] in SHARED_BUFFERS:
        return {mode: None}
    outputs, grads = tensors(output), tensors(data["gradOutput"])
    pairs = [(out, grad) for out, grad in zip(outputs, grads, strict=True) if out.requires_grad]
    if not pairs:
        return {mode: None}
    torch.autograd.backward([out for out, _ in pairs], [grad for _, grad in pairs])
    error = gradient_error(gradient(input), data["gradInput"])
    assert error < 1e-4, f"the gradient of the input is off by {error:.1e}"

    parameters = [parameter for _, parameter in module.named_parameters(remove_duplicate=False)]
    gradients = data.get("gradParameters") or []
    if data["class"] in CLONING:
        gradients = gradients[: len(parameters)]
    if data["class"] in UNLISTED:
        parameters = []
    for parameter, expected in total_gradients(parameters, gradients):
        actual = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
        expected = in_order_of_pytorch(conversion, parameter, expected)
        # A gradient may cancel to zero: then all of it is rounding of what was summed.
        floor = 1e-2 * max(float(grad.abs().max()) for _, grad in pairs if grad.numel())
        error = relative_error(actual, expected) * min(1.0, float(expected.abs().max()) / floor)
        assert error < 1e-4, f"the gradient of a parameter is off by {error:.1e}"
    return {mode: None, "gradients": None}


def requiring_grad(value: Any) -> Any:
    """Return a copy of an input whose floating-point tensors are leaves that require gradients."""
    if isinstance(value, list):
        return [requiring_grad(item) for item in value]
    return value.clone().requires_grad_() if value.is_floating_point() else value


def without_leaves(value: Any) -> Any:
    """Return a copy without leaves, which in-place layers must not change."""
    return [without_leaves(item) for item in value] if isinstance(value, list) else value.clone()


def gradient(value: Any) -> Any:
    """Return the gradients of the leaves, zero for a leaf that has none."""
    if isinstance(value, list):
        return [gradient(item) for item in value]
    return torch.zeros_like(value) if value.grad is None else value.grad


def tensors(value: Any) -> list[torch.Tensor]:
    if isinstance(value, list):
        return [tensor for item in value for tensor in tensors(item)]
    return [value]


def gradient_error(actual: Any, expected: Any) -> float:
    """Return the error of a gradInput; Torch7's is empty for an input without a gradient."""
    pairs = zip(tensors(actual), tensors(expected), strict=True)
    return max(
        (relative_error(a, b) for a, b in pairs if b.numel() and a.is_floating_point()), default=0.0
    )


def total_gradients(
    parameters: list[torch.nn.Parameter], expected: list[torch.Tensor]
) -> list[tuple[torch.nn.Parameter, torch.Tensor]]:
    """Return each parameter with Torch7's gradient.

    Torch7 lists a shared parameter once for each module: with the same gradient if the modules
    share the gradient too, and otherwise with the contribution of each.
    """
    gradients: dict[torch.nn.Parameter, list[torch.Tensor]] = {}
    for parameter, value in zip(parameters, expected, strict=True):
        gradients.setdefault(parameter, []).append(value)
    return [
        (parameter, values[0] if all(map(values[0].equal, values)) else torch.stack(values).sum(0))
        for parameter, values in gradients.items()
    ]


def in_order_of_pytorch(
    conversion: Conversion, parameter: torch.nn.Parameter, gradient: torch.Tensor
) -> torch.Tensor:
    """Return Torch7's gradient of a parameter in the order of PyTorch's elements."""
    for layer in conversion.layers:
        order = ORDERS.get(layer.source.class_name)
        if order and any(parameter is own for own in layer.module.parameters()):
            gradient = order(layer.source, gradient)
    return gradient.reshape(parameter.shape)
