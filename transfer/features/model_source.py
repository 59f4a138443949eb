"""Where the network of a feature store is, and opening it again."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...converters.saved import SavedModel
from ...converters.saved.hub import is_remote, model_path
from ..errors import StoreError
from ..network_by_name import PYTHON, TIMM, TORCHVISION, load_network
from .store import FeatureStore


@dataclass(frozen=True)
class ModelSource:
    """Where the network of a feature store is.

    Which network it is, another entry of the manifest says: `model`, the SHA-256 of its structure
    and weights.

    Attributes:
        model: The absolute path of a file or folder, `torchvision:NAME`, `timm:NAME`,
            `hf:ORG/NAME` or `python:…`.
        weights: The absolute path of weights that are not in it, or their name; or None.
        at: The path of the model in a `.t7`, or None.
    """

    model: str
    weights: str | None = None
    at: str | None = None

    @classmethod
    def of(cls, model: str, weights: str | None = None, at: str | None = None) -> ModelSource:
        """Return where a model is that was opened by these names.

        Example:
            >>> ModelSource.of("torchvision:resnet18").model
            'torchvision:resnet18'
        """
        named = model.startswith((TORCHVISION, TIMM, PYTHON)) or is_remote(model)
        return cls(
            model if named else str(model_path(model).absolute()),
            str(Path(weights).absolute()) if weights and Path(weights).exists() else weights,
            at,
        )

    @classmethod
    def from_manifest(cls, manifest: Mapping[str, Any]) -> ModelSource | None:
        """Return what a manifest says; None if it says nothing, as those of torchlift 0.1.0."""
        entry = manifest.get("source")
        return None if entry is None else cls(entry["model"], entry["weights"], entry["at"])


def reopen(store: FeatureStore, model: str | None = None) -> SavedModel:
    """Return the network that the features of a store were computed with.

    Args:
        store: The store.
        model: Where the network is now; by default where it was. No code that only the store names
            is run, and nothing that only the store names is downloaded.

    Raises:
        StoreError: If it is not there, or another one is.
        TorchliftError: If it cannot be opened.
    """
    from .extractors import network_digest

    source = ModelSource.from_manifest(store.manifest)
    if model is None:
        if source is None:
            raise StoreError(f"{store.path} does not say where its model is: name it with model=…")
        model = source.model
        if model.startswith(PYTHON):
            raise StoreError(
                f"{store.path} names {model}, and a store runs no code: name it yourself with "
                "model=…"
            )
        if is_remote(model):
            raise StoreError(
                f"{store.path} names {model}, and a store downloads nothing: name it yourself with "
                "model=…"
            )
        if not model.startswith((TORCHVISION, TIMM)) and not Path(model).exists():
            raise StoreError(
                f"{model} is not there, from which {store.path} was computed: say where it is now "
                "with model=…"
            )
    if Path(model).suffix.lower() == ".onnx":
        raise StoreError(
            f"{store.path} was computed from {model}, which has no layers to save: extract from "
            "the model that it was exported from"
        )
    weights, at = (None, None) if source is None else (source.weights, source.at)
    opened = load_network(model, weights, at=at)
    if network_digest(opened.module) != store.manifest["model"]:
        raise StoreError(
            f"{model} is another network than the one that {store.path} was computed from "
            f"(SHA-256 {store.manifest['model'][:12]}…): extract its features, or name the right "
            "one with model=…"
        )
    return opened
