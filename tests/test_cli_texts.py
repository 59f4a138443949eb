"""What the parser and the streams of the command line make of texts, and the widths of pages."""

from __future__ import annotations

import io
import sys
from argparse import ArgumentTypeError
from typing import Any

import pytest

from torchlift.cli.argument_parser import _readable
from torchlift.cli.commands import load_commands
from torchlift.cli.config_files import read_config
from torchlift.cli.data_options import DataOptions
from torchlift.cli.errors import UsageError
from torchlift.cli.main import main
from torchlift.cli.outputs import output_suffix
from torchlift.cli.parser import _options_last, parse_command
from torchlift.cli.result import CommandResult, show, table
from torchlift.cli.terminal import cell, console
from torchlift.cli.values import Count, Seconds, parser_of


@pytest.mark.parametrize(
    ("message", "text", "command"),
    [
        ('Parser key "batch_size": a number', "--batch-size: a number", ""),
        ('Parser key "top": over\n  two lines', "top: over two lines", ""),
        ("the following arguments are required: a.data, a.lr", "missing: D, a.lr", "a"),
        ("argument -o, --output: expected one argument", "--output: expected one argument", ""),
    ],
)  # fmt: skip
def test_messages_of_the_parser_name_what_is_typed(message: str, text: str, command: str) -> None:
    flags = {"batch_size": "--batch-size", "a.data": "D"}
    assert _readable(message, flags) == (text, command)


def test_what_was_typed_is_shown_as_text(capsys: pytest.CaptureFixture[str]) -> None:
    """It may be a name that another program made."""
    with pytest.raises(SystemExit):
        main(["predict", "m", "x", "--\x1b[2J"])
    assert capsys.readouterr().err.splitlines() == [
        r"torchlift predict: no such argument: --\x1b[2J",
        "torchlift predict --help lists the arguments",
    ]


def test_help_keeps_paragraphs(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "90")
    with pytest.raises(SystemExit):
        main(["plot", "--help"])
    paragraphs = capsys.readouterr().out.split("\n\n")
    for kind in ("filters MODEL", "weights MODEL", "curves RUN", "sizes MODEL", "A model is"):
        assert [text for text in paragraphs if text.startswith(kind)], kind


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("epochs: 0", "epochs: a whole number of at least 1 was expected, not 0"),
        ("epochs: ''", "epochs: a whole number was expected, not ''"),
        ("picture_size: 3x", "picture_size: a size such as"),
        ("flip: 0", "flip: true or false was expected, not 0"),
        # What is wrong is named as it stands in the file.
        ("part: hf:a/b", "part: hf:a/b is a repository"),
    ],
)
def test_every_value_of_a_config_is_looked_at(text: str, problem: str) -> None:
    types = {"epochs": Count, "image_size": tuple[int, int], "flip": bool, "split": str}
    with pytest.raises(ArgumentTypeError) as caught:
        read_config(text, types)
    assert str(caught.value).startswith(problem)


def test_a_name_of_old_is_only_taken_where_there_is_no_such_option() -> None:
    assert read_config("part: 3", {"split": str, "part": int}) == {"part": 3}
    assert read_config("part: a", {"split": str}) == {"split": "a"}
    assert read_config("epochs:", {"epochs": Count}) == {"epochs": None}


@pytest.mark.parametrize(
    ("output", "suffix"),
    [
        ("model.ONNX", ".onnx"),
        ("model.onnx/", ""),
        ("model.onnx\\", ""),
        ("model-1.5", ""),
        ("v2.0b", ""),
        ("model.", ""),
        ("a.onnx/model", ""),
    ],
)
def test_the_name_of_an_output_says_what_it_is(output: str, suffix: str) -> None:
    assert output_suffix(output, ["", ".onnx"]) == suffix


@pytest.mark.parametrize("output", ["model.h5", "model.onnx2", "model.onnx~", "a.p-b"])
def test_a_dot_and_a_letter_are_a_kind_that_must_be_known(output: str) -> None:
    with pytest.raises(UsageError, match=r"a folder or \.onnx is written, not \."):
        output_suffix(output, ["", ".onnx"])
    with pytest.raises(UsageError, match=r"x: \.onnx is written, not a folder"):
        output_suffix("x", [".onnx"])


