"""`torchlift export`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, TypedDict, Unpack

from .describe import metadata_view
from .errors import UsageError
from .model_options import AS_THE_INPUT, FILE_DEFAULTS, ModelOptions, OutputOptions
from .outputs import output_suffix
from .result import CommandResult
from .values import ColumnRange

if TYPE_CHECKING:
    from ..converters.saved import SavedModel


class ExportOptions(TypedDict, total=False):
    """What `converters.onnx.export` takes besides the model, the file and its details."""

    bake_preprocessing: bool
    bake_resize: bool
    fp16: bool
    any_size: bool
    outputs: list[str] | None
    columns: tuple[int, int] | None


def export(
    model: str,
    output: str | None = None,
    *,
    triton: str | None = None,
    name: str | None = None,
    bake_preprocessing: bool = False,
    bake_resize: bool = False,
    fp16: bool = False,
    any_size: bool = False,
    outputs: list[str] | None = None,
    columns: ColumnRange | None = None,
    model_options: ModelOptions = FILE_DEFAULTS,
    output_options: OutputOptions = AS_THE_INPUT,
    overwrite: bool = False,
) -> CommandResult:
    """Export a model as one ONNX file that carries its labels and preprocessing.

    The batch axis is free. Compare the file with the model by `torchlift check`.

    Args:
        model: A .t7 file, a saved model's folder, hf:FOLDER or hf:ORG/NAME, torchvision:NAME or
            timm:NAME, or python:package.module:function.
        output: The .onnx file to write; by default the model's name with .onnx, here.
        triton: Write into this Triton model repository instead: a new model, or the next version
            of one that is there.
        name: The model's name in the repository; by default that of its file or folder.
        bake_preprocessing: Put color order, value range, mean and std into the graph, which then
            takes pixels (uint8).
        bake_resize: Put resizing and cropping into the graph too, which then takes `image`: the
            pixels (uint8, height x width x 3) of one image of any size.
        fp16: Compute in half precision; inputs and outputs stay float32.
        any_size: Leave the images' height and width free, where the network can.
        outputs: Which outputs are kept, in this order: names, or numbers from 1, with commas
            between.
        columns: Which columns of the only output are kept, from 1, both ends included, such as
            1:1000; labels are cut with them.
        model_options: How to open the model.
        output_options: How outputs become images, kept in the file.
        overwrite: Replace a file that is there.
    """
    if bake_preprocessing and bake_resize:
        raise UsageError(
            "--bake-resize puts all of preprocessing into the graph: leave out --bake-preprocessing"
        )
    if name is not None and not name.strip():
        raise UsageError("--name: a name was expected")
    if triton is None and name is not None:
        raise UsageError("--name is that of a model in a repository: --triton names the repository")
    if triton is not None and (output is not None or overwrite):
        given = "--overwrite" if output is None else "OUTPUT"
        raise UsageError(f"--triton adds a version to a repository: leave out {given}")
    options: ExportOptions = {
        "bake_preprocessing": bake_preprocessing,
        "bake_resize": bake_resize,
        "fp16": fp16,
        "any_size": any_size,
        "outputs": outputs,
        "columns": None if columns is None else (columns.first, columns.last),
    }

    def opened() -> SavedModel:
        result = model_options.model(model)
        output_options.set_on(result, model)
        return result

    if triton is not None:
        return _export_version(model, triton, name, opened, options)
    target = output or f"{_name_of(model)}.onnx"
    output_suffix(target, [".onnx"])
    from ..converters.files import check_output

    path = check_output(target, overwrite)
    return export_opened(model, opened(), path, overwrite, **options)


def export_opened(
    name: str, model: SavedModel, target: Path, overwrite: bool, **options: Unpack[ExportOptions]
) -> CommandResult:
    """Export a model that is open; `name` is how it was named on the command line."""
    from ..converters.onnx import export as export_onnx

    written = export_onnx(model, target, overwrite=overwrite, **options)
    return _exported(name, model, target, written.files)


def _export_version(
    model: str,
    repository: str,
    name: str | None,
    open_it: Callable[[], SavedModel],
    options: ExportOptions,
) -> CommandResult:
    """Export a model as the next version of one in Triton's layout."""
    from ..converters.onnx import export as export_onnx
    from ..converters.onnx import next_version, triton_version

    folder = next_version(repository, name or _name_of(model))
    opened = open_it()
    with triton_version(folder) as file:
        export_onnx(opened, file, **options)
    files = sorted(folder.iterdir())
    if folder.name == "1":
        files += sorted(entry for entry in folder.parent.iterdir() if entry.is_file())
    return _exported(model, opened, folder / file.name, files)


def _name_of(model: str) -> str:
    """Return the name of a model's file, folder, repository or function."""
    from ..converters.saved.hub import HF

    named = model.startswith(("python:", "torchvision:", "timm:", HF))
    path = Path(model.rpartition(":")[2] if named else model)
    return path.resolve().name if path.is_dir() else path.stem


def _exported(name: str, model: SavedModel, target: Path, files: list[Path]) -> CommandResult:
    from ..converters.onnx import describe_file

    metadata = {
        "model": name,
        "files": [str(file) for file in files],
        **describe_file(target),
        "bytes": sum(file.stat().st_size for file in files),
        "notes": model.notes,
    }
    return CommandResult(metadata, metadata_view(metadata))
