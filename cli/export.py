"""`torchlift export`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from .describe import metadata_view
from .errors import UsageError
from .model_options import AS_THE_INPUT, FILE_DEFAULTS, ModelOptions, OutputOptions
from .outputs import output_suffix
from .result import CommandResult
from .values import ColumnRange

if TYPE_CHECKING:
    from ..converters.saved import SavedModel


def export(
    model: str,
    output: str | None = None,
    *,
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
        model: A .t7 file, a saved model's folder, torchvision:NAME, or
            python:package.module:function.
        output: The .onnx file to write; by default the model's name with .onnx, here.
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
    target = output or f"{Path(model).stem}.onnx"
    output_suffix(target, [".onnx"])
    if bake_preprocessing and bake_resize:
        raise UsageError(
            "--bake-resize puts all of preprocessing into the graph: leave out --bake-preprocessing"
        )
    from ..converters.files import check_output

    target_file = check_output(target, overwrite)
    opened = model_options.model(model)
    output_options.set_on(opened, model)
    return export_opened(
        model,
        opened,
        target_file,
        overwrite,
        bake_preprocessing=bake_preprocessing,
        bake_resize=bake_resize,
        fp16=fp16,
        any_size=any_size,
        outputs=outputs,
        columns=columns,
    )


def export_opened(
    name: str,
    model: SavedModel,
    target: Path,
    overwrite: bool,
    *,
    bake_preprocessing: bool = False,
    bake_resize: bool = False,
    fp16: bool = False,
    any_size: bool = False,
    outputs: list[str] | None = None,
    columns: ColumnRange | None = None,
) -> CommandResult:
    """Export a model that is open; `name` is how it was named on the command line."""
    from ..converters.onnx import describe_file
    from ..converters.onnx import export as export_onnx

    written = export_onnx(
        model,
        target,
        bake_preprocessing=bake_preprocessing,
        bake_resize=bake_resize,
        fp16=fp16,
        any_size=any_size,
        outputs=outputs,
        columns=None if columns is None else (columns.first, columns.last),
        overwrite=overwrite,
    )
    metadata = {
        "model": name,
        "files": [str(file) for file in written.files],
        **describe_file(target),
        "bytes": sum(file.stat().st_size for file in written.files),
        "notes": model.notes,
    }
    return CommandResult(metadata, metadata_view(metadata))
