"""The results of an evaluation."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

import numpy as np

from ...converters.validation import Kind, anything, list_of, number, refusal, text, whole
from ..errors import DataError
from ..formatting import finite
from .outcomes import Outcomes

#: The number of confidence bins of equal width (Guo et al. 2017, arXiv:1706.04599).
BINS = 15

#: The metrics of an evaluation that are one number each, and no counts.
SCORES = ("accuracy", "top5_accuracy", "loss", "precision", "recall", "f1", "ece")

#: The most classes of an evaluation: their confusion matrix takes 5 GB.
_MOST_CLASSES = 25_000

#: The number of mistakes that are listed.
MISTAKES = 25


@dataclass(frozen=True)
class ClassResult:
    """The results of one class.

    Attributes:
        label: The class name, or the label that Torch7 gives the class.
        count: The number of its images.
        correct: The number of its images that were predicted correctly.
        predicted: The number of images for which it was predicted.
        accuracy: correct / count, the recall; 0 without images.
        precision: correct / predicted; 0 if it was never predicted.
        f1: The harmonic mean of accuracy and precision.
    """

    label: str
    count: int
    correct: int
    predicted: int
    accuracy: float
    precision: float
    f1: float


@dataclass(frozen=True)
class Bin:
    """The images whose confidence is in (low, high].

    Attributes:
        low: The lower bound.
        high: The upper bound.
        count: The number of images.
        confidence: Their mean confidence; 0 without images.
        accuracy: The fraction of them that is correct; 0 without images.
    """

    low: float
    high: float
    count: int
    confidence: float
    accuracy: float


@dataclass(frozen=True)
class Mistake:
    """An image whose predicted class is not its true class.

    Attributes:
        image_index: The position of the image in the data, from 0.
        input: What the source calls the image (see `Dataset.ids`).
        label: The true class.
        probability: The probability of the true class.
        predicted_label: The predicted class.
        confidence: The probability of the predicted class.
    """

    image_index: int
    input: str
    label: str
    probability: float
    predicted_label: str
    confidence: float


@dataclass(frozen=True)
class Evaluation:
    """The results of a classifier on labeled images.

    Attributes:
        count: The number of images.
        correct: The number of images whose predicted class is the true class.
        top5_correct: The number of images whose true class is among the five most probable.
        loss: The mean negative log-likelihood of the true classes, in nats (`ClassNLLCriterion`).
        precision: The mean over the classes that have images.
        recall: The mean accuracy of the classes that have images, also called balanced accuracy.
        f1: The mean over the classes that have images.
        ece: The expected calibration error: the mean distance between confidence and accuracy
            over `bins`, weighted by their images; NaN if a confidence is not a number.
        bins: Bins of confidence, of equal width; they leave out images whose confidence is not a
            number.
        classes: The results of each class, in the order of the outputs.
        confusion: A row for each true class, a column for each predicted class.
        mistakes: The mistakes with the highest confidence, in descending order.
        notes: How the data's classes were matched with the model's.
    """

    count: int
    correct: int
    top5_correct: int
    loss: float
    precision: float
    recall: float
    f1: float
    ece: float
    bins: list[Bin]
    classes: list[ClassResult]
    confusion: list[list[int]]
    mistakes: list[Mistake]
    notes: list[str]

    @property
    def accuracy(self) -> float:
        """The fraction of images whose predicted class is the true class."""
        return self.correct / self.count

    @property
    def top5_accuracy(self) -> float:
        """The fraction of images whose true class is among the five most probable."""
        return self.top5_correct / self.count

    def to_json(self) -> dict[str, Any]:
        """Return the results as JSON values; what is not finite is None."""
        values = {"accuracy": self.accuracy, "top5_accuracy": self.top5_accuracy, **asdict(self)}
        return {name: finite(value) for name, value in values.items()}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Evaluation:
        """Return the results that `to_json` returned, also of torchlift 0.1.0.

        Raises:
            KeyError: If one is missing.
            ValueError: If one is of another kind, or they do not fit together.
        """
        results = _entries(cls, values, "")
        parts: dict[str, Any] = {"bins": Bin, "classes": ClassResult, "mistakes": Mistake}
        for name, part in parts.items():
            rows = list_of(anything)(results[name], name)
            results[name] = [
                part(**_entries(part, row, f"{name}[{index}]")) for index, row in enumerate(rows)
            ]
        result = cls(**results)
        classes = len(result.classes)
        list_of(list_of(whole(), classes), classes)(result.confusion, "confusion")
        list_of(text)(result.notes, "notes")
        if not classes or not result.count:
            raise ValueError("there are no classes or no images")
        return result


#: Keys of torchlift 0.1.0.
_KEYS_OF_0_1_0 = {
    "top5_correct": "correct_top5",
    "accuracy": "recall",
    "image_index": "index",
    "input": "id",
    "predicted_label": "predicted",
}


def _score(value: Any, where: str) -> float:
    """Check a number that may be NaN."""
    return math.nan if isinstance(value, float) and math.isnan(value) else number(value, where)


#: The kind of a field, by its annotation; lists are checked entry by entry.
_KINDS: dict[str, Kind] = {"int": whole(), "float": _score, "str": text}


def _entries(cls: Any, values: Any, where: str) -> dict[str, Any]:
    """Return the fields of a result in a JSON object, checked."""
    if not isinstance(values, dict):
        raise refusal(where or "it", values, "an object")
    return {
        field.name: _KINDS.get(str(field.type), anything)(
            _entry(values, field.name), f"{where}.{field.name}" if where else field.name
        )
        for field in fields(cls)
    }


def _entry(values: Mapping[str, Any], key: str) -> Any:
    """Return a value under its key or its key of 0.1.0; a number that is not finite was None."""
    value = values[key] if key in values else values[_KEYS_OF_0_1_0[key]]
    return math.nan if value is None else value


def summarize(
    images: Outcomes,
    labels: Sequence[str],
    ids: np.ndarray | None = None,
    notes: Sequence[str] = (),
) -> Evaluation:
    """Return the results of images from their outcomes.

    Args:
        images: The outcome of each image, at least one.
        labels: The names of all classes, in the order of the outputs.
        ids: (N,) what the source calls each image; by default its position from 0.
        notes: Notes for the evaluation.

    Raises:
        DataError: If there are more than 25,000 classes.

    Example:
        >>> import numpy as np
        >>> from torchlift.transfer.evaluation import outcomes, summarize
        >>> scores = np.array([[0.9, 0.1], [0.6, 0.4]])
        >>> result = summarize(outcomes(scores, "probabilities", np.array([0, 1])), ["cat", "dog"])
        >>> result.accuracy, round(result.loss, 3)
        (0.5, 0.511)
    """
    from sklearn.metrics import confusion_matrix, precision_recall_fscore_support

    if len(labels) > _MOST_CLASSES:
        raise DataError(
            f"{len(labels):,} classes: the confusion matrix of an evaluation holds at most "
            f"{_MOST_CLASSES:,}"
        )
    indices = list(range(len(labels)))
    confusion = confusion_matrix(images.classes, images.predicted, labels=indices)
    precision, recall, f1, counts = precision_recall_fscore_support(
        images.classes, images.predicted, labels=indices, zero_division=0
    )
    present = counts > 0
    bins = calibration(images)
    errors = sum(each.count * abs(each.confidence - each.accuracy) for each in bins)
    unknown = int(np.isnan(images.confidence).sum())
    if unknown:
        notes = [*notes, f"the scores of {unknown:,} of {len(images):,} images are not numbers"]
    return Evaluation(
        count=len(images),
        correct=int(images.correct.sum()),
        top5_correct=int((images.rank < 5).sum()),
        loss=float(-images.log_probability.mean()),
        precision=float(precision[present].mean()),
        recall=float(recall[present].mean()),
        f1=float(f1[present].mean()),
        ece=math.nan if unknown else errors / len(images),
        bins=bins,
        classes=[
            ClassResult(
                label=labels[index],
                count=int(counts[index]),
                correct=int(confusion[index, index]),
                predicted=int(confusion[:, index].sum()),
                accuracy=float(recall[index]),
                precision=float(precision[index]),
                f1=float(f1[index]),
            )
            for index in indices
        ],
        confusion=confusion.tolist(),
        mistakes=_worst_mistakes(images, labels, ids),
        notes=list(notes),
    )


def calibration(images: Outcomes) -> list[Bin]:
    """Return the confidence and the accuracy in `BINS` bins of equal width."""
    known = ~np.isnan(images.confidence)
    confidences = images.confidence[known]
    # A confidence on a bound belongs to the bin below it; rounding may exceed 1.
    bins = np.clip(np.ceil(confidences * BINS) - 1, 0, BINS - 1).astype(np.int64)
    counts = np.bincount(bins, minlength=BINS)
    divisors = np.maximum(counts, 1)
    confidence = np.bincount(bins, confidences, BINS) / divisors
    accuracy = np.bincount(bins, images.correct[known], BINS) / divisors
    return [
        Bin(
            low=index / BINS,
            high=(index + 1) / BINS,
            count=int(counts[index]),
            confidence=float(confidence[index]),
            accuracy=float(accuracy[index]),
        )
        for index in range(BINS)
    ]


def _worst_mistakes(
    images: Outcomes, labels: Sequence[str], ids: np.ndarray | None
) -> list[Mistake]:
    wrong = np.flatnonzero(~images.correct)
    worst = wrong[np.argsort(-images.confidence[wrong], kind="stable")[:MISTAKES]]
    return [
        Mistake(
            image_index=index,
            input=str(index if ids is None else ids[index]),
            label=labels[images.classes[index]],
            probability=float(np.exp(images.log_probability[index])),
            predicted_label=labels[images.predicted[index]],
            confidence=float(images.confidence[index]),
        )
        for index in worst.tolist()
    ]
