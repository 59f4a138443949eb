"""Quantizing an exported file to int8, on condition that it stays accurate."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from ...files import atomic_path, check_output
from ...inference.metadata import Metadata
from ...inference.onnx_overrides import OnnxOverrides
from ...inference.onnx_predictor import OnnxPredictor
from ...inference.prepare import Inputs, prepare_all
from ..checker.check_inputs import batch_indices, count_examples, take_examples
from ..checker.comparison import compare
from ..checker.profiles import PROFILES
from ..checker.report import Finding
from ..checker.thresholds import check_outputs
from ..errors import OnnxError
from ..onnx_file import read_network
from .ort_quantizer import (
    LAYERS,
    LINEAR,
    Calibration,
    Method,
    calibrate,
    dynamic_int8,
    layers_of,
    static_int8,
)
from .plain_graph import plain_graph

#: Called with the name of the current step, how many examples it has run, and of how many.
Progress = Callable[[str, int, int], None]

#: Fewer images than this say little about the accuracy: one of them is more than 3%.
_FEW = 30

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
    examples = _Examples(inputs, opened, known, calibration, report)
    trials = _Int8Trials(source, model, examples, classes, symmetric)
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
    sizes = (source.stat().st_size, output.stat().st_size)
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


@dataclass(frozen=True)
class _Trial:
    """A quantized graph, and how it compares with the float file on all examples.

    Attributes:
        model: The graph.
        before: Accuracy of the float file.
        after: Accuracy of the graph.
        agreement: Fraction of the examples with the same predicted class.
        lost: How many examples fewer than the float file it predicts right.
        count: How many examples there are.
        findings: What `check` would say about the outputs.
    """

    model: onnx.ModelProto
    before: float
    after: float
    agreement: float
    lost: int
    count: int
    findings: list[Finding]

    def problem(self, max_drop: float) -> str:
        """Return why the graph may not be written; empty if it may."""
        if self.lost > Fraction(str(max_drop)) * self.count:
            return (
                f"accuracy falls from {self.before:.4f} to {self.after:.4f}, by more than "
                f"max_drop={max_drop:g}"
            )
        failed = [f"{found.name}: {found.text}" for found in self.findings if not found.passed]
        return f"the answers are not the float file's ({'; '.join(failed)})" if failed else ""


class _Examples:
    """The examples that the float file and its quantized forms run.

    Args:
        inputs: As `quantize` takes them.
        predictor: The float file.
        said: What is said of it, and so of its quantized forms.
        sample_size: How many of them, evenly spread, form `sample`.
        progress: Called before each batch.

    Attributes:
        all: Indices of all examples.
        sample: Indices of some examples, for what does not need all of them.
    """

    def __init__(
        self,
        inputs: Any,
        predictor: OnnxPredictor,
        said: OnnxOverrides,
        sample_size: int,
        progress: Progress,
    ) -> None:
        self._inputs, self._predictor, self._said = inputs, predictor, said
        self._progress = progress
        count = count_examples(inputs)
        self.all = np.arange(count)
        self.sample = np.linspace(0, count - 1, min(sample_size, count)).astype(int)

    def batches(self, step: str, indices: np.ndarray) -> Iterator[Inputs]:
        """Yield the preprocessed inputs of these examples, in the batches that `check` runs.

        An answer may depend on the other examples of its batch (see `dynamic`).
        """
        for batch in batch_indices(len(indices)):
            self._progress(step, int(batch[0]), len(indices))
            taken = take_examples(self._inputs, indices[batch])
            yield prepare_all(taken, self._predictor.preprocessing)
        self._progress(step, len(indices), len(indices))

    def feeds(self, step: str) -> Iterator[dict[str, np.ndarray]]:
        """Yield what ONNX Runtime takes for the sample, run by run."""
        for batch in self.batches(step, self.sample):
            yield from self._predictor.feeds(batch)

    def scores(self, file: Path, step: str, indices: np.ndarray) -> np.ndarray:
        """Return the scores (N, classes) that a file gives for these examples."""
        predictor = OnnxPredictor(file, "cpu", said=self._said)
        scores: list[np.ndarray] = [np.empty(0)] * len(indices)
        batches = zip(batch_indices(len(indices)), self.batches(step, indices), strict=True)
        for places, batch in batches:
            for place, row in zip(places.tolist(), predictor(batch), strict=True):
                scores[place] = row
        if scores[0].ndim != 1:
            raise OnnxError(f"{file}: not a classifier, so its accuracy cannot be measured")
        return np.stack(scores)


class _Int8Trials:
    """A float file, quantized with different layers kept in float, on the same examples.

    Args:
        file: The float file.
        model: Its graph.
        examples: What the accuracy is measured on.
        classes: Their true classes; None for the float file's predictions.
        symmetric: As for `quantize`.

    Attributes:
        is_labelled: Whether the accuracy is measured on `classes`.
        notes: Why it is not, although they were given.
    """

    def __init__(
        self,
        file: Path,
        model: onnx.ModelProto,
        examples: _Examples,
        classes: np.ndarray | None,
        symmetric: bool,
    ) -> None:
        if classes is not None and len(classes) != len(examples.all):
            raise OnnxError(f"{len(classes)} classes were given for {len(examples.all)} examples")
        self._file, self._model, self._examples = file, model, examples
        self._symmetric = symmetric
        scores = examples.scores(file, "float", examples.all)
        self._float_scores = scores
        predicted = scores.argmax(axis=1)
        self.notes: list[str] = []
        if classes is not None and (predicted == classes).sum() * scores.shape[1] <= len(scores):
            self.notes = [
                f"the float file is right for {int((predicted == classes).sum()):,} of "
                f"{len(scores):,} images, no better than chance: the labels are not this model's, "
                "so that its own predictions are the measure"
            ]
            classes = None
        self.is_labelled = classes is not None
        self._classes = predicted if classes is None else np.asarray(classes)
        found = len(np.unique(self._classes))
        if len(scores) < _FEW or found < 2:
            self.notes.append(
                f"judged on {len(scores):,} images of {found} of {scores.shape[1]} classes: too "
                "few to say how accurate the int8 file is on others"
            )
        self._calibration: Calibration | None = None

    def calibrate(self, method: Method) -> None:
        """Measure the ranges for static quantization, on the sample."""
        self._calibration = calibrate(self._model, self._examples.feeds("calibration"), method)

    def quantize(self, keep: Sequence[str]) -> _Trial:
        """Return the graph with all layers in int8 but these."""
        quantized = self._quantized(keep)
        step = f"int8, {len(keep)} layers in float" if keep else "int8"
        scores, expected = (
            self._scores(quantized, step, self._examples.all),
            self._float_scores,
        )
        limits = PROFILES["int8"]
        comparisons = [
            compare(expected[batch], scores[batch], batch, limits.tolerance, is_classifier=True)
            for batch in batch_indices(len(scores))
        ]
        return _Trial(
            quantized,
            self._accuracy(expected),
            self._accuracy(scores),
            float((expected.argmax(axis=1) == scores.argmax(axis=1)).mean()),
            self._correct(expected) - self._correct(scores),
            len(scores),
            check_outputs(comparisons, limits, None),
        )

    def rank(self, layers: Sequence[str]) -> list[str]:
        """Sort layers by how much each one, quantized alone, changes the scores of the sample.

        The layer that changes them most comes first.
        """
        sample = self._examples.sample
        expected = self._examples.scores(self._file, "float", sample)
        all_layers = layers_of(self._model)

        def damage(layer: str) -> float:
            others = [other for other in all_layers if other != layer]
            scores = self._scores(self._quantized(others), f"int8, {layer} alone", sample)
            return float(np.abs(scores - expected).mean())

        return sorted(layers, key=damage, reverse=True)

    def _quantized(self, keep: Sequence[str]) -> onnx.ModelProto:
        if self._calibration is None:
            return dynamic_int8(self._model, keep)
        return static_int8(self._model, self._calibration, keep, self._symmetric)

    def _scores(self, model: onnx.ModelProto, step: str, indices: np.ndarray) -> np.ndarray:
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "trial.onnx"
            onnx.save(model, file)
            return self._examples.scores(file, step, indices)

    def _accuracy(self, scores: np.ndarray) -> float:
        return self._correct(scores) / len(scores)

    def _correct(self, scores: np.ndarray) -> int:
        return int((scores.argmax(axis=1) == self._classes).sum())


def _write(model: onnx.ModelProto, metadata: Metadata, target: Path) -> None:
    props = {prop.key: prop.value for prop in model.metadata_props}
    onnx.helper.set_model_props(model, replace(metadata, precision="int8").added_to(props))
    with atomic_path(target) as path:
        onnx.save(model, path)
