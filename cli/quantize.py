"""`torchlift quantize`."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from rich.console import Group

from .data_options import ALL_DATA, DataOptions
from .errors import UsageError
from .onnx_options import AS_THE_FILE_SAYS, OnnxOptions
from .outputs import output_suffix
from .progress import phases
from .result import CommandResult
from .values import Count, Fraction


def quantize(
    model: str,
    output: str,
    *,
    data: str,
    dynamic: bool = False,
    max_drop: Fraction = 0.01,
    keep: list[str] | None = None,
    search: bool = False,
    symmetric: bool = False,
    method: Literal["minmax", "entropy", "percentile"] = "minmax",
    calibration: Count = 256,
    overwrite: bool = False,
    data_options: DataOptions = ALL_DATA,
    onnx_options: OnnxOptions = AS_THE_FILE_SAYS,
) -> CommandResult:
    """Quantize an .onnx file to int8, if its accuracy holds.

    Weights become int8 with a scale for each channel; the ranges of the activations are measured
    on the data. Both files then run all of the data, and the int8 file is written if its accuracy
    falls by no more than --max-drop and its outputs agree with the float file's. Data without
    labels is compared with the float file's own predictions.

    Args:
        model: The .onnx file, in float32.
        output: The .onnx file to write.
        data: A dataset: a .t7 or .npz file, a folder, CIFAR's or MNIST's files, or sklearn:digits.
        dynamic: Quantize only the weights of linear layers; for networks that lose too much. The
            answer for an image then depends a little on the other images of its batch.
        max_drop: Largest loss of accuracy.
        keep: Nodes that stay in float, with commas between.
        search: Find the layers that have to stay in float.
        symmetric: Write signed activations without zero points, and biases in float, as TensorRT
            and other accelerators take them.
        method: How ranges are measured: minmax takes the extremes, entropy and percentile cut rare
            values.
        calibration: How many images, evenly spread, are measured for the ranges.
        overwrite: Replace a file that is there.
        data_options: Which images are used.
        onnx_options: What the file does not say itself.
    """
    if dynamic and (symmetric or method != "minmax"):
        given = "--symmetric" if symmetric else "--method"
        raise UsageError(f"{given} is about ranges of activations, which --dynamic leaves open")
    if Path(model).suffix.lower() != ".onnx":
        raise UsageError(f"{model}: an .onnx file is quantized; torchlift export writes one")
    output_suffix(output, [".onnx"])
    from ..converters.onnx import quantize as quantize_onnx
    from ..transfer.data import Dataset

    said = onnx_options.overrides()
    images, notes = data_options.open_for_onnx(data, model, said.labels)
    with phases() as shown:
        written = quantize_onnx(
            model,
            output,
            images.images if isinstance(images, Dataset) else images,
            classes=images.classes,
            dynamic=dynamic,
            max_drop=max_drop,
            keep=keep or (),
            search=search,
            symmetric=symmetric,
            method=method,
            calibration=calibration,
            progress=shown,
            said=said,
            overwrite=overwrite,
        )
    before, after = written.bytes
    notes = [*notes, *written.notes]
    truth = "labels" if written.labelled else "float_file"
    facts = {
        "model": model,
        "files": [str(written.file)],
        "bytes": after,
        "float_bytes": before,
        "accuracy": written.after,
        "float_accuracy": written.before,
        "agreement": written.agreement,
        "truth": truth,
        "count": len(images),
        "layer_count": written.layers,
        "float_nodes": list(written.kept),
        "notes": notes,
    }
    compared = "the labels" if written.labelled else "the predictions of the float file"
    view = Group(
        f"wrote {written.file!s}: {after:,} bytes, {after / before:.2f} of float",
        f"accuracy {written.after:.4f}, {written.before:.4f} in float, on {len(images):,} images, "
        f"compared with {compared}",
        f"{written.agreement:.2%} of the predictions are the float file's",
        f"{len(written.kept)} of {written.layers} layers stay in float"
        + (f": {', '.join(written.kept)}" if written.kept else ""),
        *(f"note: {note}" for note in notes),
    )
    return CommandResult(facts, view)
