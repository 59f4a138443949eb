"""What commands tell people: notes, reports, and options as they are typed."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest
from cli_support import DATA, SCALE, typed, write_files

from torchlift.cli.main import main
from torchlift.cli.messages import as_options
from torchlift.transfer.labs.options import LabOptions


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    return write_files(tmp_path_factory.mktemp("files"))


def notes(files: dict[str, str], capsys: pytest.CaptureFixture[str], line: str) -> list[str]:
    code, out, err = typed(files, capsys, *line.split(), "--json")
    assert code == 0, err
    found: list[str] = json.loads(out)["notes"]
    return found


def test_what_is_converted_or_left_out_has_a_note(
    files: dict[str, str], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    gray = "the images are RGB and are converted to gray, which the network takes"
    assert gray in notes(files, capsys, "evaluate {m} {rgb}")
    run = f"--epochs 0 --output {tmp_path}"
    assert gray in notes(files, capsys, f"finetune {{m}} {{rgb}} {run}/one")
    tested = notes(
        files, capsys, f"train softmax sklearn:digits --limit 60 --test-data {{rgb}} {run}/two"
    )
    assert "test images are 3×16×16, the others 1×32×32: each is converted" in tested
    kept = notes(files, capsys, f"evaluate {{m}} {DATA} --limit 20 --image-size 16")
    assert "the images keep their size: only those of a folder are resized" in kept
    decided = notes(files, capsys, f"evaluate {{m}} {DATA} --limit 20 --mean-std {SCALE}")
    assert any("fit values from 0 to 255; images are resized to" in note for note in decided)
    assert any(
        "as specified" in note
        for note in notes(files, capsys, f"evaluate {{m}} {DATA} --limit 20 --resize pil-nearest")
    )
    err = typed(files, capsys, "predict", "{m}", "china", "--mean-std", SCALE)[2]
    assert "fit values from 0 to 255" in err
    back = notes(files, capsys, f"convert {{m}} {tmp_path}/back.t7")
    assert "the .t7 holds the network only, without labels and preprocessing" in back


def test_a_saved_model_without_its_plugin_names_the_option(
    files: dict[str, str], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    shutil.copytree(files["m"], tmp_path / "m")
    config = tmp_path / "m" / "config.json"
    text = config.read_text(encoding="utf-8").replace("torch.nn.Linear", "my_layers.Linear")
    config.write_text(text, encoding="utf-8")
    code, _, err = typed(files, capsys, "predict", str(tmp_path / "m"), "china")
    assert code == 1
    assert "'my_layers.Linear' is neither a class of torch.nn nor a registered layer" in err
    assert err.endswith("load the file that registers it (--plugin FILE)\n")
    assert LabOptions(model="a.t7", plugin="p.py").model_options["plugin"] == "p.py"


def test_a_call_in_a_message_is_an_option_in_quotes() -> None:
    text = """Choose one: load_model(file, at='["linear-nobias"]')"""
    assert as_options(text, {"at"}) == """Choose one: --at '["linear-nobias"]'"""


def test_a_report_has_no_python_values(
    files: dict[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    out = typed(files, capsys, "check", "{m}", "{onnx}")[1]
    assert "size 32×32" in out
    assert "crop none" in out
    assert "round pixels no" in out
    assert not {"None", "False", "True"} & set(re.findall(r"\w+", out))
    err = typed(files, capsys, "cat", SCALE, "mean[1][7]")[2]
    assert "tensor with" not in err
    err = typed(files, capsys, "cat", DATA, "label[501]")[2]
    assert "this is a tensor of size 500; its slices are [1] to [500]" in err


def test_the_usage_line_shows_only_what_can_be_typed(capsys: pytest.CaptureFixture[str]) -> None:
    for command in ("train", "predict"):
        with pytest.raises(SystemExit):
            main([command, "--help"])
    text = capsys.readouterr().out
    assert "[options]" not in text
    assert "[--lr LR|find]" in text


def test_small_things_that_people_read(
    files: dict[str, str],
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    out = typed(files, capsys, "check", "{m}", "{onnx}", "--report")[1]
    assert "wrote " in out
    assert "written:" not in out
    monkeypatch.setattr("torchlift.cli.doctor._dot_products", list)
    assert "int8 dot products  none" in typed(files, capsys, "doctor")[1]
    store = str(tmp_path / "features")
    assert typed(files, capsys, "extract", "{m}", DATA, store, "--limit", "8")[0] == 0
    err = typed(files, capsys, "extract", "{m}", DATA, store, "--limit", "9")[2]
    assert "data fingerprint was" in err
