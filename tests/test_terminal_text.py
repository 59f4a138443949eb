"""Other people's text is shown as it is: no markup, and nothing that a terminal would obey."""

from __future__ import annotations

import json
import warnings
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from cli_support import DATA, MODEL, typed
from rich.control import Control
from rich.segment import Segment, Segments
from saved_support import tiny

from torchlift.cli.terminal import (
    console,
    page_width,
    printable,
    printable_json,
    short_warnings,
)
from torchlift.converters import t7
from torchlift.converters.saved import save
from torchlift.converters.t7 import LuaObject, LuaTable

#: Markup that closes nothing, that styles, that is an emoji; and control sequences: of ESC, of C1,
#: and characters that turn the direction of text around.
NAMES = ["[/x]", "[bold red]safe: verified[/]", ":cat:", "\x1b[2J", "\x9b2J", "\u202egpj"]

#: How each is shown.
SHOWN = [*NAMES[:3], r"\x1b[2J", r"\x9b2J", r"\u202egpj"]


def is_harmless(text: str) -> bool:
    return all(char.isprintable() or char == "\n" for char in text)


@pytest.mark.parametrize(("name", "shown"), list(zip(NAMES, SHOWN, strict=True)))
def test_names_are_shown_by_every_kind_of_view(
    name: str, shown: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A table, a sheet of facts, notes, a tree, and an error."""
    model = save(tiny(labels=["a", name, "c"], notes=[name]), tmp_path / "m")
    file = tmp_path / "x.t7"
    # The reader refuses control characters in names of classes.
    class_name = f"my.{name}" if is_harmless(name) else "my.Class"
    t7.save({name: LuaObject(class_name, LuaTable({"field": name}))}, file)
    for words in (["inspect", str(model)], ["inspect", str(file)]):
        code, out, err = typed({}, capsys, *words)
        assert code == 0, err
        assert is_harmless(out + err), words
        assert shown in out, words
    code, _, err = typed({}, capsys, "cat", str(file), "missing")
    assert code == 1
    assert is_harmless(err)
    code, out, _ = typed({}, capsys, "inspect", str(model), "--json")
    assert is_harmless(out)
    assert json.loads(out)["labels"][1] == name


@pytest.mark.parametrize(("name", "shown"), list(zip(NAMES, SHOWN, strict=True))[1:])
def test_names_of_files_are_shown(
    name: str, shown: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / name.replace("/", "")
    code, out, err = typed({}, capsys, "convert", MODEL, str(folder))
    assert code == 0, err
    assert f"{shown.replace('/', '')}/config.json" in out
    assert is_harmless(out + err)
    code, _, err = typed({}, capsys, "evaluate", str(tmp_path / f"{name}.t7"), DATA)
    assert code == 1
    assert is_harmless(err)


def test_blanks_of_any_width_are_shown_and_what_ends_a_line_or_hides_is_spelled_out() -> None:
    blanks = " \u00a0\u2003\u3000"
    for text in ("épagneul 犬 🐕", f"a{blanks}b", "one\ntwo"):
        assert printable(text) == text
    # A line and a paragraph, no width, a sign of the other direction, half a pair.
    for char in "\u2028\u2029\u200b\u200f\ufeff\x00\r\t\x7f\udcff":
        assert printable(f"a{char}b") == f"a{ascii(char)[1:-1]}b"
        spelled = printable_json(json.dumps(f"a{char}b", ensure_ascii=False))
        assert is_harmless(spelled)
        assert json.loads(spelled) == f"a{char}b"
    assert printable_json('"\U000e0001"') == r'"\udb40\udc01"'


@pytest.mark.parametrize(
    ("columns", "width"),
    [
        (None, 110),
        ("", 110),
        ("0", 110),
        ("²", 110),
        ("-3", 110),
        ("wide", 110),
        ("1", 1),
        ("200", 200),
    ],
)
def test_a_page_is_as_wide_as_columns_says(
    columns: str | None, width: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("COLUMNS", raising=False)
    if columns is not None:
        monkeypatch.setenv("COLUMNS", columns)
    assert page_width() == width


def test_a_line_on_stderr_stays_one_where_no_terminal_shows_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A log is read line by line; a page on stdout has its width."""
    monkeypatch.setenv("COLUMNS", "20")
    text = "a note of many words, " * 5 + "that ends"
    console(stderr=True).print(text)
    console().print(text)
    captured = capsys.readouterr()
    assert captured.err == f"{text}\n"
    lines = captured.out.splitlines()
    assert max(map(len, lines)) <= 20
    assert " ".join(" ".join(lines).split()) == text


def test_a_warning_is_a_printable_line_and_is_as_before_afterwards() -> None:
    before = warnings.formatwarning
    where: Any = ("file.py", 3, "the source")
    with short_warnings():
        text = warnings.formatwarning(UserWarning("over\n two \x1b[2Jlines"), UserWarning, *where)
    assert text == "torchlift: over two \\x1b[2Jlines\n"
    with suppress(ValueError), short_warnings():
        raise ValueError
    assert warnings.formatwarning is before


def test_what_moves_the_cursor_is_no_text() -> None:
    """A bar of progress is drawn by it; only what a text says is spelled out."""
    page = console()
    line = Segments([Segment.line(), Control.home().segment, Segment("\x1b[2Ja")])
    home, spelled = [one for one in page.render(line) if one.text.strip()]
    assert (home.text, bool(home.control)) == ("\x1b[H", True)
    assert (spelled.text, spelled.control) == (r"\x1b[2Ja", None)
