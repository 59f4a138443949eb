"""An `.onnx` file as a `Predictor`: arrays in, scores out, in ONNX Runtime."""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import NotFiniteError, TorchliftError
from ..images.image_to_image import ImageToImage
from .image_decoding import preprocessing_outside
from .input_checks import check_inputs
from .metadata import Metadata
from .not_finite import require_finite_scores
from .onnx_interface import find_input, find_scores
from .onnx_output_kind import output_kind_of_graph
from .onnx_overrides import OnnxOverrides
from .onnx_weights import first_not_finite_weight
from .prepare import Inputs
from .providers import Session, open_session


class OnnxPredictor:
    """An `.onnx` file in ONNX Runtime, with the attributes of a `Predictor`.

    Args:
        path: The file.
        provider: `auto`, `cpu`, `cuda` or `tensorrt` (see `open_session`).
        session: The file, if it is open already.
        said: What is said about the file, beside its metadata. If this is given and the file does
            not say what its output is, the graph is asked; otherwise it is features.

    Attributes:
        metadata: Those of the file, with what is said.
        notes: What was decided; `note` is all of it.

    Raises:
        InferenceError: If the file is missing, cannot be loaded, or is not a network of one input
            and one output of scores.
        ProviderError: If the requested provider does not start.
        NotFiniteError: If a weight is not a number.
        TorchliftError: If what is said does not fit the file.

    Example:
        >>> from tempfile import mkdtemp
        >>> from torch import nn
        >>> from torchlift.converters import onnx
        >>> network = nn.Sequential(nn.Flatten(), nn.Linear(4, 2), nn.LogSoftmax(1)).eval()
        >>> path = f"{mkdtemp()}/network.onnx"
        >>> exported = onnx.export(network, path, input_shape=(1, 2, 2), labels=["cat", "dog"])
        >>> predictor = OnnxPredictor(path, "cpu")
        >>> predictor.metadata.labels, predictor.metadata.output_kind
        (['cat', 'dog'], 'log_probabilities')
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        provider: str = "auto",
        *,
        session: Session | None = None,
        said: OnnxOverrides | None = None,
    ) -> None:
        self._path = Path(path)
        if place := first_not_finite_weight(self._path):
            # ONNX Runtime's ReLU and max-pooling turn a NaN into an ordinary number.
            raise NotFiniteError(f"{path} is damaged, or its training diverged: {place}")
        self._session = session = session or open_session(path, provider)
        self.provider, notes = session.provider, [session.note] if session.note else []
        runtime = session.runtime
        try:
            metadata = Metadata.from_props(runtime.get_modelmeta().custom_metadata_map)
            self._input = find_input(runtime.get_inputs(), metadata.is_foreign)
            name = (
                metadata.output_name if said is None else said.output_name or metadata.output_name
            )
            output, note = find_scores(runtime.get_outputs(), name)
            notes += [note] if note else []
            columns = _column_count(output.shape)
            metadata.check_fits(self._input.image_shape, columns)
            if said is not None:
                kind = partial(output_kind_of_graph, self._path, output.name)
                metadata, more = said.over(metadata, self._input, columns, kind)
                notes += more
        except TorchliftError as error:
            raise type(error)(f"{os.fspath(path)}: {error}") from error
        self.metadata, self.notes, self.note = metadata, notes, "; ".join(notes)
        self.labels, self.preprocessing = metadata.labels, preprocessing_outside(metadata)
        self.image_to_image: ImageToImage | None = metadata.image_to_image
        self.output_kind = metadata.output_kind or "features"
        self.input_shape = self._input.image_shape
        self._output_name = output.name

    def __call__(self, inputs: Inputs) -> np.ndarray:
        """Return the scores (N, classes) of preprocessed inputs (N, C, H, W).

        A graph that takes batches of one size gets them in pieces, the last one filled up. One that
        takes an image (`export --bake-resize`) gets the inputs, uint8 pixels, one by one.

        Raises:
            InferenceError: If the network does not accept inputs of this shape.
            NotFiniteError: If an input or a score is not a finite number.
        """
        if isinstance(inputs, list):
            return np.concatenate([self(batch) for batch in inputs])
        check_inputs(inputs, self.input_shape, self._input.dtype)
        scores = [
            self._session.run(batch, [self._output_name])[0][:count]
            for batch, count in self._input.batches(inputs)
        ]
        joined = scores[0] if len(scores) == 1 else np.concatenate(scores)
        require_finite_scores(joined, self.output_kind, str(self._path))
        if self.metadata.is_foreign and joined.ndim > 2 and joined[0].size == joined.shape[1]:
            # Classes by a convolution: (N, classes, 1, 1).
            joined = joined.reshape(joined.shape[:2])
        return joined.astype(np.float32) if joined.dtype == np.float16 else joined

    def feeds(self, inputs: Inputs) -> list[dict[str, np.ndarray]]:
        """Return what ONNX Runtime takes for preprocessed inputs, run by run."""
        arrays = inputs if isinstance(inputs, list) else [inputs]
        return [batch for array in arrays for batch, _ in self._input.batches(array)]


def _column_count(shape: Sequence[Any]) -> int | None:
    """Return how many columns an output (N, columns, …) has, or None if the graph leaves it open.

    Example:
        >>> _column_count(["batch", 10]), _column_count(["batch", "classes"])
        (10, None)
    """
    return shape[1] if len(shape) > 1 and isinstance(shape[1], int) else None
