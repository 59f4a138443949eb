"""`diff`: exit code 0 for equal files, 1 for others, 2 for errors; every kind with every kind.

The truth is the change that a test makes itself.
"""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from cli_support import MODEL, SCALE, typed
from onnx import numpy_helper
from safetensors.numpy import load_file, save_file
from support import FIXTURES

from torchlift.cli.diff import diff
from torchlift.cli.errors import UsageError
from torchlift.cli.main import main
from torchlift.converters.comparing.differences import differences
from torchlift.converters.t7 import LuaFunction, LuaObject, LuaTable, save


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """A saved model {m}, one with two other weights {changed}, and an {onnx}."""
    folder = tmp_path_factory.mktemp("diff")
    assert main(["convert", MODEL, f"{folder}/m", "--mean-std", SCALE]) == 0
    shutil.copytree(folder / "m", folder / "changed")
    weights = load_file(folder / "changed" / "model.safetensors")
    weights["4.weight"] = weights["4.weight"].copy()
    weights["4.weight"][0, 0, 0, 0] += 0.25
    weights["13.bias"] = weights["13.bias"] - 0.5
    save_file(weights, folder / "changed" / "model.safetensors")
    onnx = str(FIXTURES / "0.1.0" / "model.onnx")
    return {"m": f"{folder}/m", "changed": f"{folder}/changed", "onnx": onnx, "t7": MODEL}


@pytest.fixture(scope="module")
def exported(files: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> str:
    """The model's export."""
    target = str(tmp_path_factory.mktemp("exported") / "model.onnx")
    assert main(["export", files["m"], target]) == 0
    return target


def run(files: dict[str, str], capsys: Any, *words: str) -> tuple[int, list[dict[str, Any]]]:
    code, out, _ = typed(files, capsys, "diff", *words, "--json")
    document = json.loads(out)
    assert document["same"] == (code == 0) == (not document["differences"])
    return code, document["differences"]


@pytest.mark.parametrize("pair", [("{m}", "{m}"), ("{t7}", "{t7}"), ("{onnx}", "{onnx}")])
def test_a_file_is_equal_to_itself(pair: Any, files: dict[str, str], capsys: Any) -> None:
    assert typed(files, capsys, "diff", *pair) == (0, "", "")


@pytest.mark.slow
def test_a_model_is_equal_to_its_export(files: dict[str, str], exported: str, capsys: Any) -> None:
    assert run(files, capsys, "{m}", exported) == (0, [])
    assert run(files, capsys, exported, "{m}") == (0, [])
    code, found = run(files, capsys, exported, "{changed}")
    assert code == 1
    assert [each["entry"] for each in found] == ["13.bias", "4.weight"]


@pytest.mark.slow
@pytest.mark.parametrize("option", ["--bake-resize", "--bake-preprocessing", "--columns=2:4"])
def test_exports_of_other_kinds_are_equal_too(
    option: str, files: dict[str, str], tmp_path: Path, capsys: Any
) -> None:
    target = str(tmp_path / "other.onnx")
    assert typed(files, capsys, "export", "{m}", target, option)[0] == 0
    assert run(files, capsys, "{m}", target) == (0, [])
    assert run(files, capsys, "{changed}", target)[0] == 1


@pytest.mark.slow
def test_rounded_weights_differ_by_how_much_they_are_rounded(
    files: dict[str, str], tmp_path: Path, capsys: Any
) -> None:
    target = str(tmp_path / "half.onnx")
    assert typed(files, capsys, "export", "{m}", target, "--fp16")[0] == 0
    code, found = run(files, capsys, "{m}", target)
    assert code == 1
    largest = [each["largest_difference"] for each in found if each["largest_difference"]]
    assert largest == sorted(largest, reverse=True)
    assert 1e-4 < largest[0] < 1e-3
    assert "precision" in {each["entry"] for each in found}


def test_models_differ_by_what_was_changed_the_largest_first(
    files: dict[str, str], capsys: Any
) -> None:
    code, found = run(files, capsys, "{m}", "{changed}")
    assert code == 1
    assert [each["entry"] for each in found] == ["13.bias", "4.weight"]
    assert found[0]["largest_difference"] == pytest.approx(0.5, rel=1e-6)
    assert (found[1]["differing"], found[1]["numbers"]) == (1, 2400)
    code, out, _ = typed(files, capsys, "diff", "{m}", "{changed}")
    first, second = out.splitlines()
    assert re.fullmatch(r"13\.bias +differs by up to 0\.5, in 10 of 10 numbers *", first)
    assert second.startswith("4.weight")


def test_a_t7_and_its_saved_model_differ_by_what_was_added(
    files: dict[str, str], tmp_path: Path, capsys: Any
) -> None:
    _, found = run(files, capsys, "{t7}", "{m}")
    assert {each["entry"].split(".")[0] for each in found} == {"preprocessing"}
    assert typed(files, capsys, "convert", MODEL, str(tmp_path / "bare"))[0] == 0
    assert run(files, capsys, "{t7}", str(tmp_path / "bare")) == (0, [])


def test_onnx_files_differ_by_weights_and_by_attributes(
    files: dict[str, str], tmp_path: Path, capsys: Any
) -> None:
    model = onnx.load(files["onnx"])
    bias = next(each for each in model.graph.initializer if each.name == "13.bias")
    bias.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(bias) + 1, bias.name))
    onnx.save(model, tmp_path / "bias.onnx")
    _, found = run(files, capsys, "{onnx}", str(tmp_path / "bias.onnx"))
    assert [each["entry"] for each in found] == ["13.bias"]
    model = onnx.load(files["onnx"])
    pool = next(node for node in model.graph.node if node.op_type == "MaxPool")
    next(each for each in pool.attribute if each.name == "strides").ints[0] = 1
    onnx.save(model, tmp_path / "pool.onnx")
    _, found = run(files, capsys, "{onnx}", str(tmp_path / "pool.onnx"))
    assert [each["entry"] for each in found] == ["connections"]


