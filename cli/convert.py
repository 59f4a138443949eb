"""`torchlift convert`."""

from __future__ import annotations

from pathlib import Path

from .check import verdict
from .describe import metadata_view, model_metadata
from .export import export_opened
from .model_options import FILE_DEFAULTS, ModelOptions
from .result import CommandResult

#: Largest relative error of a layer against the activations that the file keeps.
_TOLERANCE = 1e-4


def convert(
    model: str,
    output: str | None = None,
    *,
    model_options: ModelOptions = FILE_DEFAULTS,
    overwrite: bool = False,
) -> CommandResult:
    """Turn the model of a .t7 into a saved PyTorch model, or into .pt2 or .onnx; or back into .t7.

    A saved model is a folder: config.json (structure, labels, preprocessing, notes),
    model.safetensors, and model.py, readable source that needs torch only. Where a checkpoint
    still holds its layers' activations, they are computed again and compared; `torchlift check
    FILE.t7` shows each.

    Args:
        model: The .t7 file; or a saved model's folder, torchvision:NAME, or
            python:package.module:function.
        output: Where to: a folder, or a file that ends in .pt2, .onnx or .t7; by default a folder
            of the model's name, here.
        model_options: How to open the model.
        overwrite: Replace what is there.
    """
    from ..converters.saved import save, save_pt2, save_t7

    opened = model_options.model(model)
    if Path(model).is_file():
        opened.notes.append(f"self-check: {verdict(model_options.self_check(model, _TOLERANCE))}")
    target = Path(output or Path(model).stem)
    if target.suffix == ".onnx":
        return export_opened(opened, target, overwrite)
    if target.suffix == ".pt2":
        save_pt2(opened, target, overwrite=overwrite)
        files = [target]
    elif target.suffix == ".t7":
        save_t7(opened, target, overwrite=overwrite)
        files = [target]
    else:
        files = sorted(save(opened, target, overwrite=overwrite).iterdir())
    facts = {
        "files": [str(file) for file in files],
        "bytes": sum(file.stat().st_size for file in files),
        **model_metadata(opened),
    }
    return CommandResult(facts, metadata_view(facts))
