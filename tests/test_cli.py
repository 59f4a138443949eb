"""The command line as people and programs meet it: real runs, exit codes, one-line errors.

Most tests call `main` in this process, with the arguments that a shell would give; what only a
new process can show (start-up time, no torch) runs one.
"""

from __future__ import annotations

import json
import pickle
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from support import FIXTURES

from torchlift.cli.commands import load_commands
from torchlift.cli.main import main
from torchlift.cli.parser import arguments_of
from torchlift.converters import t7

DIGITS = FIXTURES / "digits"
MODEL = str(DIGITS / "digits-lenet5-bn.t7")
DATA = str(DIGITS / "digits-test.t7")
NAMES = ["--labels", str(DIGITS / "digits_classes.t7")]
SCALE = ["--mean-std", str(DIGITS / "digits_meanStd.t7")]


def run(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    code = main([str(word) for word in words])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def run_json(capsys: pytest.CaptureFixture[str], *words: str) -> Any:
    code, out, err = run(capsys, *words, "--json")
    assert code == 0, err
    return json.loads(out)


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The digits network as a saved model and as ONNX, made by the commands themselves."""
    folder = tmp_path_factory.mktemp("digits")
    saved, onnx = folder / "digits", folder / "digits.onnx"
    assert main(["convert", MODEL, str(saved), *NAMES, *SCALE]) == 0
    assert main(["export", str(saved), str(onnx)]) == 0
    return {"saved": saved, "onnx": onnx}


def test_help_names_every_command_and_does_not_import_torch() -> None:
    code = (
        "import sys; from torchlift.cli.main import main\n"
        "try: main(['--help'])\n"
        "finally: print([m for m in ('torch', 'onnxruntime', 'onnx') if m in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.stdout.splitlines()[-1] == "[]"
    for command in load_commands([]):
        assert command.__name__ in result.stdout


def test_the_module_form_is_the_same_command() -> None:
    command = [sys.executable, "-m", "torchlift.cli", "--version"]
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.returncode == 0
    assert "0." in result.stdout


@pytest.mark.parametrize("command", load_commands([]), ids=lambda command: command.__name__)
def test_every_command_explains_every_argument(
    command: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stopped:
        main([command.__name__, "--help"])
    assert stopped.value.code == 0
    assert command.__doc__.split(".")[0] in capsys.readouterr().out.replace("\n", " ")
    unexplained = [argument.name for argument in arguments_of(command) if not argument.help]
    assert unexplained == []


def test_inspect_answers_in_json_without_torch() -> None:
    code = (
        "import sys; from torchlift.cli.main import main\n"
        "code = main(['inspect', sys.argv[1], '--json'])\n"
        "assert 'torch' not in sys.modules; sys.exit(code)"
    )
    result = subprocess.run([sys.executable, "-c", code, MODEL], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    found = json.loads(result.stdout)
    assert found["parameters"] == 61_750
    assert found["layers"][1]["lua_class"] == "nn.SpatialConvolution"
    size = Path(MODEL).stat().st_size
    assert found["bytes"] == sum(entry["bytes"] for entry in found["bytes_by_group"]) == size


def test_inspect_tells_what_an_onnx_file_holds(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """Baked, the file eats pixels, and says what the graph does to them."""
    target = str(tmp_path / "digits.onnx")
    assert main(["export", MODEL, target, *NAMES, *SCALE, "--bake-preprocessing"]) == 0
    capsys.readouterr()
    assert main(["inspect", target, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["inputs"] == [{"name": "input", "shape": ["batch", 1, 32, 32], "dtype": "uint8"}]
    assert found["outputs"] == [
        {"name": "log_probabilities", "shape": ["batch", 10], "dtype": "float32"}
    ]
    # Two convolutions and three linear layers; each BatchNorm is folded into its convolution.
    assert found["parameters"] >= 156 + 2416 + 48120 + 10164 + 850
    assert found["preprocessing"]["mean"] == []
    assert found["baked_preprocessing"]["mean"] == pytest.approx([60.42], abs=0.01)


def test_rows_stay_whole_where_programs_read_them(capsys: pytest.CaptureFixture[str]) -> None:
    """Lua paths and classes are sought by grep; on a page of 110 columns they were broken."""
    assert main(["inspect", str(FIXTURES / "models" / "alexnetowtbn_small.t7")]) == 0
    lines = capsys.readouterr().out.splitlines()
    row = next(line for line in lines if "model.modules[1].modules[10]" in line)
    assert row.split()[:3] == [
        "model.modules[1].modules[10]",
        "0.9",
        "nn.SpatialBatchNormalization",
    ]
    assert row.split()[-2:] == ["96", "1,152"]


def test_cat_reaches_every_object_of_a_file(capsys: pytest.CaptureFixture[str]) -> None:
    two = str(FIXTURES / "formats" / "two_objects.t7")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert main(["cat", two, "[2]", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["value"] == [2]


def test_cat_prints_and_saves_one_value(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    expected = np.asarray(t7.load(MODEL)["modules"][1]["bias"])
    printed = run_json(capsys, "cat", MODEL, "modules[1].bias")
    assert np.allclose(printed["value"], expected)
    target = tmp_path / "bias.npy"
    run_json(capsys, "cat", MODEL, "modules[1].bias", "-o", str(target))
    assert np.array_equal(np.load(target), expected)


def test_the_whole_way_gives_the_accuracy_that_lua_printed(
    capsys: pytest.CaptureFixture[str], exported: dict[str, Path]
) -> None:
    for model in (exported["saved"], exported["onnx"]):
        assert run_json(capsys, "evaluate", str(model), DATA)["accuracy"] == 0.982
    checked = run_json(
        capsys, "check", str(exported["saved"]), str(exported["onnx"]), "--data", DATA
    )
    assert checked["passed"]
    assert checked["provider"] == "CPUExecutionProvider"


def test_predict_takes_images_folders_and_datasets(
    capsys: pytest.CaptureFixture[str], exported: dict[str, Path], tmp_path: Path
) -> None:
    data = t7.load(DATA)
    image = tmp_path / "digit.png"
    Image.fromarray(np.asarray(data["data"])[0, 0]).save(image)
    results = run_json(capsys, "predict", str(exported["onnx"]), DATA, str(image), str(tmp_path))
    first, image_one, folder_one = (results["results"][index] for index in (0, 500, 501))
    assert first["predictions"] == image_one["predictions"] == folder_one["predictions"]
    names = [result["predictions"][0]["index"] + 1 for result in results["results"][:500]]
    assert sum(np.array(names) == np.asarray(data["label"])) == 491


def test_check_fails_with_exit_code_1_for_another_model(
    capsys: pytest.CaptureFixture[str], exported: dict[str, Path]
) -> None:
    other = str(DIGITS / "digits-lenet5.t7")
    code, out, _ = run(capsys, "check", other, str(exported["onnx"]))
    assert code == 1
    assert "FAILED" in out


def test_options_can_come_from_a_config_file(
    capsys: pytest.CaptureFixture[str], exported: dict[str, Path], tmp_path: Path
) -> None:
    config = tmp_path / "run.yaml"
    config.write_text(f"model: {exported['onnx']}\ninputs: ['{DATA}']\ntop: 2\n")
    results = run_json(capsys, "predict", "--config", str(config))["results"]
    assert {len(result["predictions"]) for result in results} == {2}


class TestBadInput:
    """Each is one clear sentence on stderr, exit code 1, and nothing left behind."""

    @pytest.fixture
    def bad(self, tmp_path: Path) -> dict[str, Path]:
        files = {
            name: tmp_path / f"{name}.t7" for name in ("text", "pickle", "truncated", "unknown")
        }
        files["missing"] = tmp_path / "nowhere.t7"
        files["text"].write_text("This is a list of classes, one a line.\n")
        files["pickle"].write_bytes(pickle.dumps({"a": [1, 2]}))
        files["truncated"].write_bytes(Path(MODEL).read_bytes()[:200_000])
        model = t7.load(MODEL)
        for index in (3, 7):
            model["modules"][index].class_name = "my.Strange"
        t7.save(model, files["unknown"])
        return files

    @pytest.mark.parametrize(
        ("name", "said"),
        [
            ("missing", ["no such file"]),
            ("text", ["text"]),
            ("pickle", ["pickle"]),
            ("truncated", ["truncated", "modules"]),
            ("unknown", ["my.Strange", "modules[3]", "modules[7]", "@register"]),
        ],
    )
    def test_a_file_that_is_no_model_says_so(
        self,
        bad: dict[str, Path],
        name: str,
        said: list[str],
        capsys: pytest.CaptureFixture[str],
        tmp_path: Path,
    ) -> None:
        before = sorted(tmp_path.iterdir())
        for command in (["convert"], ["export"]):
            target = str(tmp_path / "out.onnx")
            code, out, err = run(capsys, *command, str(bad[name]), target)
            assert (code, out) == (1, "")
            assert err.startswith("torchlift: ")
            # An unknown class is followed by the skeleton of its converter.
            assert err.count("\n") == 1 or name == "unknown"
            for word in [str(bad[name]), *said]:
                assert word in err
        assert sorted(tmp_path.iterdir()) == before

    def test_images_of_a_wrong_size(
        self, capsys: pytest.CaptureFixture[str], tmp_path: Path
    ) -> None:
        images = t7.LuaTable({"data": np.zeros((2, 1, 28, 28), np.float32)})
        t7.save(images, tmp_path / "small.t7")
        code, out, err = run(capsys, "predict", MODEL, str(tmp_path / "small.t7"))
        assert (code, out) == (1, "")
        assert "1×28×28" in err
        assert "1×32×32" in err

    def test_what_is_there_is_not_overwritten(
        self, capsys: pytest.CaptureFixture[str], tmp_path: Path
    ) -> None:
        for name in ("taken.onnx", "taken.pt2", "taken.txt"):
            taken = tmp_path / name
            taken.write_text("mine")
            code, _, err = run(capsys, "convert", MODEL, str(taken))
            assert code == (2 if name == "taken.txt" else 1)
            assert ("a folder or .pt2 or .onnx or .t7" if code == 2 else "already exists") in err
            assert taken.read_text() == "mine"

    def test_usage_errors_exit_with_2(self, capsys: pytest.CaptureFixture[str]) -> None:
        with pytest.raises(SystemExit) as stopped:
            main(["predict", MODEL])
        assert stopped.value.code == 2

    def test_a_provider_that_does_not_start_is_an_error(
        self, capsys: pytest.CaptureFixture[str], exported: dict[str, Path]
    ) -> None:
        from torchlift.converters.inference import provider_problem

        if provider_problem("cuda") is None:
            pytest.skip("CUDA starts here")
        code, out, err = run(capsys, "evaluate", str(exported["onnx"]), DATA, "--provider", "cuda")
        assert (code, out) == (1, "")
        assert err.count("\n") == 1


def test_the_demo_walks_the_whole_way(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    result = run_json(capsys, "demo", str(tmp_path / "demo"))
    assert result["passed"]
    assert result["seconds"] < 60
    assert all(Path(file).is_file() for file in result["files"])
