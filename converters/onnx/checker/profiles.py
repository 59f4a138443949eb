"""How close a file must come to its model, for each kind of arithmetic."""

from __future__ import annotations

from dataclasses import dataclass

from ..errors import OnnxError


@dataclass(frozen=True)
class Profile:
    """What `check` lets pass.

    Attributes:
        name: its name in `PROFILES`.
        tolerance: largest error of an output, relative to the largest output of its batch.
        top1: smallest share of examples whose likeliest class is the same.
        top5: smallest share of the five likeliest classes that are the same.
        drop: largest loss of accuracy.
        rounding: largest error of a stored weight, relative to the largest of its channel.
    """

    name: str
    tolerance: float
    top1: float
    top5: float
    drop: float
    rounding: float


PROFILES = {
    profile.name: profile
    for profile in (
        # Two orders of summation leave 1e-6 in single precision; folded weights are rounded twice.
        Profile("fp32-cpu", 1e-4, 1, 1, 0, 1e-5),
        # cuDNN chooses among algorithms (Winograd, FFT) that round more; TF32 is off on both sides.
        Profile("fp32-gpu", 1e-3, 1, 1, 0, 1e-5),
        # 11 bits: each number is off by up to 5e-4, and a network adds them up.
        Profile("fp16", 1e-2, 0.99, 0.98, 0.005, 1e-3),
        # 7 bits for a weight: half a step of 1/63. What counts is the accuracy.
        Profile("int8", 0.2, 0.95, 0.9, 0.01, 0.6 / 63),
    )
}


def profile_for(precision: str | None, provider: str) -> Profile:
    """The profile of a file's arithmetic (`Metadata.precision`) on an execution provider."""
    if precision in PROFILES:
        return PROFILES[precision]
    return PROFILES["fp32-cpu" if provider in ("", "CPUExecutionProvider") else "fp32-gpu"]


def find_profile(name: str) -> Profile:
    """A profile by its name.

    Raises:
        OnnxError: when there is none.
    """
    if name not in PROFILES:
        raise OnnxError(f"no profile {name!r}: choose {', '.join(PROFILES)}")
    return PROFILES[name]
