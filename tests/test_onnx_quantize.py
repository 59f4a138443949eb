"""An int8 file is smaller and nearly as accurate as its float file, or it is not written.

The tests measure accuracy themselves, from the outputs of ONNX Runtime and Torch7's labels.
"""

from __future__ import annotations

import json
import re
from importlib import import_module
from pathlib import Path

import numpy as np
import onnx
import pytest
from support import FIXTURES
from torch import nn

from torchlift.cli.main import main
from torchlift.converters.errors import WriteError
from torchlift.converters.inference import Classifier
from torchlift.converters.onnx import OnnxError, check, export, quantize
from torchlift.converters.saved import SavedModel, open_model
from torchlift.transfer.data import read_dataset

DIGITS = FIXTURES / "digits"
DATA = read_dataset(DIGITS / "digits-test.t7")


@pytest.fixture(
    scope="module",
    params=["digits-lenet5-bn", pytest.param("digits-lenet5", marks=pytest.mark.slow)],
)
def exported(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple:
    model = open_model(
        DIGITS / f"{request.param}.t7",
        labels=DIGITS / "digits_classes.t7",
        mean_std=DIGITS / "digits_meanStd.t7",
    )
    path = tmp_path_factory.mktemp("exported") / "digits.onnx"
    export(model, path)
    return model, path


def accuracy(path: Path) -> float:
    return float((Classifier(path).probabilities(DATA.images).argmax(1) == DATA.classes).mean())


@pytest.mark.parametrize("dynamic", [False, True], ids=["static", "dynamic"])
def test_digits_in_int8(exported: tuple[SavedModel, Path], dynamic: bool, tmp_path: Path) -> None:
    model, path = exported
    steps: list[tuple[str, int, int]] = []
    written = quantize(
        path,
        tmp_path / "int8.onnx",
        DATA.images,
        classes=DATA.classes,
        dynamic=dynamic,
        progress=lambda *step: steps.append(step),
    )
    assert written.before == accuracy(path)
    assert written.after == accuracy(written.file)
    assert written.before - written.after <= 0.01
    assert written.bytes[1] == written.file.stat().st_size <= 0.4 * path.stat().st_size
    assert {name for name, _, _ in steps} >= {"float", "int8"}
    assert all(done <= total for _, done, total in steps)

    report = check(model, written.file, DATA.images, classes=DATA.classes, locate=True)
    assert report.passed, list(report.lines())
    assert report.profile == "int8"
    stored = onnx.load(written.file)
    scales = [t.dims for t in stored.graph.initializer if re.search(r"weight.*_scale$", t.name)]
    # Each channel has its own scale.
    assert all(dims and dims[0] > 1 for dims in scales)
    assert len(scales) == (3 if dynamic else 5)


@pytest.mark.parametrize("dynamic", [False, True], ids=["static", "dynamic"])
def test_a_changed_weight_is_found_in_int8(
    exported: tuple[SavedModel, Path], dynamic: bool, tmp_path: Path
) -> None:
    model, path = exported
    layer = next(name for name, t in model.module.state_dict().items() if t.shape == (84, 120))
    quantize(path, tmp_path / "int8.onnx", DATA.images, classes=DATA.classes, dynamic=dynamic)
    stored = onnx.load(tmp_path / "int8.onnx")
    name = re.compile(rf"{layer}.*_quantized")
    tensor = next(t for t in stored.graph.initializer if name.fullmatch(t.name))
    array = onnx.numpy_helper.to_array(tensor).copy()
    array[3, 4] += 3 if array[3, 4] < 0 else -3
    tensor.CopyFrom(onnx.numpy_helper.from_array(array, tensor.name))
    onnx.save(stored, tmp_path / "int8.onnx")
    report = check(model, tmp_path / "int8.onnx", DATA.images)
    assert [finding.name for finding in report.findings if not finding.passed] == ["weights"]


@pytest.fixture
def delicate(exported: tuple[SavedModel, Path], tmp_path: Path) -> Path:
    """A network with the same outputs, and two layers that 8 bits ruin.

    The first linear layer gives one feature 10,000 times as large as the others, which the second
    layer ignores: in 8 bits there are no steps left for the other features.
    """
    _, path = exported
    stored = onnx.load(path)
    gemms = [node for node in stored.graph.node if node.op_type == "Gemm"]
    arrays = {t.name: t for t in stored.graph.initializer}

    def change(name: str, index: object, value: float) -> None:
        array = onnx.numpy_helper.to_array(arrays[name]).copy()
        array[index] = value
        arrays[name].CopyFrom(onnx.numpy_helper.from_array(array, name))

    change(gemms[0].input[2], 0, 1e4)
    change(gemms[1].input[1], (slice(None), 0), 0.0)
    onnx.save(stored, tmp_path / "delicate.onnx")
    return tmp_path / "delicate.onnx"


def test_a_file_that_loses_too_much_is_not_written_and_the_layers_are_named(
    delicate: Path, tmp_path: Path
) -> None:
    fragile = [n.name for n in onnx.load(delicate).graph.node if n.op_type == "Gemm"][:2]
    target = tmp_path / "int8.onnx"
    with pytest.raises(
        OnnxError, match=r"by more than max_drop=0\.01: nothing was written"
    ) as caught:
        quantize(delicate, target, DATA.images, classes=DATA.classes)
    named = str(caught.value).split("lose the most: ")[1].split(";")[0].split(", ")
    assert set(named[:2]) == set(fragile)
    assert not target.exists()
    assert "keep=[…]" in str(caught.value)
    # On request or by search, these two and no other stay in float.
    requested = quantize(delicate, target, DATA.images, classes=DATA.classes, keep=fragile)
    searched = quantize(
        delicate, target, DATA.images, classes=DATA.classes, search=True, overwrite=True
    )
    assert set(searched.kept) == set(requested.kept) == set(fragile)
    assert accuracy(delicate) - accuracy(target) <= 0.01


@pytest.mark.parametrize(("count", "chosen"), [(10, [0, 3, 6, 9]), (3, [0, 1, 2])])
def test_ranges_are_measured_on_evenly_spread_examples(count: int, chosen: list[int]) -> None:
    """The first examples of a dataset are often of one class."""
    module = import_module("torchlift.converters.onnx.quantizer.trials")
    examples = module.Examples(np.zeros((count, 1, 2, 2)), None, None, 4, lambda *_: None)
    assert examples.sample.tolist() == chosen
    assert len(examples.all) == count


def test_over_its_own_input_the_size_of_the_float_file_is_told(
    exported: tuple[SavedModel, Path], tmp_path: Path
) -> None:
    target = tmp_path / "same.onnx"
    target.write_bytes(exported[1].read_bytes())
    written = quantize(target, target, DATA.images[:100], overwrite=True)
    assert written.bytes == (exported[1].stat().st_size, target.stat().st_size)
    assert written.bytes[1] < 0.5 * written.bytes[0]


def test_arguments_that_do_not_fit(exported: tuple[SavedModel, Path], tmp_path: Path) -> None:
    _, path = exported
    with pytest.raises(OnnxError, match="no layer nonsense: choose from node_"):
        quantize(path, tmp_path / "int8.onnx", DATA.images, keep=["nonsense"])
    with pytest.raises(OnnxError, match="3 classes were given for 500 examples"):
        quantize(path, tmp_path / "int8.onnx", DATA.images, classes=DATA.classes[:3])
    quantize(path, tmp_path / "int8.onnx", DATA.images[:64])
    with pytest.raises(OnnxError, match="is already int8"):
        quantize(tmp_path / "int8.onnx", tmp_path / "again.onnx", DATA.images)
    with pytest.raises(WriteError, match="already exists; overwrite=True"):
        quantize(path, tmp_path / "int8.onnx", DATA.images)


def test_the_command_writes_the_file_and_says_what_was_lost(
    exported: tuple[SavedModel, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _, path = exported
    target, data = tmp_path / "int8.onnx", str(DIGITS / "digits-test.t7")
    assert main(["quantize", str(path), str(target), "--data", data, "--json"]) == 0
    captured = capsys.readouterr()
    assert json.loads(captured.out)["accuracy"] == accuracy(target)
    assert captured.err == ""


def test_check_writes_its_report_beside_the_file(
    exported: tuple[SavedModel, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model, path = exported
    source = DIGITS / model.source.file
    names = ["--labels", str(DIGITS / "digits_classes.t7")]
    scale = ["--mean-std", str(DIGITS / "digits_meanStd.t7")]
    data = ["--data", str(DIGITS / "digits-test.t7"), "--examples", "50"]
    words = ["check", str(source), str(path), *names, *scale, *data, "--report", "--locate"]
    assert main(words) == 0, capsys.readouterr()
    values = json.loads(path.with_suffix(".check.json").read_text(encoding="utf-8"))
    assert values["passed"] is True
    assert values["compared_on"] == "data given (50)"
    text = path.with_suffix(".check.txt").read_text(encoding="utf-8")
    assert text.splitlines()[-1] == f"{path}: passed"
    chosen = np.linspace(0, 499, 50).astype(int)
    predicted = Classifier(path).probabilities(DATA.images[chosen]).argmax(1)
    assert f"{(predicted == DATA.classes[chosen]).mean():.4f} of the model" in text


def test_features_are_refused(tmp_path: Path) -> None:
    """The largest of the numbers of an embedding is no class, which labels could be compared to."""
    network = nn.Sequential(nn.Flatten(), nn.Linear(12, 5))
    export(network, tmp_path / "f.onnx", input_shape=(3, 2, 2), output_kind="features")
    inputs = np.random.default_rng(0).standard_normal((20, 3, 2, 2), np.float32)
    with pytest.raises(OnnxError, match="gives features, not classes"):
        quantize(tmp_path / "f.onnx", tmp_path / "q.onnx", inputs, classes=np.zeros(20, int))
    assert not (tmp_path / "q.onnx").exists()


def test_labels_of_another_model_do_not_judge(
    exported: tuple[SavedModel, Path], tmp_path: Path
) -> None:
    """The file would lose nothing of an accuracy of 0."""
    wrong = (DATA.classes[:100] + 1) % 10
    written = quantize(exported[1], tmp_path / "q.onnx", DATA.images[:100], classes=wrong)
    assert not written.labelled
    assert written.before == 1
    assert written.agreement == written.after
    assert "no better than chance" in written.notes[0]


def test_a_dynamic_file_says_that_it_depends_on_the_batch(
    exported: tuple[SavedModel, Path], tmp_path: Path
) -> None:
    _, path = exported
    for dynamic in (False, True):
        target = tmp_path / f"{dynamic}.onnx"
        written = quantize(path, target, DATA.images[:100], dynamic=dynamic)
        props = {prop.key: prop.value for prop in onnx.load(target).metadata_props}
        assert props.get("depends_on_batch") == ("true" if dynamic else None)
        assert any("other images of its batch" in note for note in written.notes) == dynamic


def test_the_scores_of_a_classifier_stay_in_float(
    exported: tuple[SavedModel, Path], tmp_path: Path
) -> None:
    """A range measured on a few images would cut larger scores."""
    _, path = exported
    quantize(path, tmp_path / "q.onnx", DATA.images[:100])
    nodes = onnx.load(tmp_path / "q.onnx").graph.node
    producers = {name: node for node in nodes for name in node.output}
    softmax = next(node for node in nodes if node.op_type == "LogSoftmax")
    assert producers[softmax.input[0]].op_type == "Gemm"
