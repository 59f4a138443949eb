"""Errors of data, features, training, plots and reports."""

from __future__ import annotations

from math import isfinite
from typing import Any

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
        raise TrainingError(f"{name}={getattr(options, name)} must be {expected}")


def check_finite_options(options: Any) -> None:
    """Check that no number among the fields of a dataclass is NaN or infinite.

    Raises:
        TrainingError: One is.
    """
    for name, value in vars(options).items():
        check_option(options, name, not isinstance(value, float) or isfinite(value), "finite")


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
