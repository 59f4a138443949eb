"""Every command that takes an `.onnx` file answers a bad one with one line, and no traceback."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnx_check_support import DIGITS, export_digits
from PIL import Image

from torchlift.cli.main import main
from torchlift.converters.onnx import OnnxError
from torchlift.converters.onnx.onnx_file import read_network

DATA = str(DIGITS / "digits-test.t7")
FLOAT, HALF, INT64 = TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.INT64


def one_node(node: onnx.NodeProto, inputs: list, outputs: list, *constants: np.ndarray) -> bytes:
    """Return a file with one node."""
    stored = [numpy_helper.from_array(array, f"c{i}") for i, array in enumerate(constants)]
    graph = helper.make_graph([node], "one", inputs, outputs, stored)
    opsets = [helper.make_opsetid("", 18), helper.make_opsetid("ai.onnx.ml", 3)]
    return helper.make_model(graph, ir_version=8, opset_imports=opsets).SerializeToString()


def value(name: str, kind: int, *shape: str | int) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, kind, shape)


def sequence() -> bytes:
    result = helper.make_tensor_sequence_value_info("y", FLOAT, None)
    node = helper.make_node("SequenceConstruct", ["x"], ["y"])
    return one_node(node, [value("x", FLOAT, "batch", 1, 8, 8)], [result])


def maps() -> bytes:
    """What scikit-learn's exporter writes."""
    node = helper.make_node("ZipMap", ["x"], ["y"], domain="ai.onnx.ml", classlabels_int64s=[0, 1])
    kind = helper.make_sequence_type_proto(
        helper.make_map_type_proto(INT64, helper.make_tensor_type_proto(FLOAT, []))
    )
    return one_node(node, [value("x", FLOAT, "batch", 2)], [helper.make_value_info("y", kind)])


def no_inputs() -> bytes:
    node = helper.make_node("Identity", ["c0"], ["y"])
    return one_node(node, [], [value("y", FLOAT, 2, 3)], np.zeros((2, 3), np.float32))


def no_outputs() -> bytes:
    node = helper.make_node("Identity", ["x"], ["y"])
    return one_node(node, [value("x", FLOAT, "batch", 1, 8, 8)], [])


def half_inputs() -> bytes:
    node = helper.make_node("Identity", ["x"], ["y"])
    shape = ("batch", 1, 8, 8)
    return one_node(node, [value("x", HALF, *shape)], [value("y", HALF, *shape)])


def external(data: bytes | None) -> Callable[[Path], None]:
    """Return what writes a file whose weights are in another one, which is cut or missing."""

    def write(path: Path) -> None:
        node = helper.make_node("MatMul", ["x", "c0"], ["y"])
        shape = [value("x", FLOAT, "batch", 64)], [value("y", FLOAT, "batch", 10)]
        content = one_node(node, *shape, np.zeros((64, 10), np.float32))
        options = {"save_as_external_data": True, "location": "w.data", "size_threshold": 0}
        onnx.save(onnx.load_from_string(content), path, **options)
        (path.parent / "w.data").unlink()
        if data is not None:
            (path.parent / "w.data").write_bytes(data)

    return write


def content(data: bytes) -> Callable[[Path], None]:
    return lambda path: path.write_bytes(data)


BAD: dict[str, Callable[[Path], None]] = {
    "empty": content(b""),
    "text": content(b"not a network"),
    "data missing": external(None),
    "data cut": external(b"\0" * 99),
    "sequence": content(sequence()),
    "maps": content(maps()),
    "no inputs": content(no_inputs()),
    "no outputs": content(no_outputs()),
    "half inputs": content(half_inputs()),
}


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return export_digits("digits-lenet5", tmp_path_factory.mktemp("good"))[1]


@pytest.fixture
def image(tmp_path: Path) -> str:
    Image.new("L", (32, 32)).save(tmp_path / "image.png")
    return str(tmp_path / "image.png")


