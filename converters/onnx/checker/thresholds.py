"""Findings about the outputs: whether the compared batches stay within the limits of a profile."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from fractions import Fraction

import numpy as np

from ...inference.classifier import class_name
from .comparison import TOP, Comparison
from .profiles import Profile
from .report import Finding

#: How many ties a finding names.
_NAMED = 3


def check_outputs(
    comparisons: Sequence[Comparison],
    limits: Profile,
    labels: Sequence[str] | None,
    skipped: str = "",
) -> list[Finding]:
    """Check for NaN and infinity, then the errors, then the predicted classes.

    Args:
        comparisons: One for each batch and output; without any there are no findings.
        limits: What passes.
        labels: Class names, in the order of the outputs.
        skipped: Why the errors cannot be judged; empty if they can.
    """
    if not comparisons:
        return []
    if skipped:
        return [_finite(comparisons), Finding("outputs", True, f"skipped ({skipped})")]
    findings = [_finite(comparisons), _errors(comparisons, limits.tolerance)]
    if all(comparison.agreeing is not None for comparison in comparisons):
        findings.append(_top1(comparisons, limits.top1, labels))
    top5 = [(comparison.top5, comparison.batch) for comparison in comparisons]
    agreeing = sum(classes for classes, _ in top5 if classes is not None)
    count = TOP * sum(batch for classes, batch in top5 if classes is not None)
    if count:
        text = f"{agreeing} of {count} top-5 classes agree, {limits.top5:.0%} required"
        findings.append(Finding("top-5", is_enough(agreeing, limits.top5, count), text))
    return findings


def is_enough(agreeing: int, required: float, count: int) -> bool:
    """Return whether a required fraction agrees, counted exactly: 63 of 70 are 0.9."""
    return agreeing >= Fraction(str(required)) * count


def check_accuracy(
    classes: np.ndarray, predictions: tuple[np.ndarray, np.ndarray], ties: int, drop: float
) -> Finding:
    """Check how much accuracy the file loses.

    Args:
        classes: (N,) the true classes.
        predictions: (N,) the classes that the model and the file predict.
        ties: How many predictions are ties, which rounding may decide either way.
        drop: Largest loss that passes.
    """
    correct = [int((predicted == classes).sum()) for predicted in predictions]
    model, file = (count / len(classes) for count in correct)
    text = f"{model:.4f} of the model, {file:.4f} of the file ({file - model:+.4f})"
    if ties:
        text += f"; {ties} of {len(classes)} are ties"
    passed = correct[0] - correct[1] - ties <= Fraction(str(drop)) * len(classes)
    return Finding("accuracy", passed, f"{text}, a loss of {drop:g} allowed")


def _finite(comparisons: Sequence[Comparison]) -> Finding:
    model, file = (
        sum(comparison.not_finite[side] for comparison in comparisons) for side in (0, 1)
    )
    text = "no NaN and no infinity"
    if model or file:
        text = f"NaN or infinite: {model} outputs of the model, {file} of the file"
    return Finding("finite", not (model or file), text)


def _errors(comparisons: Sequence[Comparison], tolerance: float) -> Finding:
    batches = _batches(comparisons)
    if any(math.isnan(comparison.error) for comparison in comparisons):
        return Finding("outputs", False, f"a batch has no finite output to compare; {batches}")
    worst = max(comparisons, key=lambda comparison: comparison.error)
    above = sum(comparison.above for comparison in comparisons)
    count = sum(comparison.count for comparison in comparisons)
    return Finding(
        "outputs",
        worst.error <= tolerance,
        f"largest error {worst.error:.1e} of the largest output, {tolerance:g} allowed "
        f"({above:,} of {count:,} outputs above): {worst.values[0]:.7g} in the model, "
        f"{worst.values[1]:.7g} in the file, at {list(worst.where)}; {batches}",
    )


def _batches(comparisons: Sequence[Comparison]) -> str:
    """Return the sizes of the batches, and the input shapes if there are several."""
    counts = Counter(comparison.batch for comparison in comparisons)
    text = ", ".join(str(size) if n == 1 else f"{n} of {size}" for size, n in counts.items())
    shapes = dict.fromkeys("×".join(map(str, c.input_shape)) for c in comparisons)
    return f"batches: {text}" + (f"; sizes: {', '.join(shapes)}" if len(shapes) > 1 else "")


def _top1(
    comparisons: Sequence[Comparison], required: float, labels: Sequence[str] | None
) -> Finding:
    agreeing = sum(comparison.agreeing or 0 for comparison in comparisons)
    count = sum(comparison.batch for comparison in comparisons)
    text = f"{agreeing} of {count} predictions agree"
    if required < 1:
        text += f", {required:.0%} required"
    ties = [tie for comparison in comparisons for tie in comparison.ties]
    if ties:
        named = "; ".join(
            f"example {tie.example}: {class_name(labels, tie.first)} or "
            f"{class_name(labels, tie.second)}"
            for tie in ties[:_NAMED]
        )
        text += f", {len(ties)} of them ties ({named}{', …' if ties[_NAMED:] else ''})"
    return Finding("top-1", is_enough(agreeing, required, count), text)
