"""Values that pass for others until late: each is refused, or said, where it is first seen."""

from __future__ import annotations

import math
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from torch import nn

from torchlift.cli.result import table
from torchlift.cli.terminal import console
from torchlift.converters.errors import LabelsError, NotFiniteError, TorchliftError, WriteError
from torchlift.converters.inference import Classifier, InferenceError, TorchPredictor
from torchlift.converters.inference.providers import Session, nodes_by_provider
from torchlift.converters.labels import check_labels, labels_from
from torchlift.converters.modules.finite import require_finite_parameters
from torchlift.converters.onnx import OnnxError, describe_file
from torchlift.converters.overwriting import FolderKind, foreign_entries
from torchlift.converters.saved import SavedModel
from torchlift.converters.validation import text
from torchlift.transfer.data.augmentation import Augmentation, draw
from torchlift.transfer.errors import DataError, TrainingError
from torchlift.transfer.plots.tensors import weights_of_file
from torchlift.transfer.training.options import Optimization


@pytest.mark.parametrize("label", ["cat\ud800", "\udfff"])
def test_half_a_surrogate_pair_is_no_label(label: str) -> None:
    """JSON can spell it, and no file can hold it."""
    with pytest.raises(UnicodeEncodeError):
        label.encode("utf-8")
    with pytest.raises(ValueError, match="whole Unicode characters was expected"):
        text(label, "labels[0]")
    for refuse in (labels_from, lambda labels: check_labels(labels, 2)):
        with pytest.raises(LabelsError, match=r"class 2 is .* no Unicode text"):
            refuse(["dog", label])  # type: ignore[operator]  # both take a list


def test_an_empty_onnx_file_is_none(tmp_path: Path) -> None:
    """Protobuf reads it as a message without entries."""
    file = tmp_path / "e.onnx"
    file.touch()
    assert onnx.load(file).ir_version == 0
    for read in (describe_file, weights_of_file):
        with pytest.raises(OnnxError, match="not an ONNX file"):
            read(file)


@pytest.mark.parametrize(("padding", "fits"), [(0, True), (6, True), (7, False), (10**8, False)])
def test_a_crop_padding_beyond_the_images_is_refused(padding: int, fits: bool) -> None:
    pixels, numbers = torch.zeros(2, 1, 4, 6, dtype=torch.uint8), draw(0, 1, 2)
    augment = Augmentation(crop_padding=padding)
    if fits:
        assert augment(pixels, numbers).shape == pixels.shape
    else:
        with pytest.raises(DataError, match="at most the larger side of the images, 6"):
            augment(pixels, numbers)


@pytest.mark.parametrize("model", [None, 5, b"x", nn.Flatten()])
def test_a_classifier_of_no_model_is_refused(model: Any) -> None:
    with pytest.raises(InferenceError, match="the name of a file or folder, or a Predictor"):
        Classifier(model)


@pytest.mark.parametrize("change", ["missing", "cut"])
def test_weights_missing_beside_an_onnx_file_are_named(change: str, tmp_path: Path) -> None:
    file = tmp_path / "m.onnx"
    value = onnx.helper.make_tensor_value_info
    graph = onnx.helper.make_graph(
        [onnx.helper.make_node("MatMul", ["x", "w"], ["y"])],
        "product",
        [value("x", onnx.TensorProto.FLOAT, ["batch", 3])],
        [value("y", onnx.TensorProto.FLOAT, ["batch", 2])],
        [onnx.numpy_helper.from_array(np.ones((3, 2), np.float32), "w")],
    )
    opsets = [onnx.helper.make_opsetid("", 18)]
    model = onnx.helper.make_model(graph, ir_version=8, opset_imports=opsets)
    onnx.save(model, file, save_as_external_data=True, location="m.bin", size_threshold=0)
    weights = tmp_path / "m.bin"
    assert len(Classifier(file, "cpu")(np.ones((2, 3), np.float32))) == 2
    if change == "missing":
        weights.unlink()
    else:
        weights.write_bytes(weights.read_bytes()[:8])
    with pytest.raises(TorchliftError, match=r"m\.onnx: its weights .*m\.bin.*(missing|cut)"):
        Classifier(file, "cpu")


