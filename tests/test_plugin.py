"""Plugins: the example in `docs/own-layers.md` works as printed there, and errors name the file."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from support import ROOT

from torchlift.cli.main import main
from torchlift.converters import t7
from torchlift.converters.modules import ConversionError
from torchlift.converters.modules.plugin import load_plugin


def write_model(file: Path, class_name: str = "my.Scale") -> Path:
    """Write a network with a layer whose class only its author's Lua code defined."""
    fields = {"weight": np.array([2.0, -1.0, 0.5], np.float32)}
    scale = t7.LuaObject(class_name, t7.LuaTable(fields))
    modules = t7.LuaTable.from_list([t7.LuaObject("nn.Identity"), scale])
    t7.save(t7.LuaObject("nn.Sequential", t7.LuaTable({"modules": modules})), file)
    return file


def test_the_documented_plugin_converts_saves_and_opens(tmp_path: Path) -> None:
    model = write_model(tmp_path / "m.t7")
    page = (ROOT / "docs" / "own-layers.md").read_text(encoding="utf-8")
    plugin = tmp_path / "my_layers.py"
    plugin.write_text(re.findall(r"```python\n(# my_layers.py.*?)```", page, re.DOTALL)[0])
    target = tmp_path / "saved"
    assert main(["convert", str(model), str(target), "--plugin", str(plugin)]) == 0

    from torchlift.converters.saved import load

    images = torch.randn(2, 3, 4, 4)
    expected = images * torch.tensor([2.0, -1.0, 0.5])[:, None, None]
    assert torch.equal(load(target).module(images), expected)


def test_a_plugin_that_fails_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = write_model(tmp_path / "m.t7")
    plugin = tmp_path / "broken.py"
    plugin.write_text("import nowhere_to_be_found\n")
    for file, message in [(plugin, "nowhere_to_be_found"), (tmp_path / "no.py", "no such plugin")]:
        assert main(["convert", str(model), str(tmp_path / "x"), "--plugin", str(file)]) == 1
        error = capsys.readouterr().err
        assert message in error
        assert file.name in error
    assert not (tmp_path / "x").exists()


def test_an_unknown_class_is_reported_with_its_path_and_its_fields(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    # Converters stay registered in this process, so the class is one that no other test registers.
    model = write_model(tmp_path / "m.t7", "my.Unheard")
    assert main(["convert", str(model), str(tmp_path / "x")]) == 1
    error = capsys.readouterr().err
    for word in ("my.Unheard", "model.modules[2]", "weight", "@register", "--plugin"):
        assert word in error


def test_an_unknown_class_comes_with_a_skeleton_that_is_safe_to_paste(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Class and field names are a stranger's: they stand in it as Python strings, never as code."""
    evil = 'my.Evil"); import os; os._exit(3)  #'
    fields = {'"""\nimport os; os._exit(3)  # \x1b[31m': 1.0, "plain": "text"}
    layers = t7.LuaTable.from_list([t7.LuaObject(evil, t7.LuaTable(fields))])
    model = t7.LuaObject("nn.Sequential", t7.LuaTable({"modules": layers}))
    t7.save(model, tmp_path / "m.t7")
    assert main(["convert", str(tmp_path / "m.t7"), str(tmp_path / "x")]) == 1
    error = capsys.readouterr().err
    assert "\x1b" not in error
    skeleton = error.partition("begin with:\n\n")[2]
    tree = ast.parse(skeleton)
    assert [type(node).__name__ for node in tree.body] == ["ImportFrom"] * 3 + ["FunctionDef"]
    (decorator,) = tree.body[-1].decorator_list  # type: ignore[attr-defined]  # a function
    assert ast.literal_eval(decorator.args[0]) == evil


def test_a_plugin_is_a_python_file(tmp_path: Path) -> None:
    (tmp_path / "layers.lua").write_text("return 1")
    with pytest.raises(
        ConversionError, match=r"a plugin is a Python file \(\.py\), not layers\.lua"
    ):
        load_plugin(tmp_path / "layers.lua")
