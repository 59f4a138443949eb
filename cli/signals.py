"""Signals that end a command: temporary files are removed, and a person is told how to go on."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from types import FrameType
from typing import NoReturn

from .terminal import printable


class Terminated(SystemExit):
    """SIGTERM, or SIGHUP: temporary files are removed on the way out.

    Args:
        number: the signal; the exit code is 128 more, as a shell has it.
    """

    def __init__(self, number: int = signal.SIGTERM) -> None:
        self.exit_code = 128 + number
        super().__init__(self.exit_code)


#: What a service manager sends, and what a terminal sends that is closed (not on Windows).
_SIGNALS = [getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)]


_said: ContextVar[bool] = ContextVar("said", default=False)


@contextmanager
def terminated_by_exception() -> Iterator[None]:
    """Turn SIGTERM and SIGHUP into `Terminated`, so that what is open is closed and removed."""

    def stop(number: int, frame: FrameType | None) -> NoReturn:
        raise Terminated(number)

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    # `nohup` ignores SIGHUP, which must stay so; a program that calls `main` may have its own.
    usual = [number for number in _SIGNALS if signal.getsignal(number) is signal.SIG_DFL]
    for number in usual:
        signal.signal(number, stop)
    try:
        yield
    finally:
        for number in usual:
            signal.signal(number, signal.SIG_DFL)


@contextmanager
def said_when_stopped(hint: Callable[[], str]) -> Iterator[None]:
    """Print a line on stderr when a signal ends the block.

    Of blocks within each other, as of a training within a sweep, the outer one has the word.

    Args:
        hint: returns how to go on, or an empty text.
    """
    outer = _said.get()
    token = _said.set(True)
    try:
        yield
    except (KeyboardInterrupt, Terminated):
        if not outer and (text := hint()):
            with suppress(OSError):
                print(f"torchlift: stopped: {printable(text)}", file=sys.stderr, flush=True)
        raise
    finally:
        _said.reset(token)
