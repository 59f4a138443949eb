"""Other people's text is shown as it is: no markup, and nothing that a terminal would obey."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from cli_support import DATA, MODEL, typed
from saved_support import tiny

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
