"""The model card of the page: what a file says of itself, and the report of its check."""

from __future__ import annotations

from typing import Any

from ...converters.inference.check_verdict import check_verdict
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
        "check": check_verdict(model.path),
    }
