"""`torchlift convert`."""

from __future__ import annotations

from pathlib import Path

from .check import LAYER_TOLERANCE, verdict
from .describe import metadata_view, model_metadata
from .export import export_opened
from .model_options import FILE_DEFAULTS, ModelOptions
from .outputs import output_suffix
from .result import CommandResult


def convert(
    model: str,
    output: str | None = None,
    *,
    model_options: ModelOptions = FILE_DEFAULTS,
    overwrite: bool = False,
) -> CommandResult:
    """Convert the model of a .t7 to a saved PyTorch model, to .pt2 or .onnx, or back to .t7.

    A saved model is a folder: config.json (structure, labels, preprocessing, notes),
    model.safetensors, and model.py, readable source that needs torch only. Where a checkpoint
    still holds its layers' activations, the layers are run again and compared; `torchlift check
    FILE.t7` shows each.

    Args:
        model: The .t7 file; or a saved model's folder, torchvision:NAME, or
            python:package.module:function.
        output: A folder, or a file in .pt2, .onnx or .t7; by default a folder of the model's name,
            here.
        model_options: How to open the model.
        overwrite: Replace what is there.
    """
    suffix = output_suffix(output or "", ["", ".pt2", ".onnx", ".t7"])
    from ..converters.files import check_output
    from ..converters.modules.finite import first_not_finite_parameter
    from ..converters.saved import save, save_pt2, save_t7

    target = check_output(output or Path(model).stem, overwrite, folder=not suffix)
    # Torch7 computes in float64 too; the other formats are for float32.
    opened = model_options.model(model, keep_dtype=suffix == ".t7")
    if Path(model).is_file():
        compared = verdict(model_options.self_check(model, LAYER_TOLERANCE))
        opened.notes.append(f"self-check: {compared}")
    if place := first_not_finite_parameter(opened.module):
        opened.notes.append(f"not all parameters are numbers: {place}")
    if suffix == ".onnx":
        return export_opened(model, opened, target, overwrite)
    if suffix == ".pt2":
        save_pt2(opened, target, overwrite=overwrite)
    elif suffix == ".t7":
        save_t7(opened, target, overwrite=overwrite)
        if opened.labels is not None or opened.preprocessing is not None:
            opened.notes.append("the .t7 holds the network only, without labels and preprocessing")
    else:
        save(opened, target, overwrite=overwrite)
    files = [target] if suffix else sorted(target.iterdir())
    metadata = {
        "model": model,
        "files": [str(file) for file in files],
        "bytes": sum(file.stat().st_size for file in files),
        **model_metadata(opened),
    }
    return CommandResult(metadata, metadata_view(metadata))
