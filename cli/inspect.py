"""`torchlift inspect`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Group, RenderableType
from rich.text import Text
from rich.tree import Tree

from ..converters.errors import TorchliftError
from .dataset import dataset_in, dataset_view, describe_dataset, is_dataset
from .describe import metadata_view
from .errors import UsageError
from .model_options import run_plugin
from .result import CommandResult, table
from .values import CountOrZero

if TYPE_CHECKING:
    from ..converters.t7.inspection import Bytes, Inspection, Node

#: Characters of a path that the table of layers shows.
_SHOWN = 160

#: Files that other commands write, and what opens them.
_OTHER_KINDS = {
    ".pt2": "torch.export.load opens it",
    ".safetensors": "it holds the weights of a saved model: name its folder",
}


def inspect(
    file: str, *, depth: CountOrZero = 3, at: str | None = None, plugin: str | None = None
) -> CommandResult:
    """Show what a .t7 contains: its values, the model's layers, and where the bytes go.

    torch is not needed. A parameter that is not a number is said in a note. A saved model, an .onnx
    file and stored features are shown in a few lines, a dataset with its classes and their counts.

    Args:
        file: A .t7 file, a saved model's folder, an .onnx file, a folder of features, or a dataset:
            a .t7 or .npz file, a folder of images, CIFAR's or MNIST's files, sklearn:digits, or an
            address such as s3://, hf://, https:// or zip://.
        depth: Levels of the value tree.
        at: The path of a value in a .t7, such as protos.cnn, whose tree and layers are shown.
        plugin: A Python file with converters for classes of your own; it is run.
    """
    from ..converters.saved.hub import model_path
    from ..transfer.data.remote_files import is_address

    run_plugin(plugin)
    path = Path(file) if is_address(file) else model_path(file)
    if at and (path.suffix.lower() in (".onnx", *_OTHER_KINDS) or path.is_dir()):
        raise UsageError(f"{file}: --at is for a .t7 file")
    if path.suffix.lower() == ".onnx":
        from ..converters.inference.onnx_weights import (
            first_not_finite_weight as first_not_finite_constant,
        )
        from ..converters.onnx import describe_file

        described = describe_file(file)
        return _described(file, "onnx", described, first_not_finite_constant(path))
    if path.is_dir():
        from ..converters.saved import describe_folder, is_saved_model
        from ..converters.saved.config import CONFIG, first_not_finite_weight

        if not is_saved_model(path) and (path / "zarr.json").is_file():
            from ..transfer.features.store import describe_store

            return _described(file, "features", describe_store(file))
        if not (path / CONFIG).is_file() and is_dataset(file):
            return _dataset(file)
        described = describe_folder(path)
        return _described(file, "saved_model", described, first_not_finite_weight(path))
    if not at and (is_address(file) or path.suffix.lower() != ".t7") and is_dataset(file):
        return _dataset(file)
    if path.suffix.lower() in _OTHER_KINDS:
        raise TorchliftError(
            f"{file}: {_OTHER_KINDS[path.suffix.lower()]}; inspect is for .t7 and .onnx files, "
            "saved models, features and datasets"
        )
    from ..converters.t7 import inspection

    found = inspection.inspect(file, depth, at=at or "")
    data = None if found.layers or at else dataset_in(file)
    parts = [_view(found), *([] if data is None else ["", dataset_view(data)])]
    dataset = None if data is None else data.to_json()
    return CommandResult({"file_kind": "t7", **found.to_json(), "dataset": dataset}, Group(*parts))


def _dataset(source: str) -> CommandResult:
    described = describe_dataset(source)
    data = {"file": source, "file_kind": "dataset", **described.to_json()}
    return CommandResult(data, dataset_view(described))


def _described(
    file: str, kind: str, description: dict[str, Any], damage: str = ""
) -> CommandResult:
    if damage:
        note = f"not all weights are numbers: {damage}"
        description = {**description, "notes": [*(description.get("notes") or []), note]}
    data = {"file": file, "file_kind": kind, **description}
    return CommandResult(data, metadata_view(description))


def _view(found: Inspection) -> RenderableType:
    title = f"{found.file}: {found.size:,} bytes, {found.format}"
    parts: list[RenderableType] = [title, "", _tree(found.tree)]
    if found.layers:
        where = f", the model is {found.model_path}" if found.model_path else ""
        parts += [
            "",
            Text.assemble(
                (f"{len(found.layers)} modules, {found.parameters:,} parameters", "bold"), where
            ),
        ]
        parts += [_layers(found), "", _bytes(found.bytes)]
    return Group(*parts, *(f"note: {note}" for note in found.notes))


def _tree(root: Node) -> Tree:
    drawn = Tree(_line(root), guide_style="dim")
    waiting = [(root, drawn)]
    while waiting:
        node, branch = waiting.pop()
        waiting.extend((child, branch.add(_line(child))) for child in node.children)
        if node.hidden and node.children:
            branch.add(Text(f"… {node.hidden:,} more", "dim"))
    return drawn


def _line(node: Node) -> Text:
    same = f" (the same as {node.same_as})" if node.same_as else ""
    return Text.assemble((node.name, "bold"), f" {node.text}", (same, "dim"))


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
            _shortened(layer.path),
            _shortened(layer.torch_path or ""),
            layer.class_name,
            f"the same as {layer.same_as}" if layer.same_as else layer.settings,
            f"{layer.parameters:,}" if layer.parameters else "",
            f"{layer.bytes.total:,}" if layer.bytes.total else "",
        )
    return view


def _shortened(path: str) -> str:
    return path if len(path) <= _SHOWN else f"{path[: _SHOWN // 2]}…{path[-_SHOWN // 2 :]}"


def _bytes(spent: Bytes) -> RenderableType:
    from dataclasses import fields

    view = table("bytes by field", "bytes", "fraction", right=("bytes", "fraction"))
    for group in fields(spent):
        amount = getattr(spent, group.name)
        if amount:
            view.add_row(group.name.replace("_", " "), f"{amount:,}", f"{amount / spent.total:.1%}")
    view.add_row("all", f"{spent.total:,}", "")
    return view
