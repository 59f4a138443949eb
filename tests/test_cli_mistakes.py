"""Mistakes on the command line: what is typed wrong, and files and options that do not fit.

What is protected: a mistake is found before anything is written, an invalid option exits with 2,
the message says what to type instead, and nothing that was typed is ignored without a note.
"""

from __future__ import annotations

import json
import re
import shutil
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support import FIXTURES

from torchlift.cli.main import main
from torchlift.cli.messages import as_options
from torchlift.converters import t7
from torchlift.transfer.errors import TrainingError
from torchlift.transfer.labs.options import LabOptions

DIGITS = FIXTURES / "digits"
MODEL, DATA = str(DIGITS / "digits-lenet5-bn.t7"), str(DIGITS / "digits-test.t7")
SCALE = str(DIGITS / "digits_meanStd.t7")


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """A saved model, its .onnx, and ten RGB images, one of each class."""
    folder = tmp_path_factory.mktemp("mistakes")
    saved, onnx, rgb = (str(folder / name) for name in ("m", "d.onnx", "rgb.npz"))
    assert main(["convert", MODEL, saved, "--mean-std", SCALE]) == 0
    assert main(["export", saved, onnx]) == 0
    np.savez(rgb, x=np.zeros((10, 3, 16, 16), np.uint8), y=np.arange(10))
    return {"m": saved, "onnx": onnx, "rgb": rgb}


