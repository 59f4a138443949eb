"""Profiles: how close a file must come to its model, for each kind of arithmetic."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from ..errors import OnnxError


@dataclass(frozen=True)
class Profile:
    """The limits of a check.

    Attributes:
        name: Its name in `PROFILES`.
        tolerance: Largest error of an output, relative to the largest output of its batch.
        top1: Smallest fraction of examples with the same predicted class.
        top5: Smallest fraction of the five most probable classes that agree.
        drop: Largest loss of accuracy.
        floor: Smallest number that the arithmetic represents to its full precision: errors are
            relative to it where all outputs are smaller.

    Example:
        >>> from dataclasses import replace
        >>> strict = replace(PROFILES["fp32-cpu"], name="strict", tolerance=1e-6)
        >>> strict.tolerance, strict.top1
        (1e-06, 1)
    """

    name: str
    tolerance: float
    top1: float
    top5: float
    drop: float
    floor: float


#: Below, the errors of single precision are no longer relative; so small are no outputs on purpose.
_SMALLEST_FLOAT = 1e-12

PROFILES = {
    profile.name: profile
    for profile in (
        # Another order of summation changes 1e-6 in single precision.
        Profile("fp32-cpu", 1e-4, 1, 1, 0, _SMALLEST_FLOAT),
        # cuDNN chooses among algorithms (Winograd, FFT) that round more; TF32 is off on both sides.
        Profile("fp32-gpu", 1e-3, 1, 1, 0, _SMALLEST_FLOAT),
        # 11 bits: each value is off by up to 5e-4, and a network adds the errors up.
        Profile("fp16", 1e-2, 0.99, 0.98, 0.005, float(np.finfo(np.float16).tiny)),
        # 7 bits for a weight. What matters is the accuracy.
        Profile("int8", 0.2, 0.95, 0.9, 0.01, _SMALLEST_FLOAT),
    )
}


def choose_profile(
    profile: str | Profile | None, tolerance: float | None, precision: str | None, provider: str
) -> Profile:
    """Return the limits of a check.

    Args:
        profile: The requested limits, or their name; None for those of the file's arithmetic.
        tolerance: Replaces the profile's; None keeps it.
        precision: The arithmetic in the file (`Metadata.precision`).
        provider: The execution provider that runs the file; empty if none does.

    Raises:
        OnnxError: If no profile has this name.
    """
    if profile is None:
        on_cpu = provider in ("", "CPUExecutionProvider")
        fp32 = "fp32-cpu" if on_cpu else "fp32-gpu"
        profile = precision if precision in PROFILES else fp32
    if isinstance(profile, str):
        if profile not in PROFILES:
            raise OnnxError(f"no profile {profile!r}: choose {', '.join(PROFILES)}")
        profile = PROFILES[profile]
    return profile if tolerance is None else replace(profile, tolerance=tolerance)
