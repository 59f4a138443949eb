"""How a file is opened in another process: what goes in, in which order, and what is said of it."""

from __future__ import annotations

import sys
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx
import pytest
from support import ROOT

from torchlift.converters.onnx import InstalledRuntime, OnnxError, find_runtimes
from torchlift.converters.onnx.runtimes import installed, worker
from torchlift.converters.onnx.runtimes.session import RuntimeSession, one_line
from torchlift.converters.requirements import MissingPackageError


def program(text: str, **options: Any) -> InstalledRuntime:
    """A runtime that is a line of Python."""
    return InstalledRuntime("opencv", (sys.executable, "-c", text), **options)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a graph of two inputs."""
    made = tmp_path_factory.mktemp("graph")
    graph = '<ir_version: 8, opset_import: ["": 18]> g (float[n] b, float[n] a) => (float[n] d)'
    onnx.save(onnx.parser.parse_model(f"{graph} {{ d = Sub (b, a) }}"), made / "sub.onnx")
    return made


@pytest.mark.parametrize("name", ["onnxruntime", "reference"])
def test_inputs_go_by_their_names_in_any_order_and_a_path_may_be_relative(
    name: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    (runtime,) = find_runtimes([name])
    five, two = np.float32([5, 7]), np.float32([2, 2])
    with RuntimeSession(runtime, "sub.onnx") as session:
        for feeds in ({"b": five, "a": two}, {"a": two, "b": five}):
            (found,) = session.run(feeds, ["d"])
            assert found.tolist() == [3, 5]
        version = {"onnxruntime": "onnxruntime", "reference": "onnx"}[name]
        assert session.version == sys.modules[version].__version__.partition("-")[0]
        assert session.arithmetic == {"onnxruntime": "CPU", "reference": "numpy"}[name]
    # The process is gone with its files, and leaves nothing beside the model.
    assert session._process.returncode is not None
    assert not Path(session._folder.name).exists()
    assert [file.name for file in folder.iterdir()] == ["sub.onnx"]


def test_a_program_gets_the_file_a_folder_and_its_precision(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another Python's packages are its own."""
    monkeypatch.setenv("PYTHONPATH", "/here")
    text = (
        "import json, os, sys\n"
        "print(json.dumps({'version': os.environ.get('PYTHONPATH')}))\n"
        "print(json.dumps({'arithmetic': sys.argv[1:]}))\n"
    )
    for precision, is_elsewhere, path in (("", False, "/here"), ("f32", True, "None")):
        runtime = program(text, precision=precision, is_elsewhere=is_elsewhere)
        with RuntimeSession(runtime, folder / "sub.onnx") as session:
            more = [precision] if precision else []
            found = [str(folder / "sub.onnx"), session._folder.name, *more]
            assert (session.version, session.arithmetic) == (path, str(found))


