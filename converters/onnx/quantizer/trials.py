"""A float file and its int8 forms on the same examples: what is lost, and by which layers."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from ...inference.onnx_overrides import OnnxOverrides
from ...inference.onnx_predictor import OnnxPredictor
from ...inference.prepare import Inputs, prepare_all
from ..checker.check_inputs import batch_indices, count_examples, take_examples
from ..checker.comparison import compare
from ..checker.profiles import PROFILES
from ..checker.report import Finding
from ..checker.thresholds import check_outputs
from ..errors import OnnxError
from .ort_quantizer import (
    Calibration,
    Method,
    calibrate,
    dynamic_int8,
    layers_of,
    static_int8,
)

#: Called with the name of the current step, how many examples it has run, and of how many.
Progress = Callable[[str, int, int], None]

#: Fewer images than this say little about the accuracy: one of them is more than 3%.
_FEW = 30


@dataclass(frozen=True)
class Trial:
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


class Examples:
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


class Int8Trials:
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
        examples: Examples,
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

    def quantize(self, keep: Sequence[str]) -> Trial:
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
        return Trial(
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
