"""An exported file as int8: smaller, faster, and only written if it is nearly as often right."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from ...inference.metadata import Metadata
from ...inference.predictors import OnnxPredictor, prepare
from ..checker.check_inputs import count_of, take
from ..errors import OnnxError
from ..exporter.export import check_free
from ..onnx_file import read_file
from .ort_quantizer import (
    LAYERS,
    LINEAR,
    Calibration,
    calibrate,
    dynamic_int8,
    layers_of,
    static_int8,
)

#: Called with what is being done, how much of it is done, and how much there is.
Progress = Callable[[str, int, int], None]

_BATCH = 32
#: How many of the layers that cost most are named.
_NAMED = 3


@dataclass(frozen=True)
class Quantized:
    """What was written.

    Attributes:
        file: the int8 file.
        before: accuracy of the float file on the data given.
        after: accuracy of the int8 file.
        labelled: whether the data had labels; else the float file's own answers were the truth.
        kept: the layers that stayed in single precision.
        layers: how many layers could have been quantized.
        bytes: sizes of the float file and of the int8 file.
    """

    file: Path
    before: float
    after: float
    labelled: bool
    kept: list[str]
    layers: int
    bytes: tuple[int, int]


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
    calibration: int = 256,
    progress: Progress | None = None,
    overwrite: bool = False,
) -> Quantized:
    """Write an int8 form of an exported file, if its accuracy on the data stays.

    Args:
        path: the float32 file, as `export` wrote it.
        target: where to.
        inputs: the data (see `check`).
        classes: (N,) the right classes, counted from 0; without, the float file is taken to be
            right.
        dynamic: only the weights of linear layers become int8; nothing is calibrated.
        max_drop: largest loss of accuracy.
        keep: names of nodes that stay in single precision.
        search: find those that have to.
        calibration: how many of the examples, evenly spread, tell the ranges.
        progress: told of what is being done.
        overwrite: replace a file that is there.

    Raises:
        OnnxError: when the file is none of ours in float32, or when too much accuracy is lost;
            nothing is written then, and the message names the layers that lose it.
    """
    check_free(Path(target), overwrite)
    model, metadata = read_file(path)
    if metadata.precision not in (None, "fp32"):
        raise OnnxError(f"{os.fspath(path)}: is {metadata.precision} already; give the fp32 file")
    layers = layers_of(model, LINEAR if dynamic else LAYERS)
    unknown = [name for name in keep if name not in layers]
    if unknown:
        raise OnnxError(f"no layer {', '.join(unknown)}: choose from {', '.join(layers)}")
    with tempfile.TemporaryDirectory() as folder:
        data = _Data(inputs, metadata, progress or (lambda *_: None), Path(folder))
        expected = data.scores(Path(path), "float")
        truth = expected.argmax(axis=1) if classes is None else np.asarray(classes)
        work = _Work(model, dynamic, Path(path), data, truth, calibration)
        before = work.accuracy(expected)
        kept = list(keep)
        result, after = work.attempt(kept)
        if before - after > max_drop:
            ranking = work.ranking([name for name in layers if name not in kept])
            if not search:
                worst = ", ".join(ranking[:_NAMED])
                raise OnnxError(
                    f"accuracy falls from {before:.4f} to {after:.4f}, by more than {max_drop:g}: "
                    f"nothing was written. Of {len(layers)} layers these lose the most: {worst}; "
                    "keep them in float (--keep), or let --search find how many it takes"
                )
            while before - after > max_drop and ranking:
                kept.append(ranking.pop(0))
                result, after = work.attempt(kept)
            if before - after > max_drop or not ranking:
                raise OnnxError("every layer loses too much accuracy in int8: nothing was written")
        _write(result, metadata, Path(target))
    sizes = (Path(path).stat().st_size, Path(target).stat().st_size)
    return Quantized(Path(target), before, after, classes is not None, kept, len(layers), sizes)


@dataclass(frozen=True)
class _Data:
    """The examples, as often as they are needed."""

    inputs: Any
    metadata: Metadata
    progress: Progress
    folder: Path

    def batches(self, what: str, indices: np.ndarray) -> Iterator[np.ndarray]:
        """Inputs for the network, a batch at a time."""
        for start in range(0, len(indices), _BATCH):
            self.progress(what, start, len(indices))
            part = take(self.inputs, indices[start : start + _BATCH])
            yield prepare(part, self.metadata.preprocessing)
        self.progress(what, len(indices), len(indices))

    def all(self) -> np.ndarray:
        """The index of each example."""
        return np.arange(count_of(self.inputs))

    def scores(self, file: Path, what: str, indices: np.ndarray | None = None) -> np.ndarray:
        """Scores (N, classes) that a file gives."""
        predictor = OnnxPredictor(file, "cpu")
        batches = self.batches(what, self.all() if indices is None else indices)
        scores = np.concatenate([predictor(part) for part in batches])
        if scores.ndim != 2:
            raise OnnxError(f"{file}: not a classifier, so that no accuracy can be kept")
        return scores


class _Work:
    """One graph, quantized in several ways and judged on the same data."""

    def __init__(
        self,
        model: onnx.ModelProto,
        dynamic: bool,
        file: Path,
        data: _Data,
        truth: np.ndarray,
        calibration: int,
    ) -> None:
        self._model, self._file, self._data, self._truth = model, file, data, truth
        count = len(data.all())
        if len(truth) != count:
            raise OnnxError(f"{len(truth)} classes were given for {count} examples")
        self._sample = np.linspace(0, count - 1, min(calibration, count)).astype(int)
        self._calibration = None if dynamic else self._calibrate()

    def accuracy(self, scores: np.ndarray) -> float:
        """The share of examples that are called what they are."""
        return float((scores.argmax(axis=1) == self._truth).mean())

    def attempt(self, keep: Sequence[str]) -> tuple[onnx.ModelProto, float]:
        """The graph with all layers in int8 but these, and its accuracy."""
        result = self._quantized(keep)
        what = f"int8, {len(keep)} layers in float" if keep else "int8"
        return result, self.accuracy(self._scores(result, what))

    def ranking(self, layers: Sequence[str]) -> list[str]:
        """Layers by what each one, quantized alone, changes in the scores; the worst first."""
        expected = self._data.scores(self._file, "float", self._sample)
        everything = layers_of(self._model)

        def damage(name: str) -> float:
            others = [other for other in everything if other != name]
            scores = self._scores(self._quantized(others), f"int8, {name} alone", self._sample)
            return float(np.abs(scores - expected).mean())

        return sorted(layers, key=damage, reverse=True)

    def _calibrate(self) -> Calibration:
        name = self._model.graph.input[0].name
        kind = onnx.helper.tensor_dtype_to_np_dtype(
            self._model.graph.input[0].type.tensor_type.elem_type
        )
        batches = self._data.batches("calibration", self._sample)
        return calibrate(self._file, ({name: part.astype(kind)} for part in batches))

    def _quantized(self, keep: Sequence[str]) -> onnx.ModelProto:
        if self._calibration is None:
            return dynamic_int8(self._model, keep)
        return static_int8(self._model, self._calibration, keep)

    def _scores(
        self, model: onnx.ModelProto, what: str, indices: np.ndarray | None = None
    ) -> np.ndarray:
        file = self._data.folder / "attempt.onnx"
        onnx.save(model, file)
        return self._data.scores(file, what, indices)


def _write(model: onnx.ModelProto, metadata: Metadata, target: Path) -> None:
    props = {prop.key: prop.value for prop in model.metadata_props}
    onnx.helper.set_model_props(model, props | replace(metadata, precision="int8").to_props())
    temporary = target.with_name(f".{target.name}.{os.getpid()}")
    try:
        onnx.save(model, temporary)
        temporary.replace(target)
    except OSError as error:
        raise OnnxError(f"{target}: cannot be written: {error.strerror or error}") from error
    finally:
        temporary.unlink(missing_ok=True)
