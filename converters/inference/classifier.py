"""Images in, names and probabilities out."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

from ..images.files import read_image
from .errors import InferenceError
from .predictors import Predictor, open_predictor, prepare, probabilities

#: An image: a file (or its URI), a PIL image, or the pixels of one (H, W) or (H, W, 3) in uint8.
ImageInput = str | os.PathLike[str] | Image.Image | np.ndarray


@dataclass(frozen=True)
class Prediction:
    """One class that an image may be of.

    Attributes:
        index: of the network's output, from 0.
        label: its name; without names the label that Torch7 gives it, counted from 1.
        probability: from 0 to 1.
    """

    index: int
    label: str
    probability: float


class Classifier:
    """A network that names what it sees, with the preprocessing that it was trained with.

    It is a `Predictor` too: calling it gives the scores of inputs that are preprocessed already.
    Any number of threads may use one at the same time. For more files than fit into memory, and
    for those that may be damaged, there is `predict_files`.

    Args:
        model: an `.onnx` file (or a `.t7`, or a saved model's folder), or a `Predictor`.
        provider: `auto`, `cpu` or `cuda`; a named one that does not start is an error.
        batch_size: how many images are decoded and run together.

    Raises:
        TorchliftError: when the model cannot be opened.
        ProviderError: when the provider was named and does not start.
    """

    def __init__(
        self,
        model: str | os.PathLike[str] | Predictor,
        provider: str = "auto",
        batch_size: int = 32,
    ) -> None:
        if isinstance(model, (str, os.PathLike)):
            model = open_predictor(model, provider)
        self._predictor = predictor = model
        self.batch_size = batch_size
        self.labels, self.preprocessing = predictor.labels, predictor.preprocessing
        self.output_kind, self.input_shape = predictor.output_kind, predictor.input_shape
        self.provider, self.note = predictor.provider, predictor.note

    def __call__(self, inputs: np.ndarray) -> np.ndarray:
        """Scores (N, classes), as the network gives them, of inputs (N, C, H, W) that are ready."""
        parts = (inputs[start : start + self.batch_size] for start in self._starts(len(inputs)))
        return np.concatenate([self._predictor(part) for part in parts])

    def probabilities(self, images: ImageInput | Sequence[ImageInput] | np.ndarray) -> np.ndarray:
        """Probabilities (N, classes) of images.

        Args:
            images: a file or PIL image, a list of images, or uint8 pixels (N, C, H, W).

        Raises:
            ImageError: when a file cannot be read.
            PreprocessingError: when the images do not fit the preprocessing.
            InferenceError: when the model is no classifier, or has no preprocessing.
        """
        if isinstance(images, np.ndarray) and images.dtype != np.uint8:
            raise InferenceError("pixels must be uint8; inputs that are ready go to predict_inputs")
        if isinstance(images, (str, os.PathLike, Image.Image)):
            images = [images]
        return np.concatenate([self._batch(part) for part in self._batches(images)])

    def predict(
        self, images: ImageInput | Sequence[ImageInput] | np.ndarray, top: int = 5
    ) -> list[list[Prediction]]:
        """The likeliest classes of each image, the first the likeliest.

        Args:
            images: as `probabilities` takes them.
            top: how many classes.

        Raises:
            As `probabilities`.
        """
        return self._top_predictions(self.probabilities(images), top)

    def predict_inputs(self, inputs: np.ndarray, top: int = 5) -> list[list[Prediction]]:
        """`predict`, for inputs (N, C, H, W) that are preprocessed already."""
        return self._top_predictions(probabilities(self(inputs), self.output_kind), top)

    def _batch(self, images: Any) -> np.ndarray:
        if not isinstance(images, np.ndarray):
            images = [
                read_image(image) if isinstance(image, (str, os.PathLike)) else image
                for image in images
            ]
        scores = self._predictor(prepare(images, self.preprocessing))
        return probabilities(scores, self.output_kind)

    def _batches(self, images: Any) -> Iterator[Any]:
        for start in self._starts(len(images)):
            yield images[start : start + self.batch_size]

    def _starts(self, count: int) -> range:
        if count == 0:
            raise InferenceError("no images")
        return range(0, count, self.batch_size)

    def _top_predictions(self, probabilities: np.ndarray, top: int) -> list[list[Prediction]]:
        order = np.argsort(-probabilities, axis=1, kind="stable")[:, :top]
        return [
            [Prediction(int(i), class_name(self.labels, int(i)), float(row[i])) for i in indices]
            for row, indices in zip(probabilities, order, strict=True)
        ]


def class_name(labels: Sequence[str] | None, index: int) -> str:
    """The name of an output; without names Torch7's label for it, which counts from 1."""
    return labels[index] if labels else str(index + 1)
