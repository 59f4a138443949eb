"""Errors of data, features, training, plots and reports."""

from __future__ import annotations

from math import isfinite
from numbers import Integral, Real
from typing import Any, Literal, get_args, get_origin, get_type_hints

from ..converters.errors import TorchliftError


class DataError(TorchliftError):
    """A dataset or image that cannot be read, or does not fit the model."""


class NetworkError(TorchliftError):
    """A network that does not exist, or weights that do not fit it."""


class LayerError(TorchliftError):
    """A layer that does not exist, or whose features cannot be taken."""


class HeadError(TorchliftError):
    """A network without a head that can be replaced."""


class FreezingError(TorchliftError):
    """A freezing rule that matches no layer, or leaves nothing to train."""


class TrainingError(TorchliftError):
    """Options that do not fit together, or a run that cannot be resumed."""


class DivergedError(TrainingError):
    """A training whose loss or weights are no longer finite numbers.

    Attributes:
        epoch: The epoch in which that happened, counted from 1.
    """

    def __init__(self, message: str, epoch: int = 0) -> None:
        super().__init__(message)
        self.epoch = epoch


def check_option(options: Any, name: str, condition: bool, expected: str) -> None:
    """Check one of the options of a training.

    Args:
        options: Has the option as an attribute.
        name: The name of the option.
        condition: Whether its value is valid.
        expected: What the value must be, such as "at least 1".

    Raises:
        TrainingError: The condition is false.
    """
    if not condition:
        raise TrainingError(f"{name}={getattr(options, name)!r} must be {expected}")


def check_numbers(options: Any) -> None:
    """Check that the numbers among the fields of a dataclass are finite, and whole where need be.

    The command line refuses others before, but Python does not look at annotations.

    Raises:
        TrainingError: One is not.
    """
    for name, annotation in get_type_hints(type(options)).items():
        value = getattr(options, name)
        kinds = {annotation, *get_args(annotation)}
        if value is None or _choices(annotation):
            pass
        elif int in kinds and float not in kinds:
            is_whole = isinstance(value, Integral) and not isinstance(value, bool)
            check_option(options, name, is_whole, "a whole number")
        elif float in kinds:
            check_option(options, name, isinstance(value, Real), "a number")
        check_option(options, name, not isinstance(value, float) or isfinite(value), "finite")


def check_choices(options: Any, error: type[TorchliftError] = TrainingError) -> None:
    """Check the fields of a dataclass whose values are a few texts.

    The command line refuses others before, but Python does not look at annotations.

    Args:
        options: The dataclass.
        error: What is raised.

    Raises:
        TorchliftError: One has another value; its class is `error`.
    """
    for name, annotation in get_type_hints(type(options)).items():
        value, choices = getattr(options, name), _choices(annotation)
        others = [
            kind for kind in get_args(annotation) if kind is not str and isinstance(kind, type)
        ]
        # A union of texts and numbers, such as a rate that is a number or "find": 1 is one too.
        others += [Real] if float in others else []
        if choices and value not in choices and not isinstance(value, tuple(others)):
            expected = " or ".join(map(repr, choices))
            raise error(f"{name}={value!r}: expected {expected}")


def _choices(annotation: Any) -> tuple[Any, ...]:
    """Return the texts that an annotation lists."""
    if get_origin(annotation) is Literal:
        return get_args(annotation)
    return tuple(text for kind in get_args(annotation) for text in _choices(kind))


class SweepError(TorchliftError):
    """A sweep with invalid options."""


class RunsError(TorchliftError):
    """A folder without runs, or a run that cannot be read."""


class StoreError(TorchliftError):
    """A feature store that is missing, damaged, incomplete, or was computed from something else."""


class ProbeError(TorchliftError):
    """Features that cannot be probed."""


class SummaryError(TorchliftError):
    """A network that does not accept the given input."""


class PlotError(TorchliftError):
    """Something that cannot be plotted."""


class ReportError(TorchliftError):
    """A report whose parts are inconsistent, or do not say where their data comes from."""


class LabError(TorchliftError):
    """A lab that cannot continue: a command failed, or its folder holds another lab."""
