"""The manifest of a feature store: what its features were computed from, as JSON values."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ..errors import StoreError

#: The attribute of the store's group that holds the manifest.
ATTRIBUTE = "torchlift_features"

#: Incremented when an older torchlift could not read what this one writes. Version 1, of torchlift
#: 0.1.0, has no entry for it, and its column of splits is named `parts`.
FORMAT_VERSION = 2

#: Entries that say what wrote the store, and nothing about its features.
_VERSIONS = ("format_version", "torchlift")


def read_manifest(folder: Path) -> dict[str, Any] | None:
    """Return the manifest of the store in a folder, or None if there is no store."""
    try:
        manifest = json.loads((folder / "zarr.json").read_bytes())["attributes"][ATTRIBUTE]
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
    try:
        version, data = version_of(manifest), manifest["data"]
        sizes = [size for shape in manifest["features"].values() for size in shape]
        valid = (
            all(isinstance(number, int) for number in (*sizes, data["count"], manifest["chunk"]))
            and manifest["chunk"] > 0
            and manifest["dtype"] in ("float32", "float16")
            and (data["classes"] is None or isinstance(data["classes"], list))
        )
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise StoreError("its manifest is damaged") from error
    if version not in (1, FORMAT_VERSION):
        raise StoreError(
            f"format version {version}, this torchlift reads 1 and {FORMAT_VERSION}: install the "
            f"version that wrote it, {manifest.get('torchlift')}"
        )
    if not valid:
        raise StoreError("its manifest is damaged")


def differences(stored: Mapping[str, Any], current: Mapping[str, Any]) -> list[str]:
    """Return what differs between the features of two manifests, whatever wrote them.

    Example:
        >>> differences({"pool": "none", "torchlift": "0.1.0"}, {"pool": "avg"})
        ['pool was none, now avg']
    """
    return list(_differences(_features(stored), _features(current)))


def _features(manifest: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in manifest.items() if name not in _VERSIONS}


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
