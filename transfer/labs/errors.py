"""What goes wrong in a lab."""

from __future__ import annotations

from ...converters.errors import TorchliftError


class LabError(TorchliftError):
    """A lab that cannot go on: a command of it failed, or its folder holds another one."""
