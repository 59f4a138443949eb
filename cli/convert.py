"""`torchlift convert`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from .check import LAYER_TOLERANCE, verdict
from .describe import metadata_view, model_metadata
from .errors import UsageError
from .export import export_opened
from .model_options import AS_THE_INPUT, FILE_DEFAULTS, ModelOptions, OutputOptions
from .outputs import output_suffix
from .result import CommandResult

if TYPE_CHECKING:
    from ..converters.saved import SavedModel


def convert(
    model: str,
    output: str | None = None,
    *,
    all: bool = False,
    model_options: ModelOptions = FILE_DEFAULTS,
    output_options: OutputOptions = AS_THE_INPUT,
    overwrite: bool = False,
) -> CommandResult:
    """Convert the model of a .t7 to a saved PyTorch model, to .pt2 or .onnx, or back to .t7.

    A saved model is a folder: config.json (structure, labels, preprocessing, notes),
    model.safetensors, model.py, readable source that needs torch only, and README.md, a model card
    for the Hugging Face Hub. Where a checkpoint still holds its layers' activations, the layers are
    run again and compared; `torchlift check FILE.t7` shows each.

    Args:
        model: The .t7 file; or a saved model's folder, hf:FOLDER or hf:ORG/NAME, torchvision:NAME
            or timm:NAME, or python:package.module:function.
        output: A folder, or a file in .pt2, .onnx or .t7; by default a folder of the model's name,
            here.
        all: Convert every model of the .t7, each to a folder in the output that is named by its
            path.
        model_options: How to open the model.
        output_options: How outputs become images, kept in the saved model.
        overwrite: Replace what is there.
    """
    suffix = output_suffix(output or "", ["", ".pt2", ".onnx", ".t7"])
    if all:
        from .convert_all import convert_all

        if suffix:
            raise UsageError(f"{output}: --all writes folders into a folder")
        folder = Path(output or Path(model).stem)
        return convert_all(model, folder, model_options, overwrite, output_options)
    from ..converters.files import check_output
    from ..converters.saved.hub import HF

    target = check_output(output or Path(model.removeprefix(HF)).stem, overwrite, folder=not suffix)
    # Torch7 computes in float64 too; the other formats are for float32.
    opened = open_compared(model, model_options, keep_dtype=suffix == ".t7")
    output_options.set_on(opened, model)
    if suffix == ".onnx":
        return export_opened(model, opened, target, overwrite)
    metadata = write_model(model, opened, target, suffix, overwrite)
    return CommandResult(metadata, metadata_view(metadata))


def open_compared(model: str, options: ModelOptions, keep_dtype: bool = False) -> SavedModel:
    """Return a model with notes on what its conversion was compared with.

    Raises:
        TorchliftError: If it cannot be opened.
    """
    from ..converters.modules.finite import first_not_finite_parameter

    opened = options.model(model, keep_dtype)
    if Path(model).is_file():
        compared = verdict(options.self_check(model, LAYER_TOLERANCE))
        opened.notes.append(f"self-check: {compared}")
    if place := first_not_finite_parameter(opened.module):
        opened.notes.append(f"not all parameters are numbers: {place}")
    return opened


def write_model(
    name: str, model: SavedModel, target: Path, suffix: str, overwrite: bool
) -> dict[str, Any]:
    """Write a model, and return what `--json` prints of it.

    Args:
        name: How the model was named on the command line.
        model: The model.
        target: The file or folder.
        suffix: `.pt2` or `.t7`; empty for a folder.
        overwrite: Whether what is there is replaced.

    Raises:
        TorchliftError: If it cannot be written.
    """
    from ..converters.saved import save, save_pt2, save_t7

    if suffix == ".pt2":
        save_pt2(model, target, overwrite=overwrite)
    elif suffix == ".t7":
        save_t7(model, target, overwrite=overwrite)
        if model.labels is not None or model.preprocessing is not None:
            model.notes.append("the .t7 holds the network only, without labels and preprocessing")
    else:
        save(model, target, overwrite=overwrite)
    files = [target] if suffix else sorted(target.iterdir())
    return {
        "model": name,
        "files": [str(file) for file in files],
        "bytes": sum(file.stat().st_size for file in files),
        **model_metadata(model),
    }
