"""What other runtimes compute is compared with the model; one that fails is a sentence.

What a runtime gives is known here: onnxruntime and the reference evaluator are installed, and a
runtime that rounds to bfloat16 stands for OpenVINO on processors that have it.
"""

from __future__ import annotations

import ast
import json
import os
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from support import FIXTURES, ROOT
from torch import nn

from torchlift.cli.main import main
from torchlift.converters.onnx import (
    PROFILES,
    InstalledRuntime,
    OnnxError,
    export,
    find_runtimes,
)
from torchlift.converters.onnx.checker import runtime_checks
from torchlift.converters.onnx.checker.check_inputs import CheckInputs
from torchlift.converters.onnx.checker.comparison import compare
from torchlift.converters.onnx.checker.pair import ExportPair
from torchlift.converters.onnx.checker.runtime_checks import check_runtimes
from torchlift.converters.onnx.exporter.bake_resize import IMAGE
from torchlift.converters.onnx.runtimes.session import RuntimeSession
from torchlift.converters.requirements import MissingPackageError
from torchlift.converters.saved import SavedModel

#: More runtimes than are installed: a Python that has them, and an npm package.
PYTHON = os.environ.get("TORCHLIFT_RUNTIME_PYTHON")
WEB = Path(os.environ.get("TORCHLIFT_ONNXRUNTIME_WEB", ROOT / "node_modules/onnxruntime-web"))


def rounding(name: str) -> InstalledRuntime:
    """A runtime that rounds its results to bfloat16."""
    script = Path(__file__).parent / "runtimes_support.py"
    return InstalledRuntime(name, (sys.executable, str(script), name))


def program(text: str) -> InstalledRuntime:
    """A runtime that is a line of Python."""
    return InstalledRuntime("opencv", (sys.executable, "-c", text))


@pytest.fixture(scope="module")
def network() -> nn.Module:
    torch.manual_seed(0)
    layers = nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 36, 5)
    return nn.Sequential(*layers).eval()


