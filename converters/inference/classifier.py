"""`Classifier`: images in, class names and probabilities out."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..labels import check_labels
from .errors import InferenceError
from .image_inputs import ImageInput, describe, list_images, read_images, require_count
from .predictors import Predictor, open_predictor
from .prepare import prepare_all
from .scores import probabilities


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
        InferenceError: If it is neither a name nor a `Predictor`.
        ProviderError: If the requested provider does not start.

    Example:
        >>> from tempfile import mkdtemp
        >>> from PIL import Image
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
        elif not isinstance(model, Predictor):
            raise InferenceError(
                f"the model is {describe(model)}; the name of a file or folder, or a Predictor, "
                "was expected"
            )
        self._predictor = predictor = model
        self.batch_size = require_count("batch_size", batch_size)
        self.labels, self.preprocessing = predictor.labels, predictor.preprocessing
        self.output_kind, self.input_shape = predictor.output_kind, predictor.input_shape
        self.provider, self.note = predictor.provider, predictor.note

    def __call__(self, inputs: np.ndarray) -> np.ndarray:
        """Return the network's scores (N, classes) for preprocessed inputs (N, C, H, W).

        Raises:
            InferenceError: If the inputs are no array or do not fit the network, or a score is not
                a finite number.
        """
        if not isinstance(inputs, np.ndarray) or inputs.ndim < 2:
            raise InferenceError(f"inputs are {describe(inputs)}; an array (N, …) was expected")
        if not len(inputs):
            raise InferenceError("no inputs")
        starts = range(0, len(inputs), self.batch_size)
        return np.concatenate(
            [self._predictor(inputs[start : start + self.batch_size]) for start in starts]
        )

    def probabilities(self, images: ImageInput | Sequence[ImageInput]) -> np.ndarray:
        """Return the probabilities (N, classes) of images.

        Args:
            images: One image, a list of images, or the uint8 pixels of several, (N, 1 or 3, H, W).
                An image is a file or its URI, the bytes of a file, an open binary file, a PIL
                image, or its uint8 pixels (H, W) or (H, W, 1 or 3) in RGB.

        Raises:
            ImageError: If an image cannot be read.
            PreprocessingError: If the images do not fit the preprocessing.
            InferenceError: If something else is given, the model is not a classifier or has no
                preprocessing, or a score is not a finite number.
        """
        listed = list_images(images)
        scores = []
        for start in range(0, len(listed), self.batch_size):
            batch = read_images(listed[start : start + self.batch_size], start)
            scores.append(self._predictor(prepare_all(batch, self.preprocessing)))
        return probabilities(np.concatenate(scores), self.output_kind)

    def predict(
        self, images: ImageInput | Sequence[ImageInput], top: int = 5
    ) -> list[list[Prediction]]:
        """Return the most probable classes of each image, in descending order.

        Args:
            images: As for `probabilities`.
            top: How many classes to return for each image; at most all.

        Raises:
            TorchliftError: As `probabilities`.
        """
        require_count("top", top)
        return top_predictions(self.probabilities(images), self.labels, top)

    def predict_inputs(self, inputs: np.ndarray, top: int = 5) -> list[list[Prediction]]:
        """Return the most probable classes of preprocessed inputs (N, C, H, W).

        Raises:
            InferenceError: As `__call__`, or if the model is not a classifier.
        """
        require_count("top", top)
        return top_predictions(probabilities(self(inputs), self.output_kind), self.labels, top)


def top_predictions(
    probabilities: np.ndarray, labels: Sequence[str] | None, top: int
) -> list[list[Prediction]]:
    """Return the most probable classes of each example, in descending order.

    Args:
        probabilities: (N, classes).
        labels: The class names, or None.
        top: How many classes to return; at most all.

    Raises:
        LabelsError: If there are more or fewer labels than classes.

    Example:
        >>> top_predictions(np.array([[0.25, 0.75]]), ["cat", "dog"], top=1)
        [[Prediction(index=1, label='dog', probability=0.75)]]
    """
    if labels is not None:
        check_labels(labels, probabilities.shape[1])
    order = np.argsort(-probabilities, axis=1, kind="stable")[:, :top]
    return [
        [Prediction(int(i), class_name(labels, int(i)), float(row[i])) for i in indices]
        for row, indices in zip(probabilities, order, strict=True)
    ]


def class_name(labels: Sequence[str] | None, index: int) -> str:
    """Return the label of an output; without labels, its number as Torch7 counts it, from 1."""
    return labels[index] if labels else str(index + 1)