def test_t7_files_differ_by_values_classes_functions_and_what_is_missing(
    files: dict[str, str], tmp_path: Path, capsys: Any
) -> None:
    def value(**changes: Any) -> LuaTable:
        entries = {
            "epoch": 3,
            "name": "net",
            "losses": LuaTable.from_list([1.5, float("nan")]),
            "layer": LuaObject("nn.Tanh"),
            "weight": np.ones((2, 3), np.float32),
            "run": LuaFunction(b"\x1bLua"),
        }
        return LuaTable({**entries, **changes})

    first, second = str(tmp_path / "a.t7"), str(tmp_path / "b.t7")
    save(value(), first)
    changes: dict[str, tuple[Any, str, str]] = {
        "epoch": (5, "epoch", "differs by 2: 3 | 5"),
        "name": ("other", "name", "net | other"),
        "losses": (
            LuaTable.from_list([1.5, 2.0]),
            "losses",
            "differs by up to inf, in 1 of 2 numbers",
        ),
        "layer": (LuaObject("nn.ReLU"), "class of layer", "nn.Tanh | nn.ReLU"),
        "weight": (np.ones((3, 2), np.float32), "weight", "shape 2×3 | 3×2"),
        "run": (LuaFunction(b"\x1bLuJ"), "function run", r"b'\x1bLua' | b'\x1bLuJ'"),
    }
    save(value(), second)
    assert run(files, capsys, first, second) == (0, [])
    for name, (changed, entry, text) in changes.items():
        save(value(**{name: changed}), second)
        code, (found,) = run(files, capsys, first, second)
        assert (code, found["entry"], found["text"]) == (1, entry, text)
    save(value(weight=np.ones((2, 3))), second)
    assert run(files, capsys, first, second)[1][0]["text"] == "float32 | float64, with equal values"
    save(value(name=None, new=True), second)
    _, found = run(files, capsys, first, second)
    assert [each["text"] for each in found] == [
        "only in the first: net",
        "only in the second: True",
    ]
    assert run(files, capsys, first, second, "--at", "losses") == (0, [])


def test_errors_have_the_exit_code_of_diff(
    files: dict[str, str], tmp_path: Path, capsys: Any
) -> None:
    (tmp_path / "text.t7").write_text("hello")
    for words in (
        ["{m}", "missing.t7"],
        ["missing.onnx", "{m}"],
        ["{t7}", str(tmp_path / "text.t7")],
        ["{t7}", "{t7}", "--at", "nothing.there"],
        ["{t7}"],
        ["{m}", str(FIXTURES / "digits" / "digits_classes.t7")],
    ):
        code, out, err = typed(files, capsys, "diff", *words)
        assert (code, out) == (2, ""), words
        assert "torchlift" in err


def test_numbers_of_a_difference_and_names_of_files_that_cannot_be_read(
    tmp_path: Path, capsys: Any
) -> None:
    first, second = str(tmp_path / "a.t7"), str(tmp_path / "b.t7")
    save(LuaTable({"x": np.array([1.0, 2.0, 3.0])}), first)
    save(LuaTable({"x": np.array([1.0, 2.5, 3.25])}), second)
    _, (found,) = run({}, capsys, first, second)
    assert found["largest_difference"] == 0.5
    assert (found["differing"], found["numbers"]) == (2, 3)
    code, _, error = typed({}, capsys, "diff", first, str(tmp_path / "missing.t7"))
    assert code == 2
    assert f"{tmp_path / 'missing.t7'}: " in error

    def refuse(*given: Any) -> None:
        raise PermissionError(13, "Permission denied", "some.t7")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("torchlift.converters.comparing.compare_files", refuse)
        with pytest.raises(UsageError, match=r"^some\.t7: Permission denied$"):
            diff(first, second)
    (tmp_path / "plugin.py").write_text("raise RuntimeError('it ran')")
    with pytest.raises(Exception, match="it ran"):
        diff(first, second, plugin=str(tmp_path / "plugin.py"))


def test_the_text_of_others_is_shown_as_text(
    files: dict[str, str], tmp_path: Path, capsys: Any
) -> None:
    first, second = str(tmp_path / "a.t7"), str(tmp_path / "b.t7")
    save(LuaTable({"x": "[bold]a\x1b[2J\nb"}), first)
    save(LuaTable({"x": 1}), second)
    _, out, _ = typed(files, capsys, "diff", first, second)
    assert "\x1b" not in out
    assert "[bold]a" in out
    assert len(out.splitlines()) == 1


def test_what_is_no_matter_of_size_comes_first_and_then_the_largest() -> None:
    first = {"a": np.array([1.0]), "b": 1, "c": "x", "d": np.zeros(2)}
    second = {"a": np.array([2.0]), "b": 6, "c": "y", "e": 1}
    found = differences(first, second)
    assert [each.path for each in found] == ["c", "d", "e", "b", "a"]


def test_infinities_and_empty_arrays() -> None:
    infinite, empty = np.array([np.inf, -np.inf]), np.zeros(0)
    assert not differences({"a": infinite, "b": empty}, {"a": infinite.copy(), "b": empty.copy()})
    (found,) = differences({"a": infinite}, {"a": -infinite})
    assert found.largest == np.inf
    big = np.array([2**63 - 1], np.int64)
    (found,) = differences({"a": big}, {"a": big - 1})
    assert found.differing == 1
