"""Check of a converted model against the activations in its file, without Lua.

A checkpoint that was not cleared holds the last `output` of each layer, and an nngraph the inputs
of each node. The input of a layer is the output of the one before it, so each layer can be computed
and compared by itself. Values that an in-place layer overwrote are recomputed from the last ones
that are still in the file.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from torch import nn

from ..t7.tensors import tensor
from .conversion import Conversion
from .forward_pass import Call, ForwardPass, _MissingValueError, arrays_in
from .meta_device import largest_result

#: Elements that a layer may compute in any case, and for each one that the file keeps of it.
_SMALL, _FACTOR = 2**24, 16
#: Two seeds for which a layer that draws random numbers gives different outputs.
_SEEDS = (0, 1)


@dataclass(frozen=True)
class LayerCheck:
    """The result for one call of a layer.

    Attributes:
        path: Path of the layer in the file, such as `model.modules[3]`.
        class_name: Lua class of the layer.
        status: `equal`, `differs`, or `unchecked` if it cannot be compared.
        error: Largest difference, relative to the largest value that Torch7 computed.
        reason: Why it is unchecked, or under which assumption it is equal.
    """

    path: str
    class_name: str
    status: Literal["equal", "differs", "unchecked"]
    error: float | None = None
    reason: str = ""


@dataclass(frozen=True)
class SelfCheck:
    """The comparison of a model with the activations in its file.

    Attributes:
        layers: One entry for each call of a layer, in the order of the calls.
        tolerance: Relative error up to which a layer is equal.
    """

    layers: list[LayerCheck]
    tolerance: float

    @property
    def first_difference(self) -> LayerCheck | None:
        """The first layer whose output differs from Torch7's, None if there is none."""
        return next((layer for layer in self.layers if layer.status == "differs"), None)

    @property
    def largest_error(self) -> float | None:
        """The largest relative error, None if no layer was compared."""
        return max((layer.error for layer in self.layers if layer.error is not None), default=None)

    def count(self, status: str) -> int:
        """Return the number of layers with a status."""
        return sum(layer.status == status for layer in self.layers)

    def to_json(self) -> dict[str, Any]:
        """Return the result as JSON values."""
        first = self.first_difference
        return {
            **{status: self.count(status) for status in ("equal", "differs", "unchecked")},
            "largest_error": self.largest_error,
            "first_difference": None if first is None else first.path,
            "tolerance": self.tolerance,
            "layers": [
                {
                    "lua_path": layer.path,
                    "lua_class": layer.class_name,
                    "status": layer.status,
                    "error": layer.error,
                    "reason": layer.reason,
                }
                for layer in self.layers
            ],
        }


def self_check(conversion: Conversion, input: Any = None, tolerance: float = 1e-4) -> SelfCheck:
    """Recompute each layer from the activations in the file and compare the outputs.

    Layers run in the mode in which they were saved. The model does not change.

    Args:
        conversion: A converted model (`convert_recorded`, `load_conversion`).
        input: The network's input as a value of a `.t7` file, if known. Without it the first layer
            is unchecked, except in a graph, which records its input.
        tolerance: Relative error up to which a layer is equal; GPUs round differently from CPUs.

    Example:
        >>> import numpy as np
        >>> from torchlift.converters import t7
        >>> from torchlift.converters.modules import convert_recorded
        >>> layer = t7.LuaObject("nn.Abs", t7.LuaTable({"output": np.ones(3)}))
        >>> self_check(convert_recorded(layer), input=np.array([1.0, -1.0, 1.0])).count("equal")
        1
    """
    try:
        forward_pass = ForwardPass(conversion, input)
    except Exception as problem:  # the activations of a damaged file may be anything
        root = conversion.layers[-1]
        reason = f"the activations in the file cannot be followed: {problem}"
        unchecked = LayerCheck(root.path, root.source.class_name, "unchecked", reason=reason)
        return SelfCheck([unchecked], tolerance)
    layers = [_check(call, forward_pass, tolerance) for call in forward_pass.calls]
    return SelfCheck(layers, tolerance)


def _check(call: Call, forward_pass: ForwardPass, tolerance: float) -> LayerCheck:
    """Recompute a call and compare its output with the file's."""

    def result(
        status: Literal["equal", "differs", "unchecked"],
        error: float | None = None,
        reason: str = "",
    ) -> LayerCheck:
        return LayerCheck(call.path, call.layer.class_name, status, error, reason)

    module = call.module
    try:
        input = forward_pass.input_of(call)
        _check_size(call, input)
        output, other_output = (_compute(module, input, seed) for seed in _SEEDS)
        if _relative_error(output, other_output) > 0:
            return result("unchecked", reason="it draws random numbers in training mode")
        call.recomputed = output
        expected = forward_pass.output_of(call)
        error = _relative_error(output, expected)
        limit = max([tolerance, *map(_precision, _tensors(expected))])
        if error <= limit:
            return result("equal", error)
        if (explanation := _explain(call, input, expected, limit)) is not None:
            return result("equal", *explanation)
    except _MissingValueError as missing:
        return result("unchecked", reason=str(missing))
    except Exception as problem:  # Any layer runs here, on any input.
        return result("differs", reason=str(problem))
    if module.training and any(True for _ in module.parameters()):
        reason = "it was saved in training mode: its parameters may have been updated since"
        return result("unchecked", reason=f"differs by {error:.1e}, but {reason}")
    return result("differs", error)