def typed(
    files: dict[str, str], capsys: pytest.CaptureFixture[str], *words: str
) -> tuple[Any, str, str]:
    """The exit code, stdout and stderr of a command; {m}, {onnx} and {rgb} are files."""
    capsys.readouterr()
    try:
        code: Any = main([word.format(**files) for word in words])
    except SystemExit as stopped:
        code = stopped.code
    captured = capsys.readouterr()
    return code, captured.out, captured.err


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("predict {m} x.png --batch-size -1", "--batch-size: a whole number of at least 1"),
        ("predict {m} x.png --top 0", "--top: a whole number of at least 1"),
        ("predict {m} x.png --provider gpu", "--provider: one of auto, cpu, cuda, tensorrt"),
        ("predict {m} x.png -o x.xls", "x.xls: .csv or .jsonl or .parquet is written"),
        ("evaluate {m} d --batch-size 0", "--batch-size: a whole number of at least 1"),
        ("evaluate {m} d --limit 0", "--limit: a whole number of at least 1"),
        ("evaluate {m} d --seed -1", "--seed: a whole number of at least 0"),
        ("evaluate {m} d --label x", "no such argument: --label x; did you mean --labels?"),
        ("evaluate {m} d --limt=3", "did you mean --limit?"),
        ("evaluate {m} d --resize foo", "--resize foo: 'none' or "),
        ("extract {m} d f.csv", "f.csv: a folder or .zarr or .t7 or .npz is written"),
        ("extract {m} d f --workers 0", "--workers: a whole number of at least 1"),
        ("extract {m} d f --batch-size 0", "--batch-size 0: expected at least 1"),
        ("inspect {m} --depth -1", "--depth: a whole number of at least 0"),
        ("check {m} {onnx} --tolerance -1", "--tolerance: a number of at least 0"),
        ("check {m} {onnx} --tolerance nan", "--tolerance: a number of at least 0"),
        ("check {m} {onnx} --profile foo", "--profile: one of fp32-cpu, fp32-gpu, fp16, int8"),
        ("check {m} {onnx} --limit 3", "--limit is for the images of --data"),
        ("check {m} {onnx} --examples 3", "--examples is for the images of --data"),
        ("check {m}", "torchlift check MODEL FILE.onnx"),
        ("check {onnx}", "torchlift check MODEL FILE.onnx"),
        ("quantize {onnx} x.txt --data d", "x.txt: .onnx is written, not .txt"),
        ("quantize {m} x.onnx --data d", "an .onnx file is quantized; torchlift export"),
        ("quantize {onnx} x.onnx --data d --max-drop -0.5", "--max-drop: a number from 0 to 1"),
        ("plot samples d --limit 0", "--limit: a whole number of at least 1"),
        ("plot samples d -o f.gif", "f.gif: .png or .svg is written"),
        ("probe f --methods knn,svm", "--methods: one of logistic, knn, network was expected"),
        ("train softmax d --epochs -1", "--epochs -1 must be at least 0"),
        ("train softmax d --lr -1", "--lr -1.0 must be positive"),
        ("train softmax d --warmup-epochs 20", "--warmup-epochs 20.0 must be below --epochs 10"),
        ("train softmax d --mixup -1", "--mixup -1.0: expected at least 0"),
        ("finetune {m} d --unfreeze-at 3", "--unfreeze-at 3 needs layers to unfreeze: --freeze"),
        ("lab nolab", "no lab 'nolab'; there are torch7-convnets"),
        ("lab blitz --seed -1", "--seed -1 must be at least 0"),
        ("lab blitz --epochs 0", "--epochs 0 must be at least 1"),
        ("lab blitz --limit 0", "--limit 0 must be at least 1"),
        ("train softmax d --seed -1", "--seed: a whole number of at least 0"),
        ("sweep train softmax d lr=1 --seed -1", "--seed: a whole number of at least 0"),
        ("probe f --seed -1", "--seed: a whole number of at least 0"),
        ("check {m} {onnx} --data d --examples 0", "--examples: a whole number of at least 1"),
        (f"cat {SCALE} mean -o x", "x: .npy or .t7 is written"),
        (f"cat {SCALE} mean -o x.csv", "x.csv: .npy or .t7 is written"),
    ],
)
def test_an_invalid_option_or_output_exits_with_2(
    line: str,
    said: str,
    files: dict[str, str],
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    code, out, err = typed(files, capsys, *line.split())
    assert (code, out) == (2, "")
    assert said in err
    assert not [*tmp_path.iterdir()]


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("check {onnx} {onnx}", "name the model that it was made from"),
        ("finetune {onnx} sklearn:digits", "name the model that it was made from"),
        ("finetune {m} sklearn:digits --freeze all-but-heads", "--freeze all-but-heads matches no"),
        ("finetune convnet sklearn:digits", "`torchlift train` trains it"),
        ("summary convnett", "no such file or network; the networks are softmax, "),
        ("summary convnet --input 3x16x16", "got an input of shape (2, 16); 3×32×32 fits"),
        ("probe nof", "nof: no such feature store"),
        ("inspect {rgb}", "numpy.load opens it; inspect is for .t7 and .onnx files"),
        ("export {m} any.onnx --any-size", "has a fixed input size: leave out --any-size"),
        (f"export {MODEL} b.onnx --bake-preprocessing", "open it with --mean-std FILE"),
        (
            "predict {m} x.png --provider tensorrt",
            "tensorrt is for .onnx files; PyTorch runs on auto, cpu or cuda",
        ),
        ("predict {onnx} x.png --labels x", "without --labels: export the model again"),
        (f"convert {MODEL} x --mean-std {SCALE} --value-range 1", "leave out --value-range 1"),
        (f"convert {MODEL} x --mean-std {FIXTURES}/cifar/cifar_meanStd.t7", "gray images need 1"),
        (f"cat {SCALE} mean -o x.npy", "mean is not a tensor (list of 1: "),
        ("split sklearn:digits s.npz --test-data {rgb}", "images of one shape, not 3×16×16 in"),
        ("plot feature-maps {m} --image sklearn:digits --index 5000", "has no image --index 5000"),
    ],
)
def test_what_does_not_fit_is_said_before_anything_is_written(
    line: str,
    said: str,
    files: dict[str, str],
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    code, out, err = typed(files, capsys, *line.split())
    assert (code, out) == (1, "")
    assert said in err
    assert "Traceback" not in err
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_a_file_is_not_replaced_by_a_name_without_suffix(
    files: dict[str, str], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """`cat -o label` replaced label.npy."""
    (tmp_path / "label.npy").write_text("mine")
    assert typed(files, capsys, "cat", DATA, "label", "-o", str(tmp_path / "label"))[0] == 2
    assert (tmp_path / "label.npy").read_text() == "mine"


def test_a_missing_image_is_reported_and_the_others_are_classified(
    files: dict[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, err = typed(files, capsys, "predict", "{m}", "no.png", "china", "--json")
    assert (code, err) == (1, "torchlift: no.png: no such file\n")
    assert [len(one["predictions"]) for one in json.loads(out)["results"]] == [0, 5]


@pytest.mark.parametrize(("data", "count"), [("sklearn:digits", 1797), ("{rgb}", 10)])
def test_predict_takes_datasets_without_a_file(
    data: str, count: int, files: dict[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    out = typed(files, capsys, "predict", "{onnx}", data, "--top", "1", "--json")[1]
    assert len(json.loads(out)["results"]) == count


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


def test_an_unknown_class_is_a_layer_of_its_container(
    files: dict[str, str], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    values = np.zeros((3, 2))
    strange = t7.LuaObject("my.Strange", t7.LuaTable({"weight": values, "gradWeight": values}))
    fields = t7.LuaTable({"modules": t7.LuaTable.from_list([strange]), "output": np.zeros(0)})
    t7.save(t7.LuaObject("nn.Sequential", fields), tmp_path / "strange.t7")
    out = typed(files, capsys, "inspect", f"{tmp_path}/strange.t7", "--json")[1]
    found = json.loads(out)
    assert found["parameters"] == 6
    assert [layer["lua_class"] for layer in found["layers"]] == ["nn.Sequential", "my.Strange"]


def test_a_tolerance_of_0_is_not_the_default(
    files: dict[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    checkpoint = str(DIGITS / "digits-lenet5-bn_uncleared.t7")
    out = typed(files, capsys, "check", checkpoint, "--tolerance", "0", "--json")[1]
    assert json.loads(out)["tolerance"] == 0


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("train convnet_bn runs/lr=0.1/data.t7", "runs/lr=0.1/data.t7: no such file"),
        ("train convnet_bn lr=0.1", "lr=0.1: no such file"),
        ("convert at=2/none.t7 out", "at=2/none.t7: "),
        ("convert ./at=2 out", "at=2: "),
        ("evaluate {m} d --labels=at=3", "at=3: "),
    ],
)
def test_what_was_typed_is_never_rewritten(
    line: str, said: str, files: dict[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    code, _, err = typed(files, capsys, *line.split())
    assert code == 1
    assert err.startswith(f"torchlift: {said}")


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ("epochs: many", "c.yaml: epochs: a whole number was expected, not 'many'"),
        ("batchsize: 3", "c.yaml: no such option: batchsize; did you mean batch_size?"),
        ("image_size: x", "c.yaml: image_size: a size such as 224 or 240x320 was expected"),
        ("flip: 3", "c.yaml: flip: true or false was expected, not 3"),
        ("- epochs", "c.yaml: options and their values were expected, such as epochs: 5"),
        ("epochs: [", "c.yaml: not YAML: "),
    ],
)
def test_a_mistake_in_a_config_names_the_file_and_the_command(
    config: str,
    said: str,
    files: dict[str, str],
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "c.yaml").write_text(config, encoding="utf-8")
    code, _, err = typed(files, capsys, "train", "softmax", "d", "--config", "c.yaml")
    assert code == 2
    assert err.startswith(f"torchlift train: {said}")
    assert err.endswith("torchlift train --help lists the arguments\n")


def test_a_class_name_may_hold_a_comma(
    files: dict[str, str], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """A config file holds a list, and so does the config.yaml of the run that is resumed."""
    data, config, run = tmp_path / "d.npz", tmp_path / "c.yaml", tmp_path / "run"
    names, classes = ["salt, pepper", "oil", "rice"], np.arange(30) % 3
    np.savez(data, x=np.zeros((30, 1, 8, 8), np.uint8), y=classes, classes=names)
    config.write_text("classes: ['salt, pepper', rice]\ntracker: [tensorboard]\n")
    words = ["train", "softmax", str(data), "--epochs", "1", "--output", str(run), "--json"]
    code, out, err = typed(files, capsys, *words, "--config", str(config))
    assert code == 0, err
    assert [one["label"] for one in json.loads(out)["evaluation"]["classes"]] == [names[0], "rice"]
    resumed = [*words[:-1], "--config", str(run / "config.yaml"), "--resume", "auto"]
    assert typed(files, capsys, *resumed)[0] == 0
    # As 0.1.0 wrote it.
    text = (run / "config.yaml").read_text(encoding="utf-8")
    assert "classes:\n- salt, pepper\n- rice\n" in text
    old = ["train", "softmax", "digits", "--epochs", "0", "--output", str(tmp_path / "old")]
    assert typed(files, capsys, *old, "--classes", "3,8")[0] == 0
    stored = tmp_path / "old" / "config.yaml"
    text = stored.read_text(encoding="utf-8").replace("classes:\n- '3'\n- '8'\n", "classes: 3, 8\n")
    stored.write_text(text, encoding="utf-8")
    code, _, err = typed(files, capsys, *old, "--classes", "3,8", "--resume", "auto")
    assert code == 0, err


def test_a_run_whose_replacement_was_killed_is_resumed(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A kill while the old run was deleted left half a checkpoint, which could not be resumed."""
    words = ["train", "softmax", "sklearn:digits", "--epochs", "2", "--limit", "60"]
    words += ["--output", str(tmp_path / "run"), "--tracker", "none"]
    assert main(words) == 0

    def killed(folder: Path, *_: Any, **__: Any) -> None:
        for file in Path(folder).rglob("state.pt"):
            file.unlink()
            raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(shutil, "rmtree", killed)
        assert main([*words, "--overwrite"]) == 130
    assert main([*words, "--resume", "auto"]) == 0
    assert (tmp_path / "run" / "evaluation.json").is_file()


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


def test_a_lab_names_options_in_its_notes_and_errors(
    monkeypatch: pytest.MonkeyPatch,
    files: dict[str, str],
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    import torchlift.cli.lab as lab

    def failing(command: Any, options: dict[str, Any]) -> Any:
        raise TrainingError("val_fraction=3 is too large; overwrite=True does not help")

    monkeypatch.setattr(lab, "run_command", failing)
    code, _, err = typed(files, capsys, "lab", "lenet-pytorch", "-o", str(tmp_path / "lab"))
    assert code == 1
    assert "Name a dataset with `--data`, or use `--download` to download MNIST" in err
    assert "--val-fraction 3 is too large; --overwrite does not help" in err
    words = ("lab", "lenet-pytorch", "-o", str(tmp_path / "lab"), "--seed", "1")
    err = typed(files, capsys, *words)[2]
    assert "another folder with --output, or replace it with --overwrite" in err


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


def test_sigterm_ends_a_sweep_and_a_lab(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Both took SIGTERM for the end of one of their commands."""
    import torchlift.cli.lab as lab
    import torchlift.cli.sweep as sweep

    ran = []

    def terminated(command: Any, options: dict[str, Any]) -> Any:
        ran.append(command.__name__)
        signal.raise_signal(signal.SIGTERM)

    monkeypatch.setattr(sweep, "run_command", terminated)
    monkeypatch.setattr(lab, "run_command", terminated)
    words = ["sweep", "train", "softmax", "sklearn:digits", "lr=0.1,0.2"]
    assert main([*words, "--output", str(tmp_path / "sweep")]) == 143
    assert main(["lab", "lenet-pytorch", "--output", str(tmp_path / "lab")]) == 143
    assert ran == ["train", "split"]


def test_a_call_in_a_message_is_an_option_in_quotes() -> None:
    text = """Choose one: load_model(file, at='["linear-nobias"]')"""
    assert as_options(text, {"at"}) == """Choose one: --at '["linear-nobias"]'"""


@pytest.mark.slow
def test_the_demo_shows_the_commands_that_it_runs(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    import torchlift.cli.demo as demo

    ran = []
    run_command = demo.run_command

    def record(command: Any, options: dict[str, Any]) -> Any:
        ran.append(command.__name__)
        return run_command(command, options)

    monkeypatch.setattr(demo, "run_command", record)
    assert main(["demo", str(tmp_path)]) == 0
    captured = capsys.readouterr()
    lines = [line for line in captured.out.splitlines() if line.startswith("$ torchlift ")]
    assert [line.split()[2] for line in lines] == ran
    assert all(str(DIGITS) in line or str(tmp_path) in line for line in lines)
    assert "runs on the CPU" not in captured.out + captured.err


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