def test_nothing_is_left_of_a_program_that_was_interrupted_while_it_opened_a_file(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(RuntimeSession, "_answer", interrupt)
    session = RuntimeSession(program("import time; time.sleep(60)"), folder / "sub.onnx")
    with pytest.raises(KeyboardInterrupt):
        session.__enter__()
    assert session._process.returncode is not None
    assert not Path(session._folder.name).exists()


def test_the_last_line_that_a_program_wrote_says_why_it_died(folder: Path) -> None:
    text = "import sys; print('a warning', file=sys.stderr); sys.exit('no such CPU\\n \\n')"
    session = RuntimeSession(program(text), folder / "sub.onnx")
    with pytest.raises(OnnxError, match=r"^opencv died of exit code 1, starting: no such CPU$"):
        session.__enter__()
    text = 'print(\'{"version": "1"}\')'
    with pytest.raises(OnnxError, match=r"^opencv died of exit code 0, opening the file$"):
        RuntimeSession(program(text), folder / "sub.onnx").__enter__()


def test_a_program_that_does_not_end_by_itself_is_ended(folder: Path) -> None:
    lines = ['{"version": "1"}', '{"arithmetic": "CPU"}']
    text = f"import time; print(*{lines}, sep=chr(10), flush=True); time.sleep(20)"
    with RuntimeSession(program(text), folder / "sub.onnx") as session:
        pass
    assert session._process.returncode == -9  # SIGKILL


def test_what_has_answered_in_time_is_not_ended_later(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    running: list[float] = []

    class Timer:
        def __init__(self, seconds: float, end: Any) -> None:
            self.seconds = seconds

        def start(self) -> None:
            running.append(self.seconds)

        def is_alive(self) -> bool:
            return True

        def cancel(self) -> None:
            running.remove(self.seconds)

    monkeypatch.setattr("threading.Timer", Timer)
    lines = ['{"version": "1"}', '{"arithmetic": "CPU"}']
    with RuntimeSession(program(f"print(*{lines}, sep=chr(10))"), folder / "sub.onnx", timeout=60):
        assert running == []


def test_what_dies_by_itself_is_not_called_late(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whether its time was over is asked before the timer is ended, however fast that is."""

    class Timer(threading.Timer):
        def cancel(self) -> None:
            super().cancel()
            self.join()

    monkeypatch.setattr("threading.Timer", Timer)
    with pytest.raises(OnnxError, match="opencv died of exit code 3, starting"):
        RuntimeSession(program("raise SystemExit(3)"), folder / "sub.onnx").__enter__()


def test_each_answer_has_its_own_time(folder: Path) -> None:
    """Also while a file is open: what hangs then is told by what it was asked."""
    lines = ['{"version": "1"}', '{"arithmetic": "CPU"}']
    text = f"import time; print(*{lines}, sep=chr(10), flush=True); time.sleep(60)"
    with RuntimeSession(program(text), folder / "sub.onnx") as session:
        session._timeout = 0.2
        two = {"a": np.zeros((2, 3), np.float32), "b": np.zeros((2, 3, 4), np.float32)}
        with pytest.raises(
            OnnxError, match=r"no answer within 0\.2 s, running inputs of 2×3, 2×3×4"
        ):
            session.run(two, ["d"])


@pytest.mark.parametrize(("length", "cut"), [(300, False), (301, True)])
def test_a_long_message_is_cut(length: int, cut: bool) -> None:
    text = "x" * (length - 2) + "\n y"
    found = one_line(text)
    assert found == (f"{'x' * 299}…" if cut else "x" * 298 + " y")
    assert len(found) == 300


def test_an_error_without_words_is_named_by_its_kind(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At opening, and at running: after which the next inputs are run."""
    (tmp_path / "cv2.py").write_text(
        "__version__ = '4'\n"
        "class Network:\n"
        "    def setInput(self, array, name):\n"
        "        assert array.min() >= 0\n"
        "        self.array = array\n"
        "    def forward(self, names): return [self.array]\n"
        "class dnn:\n"
        "    def readNetFromONNX(model):\n"
        "        if 'other' in model: raise KeyError\n"
        "        return Network()\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    script = str(ROOT / "converters/onnx/runtimes/worker.py")
    runtime = InstalledRuntime("opencv", (sys.executable, script, "opencv"))
    with RuntimeSession(runtime, folder / "sub.onnx") as session:
        with pytest.raises(OnnxError, match="opencv fails, running inputs of 2: AssertionError"):
            session.run({"a": np.float32([-1, 1])}, ["d"])
        assert session.run({"a": np.float32([3, 4])}, ["d"])[0].tolist() == [3, 4]
    with pytest.raises(OnnxError, match="opencv fails, opening the file: KeyError"):
        RuntimeSession(runtime, folder / "other.onnx").__enter__()


@pytest.mark.parametrize("name", ["onnxruntime", "reference"])
def test_outputs_come_in_the_order_in_which_they_are_asked_for(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And no others."""
    monkeypatch.chdir(tmp_path)
    text = '<ir_version: 8, opset_import: ["": 18]> g (float[n] a) => (float[n] b, float[n] c)'
    graph = onnx.parser.parse_model(f"{text} {{ b = Neg (a) c = Exp (b) }}")
    onnx.save(graph, tmp_path / "f.onnx")
    arithmetic, run = worker.RUNTIMES[name][1]("f.onnx", "")
    assert arithmetic == {"onnxruntime": "CPU", "reference": "numpy"}[name]
    inputs = {"a": np.float32([0, -2])}
    for names in (["c", "b"], ["b", "c"], ["c"]):
        expected = {"b": [0, 2], "c": np.exp([0, 2])}
        for one, output in zip(names, run(inputs, names), strict=True):
            np.testing.assert_allclose(output, expected[one], rtol=1e-6)


def test_openvino_without_layers_says_its_precision_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """And with layers of several precisions how many there are of each."""
    asked: list[Any] = []

    def node(layer: str, precision: str) -> Any:
        words = {"layerType": np.array(layer), "runtimePrecision": np.array(precision)}
        return SimpleNamespace(get_rt_info=lambda: words)

    nodes: list[Any] = []

    class Compiled:
        def get_property(self, name: str) -> Any:
            assert name == "INFERENCE_PRECISION_HINT"
            return SimpleNamespace(get_type_name=lambda: "f16")

        def get_runtime_model(self) -> Any:
            return SimpleNamespace(get_ordered_ops=lambda: nodes)

    class Core:
        def compile_model(self, *given: Any) -> Compiled:
            asked.append(given)
            return Compiled()

    monkeypatch.setitem(sys.modules, "openvino", SimpleNamespace(Core=Core))
    assert worker.open_openvino("m.onnx", "")[0] == "CPU, f16"
    names = ("Convolution", "FullyConnected", "MatMul")
    nodes += [node(names[0], "f16"), node(names[1], "bf16"), node(names[0], "f16")]
    nodes += [node(names[2], "u8"), node("Pooling", "f32")]
    found, _ = worker.open_openvino("m.onnx", "f32")
    assert found == "CPU, f16 (1 layers in bf16, 2 layers in f16)"
    hint = {"INFERENCE_PRECISION_HINT": "f32"}
    assert asked == [("m.onnx", "CPU", {}), ("m.onnx", "CPU", hint)]


@pytest.mark.parametrize(
    ("name", "module", "package"),
    [
        ("onnxruntime", "onnxruntime", "onnxruntime"),
        ("reference", "onnx", "onnx"),
        ("openvino", "openvino", "openvino"),
        ("opencv", "cv2", "opencv-python-headless"),
    ],
)
def test_a_missing_runtime_has_the_names_of_its_module_and_its_package(
    name: str, module: str, package: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(installed, "_has", lambda *_: set())
    with pytest.raises(MissingPackageError, match=f"-m pip install {package}$") as caught:
        find_runtimes([name])
    assert caught.value.name == module


def test_a_python_is_asked_for_modules_by_their_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The other one without the packages of this one; nothing is asked for no names."""
    python = tmp_path / "python"
    python.write_text(
        f'#!/bin/sh\necho "$PYTHONPATH|$@" >> {tmp_path}/asked\necho "[true, false]"\n'
    )
    python.chmod(0o755)
    monkeypatch.setenv("PYTHONPATH", "/here")
    assert installed._has(str(python), ["opencv", "reference"]) == {"opencv"}
    (line,) = (tmp_path / "asked").read_text().splitlines()
    path, _, words = line.partition("|")
    assert path == ""
    assert words.startswith("-c ")
    assert words.endswith(" cv2 onnx")
    assert installed._has("missing", []) == set()
    monkeypatch.delenv("PYTHONPATH")
    # Of this one it is the truth.
    assert installed._has(sys.executable, ["onnxruntime", "reference"]) == {
        "onnxruntime",
        "reference",
    }