@pytest.mark.parametrize(("value", "fits"), [(0, False), (0.0009, False), (0.001, True)])
def test_a_time_is_at_least_a_millisecond(value: float, fits: bool) -> None:
    if fits:
        assert parser_of(Seconds)(str(value)) == value
        return
    with pytest.raises(ArgumentTypeError, match=r"a number of at least 0\.001"):
        parser_of(Seconds)(str(value))


def test_every_character_of_ours_has_a_plain_form() -> None:
    ours = "× – — − … → ← · • ± ≤ ≥ ⌊ ⌋ ├ └ │ ─ ━ “ ” ‘ ’"
    plain = "x - - - ... -> <- * * +- <= >= floor( ) | ` | - - \" \" ' '"
    assert ours.encode("ascii", "torchlift").decode() == plain


def test_only_the_middle_of_a_long_cell_is_left_out() -> None:
    assert cell("x" * 300) == "x" * 300
    assert cell("a" + "x" * 299 + "b") == "a" + "x" * 149 + "…" + "x" * 149 + "b"
    # A line break takes two characters.
    assert cell("\n" * 150) == r"\n" * 150
    assert cell("\n" * 151) == r"\n" * 75 + "…" + r"\n" * 75


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_no_character_is_markup_an_emoji_or_worth_a_color(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = Terminal()
    monkeypatch.setattr(sys, "stdout", stream)
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.delenv("NO_COLOR", raising=False)
    text = "[bold]x[/bold] :cat: 12 True 'text' http://a.b/c \x1b[2J"
    console().print(text)
    assert stream.getvalue() == text.replace("\x1b", r"\x1b") + "\n"


@pytest.mark.parametrize("width", [150, 900])
def test_a_row_is_one_line_for_programs_and_as_wide_as_the_window_for_people(
    width: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "60")
    monkeypatch.setenv("TERM", "xterm")

    def lines(stream: Any) -> list[str]:
        view = table("a", "b", "c", "d")
        view.add_row(*["x" * (width // 4)] * 4)
        monkeypatch.setattr(sys, "stdout", stream)
        show(CommandResult({}, view), as_json=False)
        return list(stream.getvalue().splitlines())

    rows = lines(io.StringIO())
    assert len(rows) == 2
    assert rows[1].split() == ["x" * (width // 4)] * 4
    # The first line has colors.
    _, *wrapped = lines(Terminal())
    assert max(map(len, wrapped)) == 60
    assert len(wrapped) > 1


def test_a_file_may_be_called_as_a_command() -> None:
    """Only the first word is one, and its flags stand alone."""
    words = ["predict", "m", "--overwrite", "x.png", "inspect"]
    command, options = parse_command(load_commands([]), words)
    assert command.__name__ == "predict"
    assert (options["inputs"], options["overwrite"]) == (["x.png", "inspect"], True)
    words = ["inspect", "predict", "--json"]
    assert parse_command(load_commands([]), words)[1]["file"] == "predict"


@pytest.mark.parametrize(
    ("words", "sorted_"),
    [
        (["m", "-", "-1", "-1,5.png", "--top", "3"], ["m", "-", "-1", "-1,5.png", "--top", "3"]),
        (["-h", "m"], ["m", "-h"]),
        (["--help", "m"], ["m", "--help"]),
        (["--json", "m"], ["m", "--json"]),
        (["--overwrite", "m", "--top", "-1"], ["m", "--overwrite", "--top=-1"]),
        (["--value-range", "-.5,1", "m"], ["m", "--value-range=-.5,1"]),
        (["--labels", "-x", "m"], ["m", "--labels", "-x"]),
        (["--top"], ["--top"]),
        (["--top=3", "m", "--", "--x", "n"], ["--top=3", "--", "m", "--x", "n"]),
    ],
)
def test_options_stand_behind_all_names(words: list[str], sorted_: list[str]) -> None:
    (predict,) = load_commands(["predict"])
    assert _options_last(predict, words) == sorted_


def test_a_flag_stands_for_a_value_and_a_letter_for_an_option() -> None:
    def parsed(*words: str) -> dict[str, Any]:
        return parse_command(load_commands(["train"]), ["train", *words])[1]

    given = parsed("softmax", "--skip-bad", "d", "-o", "runs/a")
    assert (given["on_error"], given["data"], given["output"]) == ("skip", "d", "runs/a")
    plain = parsed("softmax", "d")
    assert (plain["on_error"], plain["output"]) == (DataOptions().on_error, None)
    assert DataOptions().on_error != "skip"
