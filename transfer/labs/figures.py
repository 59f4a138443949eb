"""Pictures of the labs' reports."""

from __future__ import annotations

import os

from ..reports import Figure
from .data import LabData
from .options import LabOptions
from .steps import Steps, Word


def plotted(
    steps: Steps, name: str, caption: str, alt: str, *words: Word, **options: Word | None
) -> Figure:
    """A picture that `plot` draws for the report.

    Args:
        steps: of the lab.
        name: the picture's file in the lab's folder.
        caption: what can be seen in it.
        alt: the same for somebody who cannot see it.
        words: the kind of picture and its sources.
        options: those of `plot`.
    """
    drawn = steps.run("plot", *words, output=steps.path(name), **options)
    return Figure(caption, alt, steps.path(name), [drawn])


def training_samples(steps: Steps, options: LabOptions, data: LabData) -> Figure:
    """A grid of a lab's training pictures."""
    return plotted(
        steps,
        "samples.png",
        "Training pictures, drawn by seed, with their labels.",
        "a grid of small pictures, the label above each",
        "samples",
        data.word,
        split="train",
        limit=24,
        seed=options.seed,
    )


def confusion_figure(steps: Steps, results: str | os.PathLike[str]) -> Figure:
    """What is taken for what.

    Args:
        steps: of the lab.
        results: the folder that `evaluate` wrote.
    """
    return plotted(
        steps,
        "confusion.png",
        "What is taken for what: rows are what the pictures show, columns what they are called.",
        "a matrix of counts, dark where they are large",
        "confusion",
        results,
    )


def predicted_samples(
    steps: Steps, options: LabOptions, data: LabData, model: str | os.PathLike[str]
) -> Figure:
    """A dozen of a lab's test pictures, with what a network takes them for."""
    return plotted(
        steps,
        "predictions.png",
        "Test pictures with the five classes that the network holds likeliest, and their "
        "probabilities. The right one is dark.",
        "a grid of small pictures, bars of probabilities beside each",
        "samples",
        data.word,
        split="test",
        limit=12,
        seed=options.seed,
        model=model,
    )
