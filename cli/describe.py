"""Metadata of models, as JSON and for people."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rich.console import Group, RenderableType
from rich.table import Table

if TYPE_CHECKING:
    from ..converters.saved import SavedModel

#: How many entries of a list are shown.
_SHOWN = 10


def model_metadata(model: SavedModel) -> dict[str, Any]:
    """Return the metadata of a model as JSON values."""
    from dataclasses import asdict

    preprocessing, source = model.preprocessing, model.source
    return {
        "parameters": sum(parameter.numel() for parameter in model.module.parameters()),
        "input_shape": None if model.input_shape is None else list(model.input_shape),
        "inputs": None if model.input_shapes is None else model.input_shapes.to_json(),
        "output_kind": model.output_kind,
        "labels": model.labels,
        "vocabularies": [vocabulary.to_json() for vocabulary in model.vocabularies],
        "preprocessing": None if preprocessing is None else preprocessing.to_json(),
        "image_to_image": None if model.image_to_image is None else model.image_to_image.to_json(),
        "source": None if source is None else asdict(source),
        "notes": model.notes,
    }


def metadata_view(metadata: dict[str, Any]) -> RenderableType:
    """Return metadata for people: one line per entry, and the notes."""
    sheet = Table.grid(padding=(0, 2))
    sheet.add_column(style="bold")
    sheet.add_column(overflow="fold")
    # One image is said by its shape.
    unsaid = {"notes", "inputs"} if metadata.get("input_shape") else {"notes"}
    for name, value in metadata.items():
        is_said = value is not None and value is not False and value != []
        if is_said and name not in unsaid:
            sheet.add_row(name.replace("_", " "), _text(name, value).replace("\n", r"\n"))
    return Group(sheet, *(f"note: {text}" for text in metadata.get("notes", [])))


def _text(name: str, value: Any) -> str:
    if name.endswith("shape"):
        return "×".join(map(str, value))
    if name == "bytes":
        return f"{value:,} ({value / 1e6:.1f} MB)"
    if isinstance(value, dict) and "shape" in value:
        # An input or output, a layer's features, a package.
        shape = "×".join(str(axis or "?") for axis in value["shape"])
        others = (text for key, text in value.items() if key != "shape")
        first = next(others)
        return " ".join(filter(None, (str(first), shape, *map(str, others))))
    if isinstance(value, dict) and "entries" in value:
        return f"{value['lua_path']} ({len(value['entries']):,} tokens)"
    if isinstance(value, dict):
        return ", ".join(f"{key} {_text('', item)}" for key, item in value.items() if item)
    if isinstance(value, (list, tuple)):
        shown = ", ".join(_text("", item) for item in value[:_SHOWN])
        return shown if len(value) <= _SHOWN else f"{shown}, … ({len(value):,})"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    return f"{value:.6g}" if isinstance(value, float) else str(value)
