"""The description of a lab."""

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
        name: Its name on the command line.
        title: The heading of its report.
        about: One line about its subject; Markdown.
        sections: The function that runs its commands and returns the chapters of its report.
    """

    name: str
    title: str
    about: str
    sections: Callable[[Steps, LabOptions], list[Section]]
