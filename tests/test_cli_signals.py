"""The process of a command: its start, and the signals that end it.

What is protected: what is open is closed and removed when a terminal or a service manager ends a
command, a program that calls `main` keeps its own signals, and one sentence says how to go on.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from torchlift.cli import main as main_file
from torchlift.cli.signals import Terminated, said_when_stopped, terminated_by_exception

SIGNALS = (signal.SIGTERM, signal.SIGHUP)


@pytest.fixture(autouse=True)
def usual_signals() -> Iterator[None]:
    before = [signal.signal(number, signal.SIG_DFL) for number in SIGNALS]
    yield
    for number, handler in zip(SIGNALS, before, strict=True):
        signal.signal(number, handler)


@pytest.mark.parametrize("number", SIGNALS)
def test_a_signal_becomes_an_exception_and_is_as_before_afterwards(number: signal.Signals) -> None:
    with pytest.raises(Terminated) as stopped, terminated_by_exception():
        signal.raise_signal(number)
    assert (stopped.value.exit_code, stopped.value.code) == (128 + number, 128 + number)
    assert [signal.getsignal(one) for one in SIGNALS] == [signal.SIG_DFL] * 2


@pytest.mark.parametrize("number", SIGNALS)
def test_signals_that_are_ignored_or_handled_stay_so(number: signal.Signals) -> None:
    """`nohup` ignores SIGHUP; a program around torchlift may handle both."""
    told: list[int] = []

    def handle(number: int, frame: Any) -> None:
        told.append(number)

    (other,) = {*SIGNALS} - {number}
    for handler in (signal.SIG_IGN, handle):
        signal.signal(number, handler)
        with terminated_by_exception():
            signal.raise_signal(number)
            assert signal.getsignal(number) is handler
            assert signal.getsignal(other) is not signal.SIG_DFL
        assert signal.getsignal(number) is handler
        assert signal.getsignal(other) is signal.SIG_DFL
    assert told == [number]


def test_a_thread_leaves_signals_alone() -> None:
    found: list[Any] = []

    def work() -> None:
        with terminated_by_exception():
            found.append([signal.getsignal(number) for number in SIGNALS])

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert found == [[signal.SIG_DFL] * 2]


@pytest.mark.parametrize("error", [KeyboardInterrupt(), Terminated()])
def test_the_outer_of_two_blocks_says_how_to_go_on(
    error: BaseException, capsys: pytest.CaptureFixture[str]
) -> None:
    for outer, inner, said in (
        ("the sweep\x1b[2J", "the run", "torchlift: stopped: the sweep\\x1b[2J\n"),
        ("", "the run", ""),
    ):
        with (
            pytest.raises(type(error)),
            said_when_stopped(lambda text=outer: text),
            said_when_stopped(lambda text=inner: text),
        ):
            raise error
        assert capsys.readouterr().err == said
    with pytest.raises(type(error)), said_when_stopped(lambda: "the run"):
        raise error
    assert capsys.readouterr().err == "torchlift: stopped: the run\n"


def test_other_ends_say_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    with said_when_stopped(lambda: "go on"):
        pass
    with pytest.raises(ValueError, match="wrong"), said_when_stopped(lambda: "go on"):
        raise ValueError("wrong")
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("given", "spins"),
    [
        ({}, "10000"),
        ({"GOMP_SPINCOUNT": "7"}, "7"),
        ({"OMP_WAIT_POLICY": "passive"}, None),
    ],
)
def test_threads_that_wait_do_not_spin_for_long_unless_that_is_said(
    given: dict[str, str], spins: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY"):
        # Also what the command sets is as before afterwards.
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    prepared: list[bool] = []
    monkeypatch.setattr(main_file, "prepare_streams", lambda: prepared.append(True))
    monkeypatch.setattr(main_file, "main", lambda: 3)
    with pytest.raises(SystemExit) as ended:
        main_file.run()
    assert ended.value.code == 3
    assert prepared == [True]
    assert os.environ.get("GOMP_SPINCOUNT") == spins
