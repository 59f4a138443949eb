"""`torchlift inspect`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Group, RenderableType
from rich.markup import escape
from rich.tree import Tree

from .result import CommandResult, table

if TYPE_CHECKING:
    from ..converters.t7.inspection import Bytes, Inspection, Node


def inspect(file: str, *, depth: int = 3) -> CommandResult:
    """Tell what a .t7 holds: its values, the model's layers, and where the bytes go.

    Neither torch nor the tensors' numbers are read. A saved model's folder, an .onnx file or
    stored features are told in a few lines.

    Args:
        file: A .t7 file, a saved model's folder, an .onnx file or a folder of features.
        depth: Levels of the value tree.
    """
    if Path(file).is_dir() or Path(file).suffix.lower() == ".onnx":
        return _inspect_converted(file)
    from ..converters.t7 import inspection

    found = inspection.inspect(file, depth)
    return CommandResult(found.to_json(), _view(found))


def _inspect_converted(file: str) -> CommandResult:
    from .describe import metadata_view, model_metadata

    facts: dict[str, Any]
    if Path(file).is_dir():
        from ..converters.saved import load
        from ..transfer.features.store import describe_store, is_feature_store

        if is_feature_store(file):
            facts = describe_store(file)
            return CommandResult(facts, metadata_view(_shapes_in_words(facts)))
        facts = model_metadata(load(file))
    else:
        from ..converters.onnx import describe_file

        facts = describe_file(file)
    return CommandResult(facts, metadata_view(facts))


def _shapes_in_words(facts: dict[str, Any]) -> dict[str, Any]:
    shapes = facts["features"].items()
    return {**facts, "features": {name: "×".join(map(str, shape)) for name, shape in shapes}}


def _view(found: Inspection) -> RenderableType:
    title = f"{found.source}: {found.size:,} bytes, {found.format}"
    parts: list[RenderableType] = [escape(title), "", _tree(found.tree)]
    if found.layers:
        where = f", the model is {found.model}" if found.model else ""
        parts += [
            "",
            f"[bold]{len(found.layers)} modules, {found.parameters:,} parameters[/]{where}",
        ]
        parts += [_layers(found), "", _bytes(found.bytes)]
    return Group(*parts, *(f"note: {escape(note)}" for note in found.notes))


def _tree(root: Node) -> Tree:
    drawn = Tree(_line(root), guide_style="dim")
    waiting = [(root, drawn)]
    while waiting:
        node, branch = waiting.pop()
        for child in node.children:
            waiting.append((child, branch.add(_line(child))))
        if node.hidden and node.children:
            branch.add(f"[dim]… {node.hidden:,} more[/]")
    return drawn


def _line(node: Node) -> str:
    same = f" [dim](the same as {escape(node.same_as)})[/]" if node.same_as else ""
    return f"[bold]{escape(node.name)}[/] {escape(node.text)}{same}"


def _layers(found: Inspection) -> RenderableType:
    view = table(
        "Lua path",
        "PyTorch",
        "class",
        "settings",
        "parameters",
        "bytes",
        right=("parameters", "bytes"),
    )
    for layer in found.layers:
        view.add_row(
            escape(layer.path),
            layer.torch_path or "",
            layer.class_name,
            f"the same as {escape(layer.same_as)}" if layer.same_as else escape(layer.settings),
            f"{layer.parameters:,}" if layer.parameters else "",
            f"{layer.bytes.total:,}" if layer.bytes.total else "",
        )
    return view


def _bytes(spent: Bytes) -> RenderableType:
    from dataclasses import fields

    view = table("bytes by field", "bytes", "share", right=("bytes", "share"))
    for group in fields(spent):
        amount = getattr(spent, group.name)
        if amount:
            view.add_row(group.name.replace("_", " "), f"{amount:,}", f"{amount / spent.total:.1%}")
    view.add_row("all", f"{spent.total:,}", "")
    return view
