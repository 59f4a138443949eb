"""`torchlift export`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from .describe import metadata_view
from .model_options import FILE_DEFAULTS, ModelOptions
from .result import CommandResult

if TYPE_CHECKING:
    from ..converters.saved import SavedModel


def export(
    model: str,
    output: str | None = None,
    *,
    bake_preprocessing: bool = False,
    fp16: bool = False,
    any_size: bool = False,
    model_options: ModelOptions = FILE_DEFAULTS,
    overwrite: bool = False,
) -> CommandResult:
    """Write a model as one ONNX file that carries its labels and preprocessing.

    The batch axis is free. Compare the file with the model by `torchlift check`.

    Args:
        model: A .t7 file, a saved model's folder, torchvision:NAME, or
            python:package.module:function.
        output: The .onnx file to write; by default the model's name with .onnx, here.
        bake_preprocessing: Put colours, range, mean and std into the graph, which then takes the
            pixels as they are (uint8).
        fp16: Compute in half precision inside; inputs and outputs stay float32.
        any_size: Leave the images' height and width free, where the network can.
        model_options: How to open the model.
        overwrite: Replace a file that is there.
    """
    target = Path(output or f"{Path(model).stem}.onnx")
    return export_opened(
        model_options.model(model),
        target,
        overwrite,
        bake_preprocessing=bake_preprocessing,
        fp16=fp16,
        any_size=any_size,
    )


def export_opened(
    model: SavedModel,
    target: Path,
    overwrite: bool,
    *,
    bake_preprocessing: bool = False,
    fp16: bool = False,
    any_size: bool = False,
) -> CommandResult:
    """`export`, for a model that is open."""
    from ..converters.onnx import describe_file
    from ..converters.onnx import export as export_onnx

    written = export_onnx(
        model,
        target,
        bake_preprocessing=bake_preprocessing,
        fp16=fp16,
        any_size=any_size,
        overwrite=overwrite,
    )
    facts = {
        "files": [str(file) for file in written.files],
        **describe_file(target),
        "bytes": sum(file.stat().st_size for file in written.files),
        "notes": model.notes,
    }
    return CommandResult(facts, metadata_view(facts))