def _check_size(call: Call, input: Any) -> None:
    """Check that a call needs no more memory than the values that the file keeps of it allow.

    Raises:
        _MissingValueError: It does; a padding of 10⁹ is a number of two bytes.
    """
    kept = sum(array.size for value in (call.input, call.output) for _, array in arrays_in(value))
    kept += sum(parameter.numel() for parameter in call.module.parameters())
    if (largest := largest_result(call.module, input)) > _SMALL + _FACTOR * kept:
        raise _MissingValueError(f"it computes a tensor of {largest:,} elements from {kept:,}")


def _explain(call: Call, input: Any, expected: Any, limit: float) -> tuple[float, str] | None:
    """Explain an output in the file that differs from the output of the layer as it was saved.

    Returns:
        The relative error under that explanation, and the explanation; None if there is none.
    """
    training = call.module.training
    error = _relative_error(_compute(call.module, input, training=not training), expected)
    if error <= limit:
        modes = ("evaluation", "training") if training else ("training", "evaluation")
        return error, f"computed in {modes[0]} mode, saved in {modes[1]} mode"
    rate, error = _last_update(call, input, expected) if training else (0.0, error)
    if rate > 0 and error <= limit:
        return error, f"with its last update undone (learning rate {rate:.4g})"
    return None


def _last_update(call: Call, input: Any, expected: Any) -> tuple[float, float]:
    """Fit the step of gradient descent after which a layer was saved.

    The file holds the gradients of that step, so the parameters before it were the saved ones plus
    rate times gradient. A single rate that reproduces all values of the output is no coincidence.

    Returns:
        The learning rate and the remaining relative error. The rate is 0 if the file holds no
        gradients or the output has too few values.
    """
    gradients = {
        parameter: tensor(gradient).reshape(parameter.shape).to(parameter.dtype)
        for name, parameter in call.module.named_parameters()
        if isinstance(gradient := call.layer.get(f"grad{name.capitalize()}"), np.ndarray)
        and gradient.size == parameter.numel()
    }
    if not gradients or not isinstance(expected, torch.Tensor) or expected.numel() < 2:
        return 0.0, float("inf")

    def output(rate: float) -> torch.Tensor:
        """Return the module's output with the parameters from before the step."""
        before = {parameter: parameter + rate * step for parameter, step in gradients.items()}
        result: torch.Tensor = _compute(call.module, input, parameters=before)
        return result

    # Least squares: the outputs of linear layers are linear in the rate.
    current = output(0.0)
    slope, difference = (output(1.0) - current).double(), (expected - current).double()
    rate = float((slope * difference).sum() / slope.square().sum().clamp(min=1e-300))
    return rate, _relative_error(output(rate), expected)


def _compute(
    module: nn.Module,
    input: Any,
    seed: int = 0,
    training: bool | None = None,
    parameters: Mapping[nn.Parameter, torch.Tensor] | None = None,
) -> Any:
    """Compute a module's output with a copy, so that its buffers and mode do not change.

    Args:
        module: The module; the copy shares its parameters.
        input: The input.
        seed: Seed for layers that draw random numbers.
        training: Whether to compute in training mode; None for the module's own mode.
        parameters: Parameter → values to use instead.
    """
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        memo: dict[int, Any] = {id(parameter): parameter for parameter in module.parameters()}
        memo |= {id(old): nn.Parameter(new) for old, new in (parameters or {}).items()}
        module_copy = copy.deepcopy(module, memo)
        if training is not None:
            module_copy.train(training)
        return module_copy(_copy(input))


def _copy(value: Any) -> Any:
    """Return a copy for in-place layers; half precision becomes float32, for CPUs."""
    if isinstance(value, list):
        return [_copy(item) for item in value]
    if isinstance(value, dict):
        return {key: _copy(item) for key, item in value.items()}
    if not isinstance(value, torch.Tensor):
        return value
    return value.float() if value.dtype == torch.float16 else value.clone()


def _relative_error(actual: Any, expected: Any) -> float:
    """Return the largest difference, relative to the largest finite expected value.

    Raises:
        ValueError: The structures or shapes differ.
    """
    if isinstance(expected, (list, dict)):
        if type(actual) is not type(expected) or len(actual) != len(expected):
            raise ValueError(f"its output is {_kind(actual)}, Torch7's is {_kind(expected)}")
        keys = expected if isinstance(expected, dict) else range(len(expected))
        return max((_relative_error(actual[key], expected[key]) for key in keys), default=0.0)
    if not isinstance(expected, torch.Tensor):
        return 0.0 if actual == expected else float("inf")
    if not isinstance(actual, torch.Tensor) or actual.shape != expected.shape:
        raise ValueError(f"its output is {_kind(actual)}, Torch7's is {_kind(expected)}")
    if not expected.numel():
        return 0.0
    actual, expected = actual.double(), expected.double()
    equal = (actual == expected) | (actual.isnan() & expected.isnan())
    difference = torch.where(equal, 0.0, (actual - expected).abs()).nan_to_num(nan=float("inf"))
    largest = expected[expected.isfinite()].abs().amax() if expected.isfinite().any() else 1.0
    return float(difference.max() / max(float(largest), 1e-12))


def _kind(value: Any) -> str:
    """Describe a value by its shape or its number of entries."""
    if isinstance(value, torch.Tensor):
        return "×".join(map(str, value.shape)) or "a scalar"
    if isinstance(value, (list, dict)):
        return f"a {type(value).__name__} of {len(value)}"
    return type(value).__name__


def _tensors(value: Any) -> list[torch.Tensor]:
    """Return the tensors in a value, nested lists and dicts included."""
    if isinstance(value, torch.Tensor):
        return [value]
    items = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return [leaf for item in items for leaf in _tensors(item)]


def _precision(value: torch.Tensor) -> float:
    """Return the relative error that the rounding of a tensor's dtype may cause."""
    return 4 * torch.finfo(value.dtype).eps if value.is_floating_point() else 0.0
