"""What the comparisons of a check say, against what its profile lets pass."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np

from ...inference.classifier import class_name
from .comparison import Comparison
from .profiles import Profile
from .report import Finding

#: How many ties are named.
_NAMED = 3


def check_errors(
    comparisons: Sequence[Comparison], profile: Profile, labels: Sequence[str] | None
) -> list[Finding]:
    """NaN and infinity first, then the error, then the classes."""
    if not comparisons:
        return []
    findings = [_finite(comparisons), _error(comparisons, profile)]
    if all(part.agreeing is not None for part in comparisons):
        findings.append(_top1(comparisons, profile, labels))
    overlaps = [(part.top5, part.batch) for part in comparisons if part.top5 is not None]
    if overlaps:
        fraction = sum(top5 * batch for top5, batch in overlaps) / sum(n for _, n in overlaps)
        text = f"{fraction:.2%} of the five likeliest are the same, {profile.top5:.0%} needed"
        findings.append(Finding("top-5", fraction >= profile.top5, text))
    return findings


def check_accuracy(
    classes: np.ndarray, ours: np.ndarray, theirs: np.ndarray, ties: int, drop: float
) -> Finding:
    """The accuracy of both, and what the file loses.

    Args:
        classes: (N,) the right ones.
        ours: (N,) what the model says.
        theirs: (N,) what the file says.
        ties: examples that may go either way.
        drop: largest loss that passes.
    """
    model, file = float((ours == classes).mean()), float((theirs == classes).mean())
    text = f"{model:.4f} of the model, {file:.4f} of the file ({file - model:+.4f})"
    if ties:
        text += f"; {ties} of {len(classes)} may go either way"
    lost = int((ours == classes).sum()) - int((theirs == classes).sum()) - ties
    return Finding("accuracy", lost <= drop * len(classes), f"{text}, a loss of {drop:g} allowed")


def _finite(comparisons: Sequence[Comparison]) -> Finding:
    ours, theirs = (sum(part.not_finite[side] for part in comparisons) for side in (0, 1))
    text = "no NaN and no infinity"
    if ours or theirs:
        text = f"NaN or infinite: {ours} outputs of the model, {theirs} of the file"
    return Finding("finite", not (ours or theirs), text)


def _error(comparisons: Sequence[Comparison], profile: Profile) -> Finding:
    worst = max(comparisons, key=lambda part: part.error)
    above, count = (sum(getattr(part, name) for part in comparisons) for name in ("above", "count"))
    return Finding(
        "numbers",
        worst.error <= profile.tolerance,
        f"largest error {worst.error:.1e} of the largest output, {profile.tolerance:g} allowed "
        f"({above:,} of {count:,} outputs above): {worst.values[0]:.7g} in the model, "
        f"{worst.values[1]:.7g} in the file, at {list(worst.where)}; {_sizes(comparisons)}",
    )


def _sizes(comparisons: Sequence[Comparison]) -> str:
    """The batches that were run, and the sizes of their inputs where there are several."""
    batches = Counter(part.batch for part in comparisons)
    text = ", ".join(str(size) if n == 1 else f"{n} of {size}" for size, n in batches.items())
    sizes = list(dict.fromkeys("×".join(map(str, part.size)) for part in comparisons))
    return f"batches: {text}" + (f"; sizes: {', '.join(sizes)}" if len(sizes) > 1 else "")


def _top1(
    comparisons: Sequence[Comparison], profile: Profile, labels: Sequence[str] | None
) -> Finding:
    same = sum(part.agreeing or 0 for part in comparisons)
    count = sum(part.batch for part in comparisons)
    text = f"{same} of {count} the same"
    if profile.top1 < 1:
        text += f", {profile.top1:.0%} needed"
    ties = [tie for part in comparisons for tie in part.ties]
    if ties:
        named = "; ".join(
            f"example {tie.example}: {class_name(labels, tie.first)} or "
            f"{class_name(labels, tie.second)}"
            for tie in ties[:_NAMED]
        )
        text += f", {len(ties)} of them ties ({named}{', …' if ties[_NAMED:] else ''})"
    return Finding("top-1", same >= profile.top1 * count, text)