@pytest.mark.parametrize("name", ["lr", "weight_decay", "clip_norm", "step_factor"])
@pytest.mark.parametrize("value", [math.inf, math.nan])
def test_options_are_finite(name: str, value: float) -> None:
    options: dict[str, Any] = {name: value}
    with pytest.raises(TrainingError, match=f"{name}=.* must be finite"):
        Optimization(**options)


def test_a_negative_variance_is_damage() -> None:
    """Not if the layer's eps covers it: Torch7 computes with that too."""
    layer = nn.BatchNorm2d(2, eps=1e-3)
    assert layer.running_var is not None
    layer.running_var[1] = -1e-4
    require_finite_parameters(nn.Sequential(layer))
    layer.running_var[1] = -0.5
    with pytest.raises(NotFiniteError, match=r"0\.running_var reaches -0\.5"):
        require_finite_parameters(nn.Sequential(layer))


@pytest.mark.parametrize(
    ("inputs", "problem"),
    [
        (np.ones((1, 3, 1, 1), complex), "type complex128; real numbers"),
        (np.full((1, 3, 1, 1), -1e300), r"reach 1e\+300, which is beyond float32"),
    ],
)
def test_inputs_that_no_network_takes_are_refused(inputs: np.ndarray, problem: str) -> None:
    network = nn.Sequential(nn.Flatten(), nn.Linear(3, 2))
    predictor = TorchPredictor(SavedModel(network, "logits", (3, 1, 1)), "cpu")
    with pytest.raises(InferenceError, match=problem):
        Classifier(predictor).predict_inputs(inputs)


@pytest.mark.parametrize(
    ("name", "content", "foreign"),
    [
        ("._a.txt", b"\0\5\x16\7 of macOS", False),
        ("._a.txt", b"my notes", True),
        (".torchlift-notes", b"mine", True),
        (".DS_Store", b"", False),
    ],
)
def test_only_the_clutter_of_file_managers_is_replaced(
    name: str, content: bytes, foreign: bool, tmp_path: Path
) -> None:
    (tmp_path / name).write_bytes(content)
    kind = FolderKind("a diary", Path.is_dir, re.compile("a.txt"))
    assert foreign_entries(tmp_path, kind) == ([name] if foreign else [])


@pytest.mark.parametrize("name", ["._mine", ".torchlift-mine"])
def test_folders_are_no_clutter(name: str, tmp_path: Path) -> None:
    (tmp_path / name).mkdir()
    (tmp_path / name / "notes.txt").touch()
    kind = FolderKind("a diary", Path.is_dir, re.compile("a.txt"))
    assert name in {found.partition("/")[0] for found in foreign_entries(tmp_path, kind)}


def test_targets_of_a_report_are_looked_at_before_the_check(tmp_path: Path) -> None:
    from torchlift.converters.onnx.checker.report import check_report_targets

    (tmp_path / "m.check.txt").write_text("mine")
    with pytest.raises(WriteError, match="not the report of a check"):
        check_report_targets(tmp_path / "m.onnx")


def test_a_row_of_a_table_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    view = table("class", "images")
    view.add_row("black\nswan", "5")
    view.add_row("x" * 5000, "6")
    page = console()
    page.width = 400
    page.print(view)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 3
    assert lines[1].split() == [r"black\nswan", "5"]


def test_a_shape_of_too_many_dimensions_is_refused() -> None:
    from torchlift.converters.modules import convert
    from torchlift.converters.modules.errors import ConversionError
    from torchlift.converters.t7 import LuaObject, LuaTable

    for name in ("nn.View", "nn.Reshape"):
        source = LuaObject(name, LuaTable({"size": np.ones(300_000, np.int64)}))
        with pytest.raises(ConversionError, match="300,000 dimensions; PyTorch has at most 64"):
            convert(source)


def test_a_record_of_nodes_that_a_full_disk_cut_is_an_error(tmp_path: Path) -> None:
    """ONNX Runtime writes it without a word about what did not fit."""
    cut = tmp_path / "profile.json"
    cut.write_text('[{"cat": "Node", "name": "Co', encoding="utf-8")
    runtime: Any = SimpleNamespace(end_profiling=lambda: str(cut))
    with pytest.raises(WriteError, match=r"profile\.json: .* is cut: is the disk full"):
        nodes_by_provider(Session(runtime, "CPUExecutionProvider"))
