"""What became of a run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from ...converters.errors import TorchliftError, first_line
from ..errors import DivergedError

#: A run that a signal, a kill or a full disk stopped is interrupted, and so is one that still
#: trains; one that failed or diverged was ended by an error; the files of a damaged one cannot be
#: read.
Status = Literal["finished", "interrupted", "failed", "diverged", "damaged"]


@dataclass(frozen=True)
class Failure:
    """What is recorded of a run that an error ended.

    Attributes:
        status: `diverged` or `failed`.
        problem: Why.
    """

    status: Status
    problem: str

    @classmethod
    def of(cls, error: Exception) -> Failure:
        """Return what is recorded of an error.

        Example:
            >>> Failure.of(RuntimeError("out of memory"))
            Failure(status='failed', problem='RuntimeError: out of memory')
        """
        status: Status = "diverged" if isinstance(error, DivergedError) else "failed"
        if isinstance(error, TorchliftError):
            return cls(status, str(error))
        name, said = type(error).__name__, first_line(error)
        return cls(status, said if said == name else f"{name}: {said}")
