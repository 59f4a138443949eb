"""What a command's end means for the shell: exit codes, one line on stderr, JSON on stdout."""

from __future__ import annotations

import json
import math
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from torchlift.cli.errors import UsageError
from torchlift.cli.main import main
from torchlift.cli.outputs import output_suffix
from torchlift.cli.result import CommandResult
from torchlift.cli.signals import Terminated
from torchlift.cli.values import Within
from torchlift.converters.errors import TorchliftError
from torchlift.converters.requirements import missing_package

Install = Callable[[Callable[[], CommandResult]], None]


@pytest.fixture
def install(monkeypatch: pytest.MonkeyPatch) -> Install:
    """Return a function that makes another one the only command, `work`."""

    def install(function: Callable[[], CommandResult]) -> None:
        def work() -> CommandResult:
            """Do something."""
            return function()

        monkeypatch.setattr("torchlift.cli.main.load_commands", lambda words: (work,))

    return install


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (TorchliftError("broken"), 1),
        (UsageError("broken"), 2),
        (OSError(28, "No space left on device", "broken"), 1),
        (KeyboardInterrupt(), 130),
        (Terminated(signal.SIGTERM), 143),
        (Terminated(signal.SIGHUP), 129),
    ],
    ids=repr,
)
def test_each_kind_of_end_has_its_exit_code(
    error: BaseException, code: int, install: Install, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail() -> CommandResult:
        raise error

    install(fail)
    for words in (["work"], ["work", "--json"]):
        assert main(words) == code
        out, err = capsys.readouterr()
        assert out == ""
        if isinstance(error, Exception):
            assert "broken" in err
            assert len(err.splitlines()) == 1


@pytest.mark.parametrize(
    "error", [TorchliftError("broken"), OSError(28, "full"), ImportError("no")]
)
def test_with_debug_an_error_has_its_traceback(error: Exception, install: Install) -> None:
    def fail() -> CommandResult:
        raise error

    install(fail)
    with pytest.raises(type(error)):
        main(["work", "--debug"])


def test_a_missing_package_is_named_unless_its_traceback_is_asked_for(
    install: Install, capsys: pytest.CaptureFixture[str]
) -> None:
    error = ImportError("cannot load it", name="onnxruntime.capi")

    def fail() -> CommandResult:
        raise error

    install(fail)
    assert main(["work"]) == 1
    out, err = capsys.readouterr()
    assert (out, len(err.splitlines())) == ("", 1)
    assert err.startswith("torchlift: work needs onnxruntime: pip install ")
    with pytest.raises(ImportError) as raised:
        main(["work", "--debug"])
    assert raised.value is error
    assert capsys.readouterr().err == ""


def test_an_error_says_which_file_and_how_to_write_a_converter(
    install: Install, capsys: pytest.CaptureFixture[str]
) -> None:
    unknown = TorchliftError("no converter for my.Class\x1b[2J")
    unknown.skeleton = "@register('my.Class\x1b[2J')\ndef convert(): ..."  # type: ignore[attr-defined]
    for error, lines in (
        (OSError(28, "full", "out.t7"), ["torchlift: out.t7: full"]),
        (OSError(28, "full"), ["torchlift: full"]),
        (OSError("no number"), ["torchlift: no number"]),
        (TorchliftError("over\n two lines"), ["torchlift: over two lines"]),
        (
            unknown,
            [
                r"torchlift: no converter for my.Class\x1b[2J",
                *("", "To write a converter, begin with:", ""),
                *(r"@register('my.Class\x1b[2J')", "def convert(): ..."),
            ],
        ),
    ):

        def fail(error: Exception = error) -> CommandResult:
            raise error

        install(fail)
        assert main(["work"]) == 1
        assert capsys.readouterr().err.splitlines() == lines


def test_a_text_that_cannot_go_on_ends_with_an_error(
    install: Install, capsys: pytest.CaptureFixture[str]
) -> None:
    def pieces() -> Iterator[str]:
        yield "a be"
        raise TorchliftError("the rest is broken")

    install(lambda: CommandResult({}, stream=pieces()))
    assert main(["work"]) == 1
    assert capsys.readouterr() == ("a be", "torchlift: the rest is broken\n")


@pytest.mark.parametrize("passed", [True, False])
def test_a_reader_that_has_seen_enough_changes_no_verdict(
    passed: bool, install: Install, monkeypatch: pytest.MonkeyPatch
) -> None:
    discarded: list[bool] = []

    def gone(*_: object, **__: object) -> None:
        raise BrokenPipeError

    install(lambda: CommandResult({}, passed=passed))
    monkeypatch.setattr("torchlift.cli.main.show", gone)
    monkeypatch.setattr("torchlift.cli.main.discard_stdout", lambda: discarded.append(True))
    assert main(["work"]) == (0 if passed else 1)

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "full")

    monkeypatch.setattr("torchlift.cli.main.show", full)
    assert main(["work"]) == 1
    # Python would complain when it flushes what nobody reads.
    assert discarded == [True, True]


