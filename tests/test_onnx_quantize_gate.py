"""An int8 file is written only if it may be: how much is lost, of what, and which layers stay.

The trials of a graph are replaced: what is tested is the decision, not the quantizer.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from torch import nn

from torchlift.converters.onnx import OnnxError, export, quantize
from torchlift.converters.onnx.checker.report import Finding

MODULE = import_module("torchlift.converters.onnx.quantizer.trials")
INPUTS = np.random.default_rng(0).standard_normal((40, 1, 4, 4), np.float32)


def trial(lost: int, count: int = 100, findings: tuple[Finding, ...] = ()) -> object:
    """Return a graph that is right for so many examples fewer than the float file."""
    model = onnx.helper.make_model(onnx.helper.make_graph([], "trial", [], []))
    return MODULE.Trial(model, 1.0, 1 - lost / count, 1.0, lost, count, [*findings])


@pytest.mark.parametrize(
    ("lost", "count", "max_drop", "passes"),
    # 0.07 · 100 is 7.000000000000001 in floating point, and 0.29 · 100 is 28.999999999999996.
    [
        *((0, 100, 0, True), (1, 100, 0, False), (7, 100, 0.07, True), (29, 100, 0.29, True)),
        *((8, 100, 0.07, False), (30, 100, 0.29, False)),
    ],
)
def test_exactly_what_is_allowed_may_be_lost(
    lost: int, count: int, max_drop: float, passes: bool
) -> None:
    assert (trial(lost, count).problem(max_drop) == "") == passes


def test_answers_that_differ_are_a_problem_whatever_the_accuracy() -> None:
    findings = (Finding("top-1", True, "fine"), Finding("outputs", False, "far off"))
    problem = trial(0, findings=findings).problem(1)
    assert problem == "the answers are not the float file's (outputs: far off)"


def test_the_answers_of_the_graph_are_those_that_are_judged(
    float_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same classes, but scores twice as large: none is lost, and nothing is written."""
    monkeypatch.setattr(MODULE.Int8Trials, "_scores", lambda trials, *_: trials._float_scores * 2)
    with pytest.raises(OnnxError, match=r"largest error 1\.0e\+00 .* allowed \((?!0 of)\d+ of 160"):
        quantize(float_file, tmp_path / "q.onnx", INPUTS, dynamic=True)
    assert not [*tmp_path.iterdir()]


@pytest.mark.parametrize(("right", "is_labelled"), [(10, False), (11, True), (0, False)])
def test_classes_that_are_right_by_chance_are_not_those_of_the_model(
    right: int, is_labelled: bool
) -> None:
    """Of four classes a quarter is chance: the labels are another model's, or in another order."""
    scores = np.tile(np.float32([[1, 0, 0, 0]]), (40, 1))
    examples: Any = SimpleNamespace(all=np.arange(40), scores=lambda *_: scores)
    classes = np.where(np.arange(40) < right, 0, 1)
    trials = MODULE.Int8Trials(Path("f.onnx"), onnx.ModelProto(), examples, classes, False)
    assert trials.is_labelled is is_labelled
    assert ("no better than chance" in " ".join(trials.notes)) is not is_labelled
    # Without its own labels the file's predictions are the measure, and all of one class.
    assert ("of 1 of 4 classes" in " ".join(trials.notes)) is not is_labelled


def test_layers_are_ranked_by_what_each_one_alone_changes_on_average(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    changes = {"a": [10.0, 0, 0, 0], "b": [4.0, 4, 4, 4], "c": [0.0, 0, 0, 1]}
    monkeypatch.setattr(MODULE, "layers_of", lambda _: [*changes])
    trials = object.__new__(MODULE.Int8Trials)
    zeros = np.zeros((1, 4))
    trials._examples = SimpleNamespace(sample=np.arange(1), scores=lambda *_: zeros)
    trials._file, trials._model = Path("f.onnx"), onnx.ModelProto()
    monkeypatch.setattr(MODULE.Int8Trials, "_quantized", lambda _, keep: keep)

    def scores(_: object, keep: Sequence[str], *__: object) -> np.ndarray:
        (alone,) = set(changes) - set(keep)
        return -np.array([changes[alone]])

    monkeypatch.setattr(MODULE.Int8Trials, "_scores", scores)
    assert trials.rank(["a", "b", "c"]) == ["b", "a", "c"]
    assert trials.rank(["c", "a"]) == ["a", "c"]


@pytest.fixture(scope="module")
def float_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    network = nn.Sequential(
        *(nn.Flatten(), nn.Linear(16, 8), nn.ReLU(), nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 4))
    )
    path = tmp_path_factory.mktemp("float") / "float.onnx"
    export(network, path, input_shape=(1, 4, 4))
    return path


