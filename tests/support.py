"""What the tests share: where the files are, and how numbers are compared."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import torch

ROOT = Path(__file__).resolve().parent.parent
FIXTURES = ROOT / "fixtures"
#: Other people's files; tests that need them skip where they are absent.
SHARED = Path(os.environ.get("TORCHLIFT_SHARED", ROOT.parent / "shared"))


def wild_files() -> list[Path]:
    """The Torch7 files in `wild`; `*.io.t7` and JSON beside them say what is right."""
    found = (path for path in (SHARED / "wild").glob("*") if path.is_file())
    ours = (".io.t7", ".json", ".jsonl")
    return sorted(path for path in found if not path.name.endswith(ours))


def relative_error(actual: Any, expected: Any) -> float:
    """Largest difference, relative to the largest expected value; lists and dicts are walked.

    Raises:
        AssertionError: when structures or shapes differ.
    """
    if isinstance(expected, (list, dict)):
        assert type(actual) is type(expected), f"{type(actual)} for {type(expected)}"
        assert len(actual) == len(expected)
        keys = expected if isinstance(expected, dict) else range(len(expected))
        return max((relative_error(actual[key], expected[key]) for key in keys), default=0.0)
    if not isinstance(expected, torch.Tensor):
        return abs(float(actual) - expected) / max(abs(expected), 1e-12)
    assert tuple(actual.shape) == tuple(expected.shape), (
        f"shape {tuple(actual.shape)}, Torch7 has {tuple(expected.shape)}"
    )
    if expected.numel() == 0:
        return 0.0
    actual, expected = actual.detach().double(), expected.double()
    same = (actual == expected) | (actual.isnan() & expected.isnan())
    difference = torch.where(same, torch.zeros_like(expected), (actual - expected).abs())
    return float(difference.max() / expected[expected.isfinite()].abs().max().clamp(min=1e-12))


def proof(
    conversion: Any, class_name: str, kind: str, reason: str | None = None
) -> dict[str, str | None]:
    """Return what a passed contract test proves, for `docs/coverage.md` (see `conftest`).

    Args:
        conversion: The `Conversion` that was tested.
        class_name: The Torch7 class that the recorded case is about. The other classes in the
            module only surround it, and are not proved.
        kind: `evaluation`, `training`, `gradients` or `onnx`.
        reason: Why it was not compared, or with what instead of its own recorded numbers.
    """
    # Children come before parents: the last one is the outermost.
    cls = [
        type(layer.module) for layer in conversion.layers if layer.source.class_name == class_name
    ][-1]
    return {
        "class": class_name,
        "kind": kind,
        "reason": reason,
        "becomes": f"{cls.__module__.split('.')[0]}.{cls.__qualname__}",
    }
