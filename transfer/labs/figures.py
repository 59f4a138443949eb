"""Pictures of the labs' reports."""

from __future__ import annotations

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
        part="train",
        limit=24,
        seed=options.seed,
    )