@pytest.fixture(scope="module")
def file(network: nn.Module, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("runtimes") / "network.onnx"
    export(network, path, input_shape=(3, 8, 8))
    return path


def test_a_session_gives_what_the_model_computes(network: nn.Module, file: Path) -> None:
    images = np.random.default_rng(0).standard_normal((2, 3, 8, 8), np.float32)
    expected = network(torch.from_numpy(images)).detach().numpy()
    for runtime in find_runtimes(["onnxruntime", "reference"]):
        with RuntimeSession(runtime, file) as session:
            for batch in (images, images[:1]):
                (output,) = session.run({"input": batch}, ["logits"])
                np.testing.assert_allclose(output, expected[: len(batch)], rtol=1e-5, atol=1e-6)
            with pytest.raises(OnnxError, match="running inputs of 1×3×9×8: "):
                session.run({"input": np.zeros((1, 3, 9, 8), np.float32)}, ["logits"])
        assert session.version
        assert session.arithmetic


def test_each_runtime_of_a_check_is_judged_by_itself(network: nn.Module, file: Path) -> None:
    """A lower precision fails and its cure is named; a runtime that dies fails alone."""
    curable, wrong = rounding("openvino"), rounding("reference")
    died, (right,) = program("import os; os.abort()"), find_runtimes(["onnxruntime"])
    cured = replace(curable, precision="f32")
    pair = ExportPair.open(SavedModel(network, "logits", (3, 8, 8)), file)
    batches = list(CheckInputs(pair, None, seed=0))
    limits, runtimes = PROFILES["fp32-cpu"], [curable, wrong, died, cured, right]
    results = check_runtimes(pair, batches, None, limits, runtimes)
    assert results[0].finding().text.endswith("; with INFERENCE_PRECISION_HINT=f32 it passes")
    assert [result.passed for result in results] == [False, False, False, True, True]
    # bfloat16 has 8 bits: a value that is cut is off by up to 2 ** -7.
    for result in results[:2]:
        assert result.arithmetic == "bf16"
        assert 1e-3 < (result.error or 0) < 2**-7
    assert [result.cure for result in results] == ["INFERENCE_PRECISION_HINT=f32", *[None] * 4]
    assert "Conv" in (results[1].node or "")
    assert (results[2].error, results[2].count) == (None, 0)
    assert "SIGABRT" in (results[2].problem or "")
    assert (results[4].agreeing, results[4].count) == (10, 10)


def test_a_runtime_that_fails_with_its_cure_is_not_run_again(
    network: nn.Module, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs: list[str] = []
    wrong = compare(np.ones((1, 2)), np.zeros((1, 2)), np.arange(1), 1e-4, is_classifier=False)

    def run(runtime: InstalledRuntime, *_: object) -> runtime_checks._Outcome:
        runs.append(runtime.precision)
        return runtime_checks._Outcome(comparisons=[wrong])

    monkeypatch.setattr(runtime_checks, "_run", run)
    monkeypatch.setattr(runtime_checks, "first_divergence", lambda *_: None)
    pair = ExportPair.open(SavedModel(network, "logits", (3, 8, 8)), file)
    cases, limits = runtime_checks._Cases(pair, network, [], []), PROFILES["fp32-cpu"]
    for name, precision in (("openvino", ""), ("openvino", "f32"), ("reference", "")):
        runtime_checks._check(replace(rounding(name), precision=precision), cases, limits, "")
    assert runs == ["", "f32", "f32", ""]
    # The report names the interpreter of a runtime only if that is another one.
    for is_elsewhere in (False, True):
        runtime = replace(rounding("reference"), is_elsewhere=is_elsewhere)
        result = runtime_checks._check(runtime, cases, limits, "")
        assert result.python == (runtime.command[0] if is_elsewhere else None)


def test_the_image_that_is_worst_is_named(
    network: nn.Module, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    outcome = runtime_checks._Outcome(problem="wrong", worst={IMAGE: np.zeros((5, 7, 3))})
    monkeypatch.setattr(runtime_checks, "_run", lambda *_: outcome)
    pair = ExportPair.open(SavedModel(network, "logits", (3, 8, 8)), file)
    problems = []
    for images in ([np.zeros((5, 7, 3))], []):
        cases = runtime_checks._Cases(pair, network, [], images)
        result = runtime_checks._check(rounding("openvino"), cases, PROFILES["fp32-cpu"], "")
        problems.append(result.problem)
    assert problems == ["wrong; worst for an image of 5×7", "wrong"]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("import time; time.sleep(60)", "no answer within 0.2 s, starting"),
        ("import os; os.abort()", "died of signal SIGABRT, starting"),
        # A signal without a name of its own.
        ("import os; os.kill(os.getpid(), 40)", "died of signal 40, starting"),
        ("import sys; sys.exit('no such CPU')", "died of exit code 1, starting: no such CPU"),
        ('print(\'{"problem": "a\\\\n  b"}\')', "fails, starting: a b"),
    ],
)
def test_a_runtime_that_hangs_dies_or_refuses_is_a_sentence(
    text: str, problem: str, file: Path
) -> None:
    with pytest.raises(OnnxError, match=f"opencv.*{problem}"):
        RuntimeSession(program(text), file, timeout=0.2 if "sleep" in text else 60).__enter__()


def test_a_runtime_that_does_not_start_leaves_nothing(file: Path) -> None:
    session = RuntimeSession(program("import time; time.sleep(60)"), file, timeout=0.2)
    with pytest.raises(OnnxError, match="no answer"):
        session.__enter__()
    assert session._process.returncode is not None
    assert not Path(session._folder.name).exists()


def test_outputs_come_in_the_order_in_which_they_are_asked_for(tmp_path: Path) -> None:
    file = onnx.parser.parse_model(
        '<ir_version: 8, opset_import: ["": 18]> g (float[n] x) => (float[n] a, float[n] b)'
        " { a = Neg (x) b = Exp (x) }"
    )
    onnx.save(file, tmp_path / "two.onnx")
    x = np.array([0, 1], np.float32)
    expected = {"a": -x, "b": np.exp(x)}
    for runtime in find_runtimes(["onnxruntime", "reference"]):
        with RuntimeSession(runtime, tmp_path / "two.onnx") as session:
            for names in (["a", "b"], ["b", "a"], ["b"]):
                for name, found in zip(names, session.run({"x": x}, names), strict=True):
                    np.testing.assert_allclose(found, expected[name], rtol=1e-6)


def test_another_python_has_packages_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("PYTHONPATH", "PYTHONHOME", "HOME"):
        monkeypatch.setenv(name, "/here")
    own = InstalledRuntime("opencv", ("python",)).environment()
    other = InstalledRuntime("opencv", ("python",), is_elsewhere=True).environment()
    assert own["PYTHONPATH"] == own["PYTHONHOME"] == "/here"
    assert not {"PYTHONPATH", "PYTHONHOME"} & set(other)
    assert other["HOME"] == "/here"


def test_the_command_line_names_a_runtime_that_is_missing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("torchlift.converters.onnx.runtimes.installed._has", lambda *_: set())
    model = str(FIXTURES / "digits" / "digits-lenet5.t7")
    onnx = str(FIXTURES / "0.1.0" / "model.onnx")
    assert main(["check", model, onnx, "--runtime=opencv"]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("torchlift: the runtime opencv is not installed here: python -m pip")


def test_a_missing_runtime_is_named_with_its_package(tmp_path: Path) -> None:
    empty = tmp_path / "python"
    empty.write_text("#!/bin/sh\necho '[false]'\n")
    empty.chmod(0o755)
    with pytest.raises(MissingPackageError, match=f"{empty} -m pip install openvino"):
        find_runtimes(["openvino"], empty)
    # What another Python lacks is taken from this one.
    (found,) = find_runtimes(["reference"], empty)
    assert found.command[0] == sys.executable
    with pytest.raises(OnnxError, match="missing is no Python interpreter that starts"):
        find_runtimes(["openvino"], tmp_path / "missing")
    with pytest.raises(OnnxError, match="no runtime 'tensorflow': choose onnxruntime, reference"):
        find_runtimes(["tensorflow"])


@pytest.mark.parametrize(
    ("script", "said"),
    [
        ("exec sleep 5", ".* timed out after 0.2 seconds"),
        ("echo '[true]'; exit 3", ""),
        ("echo no", ""),
        ("echo '[true, true]'", ""),
        ("echo 3", ""),
    ],
)
def test_what_does_not_answer_as_python_does_is_no_interpreter(
    script: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It hangs, fails, or says something else than was asked."""
    monkeypatch.setattr("torchlift.converters.onnx.runtimes.installed._SECONDS", 0.2)
    python = tmp_path / "python"
    python.write_text(f"#!/bin/sh\n{script}\n")
    python.chmod(0o755)
    with pytest.raises(OnnxError, match=f"python is no Python interpreter that starts: {said}"):
        find_runtimes(["openvino"], python)


def test_a_runtime_that_dies_between_two_runs_is_a_sentence(file: Path) -> None:
    lines = ['{"version": "1"}', '{"arithmetic": "CPU"}']
    session = RuntimeSession(program(f"print(*{lines}, sep=chr(10)); raise SystemExit(3)"), file)
    with session:
        session._process.wait()
        with pytest.raises(OnnxError) as caught:
            session.run({"input": np.zeros((2, 3), np.float32)}, ["logits"])
    assert str(caught.value) == "opencv died of exit code 3, running inputs of 2×3"
    assert (session.version, session.arithmetic) == ("1", "CPU")
    assert not Path(session._folder.name).exists()


#: What stands for two packages that are not installed, as far as the worker uses them.
STAND_INS = {
    "opencv": """
print("a library's own words")
class Network:
    winograd, inputs = True, {}
    def enableWinograd(self, on): self.winograd = on
    def setInput(self, array, name): self.inputs[name] = array
    def forward(self, names):
        if self.inputs["x"].min() < 0: raise ValueError("below 0")
        return [self.inputs["x"] * (number + 1 + self.winograd) for number in range(len(names))]
class dnn:
    readNetFromONNX = staticmethod(lambda model: Network())
""",
    "openvino": """
import numpy as np
class Node:
    def __init__(self, *words): self.words = words
    def get_rt_info(self):
        return dict(zip(("layerType", "runtimePrecision"), map(np.array, self.words)))
class Compiled:
    def __init__(self, kind): self.kind = kind
    def __call__(self, inputs): return {"b": inputs["x"] + 1, "a": -inputs["x"]}
    def get_property(self, name): return self
    def get_type_name(self): return self.kind
    def get_runtime_model(self): return self
    def get_ordered_ops(self):
        layers = ("Convolution", "FullyConnected", "Convolution")
        return [*(Node(one, self.kind) for one in layers), Node("Reorder", "u8")]
class Core:
    def compile_model(self, model, device, settings):
        return Compiled(settings.get("INFERENCE_PRECISION_HINT", "bf16"))
""",
}


@pytest.mark.parametrize(
    ("name", "precision", "arithmetic", "outputs"),
    [
        ("opencv", "", "CPU, float32, with Winograd", [[2, 4], [3, 6]]),
        ("opencv", "no-winograd", "CPU, float32, without Winograd", [[1, 2], [2, 4]]),
        ("openvino", "", "CPU, bf16 (3 layers in bf16)", [[-1, -2], [2, 3]]),
        ("openvino", "f32", "CPU, f32 (3 layers in f32)", [[-1, -2], [2, 3]]),
    ],
)
def test_the_worker_says_in_what_each_runtime_computes(
    name: str,
    precision: str,
    arithmetic: str,
    outputs: list[list[float]],
    file: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    module = {"opencv": "cv2", "openvino": "openvino"}[name]
    text = f"{STAND_INS[name]}__version__ = '4.10.0-dev'\n"
    (tmp_path / f"{module}.py").write_text(text, encoding="utf-8")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    worker = ROOT / "converters/onnx/runtimes/worker.py"
    runtime = InstalledRuntime(name, (sys.executable, str(worker), name), precision=precision)
    x = np.array([1, 2], np.float32)
    with RuntimeSession(runtime, file) as session:
        assert (session.version, session.arithmetic) == ("4.10.0", arithmetic)
        if name == "opencv":
            with pytest.raises(OnnxError, match="opencv fails, running inputs of 2: below 0"):
                session.run({"x": -x}, ["a"])
        assert [one.tolist() for one in session.run({"x": x}, ["a", "b"])] == outputs


def test_the_worker_needs_nothing_of_torchlift() -> None:
    """It runs in a Python where neither torchlift nor torch is installed."""
    tree = ast.parse((ROOT / "converters/onnx/runtimes/worker.py").read_text(encoding="utf-8"))
    imported = {
        name.partition(".")[0]
        for node in ast.walk(tree)
        for name in (
            [alias.name for alias in node.names]
            if isinstance(node, ast.Import)
            else [node.module or "."]
            if isinstance(node, ast.ImportFrom)
            else []
        )
    }
    known = {"numpy", "onnx", "onnxruntime", "openvino", "cv2", *sys.stdlib_module_names}
    assert imported <= known


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        ("--runtime-python python", 2, "--runtime-python is for --runtime"),
        ("--runtime reference --onnxruntime-web x", 2, "--onnxruntime-web is for --runtime web"),
        ("--runtime reference --precision f32", 2, "--precision is for --provider openvino"),
        ("--runtime openvino --runtime-python missing", 1, "missing is no Python interpreter"),
    ],
)
def test_options_that_cannot_work_are_one_line(
    words: str, code: int, message: str, file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = str(FIXTURES / "digits" / "digits-lenet5-bn.t7")
    assert main(["check", model, str(file), *words.split()]) == code
    error = capsys.readouterr().err
    assert message in error
    assert "Traceback" not in error


def test_a_runtime_that_is_none_is_a_wrong_word(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["check", "m.t7", "f.onnx", "--runtime", "onnxruntime,tvm"])
    assert "onnxruntime, reference, openvino, opencv, web was expected" in capsys.readouterr().err


@pytest.mark.slow
def test_every_runtime_gives_the_same_for_images_of_any_size(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """`check --runtime` on a plain and a baked file, with all that is installed."""
    digits = FIXTURES / "digits"
    model = str(tmp_path / "digits")
    words = ["convert", str(digits / "digits-lenet5-bn.t7"), model]
    assert main([*words, f"--mean-std={digits / 'digits_meanStd.t7'}"]) == 0
    names = ["onnxruntime", "reference"]
    names += [] if PYTHON is None else ["openvino", "opencv"]
    names += ["web"] if (WEB / "package.json").is_file() else []
    for options in ([], ["--bake-resize"]):
        path = str(tmp_path / f"digits{len(options)}.onnx")
        assert main(["export", model, path, *options]) == 0
        capsys.readouterr()
        words = ["check", model, path, "--json", f"--runtime={','.join(names)}"]
        words += [] if PYTHON is None else [f"--runtime-python={PYTHON}"]
        words += [f"--onnxruntime-web={WEB}"] if "web" in names else []
        assert main(words) == 0
        results = json.loads(capsys.readouterr().out)["runtimes"]
        assert [result["runtime"] for result in results] == names
        assert all(result["error"] < 1e-5 for result in results)
        assert all(result["agreeing"] == result["count"] >= 8 for result in results)
