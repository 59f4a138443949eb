"""What the parts of `check` are given that depends on the file: its batch axes, its arithmetic."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx_ir
import pytest
import torch
from onnx_check_support import failed
from test_onnx_check_rules import checking, flat
from torch import nn

from torchlift.converters.onnx import check, export
from torchlift.converters.onnx.checker import reference, runtime_checks
from torchlift.converters.onnx.checker.batch_results import BatchResults
from torchlift.converters.onnx.checker.check_inputs import CheckBatch
from torchlift.converters.onnx.checker.report import Finding
from torchlift.converters.onnx.exporter import tracing
from torchlift.converters.onnx.exporter.optimizer import optimize
from torchlift.converters.saved import SavedModel

PASSED = Finding("part", True, "")


@pytest.fixture
def edge_cases(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Leave out what takes a trace; return what the edge cases are given."""
    found: dict[str, Any] = {}

    def record(*_: Any, **options: Any) -> Finding:
        found.update(options)
        return PASSED

    monkeypatch.setattr(checking, "check_edge_cases", record)
    monkeypatch.setattr(checking, "check_reference", lambda *_: [])
    return found


def test_edge_cases_can_ask_the_model_in_double_precision(
    edge_cases: dict[str, Any], tmp_path: Path
) -> None:
    check(*flat(tmp_path / "f.onnx", ["batch", 5]))
    values = np.array([[-1.0, 2, 3, 4, 5], [5, 4, 3, 2, -1]])
    (output,) = edge_cases["in_float64"](values)
    assert output.dtype == np.float64
    assert np.array_equal(output, np.maximum(values, 0))


@pytest.mark.usefixtures("edge_cases")
@pytest.mark.parametrize(("axes", "axis"), [(["batch", 5], 0), ([4, "batch", 5], 1)])
def test_whether_outputs_vary_is_asked_of_the_examples_wherever_the_batch_is(
    axes: list[Any], axis: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    noted: list[Any] = []
    monkeypatch.setattr(BatchResults, "note_variation", lambda _, *both: noted.append(both))
    size = [4, 5] if axis else [5]
    numbers = np.abs(np.random.default_rng(0).standard_normal((10, *size), np.float32))
    check(*flat(tmp_path / "f.onnx", axes), np.moveaxis(numbers, 0, axis))
    # The numbers are positive, so that a ReLU leaves them.
    starts = [0, 1, 3, 10]
    for (inputs, outputs), start, stop in zip(noted, starts[:-1], starts[1:], strict=True):
        assert np.array_equal(inputs[0], numbers[start:stop])
        assert np.array_equal(outputs[0], numbers[start:stop])


def test_a_normalization_without_weights_is_part_of_the_layer_before_it(tmp_path: Path) -> None:
    """Its ones and zeros are as many as the layer's output has columns, whatever its batch."""
    norm = nn.BatchNorm1d(3, affine=False)
    norm.running_mean, norm.running_var = torch.tensor([1.0, -1, 2]), torch.tensor([0.5, 2, 3])
    model = SavedModel(nn.Sequential(nn.Linear(5, 3), norm).eval(), "features")
    examples = torch.randn(4, 5, generator=torch.Generator().manual_seed(0))
    export(model, tmp_path / "n.onnx", inputs=examples)
    report = check(model, tmp_path / "n.onnx", inputs=examples)
    assert report.passed, "\n".join(report.lines())
    (weights,) = [finding for finding in report.findings if finding.name == "weights"]
    assert weights.text.startswith("18 of 18 numbers")


def test_a_fault_of_the_optimizer_is_not_found_right_by_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Weights are compared with the module's own, though names and shapes are the optimizer's."""

    def faulty(model: onnx_ir.Model) -> dict[str, str]:
        names = optimize(model)
        for value in model.graph.initializers.values():
            assert value.const_value is not None
            value.const_value = onnx_ir.tensor(value.const_value.numpy() * np.float32(1.01))
        return names

    monkeypatch.setattr(tracing, "optimize", faulty)
    monkeypatch.setattr(reference, "optimize", faulty)
    model = SavedModel(nn.Linear(5, 3), "features")
    export(model, tmp_path / "n.onnx", inputs=torch.ones(2, 5))
    assert "weights" in failed(check(model, tmp_path / "n.onnx", inputs=torch.ones(2, 5)))


@pytest.mark.usefixtures("edge_cases")
def test_nothing_is_left_where_a_check_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """ONNX Runtime writes which nodes it ran into a file of its own."""
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    assert "run" not in failed(check(*flat(tmp_path / "f.onnx", ["batch", 5])))
    assert not list((tmp_path / "here").iterdir())
    assert [entry.name for entry in tmp_path.iterdir() if entry.is_file()] == ["f.onnx"]


def test_a_runtime_is_asked_for_all_outputs_in_the_order_of_the_file() -> None:
    asked: list[list[str]] = []
    outputs = [np.zeros((1, 2)), np.ones((1, 3))]

    def run(_: object, names: list[str]) -> list[np.ndarray]:
        asked.append(names)
        return outputs

    graph = SimpleNamespace(output=[SimpleNamespace(name=name) for name in ("z", "a")])
    pair: Any = SimpleNamespace(is_foreign=False, onnx_model=SimpleNamespace(graph=graph))
    case: Any = SimpleNamespace(feeds={}, expected=outputs)
    session: Any = SimpleNamespace(run=run)
    assert runtime_checks._outputs(pair, session, case) is outputs
    assert asked == [["z", "a"]]


def test_a_runtime_gets_what_the_file_takes_and_is_compared_with_what_the_model_does() -> None:
    """Each has its own preprocessing."""
    graph = SimpleNamespace(node=[SimpleNamespace(input=["x"])])
    pair: Any = SimpleNamespace(
        takes_image=False,
        onnx_model=SimpleNamespace(graph=graph),
        file_inputs=lambda array: {"x": array, "unused": array},
    )
    of_model, of_file = np.ones((2, 3), np.float32), np.full((2, 3), 7, np.float32)
    batch = CheckBatch(np.arange(2), of_model, of_file, is_real=True)
    (case,) = runtime_checks._Cases(pair, nn.Identity(), [batch], [])
    assert [*case.feeds] == ["x"]
    assert case.feeds["x"] is of_file
    assert np.array_equal(case.expected[0], of_model)
