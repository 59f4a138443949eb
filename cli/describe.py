"""Models in words, for the reports of several commands."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rich.console import Group, RenderableType
from rich.table import Table

if TYPE_CHECKING:
    from ..converters.saved import SavedModel


def model_metadata(model: SavedModel) -> dict[str, Any]:
    """What travels with a model, as JSON values."""
    preprocessing = model.preprocessing
    return {
        "parameters": sum(parameter.numel() for parameter in model.module.parameters()),
        "input_shape": None if model.input_shape is None else list(model.input_shape),
        "output_kind": model.output_kind,
        "labels": model.labels,
        "preprocessing": None if preprocessing is None else preprocessing.to_json(),
        "notes": model.notes,
    }


def metadata_view(facts: dict[str, Any]) -> RenderableType:
    """Facts for people: a line each, lists and tables in a few words."""
    sheet = Table.grid(padding=(0, 2))
    sheet.add_column(style="bold")
    sheet.add_column(overflow="fold")
    for name, value in facts.items():
        if name != "notes" and value is not None:
            sheet.add_row(name.replace("_", " "), _words(name, value))
    return Group(sheet, *(f"note: {text}" for text in facts.get("notes", [])))


def _words(name: str, value: Any) -> str:
    if name.endswith("shape"):
        return "×".join(map(str, value))
    if name == "bytes":
        return f"{value:,} ({value / 1e6:.1f} MB)"
    if isinstance(value, dict):
        return ", ".join(f"{key} {_words('', item)}" for key, item in value.items() if item)
    if isinstance(value, (list, tuple)):
        shown = ", ".join(_words("", item) for item in value[:10])
        return shown if len(value) <= 10 else f"{shown}, … ({len(value):,})"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return (
        f"{value:,}"
        if isinstance(value, int)
        else f"{value:.6g}"
        if isinstance(value, float)
        else str(value)
    )
