"""The base class of every error that torchlift raises on purpose.

Each package has one `errors.py` with all the errors that it raises, derived from this class.
"""

from __future__ import annotations


class TorchliftError(Exception):
    """A problem that a user can understand and fix.

    The message says what is wrong, where, and what to do. The command line prints it as one line
    and exits with code 1.

    Example:
        >>> from torchlift.converters import t7
        >>> try:
        ...     t7.load("nothing-is-here.t7")
        ... except TorchliftError as error:
        ...     print(error)
        nothing-is-here.t7: no such file
    """


class LabelsError(TorchliftError):
    """Class names that cannot be read, or that do not fit the model."""


class WriteError(TorchliftError):
    """A file or folder that cannot be written, or that already exists."""


class NotFiniteError(TorchliftError):
    """A model, an input or a result with NaN or infinity in it."""


def first_line(error: BaseException) -> str:
    r"""Return the first line of an error of another library, or its class where it says nothing.

    Example:
        >>> first_line(ValueError("no such axis\nat line 3")), first_line(KeyError())
        ('no such axis', 'KeyError')
    """
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
