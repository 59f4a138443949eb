"""`torchlift annotate`."""

from __future__ import annotations

from pathlib import Path

from .describe import metadata_view
from .errors import UsageError
from .onnx_options import AS_THE_FILE_SAYS, OnnxOptions
from .outputs import output_suffix
from .result import CommandResult


def annotate(
    model: str,
    *,
    output: str,
    onnx_options: OnnxOptions = AS_THE_FILE_SAYS,
    overwrite: bool = False,
) -> CommandResult:
    """Say in an .onnx file, of any program, what its inputs and outputs are.

    A copy is written that carries labels, preprocessing and the meaning of its output, so that
    every command and `Classifier` can use it. What is given replaces what the file says, what is
    not given stays, and so does every byte of the graph.

    Args:
        model: The .onnx file.
        output: The .onnx file to write; the same file only with --overwrite.
        onnx_options: What the file does not say itself.
        overwrite: Replace a file that is there.
    """
    if Path(model).suffix.lower() != ".onnx":
        raise UsageError(f"{model}: an .onnx file is annotated; other models take these options")
    output_suffix(output, [".onnx"])
    if onnx_options == AS_THE_FILE_SAYS:
        raise UsageError("nothing to say of the file: give --labels, --mean, --value-range, …")
    from ..converters.onnx import annotate as annotate_onnx
    from ..converters.onnx import describe_file

    written = annotate_onnx(
        model, output, said=onnx_options.overrides(replaces=True), overwrite=overwrite
    )
    metadata = {
        "model": model,
        "files": [str(file) for file in written.files],
        **describe_file(output),
        "bytes": sum(file.stat().st_size for file in written.files),
        "notes": written.notes,
    }
    return CommandResult(metadata, metadata_view(metadata))
