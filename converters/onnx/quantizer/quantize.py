"""Quantizing an exported file to int8, on condition that it stays accurate."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from ...files import atomic_path, check_output
from ...inference.metadata import Metadata
from ...inference.onnx_overrides import OnnxOverrides
from ...inference.onnx_predictor import OnnxPredictor
from ..errors import OnnxError
from ..onnx_file import read_network
from .ort_quantizer import (
    LAYERS,
    LINEAR,
    Method,
    layers_of,
)
from .plain_graph import plain_graph
from .trials import Examples, Int8Trials, Progress

_DYNAMIC_NOTE = (
    "the range of a layer's inputs is measured on the whole batch, so that the answer for an image "
    "depends a little on the other images of its batch (metadata depends_on_batch)"
)
#: How many of the layers that cost most accuracy an error names.
_NAMED = 3


@dataclass(frozen=True)
class Quantized:
    """The result of `quantize`.

    Attributes:
        file: The int8 file.
        before: Accuracy of the float file on the examples.
        after: Accuracy of the int8 file.
        agreement: Fraction of the examples for which both files predict the same class.
        labelled: Whether the true classes were given, and fit the model; otherwise the float file's
            predictions count as true.
        kept: Names of the layers that stayed in single precision.
        layers: How many layers could be quantized.
        bytes: Sizes of the float file and of the int8 file.
        notes: What a user of the file must know.
    """

    file: Path
    before: float
    after: float
    agreement: float
    labelled: bool
    kept: list[str]
    layers: int
    bytes: tuple[int, int]
    notes: list[str]


def quantize(
    path: str | os.PathLike[str],
    target: str | os.PathLike[str],
    inputs: Any,
    *,
    classes: np.ndarray | None = None,
    dynamic: bool = False,
    max_drop: float = 0.01,
    keep: Sequence[str] = (),
    search: bool = False,
    symmetric: bool = False,
    method: Method = "minmax",
    calibration: int = 256,
    progress: Progress | None = None,
    said: OnnxOverrides | None = None,
    overwrite: bool = False,
) -> Quantized:
    """Quantize an exported file to int8, and write the result only if it stays accurate.

    It must lose no more accuracy than allowed, and its outputs must agree with the float file's
    within the limits of `check` for int8. What a softmax at the end takes stays in float.

    Args:
        path: A float32 file, of `export` or of another program.
        target: The file to write.
        inputs: Real examples, as for `check`.
        classes: (N,) the true classes, counted from 0; by default the float file's predictions.
        dynamic: Quantize only the weights of linear layers, without calibration. What the file
            gives for an image then depends a little on the other images of its batch.
        max_drop: Largest loss of accuracy.
        keep: Names of the nodes that stay in single precision.
        search: Find the nodes that must stay in single precision.
        symmetric: Write signed activations without zero points, and biases in float, as TensorRT
            and other accelerators take them.
        method: How ranges are measured: `minmax`, `entropy` or `percentile`.
        calibration: How many examples, evenly spread, the ranges are measured on.
        progress: Called while the files run the examples.
        said: What is said of the file, beside what it says itself; the int8 file says it too.
        overwrite: Replace an existing file.

    Raises:
        NotFiniteError: If an input or a score of the float file is not a finite number.
        OnnxError: If the file is not a float32 classifier, has no layer to quantize, or loses too
            much accuracy or agreement. Nothing is written then, and the message names the layers
            that lose it.
        WriteError: If the target exists already, or cannot be written.

    Example:
        >>> from tempfile import mkdtemp
        >>> from torch import nn
        >>> from torchlift.converters.onnx import export
        >>> folder = Path(mkdtemp())
        >>> network = nn.Sequential(nn.Flatten(), nn.Linear(16, 4))
        >>> exported = export(network, folder / "fp32.onnx", input_shape=(1, 4, 4))
        >>> inputs = np.random.default_rng(0).standard_normal((64, 1, 4, 4), np.float32)
        >>> quantized = quantize(folder / "fp32.onnx", folder / "int8.onnx", inputs, max_drop=0.5)
        >>> quantized.layers, quantized.kept, quantized.before
        (1, [], 1.0)
    """
    if dynamic and (symmetric or method != "minmax"):
        given = "symmetric=True" if symmetric else f"method={method!r}"
        raise OnnxError(f"{given} is about ranges of activations, which dynamic=True leaves open")
    source, output = Path(path), check_output(target, overwrite)
    float_bytes = source.stat().st_size if source.is_file() else 0
    model, metadata = read_network(source)
    if metadata.precision not in (None, "fp32"):
        raise OnnxError(f"{source}: is already {metadata.precision}; pass the fp32 file")
    opened = OnnxPredictor(source, "cpu", said=said or OnnxOverrides())
    metadata = opened.metadata
    if metadata.output_kind == "features":
        raise OnnxError(
            f"{source}: gives features, not classes: whether int8 keeps it right cannot be judged "
            "by predicted classes"
        )
    model = plain_graph(model, str(source))
    layers = layers_of(model, LINEAR if dynamic else LAYERS)
    if not layers:
        raise OnnxError(f"{source}: has no {'linear ' if dynamic else ''}layer to quantize")
    unknown = [name for name in keep if name not in layers]
    if unknown:
        raise OnnxError(f"no layer {', '.join(unknown)}: choose from {', '.join(layers)}")
    report = progress or (lambda *_: None)
    known = replace(said or OnnxOverrides(), output_kind=metadata.output_kind)
    examples = Examples(inputs, opened, known, calibration, report)
    trials = Int8Trials(source, model, examples, classes, symmetric)
    if not dynamic:
        trials.calibrate(method)
    kept = list(keep)
    trial = trials.quantize(kept)
    if problem := trial.problem(max_drop):
        ranking = trials.rank([name for name in layers if name not in kept])
        if not search:
            raise OnnxError(
                f"{problem}: nothing was written. Of {len(layers)} layers these lose "
                f"the most: {', '.join(ranking[:_NAMED])}; keep them in float with keep=[…], or "
                "find out how many it takes with search=True"
            )
        while trial.problem(max_drop) and ranking:
            kept.append(ranking.pop(0))
            trial = trials.quantize(kept)
        if trial.problem(max_drop) or not ranking:
            raise OnnxError("every layer loses too much accuracy in int8: nothing was written")
    _write(trial.model, replace(metadata, depends_on_batch=dynamic or None), output)
    sizes = (float_bytes, output.stat().st_size)
    return Quantized(
        output,
        trial.before,
        trial.after,
        trial.agreement,
        trials.is_labelled,
        kept,
        len(layers),
        sizes,
        [*opened.notes, *trials.notes, *([_DYNAMIC_NOTE] if dynamic else [])],
    )


def _write(model: onnx.ModelProto, metadata: Metadata, target: Path) -> None:
    props = {prop.key: prop.value for prop in model.metadata_props}
    onnx.helper.set_model_props(model, replace(metadata, precision="int8").added_to(props))
    with atomic_path(target) as path:
        onnx.save(model, path)
