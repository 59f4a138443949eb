"""Errors of data, features, training and what is drawn or reported of them."""

from __future__ import annotations

from ..converters.errors import TorchliftError


class DataError(TorchliftError):
    """A dataset or image that cannot be read, or does not fit the model."""


class NetworkError(TorchliftError):
    """A network that does not exist, or weights that do not fit it."""


class LayerError(TorchliftError):
    """A name that no layer has, or a layer whose features cannot be taken."""


class HeadError(TorchliftError):
    """A network without a head that could be replaced."""


class FreezingError(TorchliftError):
    """A rule that matches no layer, or leaves nothing to train."""


class TrainingError(TorchliftError):
    """Options that do not fit together, or a run that cannot be resumed."""


class SweepError(TorchliftError):
    """A sweep whose options cannot be understood."""


class StoreError(TorchliftError):
    """A feature store that is missing, damaged, incomplete, or belongs to something else."""


class ProbeError(TorchliftError):
    """Features that cannot be probed."""


class SummaryError(TorchliftError):
    """A network that does not take the given input."""


class PlotError(TorchliftError):
    """Something that cannot be drawn, or not in this way."""


class ReportError(TorchliftError):
    """A report whose parts do not fit together, or do not say where their data comes from."""


class LabError(TorchliftError):
    """A lab that cannot continue: one of its commands failed, or its folder holds another lab."""