@pytest.mark.parametrize("passed", [True, False])
def test_a_command_that_fails_its_check_exits_with_1(
    passed: bool, install: Install, capsys: pytest.CaptureFixture[str]
) -> None:
    install(lambda: CommandResult({"passed": passed}, "verdict", passed))
    assert main(["work"]) == (0 if passed else 1)
    assert capsys.readouterr().out.strip() == "verdict"
    assert main(["work", "--json"]) == (0 if passed else 1)
    assert json.loads(capsys.readouterr().out) == {"passed": passed}


def test_numbers_that_are_not_finite_are_null_and_prints_go_to_stderr(
    install: Install, capsys: pytest.CaptureFixture[str]
) -> None:
    def work() -> CommandResult:
        print("a library says something")
        return CommandResult({"loss": math.nan, "all": [1.5, math.inf, {"x": -math.inf}]})

    install(work)
    assert main(["work", "--json"]) == 0
    out, err = capsys.readouterr()
    assert json.loads(out, parse_constant=pytest.fail) == {
        "loss": None,
        "all": [1.5, None, {"x": None}],
    }
    assert "a library says something" in err


def test_both_limits_of_a_number_are_allowed() -> None:
    fraction, count = Within(0, 1), Within(1)
    assert [value in fraction for value in (-0.1, 0, 0.5, 1, 1.1)] == [
        *(False, True, True),
        *(True, False),
    ]
    assert [value in count for value in (0, 1, 10**9)] == [False, True, True]
    assert math.nan not in fraction
    assert math.nan not in count


def test_a_slash_at_the_end_names_a_folder() -> None:
    kinds = ["", ".onnx"]
    assert output_suffix("model.onnx", kinds) == ".onnx"
    assert output_suffix("MODEL.ONNX", kinds) == ".onnx"
    assert output_suffix("model.onnx/", kinds) == ""
    assert output_suffix("model-1.5", kinds) == ""
    with pytest.raises(UsageError, match=r"a folder or \.onnx is written, not \.t7"):
        output_suffix("model.t7", kinds)
    with pytest.raises(UsageError, match=r"\.onnx is written, not a folder"):
        output_suffix(str(Path("model")), [".onnx"])


@pytest.mark.parametrize("place", ["parse_command", "run_command"])
@pytest.mark.parametrize(
    ("error", "said"),
    [
        (ModuleNotFoundError("no", name="onnxruntime.capi"), "work needs onnxruntime: "),
        (missing_package("plotting", "sklearn"), "work needs scikit-learn: "),
        (ModuleNotFoundError("no module", name="own_module"), ""),
    ],
)
def test_only_an_optional_package_is_asked_for(
    place: str,
    error: ImportError,
    said: str,
    install: Install,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Whether it is missed while the options are read or later; any other import is a fault."""

    def fail(*_: object) -> None:
        raise error

    install(lambda: CommandResult({}, ""))
    monkeypatch.setattr(f"torchlift.cli.main.{place}", fail)
    if not said:
        with pytest.raises(ModuleNotFoundError) as raised:
            main(["work"])
        assert raised.value is error
        return
    assert main(["work"]) == 1
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert err.startswith(f"torchlift: {said}")
