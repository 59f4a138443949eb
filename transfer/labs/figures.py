"""Figures that several labs show."""

from __future__ import annotations

import os

from ..reports import Figure
from .data import LabData
from .options import LabOptions
from .steps import Steps, Word


def plotted(
    steps: Steps, name: str, caption: str, alt: str, *words: Word, **options: Word | None
) -> Figure:
    """Draw a figure with the `plot` command.

    Args:
        steps: The steps of the lab.
        name: The file name of the figure, in the folder of the lab.
        caption: One or two sentences about what the figure shows.
        alt: A description for readers who cannot see it.
        words: The kind of plot and its sources.
        options: Options of `plot`.
    """
    drawn = steps.run("plot", *words, output=steps.path(name), **options)
    return Figure(caption, alt, steps.path(name), [drawn])


def training_samples(steps: Steps, options: LabOptions, data: LabData) -> Figure:
    """Draw a grid of training images."""
    return plotted(
        steps,
        "samples.png",
        "A random sample of the training images, with their labels.",
        "a grid of small images, the label above each",
        "samples",
        data.path,
        split="train",
        limit=24,
        seed=options.seed,
    )


def curves_figure(steps: Steps, title: str) -> Figure:
    """Draw loss and accuracy of the lab's run by epoch.

    Args:
        steps: The steps of the lab; the run is in `run`.
        title: The name of the network.
    """
    return plotted(
        steps,
        "curves.png",
        "Loss and accuracy by epoch.",
        "two line charts: loss falls and accuracy rises with the epochs",
        "curves",
        steps.path("run"),
        titles=title,
    )


def confusion_figure(steps: Steps, results: str | os.PathLike[str]) -> Figure:
    """Draw a confusion matrix.

    Args:
        steps: The steps of the lab.
        results: The folder that `evaluate` wrote.
    """
    return plotted(
        steps,
        "confusion.png",
        "Confusion matrix of the test split: true classes in rows, predicted classes in columns.",
        "a matrix of counts, dark where they are large",
        "confusion",
        results,
    )


def predicted_samples(
    steps: Steps, options: LabOptions, data: LabData, model: str | os.PathLike[str]
) -> Figure:
    """Draw twelve test images with the predictions of a network."""
    return plotted(
        steps,
        "predictions.png",
        "Test images with the five most probable classes and their probabilities. The true class "
        "is dark.",
        "a grid of small images, bars of probabilities beside each",
        "samples",
        data.path,
        split="test",
        limit=12,
        seed=options.seed,
        model=model,
    )
