"""The numbers of an evaluation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from .outcomes import Outcomes

#: Bins of equal width that confidence is sorted into (Guo et al. 2017, arXiv:1706.04599).
BINS = 15

#: How many of the worst mistakes are named.
MISTAKES = 25


@dataclass(frozen=True)
class ClassResult:
    """One class of an evaluation.

    Attributes:
        label: its name, or the label that Torch7 gives it.
        count: how many images are of it.
        correct: how many of those were called so.
        predicted: how many images were called so.
        precision: the right share of those that were called so; 0 if none was.
        recall: the share of its images that was called so, the class's accuracy; 0 if none is.
        f1: the harmonic mean of the two.
    """

    label: str
    count: int
    correct: int
    predicted: int
    precision: float
    recall: float
    f1: float


@dataclass(frozen=True)
class Bin:
    """The images whose confidence is in (low, high].

    Attributes:
        low: the lower bound.
        high: the upper bound.
        count: how many images.
        confidence: their mean confidence; 0 without images.
        accuracy: the share of them that is right; 0 without images.
    """

    low: float
    high: float
    count: int
    confidence: float
    accuracy: float


@dataclass(frozen=True)
class Mistake:
    """An image that was called something else.

    Attributes:
        index: of the image in the data, from 0.
        id: what the source calls it (see `Dataset.ids`).
        label: the right class.
        predicted: what it was called.
        confidence: the probability of that.
        probability: the probability of the right class.
    """

    index: int
    id: str
    label: str
    predicted: str
    confidence: float
    probability: float


@dataclass(frozen=True)
class Evaluation:
    """How a classifier did on labelled images.

    Attributes:
        count: how many images.
        correct: how many had the likeliest class right.
        correct_top5: how many had the right class among the five likeliest.
        loss: mean negative log-likelihood of the right classes, in nats (`ClassNLLCriterion`).
        precision: mean over the classes that have images.
        recall: mean over the classes that have images, also called balanced accuracy.
        f1: mean over the classes that have images.
        ece: expected calibration error: the mean distance between confidence and accuracy over
            `bins`, weighted by their images.
        bins: of confidence, each as wide as the others.
        classes: the results of each class, in the order of the outputs.
        confusion: rows are the right classes, columns what they were called.
        mistakes: the worst, those that were most confidently wrong, first.
        notes: how the data's classes were matched with the model's.
    """

    count: int
    correct: int
    correct_top5: int
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
        """Share of images whose likeliest class is the right one."""
        return self.correct / self.count

    @property
    def top5_accuracy(self) -> float:
        """Share of images whose right class is among the five likeliest."""
        return self.correct_top5 / self.count

    def to_json(self) -> dict[str, Any]:
        """The results as JSON values."""
        return {"accuracy": self.accuracy, "top5_accuracy": self.top5_accuracy, **asdict(self)}


def summarized(
    found: Outcomes,
    labels: Sequence[str],
    ids: np.ndarray | None = None,
    notes: Sequence[str] = (),
) -> Evaluation:
    """The numbers of what became of the images, at least one.

    Args:
        found: what became of each.
        labels: the names of all classes, in the order of the outputs.
        ids: (N,) what the source calls each image; by default its number from 0.
        notes: for the record.
    """
    from sklearn.metrics import confusion_matrix, precision_recall_fscore_support

    every = list(range(len(labels)))
    confusion = confusion_matrix(found.classes, found.predicted, labels=every)
    precision, recall, f1, counts = precision_recall_fscore_support(
        found.classes, found.predicted, labels=every, zero_division=0
    )
    there = counts > 0
    bins = calibration(found)
    return Evaluation(
        count=len(found),
        correct=int(found.correct.sum()),
        correct_top5=int((found.rank < 5).sum()),
        loss=float(-found.log_probability.mean()),
        precision=float(precision[there].mean()),
        recall=float(recall[there].mean()),
        f1=float(f1[there].mean()),
        ece=sum(each.count * abs(each.confidence - each.accuracy) for each in bins) / len(found),
        bins=bins,
        classes=[
            ClassResult(
                labels[index],
                int(counts[index]),
                int(confusion[index, index]),
                int(confusion[:, index].sum()),
                float(precision[index]),
                float(recall[index]),
                float(f1[index]),
            )
            for index in every
        ],
        confusion=confusion.tolist(),
        mistakes=_worst(found, labels, ids),
        notes=list(notes),
    )


def calibration(found: Outcomes) -> list[Bin]:
    """Confidence and accuracy in `BINS` bins of equal width."""
    # A confidence of exactly a bound belongs to the bin below it; rounding may pass 1.
    places = np.clip(np.ceil(found.confidence * BINS) - 1, 0, BINS - 1).astype(np.int64)
    counts = np.bincount(places, minlength=BINS)
    each = np.maximum(counts, 1)
    confidence = np.bincount(places, found.confidence, BINS) / each
    accuracy = np.bincount(places, found.correct, BINS) / each
    return [
        Bin(
            index / BINS,
            (index + 1) / BINS,
            int(counts[index]),
            float(confidence[index]),
            float(accuracy[index]),
        )
        for index in range(BINS)
    ]


def _worst(found: Outcomes, labels: Sequence[str], ids: np.ndarray | None) -> list[Mistake]:
    wrong = np.flatnonzero(~found.correct)
    worst = wrong[np.argsort(-found.confidence[wrong], kind="stable")[:MISTAKES]]
    return [
        Mistake(
            index,
            str(index if ids is None else ids[index]),
            labels[found.classes[index]],
            labels[found.predicted[index]],
            float(found.confidence[index]),
            float(np.exp(found.log_probability[index])),
        )
        for index in worst.tolist()
    ]