def layers(file: Path) -> list[str]:
    return [node.name for node in onnx.load(file).graph.node if node.op_type == "Gemm"]


@pytest.fixture
def tried(float_file: Path, monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """Replace the trials: one passes if it keeps the layers in `NEEDED`; return what each keeps."""
    kept: list[list[str]] = []

    def quantized(_: object, keep: Sequence[str]) -> object:
        kept.append([*keep])
        return trial(0 if set(NEEDED) <= set(keep) else 50)

    def ranked(_: object, names: Sequence[str]) -> list[str]:
        return [*reversed(names)]

    monkeypatch.setattr(MODULE.Int8Trials, "quantize", quantized)
    monkeypatch.setattr(MODULE.Int8Trials, "rank", ranked)
    monkeypatch.setattr(MODULE.Int8Trials, "calibrate", lambda *_: None)
    NEEDED[:] = layers(float_file)[2:]
    return kept


NEEDED: list[str] = []


def test_the_search_keeps_the_worst_layers_first_and_no_more_than_needed(
    float_file: Path, tried: list[list[str]], tmp_path: Path
) -> None:
    _, second, third = layers(float_file)
    found = quantize(float_file, tmp_path / "q.onnx", INPUTS, search=True)
    assert (tried, found.kept) == ([[], [third]], [third])
    tried.clear()
    NEEDED[:] = [second]
    found = quantize(float_file, tmp_path / "r.onnx", INPUTS, search=True, keep=[third])
    # A layer that is kept on request is not ranked again.
    assert (tried, found.kept) == ([[third], [third, second]], [third, second])


@pytest.mark.parametrize("solved", [False, True])
def test_a_file_with_every_layer_in_float_is_not_written(
    float_file: Path, tried: list[list[str]], solved: bool, tmp_path: Path
) -> None:
    """Even if it were as accurate: it would be no int8 file."""
    NEEDED[:] = layers(float_file) if solved else ["another"]
    with pytest.raises(OnnxError, match="every layer loses too much accuracy in int8: nothing was"):
        quantize(float_file, tmp_path / "q.onnx", INPUTS, search=True)
    assert len(tried) == 4
    assert not [*tmp_path.iterdir()]


def test_the_layers_that_lose_most_are_named_and_nothing_is_written(
    float_file: Path, tried: list[list[str]], tmp_path: Path
) -> None:
    first, second, third = layers(float_file)
    with pytest.raises(OnnxError, match=f"Of 3 layers these lose the most: {third}, {second}, "):
        quantize(float_file, tmp_path / "q.onnx", INPUTS)
    NEEDED[:] = ["another"]
    with pytest.raises(OnnxError, match=f"lose the most: {second}, {first};"):
        quantize(float_file, tmp_path / "q.onnx", INPUTS, keep=[third], max_drop=0.1)
    assert not [*tmp_path.iterdir()]


def test_a_layer_that_is_kept_is_not_quantized(float_file: Path, tmp_path: Path) -> None:
    """Both ways, with the real quantizer: its weight is in the file as it was."""
    first = layers(float_file)[0]
    graph = onnx.load(float_file).graph
    name = next(node for node in graph.node if node.name == first).input[1]
    weight = next(onnx.numpy_helper.to_array(t) for t in graph.initializer if t.name == name)
    for dynamic in (False, True):
        target = tmp_path / f"{dynamic}.onnx"
        found = quantize(float_file, target, INPUTS, keep=[first], dynamic=dynamic, max_drop=1)
        assert (found.kept, found.layers) == ([first], 3)
        model = onnx.load(target)
        stored = {t.name: onnx.numpy_helper.to_array(t) for t in model.graph.initializer}
        floats = [t for t in stored.values() if t.dtype == np.float32 and t.ndim == 2]
        assert len(floats) == 1
        # The dynamic quantizer turns every Gemm into a MatMul, whose weight is transposed.
        np.testing.assert_array_equal(floats[0], weight.T if dynamic else weight)
        weights = [t for t in stored.values() if t.dtype == np.int8 and t.ndim == 2]
        assert len(weights) == 2
        # Metadata and versions are those of the float file.
        assert model.ir_version == 8
        assert model.producer_name == "torchlift"
        props = {prop.key: prop.value for prop in model.metadata_props}
        assert json.loads(props["precision"]) == "int8"
        assert json.loads(props["output_kind"]) == "logits"
        used = {name for node in model.graph.node for name in node.input}
        assert set(stored) <= used