def run(capfd: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    """Return the exit code of a command, and what it printed on stdout and stderr."""
    try:
        code = main(words)
    except SystemExit as ended:
        code = int(ended.code or 0)
    printed = capfd.readouterr()
    return code, printed.out, printed.err


@pytest.mark.parametrize("kind", BAD)
@pytest.mark.parametrize("command", ["check", "quantize", "predict", "evaluate", "inspect"])
def test_a_bad_file_is_one_line(
    kind: str, command: str, tmp_path: Path, image: str, capfd: pytest.CaptureFixture[str]
) -> None:
    bad = tmp_path / "bad.onnx"
    BAD[kind](bad)
    file = str(bad)
    words = {
        "check": (str(DIGITS / "digits-lenet5.t7"), file),
        "quantize": (file, str(tmp_path / "q.onnx"), "--data", DATA),
        "predict": (file, image),
        "evaluate": (file, DATA),
        "inspect": (file,),
    }[command]
    code, out, err = run(capfd, command, *words)
    if command == "inspect" and code == 0:
        return  # It shows what it can.
    assert code == 1
    if out:  # A report of `check`, which names what is wrong.
        assert "FAILED" in out
        assert not err
    else:
        lines = [line for line in err.splitlines() if not line.startswith("runs on the CPU")]
        assert len(lines) == 1
        assert lines[0].startswith("torchlift: ")
        # Nothing is wrong with a file of float16 inputs, but it says nothing about images.
        assert "bad.onnx" in err or kind == "half inputs"
    assert not (tmp_path / "q.onnx").exists()


@pytest.mark.parametrize("model", ["saved", "onnx"])
@pytest.mark.parametrize("provider", ["tensorrt", "gpu", "cuda"])
def test_a_provider_that_does_not_start_is_one_line(
    model: str, provider: str, good: Path, image: str, capfd: pytest.CaptureFixture[str]
) -> None:
    name = str(good) if model == "onnx" else str(DIGITS / "digits-lenet5.t7")
    code, out, err = run(capfd, "predict", name, image, "--provider", provider)
    assert code in (1, 2)
    assert not out
    assert provider in err
    assert len(err.strip().splitlines()) <= 2


def test_quantize_without_data_names_the_option(
    good: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    code, out, err = run(capfd, "quantize", str(good), str(tmp_path / "q.onnx"))
    assert (code, out) == (2, "")
    assert "--data" in err
    assert len(err.strip().splitlines()) <= 2


def test_a_folder_is_not_quantized(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    code, _, err = run(capfd, "quantize", str(tmp_path), "q.onnx", "--data", DATA)
    assert code in (1, 2)
    assert "torchlift export" in err


def test_weights_in_another_folder_are_refused_with_their_place(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    external(bytes(64 * 10 * 4))(folder / "f.onnx")
    (folder / "w.data").rename(tmp_path / "w.data")
    stored = onnx.load(folder / "f.onnx", load_external_data=False)
    place = next(e for e in stored.graph.initializer[0].external_data if e.key == "location")
    place.value = "../w.data"
    onnx.save(stored, folder / "f.onnx")
    with pytest.raises(OnnxError, match=r"f\.onnx: its weights in \.\./w\.data: \S") as caught:
        read_network(folder / "f.onnx")
    assert "\n" not in str(caught.value)
    place.value = "w.data"
    onnx.save(stored, folder / "f.onnx")
    with pytest.raises(OnnxError, match=r"its weights are in w\.data, which is missing beside it"):
        read_network(folder / "f.onnx")


def test_what_is_no_onnx_file_is_told_apart_from_what_is_missing(tmp_path: Path) -> None:
    file = tmp_path / "f.onnx"
    for content, said in ((None, "no such file"), (b"", "not an ONNX file: it states no version"),
                          (b"text\n", "not an ONNX file: ")):  # fmt: skip
        if content is not None:
            file.write_bytes(content)
        with pytest.raises(OnnxError, match=rf"f\.onnx: {said}"):
            read_network(file)


def test_what_onnx_says_of_weights_is_told_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise ValueError("\n no such tensor\nat line 3")

    external(bytes(64 * 10 * 4))(tmp_path / "f.onnx")
    monkeypatch.setattr(onnx, "load_external_data_for_model", fail)
    with pytest.raises(OnnxError, match=r"f\.onnx: its weights in w\.data: no such tensor$"):
        read_network(tmp_path / "f.onnx")
