"""Networks whose parameters are not all numbers, such as those of a training that diverged."""

from __future__ import annotations

import torch
from torch import nn

from ..errors import NotFiniteError
from ..finite import first_not_finite

#: Buffers that are measured like parameters are trained. Other buffers may hold an infinity on
#: purpose, as masks do.
_MEASURED = ("running_mean", "running_var")


def first_not_finite_parameter(module: nn.Module) -> str:
    """Return which parameter or buffer of a module is not finite, and where; empty if none is.

    Example:
        >>> layer = nn.Linear(2, 1)
        >>> first_not_finite_parameter(layer)
        ''
        >>> _ = layer.weight.data.fill_(float("nan"))
        >>> first_not_finite_parameter(nn.Sequential(layer))
        '0.weight[0, 0] is nan (2 of 2 numbers are NaN or infinite)'
    """
    parameters = dict(module.named_parameters())
    for name, tensor in (*parameters.items(), *module.named_buffers()):
        if not tensor.is_floating_point() or tensor.is_meta or not tensor.numel():
            continue
        values = tensor.detach()
        may_be_infinite = name not in parameters and not name.endswith(_MEASURED)
        bad = values.isnan() if may_be_infinite else ~values.isfinite()
        if bool(bad.any()):
            values = torch.where(bad, values, 0) if may_be_infinite else values
            place = first_not_finite(values.double().cpu().numpy())
            return f"{name}{'' if place.startswith('[') else ' '}{place}"
    return _negative_variance(module)


def _negative_variance(module: nn.Module) -> str:
    """Return which running variance has no square root, even with the `eps` of its layer."""
    for name, inner in module.named_modules():
        variance, eps = getattr(inner, "running_var", None), getattr(inner, "eps", 0.0)
        if not isinstance(variance, torch.Tensor) or variance.is_meta or not variance.numel():
            continue
        lowest = float(variance.min())
        if isinstance(eps, float) and lowest + eps < 0:
            name = f"{name}." if name else ""
            return f"{name}running_var reaches {lowest:g}, where no variance is negative"
    return ""


def require_finite_parameters(module: nn.Module, name: str = "the model") -> None:
    """Check that a module can compute something.

    Args:
        module: The module.
        name: What the message calls it.

    Raises:
        NotFiniteError: If a parameter or a measured buffer has a NaN or an infinity, or another
            buffer a NaN; the message names the first.
    """
    if place := first_not_finite_parameter(module):
        raise NotFiniteError(f"{name} is damaged, or its training diverged: {place}")
