"""The manifest of a feature store: what its features were computed from, as JSON values."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ...converters.errors import TorchliftError
from ...converters.saved.config import check_preprocessing
from ...converters.validation import (
    anything,
    check_entries,
    entries,
    flag,
    list_of,
    mapping_of,
    one_of,
    optional,
    read_json,
    text,
    whole,
)
from ..errors import StoreError

#: The attribute of the store's group that holds the manifest.
ATTRIBUTE = "torchlift_features"

#: Incremented when an older torchlift could not read what this one writes. Version 1, of torchlift
#: 0.1.0, has no entry for it, and its column of splits is named `parts`.
FORMAT_VERSION = 2

#: The most values of one example, and examples of a store or a chunk.
_MOST_VALUES, _MOST_EXAMPLES = 2**32, 2**40

#: What each entry of a manifest is.
_ENTRIES = {
    "format_version": one_of(1, FORMAT_VERSION),
    "torchlift": text,
    "model": text,
    "layers": mapping_of(text),
    "backend": text,
    "preprocessing": optional(mapping_of(anything)),
    "features": mapping_of(list_of(whole(1, _MOST_VALUES))),
    "pool": one_of("none", "avg", "max"),
    "flatten": flag,
    "dtype": one_of("float32", "float16"),
    "batch_size": whole(1),
    "chunk": whole(1, _MOST_EXAMPLES),
    "data": entries(
        {
            "fingerprint": text,
            "count": whole(1, _MOST_EXAMPLES),
            "classes": optional(list_of(text)),
        }
    ),
    "source": entries(
        {
            "model": text,
            "weights": optional(text),
            "at": optional(text),
            "input_shape": list_of(whole(1, _MOST_VALUES)),
        }
    ),
}

#: Entries that a store may lack: those of torchlift 0.1.0 do.
_OPTIONAL = ("format_version", "source")

#: Entries that say what wrote the store and where its network was, and nothing about its features.
_ORIGINS = ("format_version", "torchlift", "source")


def read_manifest(folder: Path) -> dict[str, Any] | None:
    """Return the manifest of the store in a folder, or None if there is no store."""
    try:
        manifest = read_json((folder / "zarr.json").read_bytes())["attributes"][ATTRIBUTE]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return manifest if isinstance(manifest, dict) else None


def version_of(manifest: Mapping[str, Any]) -> int:
    """Return the version of the format in which a store was written."""
    return int(manifest.get("format_version", 1))


def check_readable(manifest: Mapping[str, Any]) -> None:
    """Check that this torchlift can read a store.

    Raises:
        StoreError: If a newer torchlift wrote it, or its manifest is damaged.
    """
    version = manifest.get("format_version", 1)
    if type(version) is int and version not in (1, FORMAT_VERSION):
        raise StoreError(
            f"format version {version}, this torchlift reads 1 and {FORMAT_VERSION}: install the "
            f"version that wrote it, {manifest.get('torchlift')}"
        )
    try:
        check_entries(manifest, _ENTRIES, optional=_OPTIONAL)
        names = list(manifest["features"])
        # A layer is a folder of the store.
        if not names or {"", ".", ".."} & set(names):
            raise ValueError(f"features has no layers or invalid ones: {names[:3]}")
        if set(names) != set(manifest["layers"]):
            raise ValueError("layers does not describe the layers of features")
        check_preprocessing(manifest["preprocessing"])
    except (ValueError, TorchliftError) as error:
        raise StoreError(f"its manifest is damaged: {error}") from None


def differences(stored: Mapping[str, Any], current: Mapping[str, Any]) -> list[str]:
    """Return what differs between the features of two manifests, whatever wrote them.

    Example:
        >>> differences({"pool": "none", "torchlift": "0.1.0"}, {"pool": "avg"})
        ['pool was none, now avg']
    """
    return list(_differences(_features(stored), _features(current)))


def _features(manifest: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in manifest.items() if name not in _ORIGINS}


def _differences(stored: Any, current: Any, where: str = "") -> Iterator[str]:
    both = isinstance(stored, Mapping) and isinstance(current, Mapping)
    if both and set(stored) == set(current):
        for key in stored:
            inner = f"{where}.{key}" if where else str(key)
            yield from _differences(stored[key], current[key], inner)
    elif _as_json(stored) != _as_json(current):
        words = where.replace(".", " ").replace("_", " ")
        yield f"{words} was {_shorten(stored)}, now {_shorten(current)}"


def _as_json(value: Any) -> Any:
    """Return a value as it comes back from JSON."""
    return json.loads(json.dumps(value))


def _shorten(value: Any) -> str:
    text = ", ".join(value) if isinstance(value, Mapping) else str(value)
    return text if len(text) <= 60 else f"{text[:12]}…"
