"""The model card of the page: what a file says of itself, and the report of its check."""

from __future__ import annotations

import json
from typing import Any

from .model import ServedModel


def card(model: ServedModel, names: list[str]) -> dict[str, Any]:
    """Return the card of a model.

    Args:
        model: The model.
        names: The names of all models that are served.
    """
    said = model.metadata
    preprocessing = said.baked_preprocessing or said.preprocessing
    return {
        "model": model.name,
        "models": names,
        "version": model.version,
        "sha256": model.sha256,
        "provider": model.provider,
        "labels": said.labels,
        "output_kind": said.output_kind,
        "arithmetic": said.precision,
        "preprocessing": None if preprocessing is None else preprocessing.to_json(),
        "source": said.source,
        "torchlift_version": said.torchlift_version,
        "can_predict": model.predictor is not None
        and said.output_kind != "features"
        and (said.preprocessing is not None or model.takes_image),
        "check": _check_report(model),
    }


def _check_report(model: ServedModel) -> dict[str, Any] | None:
    """Return the verdict of `check --report`, which lies beside the file, if it is of this file."""
    file = model.path.with_suffix(".check.json")
    try:
        if file.stat().st_mtime < model.path.stat().st_mtime:
            return None
        report = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    # What else is in the report may name files of this machine.
    keys = ("passed", "profile", "error", "agreeing", "count")
    return {key: report.get(key) for key in keys} if isinstance(report, dict) else None
