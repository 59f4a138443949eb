"""`Classifier`: images in, class names and probabilities out."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

from ..images.files import read_image
from ..labels import check_labels
from .errors import InferenceError
from .predictors import Predictor, open_predictor, prepare, probabilities

#: A file or its URI, a PIL image, or the uint8 pixels of one image, (H, W) or (H, W, 3).
ImageInput = str | os.PathLike[str] | Image.Image | np.ndarray


@dataclass(frozen=True)
class Prediction:
    """A class that a classifier predicts for an image.

    Attributes:
        index: Index of the network's output, from 0.
        label: Class name; without labels, the class number as Torch7 counts it, from 1.
        probability: From 0 to 1.
    """

    index: int
    label: str
    probability: float


class Classifier:
    """An image classifier with the labels and the preprocessing that it was trained with.

    A classifier is also a `Predictor`: calling it returns the scores of preprocessed inputs. Any
    number of threads may use the same one. Use `predict_files` for more images than fit into
    memory, or for files that may be damaged.

    Args:
        model: An `.onnx` file, a `.t7` file, the folder of a saved model, or a `Predictor`.
        provider: `auto`, `cpu` or `cuda`; `auto` falls back to the CPU.
        batch_size: How many images are decoded and run together.

    Raises:
        TorchliftError: If the model cannot be opened.
        ProviderError: If the requested provider does not start.

    Example:
        >>> from tempfile import mkdtemp
        >>> from torch import nn
        >>> from torchlift.converters.images import Preprocessing
        >>> from torchlift.converters.onnx import Classifier, export
        >>> path = f"{mkdtemp()}/colors.onnx"
        >>> exported = export(
        ...     nn.Sequential(nn.AvgPool2d(4), nn.Flatten()),
        ...     path,
        ...     input_shape=(3, 4, 4),
        ...     labels=["red", "green", "blue"],
        ...     preprocessing=Preprocessing(size=(4, 4)),
        ...     output_kind="logits",
        ... )
        >>> classifier = Classifier(path, provider="cpu")
        >>> predictions = classifier.predict([Image.new("RGB", (8, 8), "red")], top=2)
        >>> [(p.label, round(p.probability, 3)) for p in predictions[0]]
        [('red', 0.576), ('green', 0.212)]
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
        """Return the network's scores (N, classes) for preprocessed inputs (N, C, H, W)."""
        return np.concatenate([self._predictor(batch) for batch in self._batches(inputs)])

    def probabilities(self, images: ImageInput | Sequence[ImageInput] | np.ndarray) -> np.ndarray:
        """Return the probabilities (N, classes) of images.

        Args:
            images: A file or PIL image, a list of images, or uint8 pixels (N, C, H, W).

        Raises:
            ImageError: If a file cannot be read.
            PreprocessingError: If the images do not fit the preprocessing.
            InferenceError: If the model is not a classifier, or has no preprocessing.
        """
        if isinstance(images, np.ndarray) and images.dtype != np.uint8:
            raise InferenceError("pixels must be uint8; pass preprocessed inputs to predict_inputs")
        if isinstance(images, (str, os.PathLike, Image.Image)):
            images = [images]
        batches = self._batches(images)
        return np.concatenate([self._batch_probabilities(batch) for batch in batches])

    def predict(
        self, images: ImageInput | Sequence[ImageInput] | np.ndarray, top: int = 5
    ) -> list[list[Prediction]]:
        """Return the most probable classes of each image, in descending order.

        Args:
            images: As for `probabilities`.
            top: How many classes to return for each image.

        Raises:
            TorchliftError: As `probabilities`.
        """
        return self._top_predictions(self.probabilities(images), top)

    def predict_inputs(self, inputs: np.ndarray, top: int = 5) -> list[list[Prediction]]:
        """Return the most probable classes of preprocessed inputs (N, C, H, W)."""
        return self._top_predictions(probabilities(self(inputs), self.output_kind), top)

    def _batch_probabilities(self, images: Any) -> np.ndarray:
        if not isinstance(images, np.ndarray):
            images = [
                read_image(image) if isinstance(image, (str, os.PathLike)) else image
                for image in images
            ]
        scores = self._predictor(prepare(images, self.preprocessing))
        return probabilities(scores, self.output_kind)

    def _batches(self, images: Any) -> Iterator[Any]:
        if len(images) == 0:
            raise InferenceError("no images")
        for start in range(0, len(images), self.batch_size):
            yield images[start : start + self.batch_size]

    def _top_predictions(self, probabilities: np.ndarray, top: int) -> list[list[Prediction]]:
        if self.labels is not None:
            check_labels(self.labels, probabilities.shape[1])
        order = np.argsort(-probabilities, axis=1, kind="stable")[:, :top]
        return [
            [Prediction(int(i), class_name(self.labels, int(i)), float(row[i])) for i in indices]
            for row, indices in zip(probabilities, order, strict=True)
        ]


def class_name(labels: Sequence[str] | None, index: int) -> str:
    """Return the label of an output; without labels, its number as Torch7 counts it, from 1."""
    return labels[index] if labels else str(index + 1)
