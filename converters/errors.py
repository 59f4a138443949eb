"""The base class of every error that torchlift raises on purpose.

Each folder has one `errors.py` with all the errors that it raises, each derived from this class.
"""

from __future__ import annotations


class TorchliftError(Exception):
    """A problem that a user can understand and fix: what is wrong, where, and what to do.

    The command line prints the message as one line and exits with 1.
    """


class LabelsError(TorchliftError):
    """A class list that cannot be understood, or that does not fit the model."""


class WriteError(TorchliftError):
    """A file or folder that cannot be written, or that exists already."""
