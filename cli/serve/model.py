"""One version of a model that is served: its session, its tensors, what its batches may be."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ...converters.errors import NotFiniteError, TorchliftError
from ...converters.images.preprocessing import Preprocessing
from ...converters.inference.metadata import Metadata
from ...converters.inference.onnx_predictor import OnnxPredictor
from ...converters.inference.predictors import Predictor
from ...converters.inference.providers import Session, open_session
from .errors import ServeError
from .repository import fingerprint, sha256_of
from .tensors import Tensor

#: How much an output may change when other examples run with it, relative to the largest.
_SAME = 1e-2

#: What free axes other than the batch are filled with, to find out whether a batch mixes.
_TRIAL_SIZES = (32, 64, 224)


class ServedModel:
    """An `.onnx` file, open and described.

    Args:
        name: The model's name.
        version: Its version, a number.
        path: The file.
        provider: What to run on.
        threads: How many threads work on one operator.

    Attributes:
        inputs: The tensors that it takes.
        outputs: The tensors that it gives.
        metadata: What the file says of itself.
        predictor: The classifier, or None where the file is none.
        not_a_classifier: Why it is none; empty if it is one.
        takes_image: Whether the only input is one image of any size, uint8 (height, width, 3).
        has_batch: Whether the first axis of every tensor is that of the examples, and free.
        may_batch: Whether examples of different requests may run together.
        sha256: Of the file.
        fingerprint: The state of the file when it was opened.

    Raises:
        TorchliftError: If the file cannot be opened or served.
        OSError: If it cannot be read.
    """

    def __init__(self, name: str, version: str, path: Path, provider: str, threads: int) -> None:
        self.name, self.version, self.path = name, version, path
        self.fingerprint = fingerprint(path)
        self.sha256 = sha256_of(path)
        self._session: Session = open_session(path, provider, threads)
        self.provider, self.note = self._session.provider, self._session.note
        runtime = self._session.runtime
        try:
            self.inputs = [Tensor.from_node(node) for node in runtime.get_inputs()]
            self.outputs = [Tensor.from_node(node) for node in runtime.get_outputs()]
        except (KeyError, TypeError) as error:
            raise ServeError(f"{path}: an input or output is no tensor: {error}") from None
        self._has_texts = any(one.datatype == "BYTES" for one in [*self.inputs, *self.outputs])
        self.metadata = Metadata.from_props(runtime.get_modelmeta().custom_metadata_map)
        self.predictor, self.not_a_classifier = self._open_predictor()
        first = self.inputs[0]
        self.takes_image = (
            len(self.inputs) == 1 and first.datatype == "UINT8" and len(first.shape) == 3
        )
        self.has_batch = not self.takes_image and _have_batch(self.inputs, self.outputs)
        self.may_batch = self.has_batch and self._keeps_examples_apart()

    @property
    def preprocessing(self) -> Preprocessing | None:
        """How an image becomes an input."""
        return self.metadata.preprocessing

    def run(self, inputs: Mapping[str, np.ndarray]) -> list[np.ndarray]:
        """Return the outputs of ONNX Runtime, in the order of the file.

        Raises:
            InferenceError: If it fails on these inputs.
        """
        if not self._has_texts:
            return self._session.run(inputs)
        return [np.asarray(one) for one in self._session.runtime.run(None, dict(inputs))]

    def _open_predictor(self) -> tuple[Predictor | None, str]:
        try:
            return OnnxPredictor(self.path, session=self._session), ""
        except TorchliftError as error:
            said = self.metadata
            if isinstance(error, NotFiniteError) or said.labels or said.preprocessing:
                # A classifier by its own words, and a damaged one.
                raise
            return None, str(error).removeprefix(f"{os.fspath(self.path)}: ")

    def _keeps_examples_apart(self) -> bool:
        """Return whether what the model gives for an example is the same beside others.

        What the metadata say holds; a graph that says nothing is tried.
        """
        if self.metadata.depends_on_batch:
            return False
        for free in _TRIAL_SIZES:
            try:
                return self._try_batch(free)
            except TorchliftError:
                continue
        # Sizes that nobody knows: torchlift's own files say when they mix.
        return self.metadata.torchlift_version is not None

    def _try_batch(self, free: int) -> bool:
        """Compare an example alone with the same before and behind one a hundred times as large.

        Args:
            free: What axes without a size are filled with.

        Raises:
            InferenceError: If the model does not run on such sizes.
        """
        rng = np.random.default_rng(0)
        one, before, behind = {}, {}, {}
        for tensor in self.inputs:
            if tensor.datatype == "BYTES":
                return False
            shape = [free if size == -1 else size for size in tensor.shape[1:]]
            example = rng.random((1, *shape))
            is_float = tensor.dtype.kind == "f"
            one[tensor.name] = (example if is_float else example * 2).astype(tensor.dtype)
            other = one[tensor.name] * (100 if is_float else 1)
            before[tensor.name] = np.concatenate([one[tensor.name], other])
            behind[tensor.name] = np.concatenate([other, one[tensor.name]])
        # In a sequence, steps change only what is behind them.
        return all(
            _is_row(row, alone, both)
            for row, batch in ((0, before), (1, behind))
            for alone, both in zip(self.run(one), self.run(batch), strict=True)
        )


def _is_row(row: int, alone: np.ndarray, both: np.ndarray) -> bool:
    """Return whether a row of a batch of two is what the model gives for it alone."""
    if both.shape != (2, *alone.shape[1:]) or alone.shape[:1] != (1,):
        return False
    if alone.dtype.kind != "f":
        return True
    scale = np.abs(alone[np.isfinite(alone)]).max(initial=1e-6)
    found = both[row : row + 1]
    return bool(np.allclose(alone, found, rtol=0, atol=_SAME * scale, equal_nan=True))


def _have_batch(inputs: Sequence[Tensor], outputs: Sequence[Tensor]) -> bool:
    """Return whether the first axis of every tensor is free, and one and the same."""
    tensors: list[Any] = [*inputs, *outputs]
    if not all(tensor.shape and tensor.shape[0] == -1 for tensor in tensors):
        return False
    if any("batch" in tensor.axes[1:] for tensor in tensors):
        return False
    return len({tensor.axes[0] for tensor in inputs if tensor.axes[0]}) <= 1
