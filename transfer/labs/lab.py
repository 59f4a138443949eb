"""What a lab is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from ..reports import Section
from .options import LabOptions
from .steps import Steps


@dataclass(frozen=True)
class Lab:
    """A lab.

    Attributes:
        name: what it is called on the command line.
        title: the heading of its report.
        about: one line about what it is; Markdown.
        sections: runs its commands and gives the chapters of its report.
    """

    name: str
    title: str
    about: str
    sections: Callable[[Steps, LabOptions], list[Section]]
