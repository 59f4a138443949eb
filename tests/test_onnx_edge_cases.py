"""The exported file computes what the module does where noise does not show it.

The files of `fixtures/fuzz` were written by Torch7: module, input and output. The exporter's own
optimizer loses constants; with it, each file must fail the check.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnxscript.optimizer import optimize_ir
from support import FIXTURES
from torch import nn

from torchlift.converters import convert, t7
from torchlift.converters.inference.errors import ModelInputError
from torchlift.converters.modules.layers.normalization import Normalize
from torchlift.converters.onnx import check, export
from torchlift.converters.onnx.checker.check_inputs import CheckBatch
from torchlift.converters.onnx.checker.edge_cases import (
    _KINDS,
    _SCALES,
    _batches,
    check_edge_cases,
)
from torchlift.converters.onnx.exporter import tracing
from torchlift.converters.saved import SavedModel

CASES = sorted((FIXTURES / "fuzz").glob("onnx_*.t7"))


def model_of(file: Path) -> tuple[SavedModel, torch.Tensor, torch.Tensor]:
    case = t7.load(file)
    module = convert(case["module"])
    inputs, output = t7.to_torch(case["input"]), t7.to_torch(case["output"])
    return SavedModel(module, "features"), inputs.float(), output.float()


@pytest.mark.parametrize(
    "name",
    [
        *("onnx_squeeze_of_no_one", "onnx_k_max_ties", "onnx_log_sigmoid_saturated"),
        *("onnx_dilated_max_empty_window", "onnx_double_without_parameters"),
    ],
)
def test_the_file_runs_and_computes_torch7s_output(name: str, tmp_path: Path) -> None:
    """What a layer does otherwise in an export, because ONNX has no operator for it as it is."""
    model, inputs, output = model_of(FIXTURES / "fuzz" / f"{name}.t7")
    computes(model, inputs, output, tmp_path / "model.onnx")


def computes(model: SavedModel, inputs: torch.Tensor, output: torch.Tensor, path: Path) -> None:
    """Check that the exported file of a model has an output, in single precision."""
    export(model, path, inputs=inputs)
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    (actual,) = session.run(None, {session.get_inputs()[0].name: inputs.numpy()})
    np.testing.assert_allclose(actual, output, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("file", CASES, ids=lambda file: file.stem)
def test_the_file_of_every_case_passes_its_check(file: Path, tmp_path: Path) -> None:
    model, inputs, output = model_of(file)
    path = tmp_path / "model.onnx"
    computes(model, inputs, output, path)
    report = check(model, path, inputs.numpy())
    # Some give the same for every input, on which `check` does not rely.
    failed = {finding.name for finding in report.findings if not finding.passed}
    assert failed <= {"input"}, list(report.lines())


@pytest.mark.parametrize(
    "name",
    [
        *("onnx_normalize_zero_row", "onnx_normalize_3_zero_row", "onnx_embedding_after_relu"),
        *("onnx_layer_normalization_constant_row", "onnx_cosine_distance_zero"),
    ],
)
def test_the_check_fails_a_file_that_lost_its_eps(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without data: the edge cases alone must show it."""
    model, inputs, _ = model_of(FIXTURES / "fuzz" / f"{name}.t7")
    monkeypatch.setattr(tracing, "optimize", optimize_ir)
    export(model, tmp_path / "model.onnx", inputs=inputs)
    report = check(model, tmp_path / "model.onnx")
    assert "edge_cases" in [finding.name for finding in report.findings if not finding.passed]


@pytest.mark.parametrize("eps", [1e-12, 1e-10, 1e-8, 3e-7])
def test_every_eps_is_in_the_graph(eps: float, tmp_path: Path) -> None:
    network = nn.Sequential(nn.Linear(3, 3), Normalize(2, eps))
    export(network, tmp_path / "model.onnx", inputs=torch.zeros(2, 3))
    assert np.float32(eps) in constants(tmp_path / "model.onnx")


@pytest.mark.parametrize("factor", [1.000002, 0.999998])
def test_a_factor_close_to_one_is_in_the_graph(factor: float, tmp_path: Path) -> None:
    source = t7.LuaObject("nn.MulConstant", t7.LuaTable({"constant_scalar": factor}))
    export(convert(source), tmp_path / "model.onnx", inputs=torch.ones(2, 3))
    assert np.float32(factor) in constants(tmp_path / "model.onnx")


def constants(file: Path) -> list[Any]:
    """Return the scalars among the constants of a graph."""
    arrays = map(onnx.numpy_helper.to_array, onnx.load(file).graph.initializer)
    return [array.item() for array in arrays if array.size == 1]


def test_a_sigmoid_of_huge_values_is_as_exact_as_float32(tmp_path: Path) -> None:
    """Differences of huge values are rounding, which no two runtimes have alike."""
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(64, 64), nn.PReLU(), nn.Linear(64, 4000), nn.Sigmoid())
    export(network, tmp_path / "model.onnx", input_shape=(64,))
    report = check(network, tmp_path / "model.onnx")
    assert report.passed, list(report.lines())
    # Another bias, which huge values hide, shows at others.
    with torch.no_grad():
        network[2].bias += 0.01
    failed = [f.name for f in check(network, tmp_path / "model.onnx").findings if not f.passed]
    assert "edge_cases" in failed


def outputs_of(file: Any, exact: Any) -> Any:
    """Check a file against a model, both given by their functions, on edge cases."""

    def run_both(batch: CheckBatch) -> list[tuple[np.ndarray, np.ndarray]]:
        return [(exact(batch.model).astype(np.float32), file(batch.model).astype(np.float32))]

    example = np.zeros((2, 64), np.float32)
    return check_edge_cases(
        example, run_both, 1e-4, False, 0, in_float64=lambda inputs: [exact(inputs)]
    )


def test_what_equal_values_leave_after_a_sum_is_no_fault_and_another_index_is_one() -> None:
    """A deviation of equal values divides what another order of summation leaves."""

    def normalized(values: np.ndarray, shift: float = 0.0) -> np.ndarray:
        centered = values - values.mean(1, keepdims=True, dtype=np.float64) + shift
        return centered / np.sqrt((centered**2).mean(1, keepdims=True) + 1e-5)

    assert outputs_of(lambda values: normalized(values, 1e-6), normalized).passed
    # As much as the last digits may not, and a rule that takes the last of equals.
    found = outputs_of(lambda values: normalized(values, 5e-5), normalized)
    assert "on zeros an error" in found.text
    found = outputs_of(lambda values: 63 - values[:, ::-1].argmax(1), lambda v: v.argmax(1))
    assert "on zeros an error" in found.text


def test_every_kind_of_edge_case_is_run_in_the_shape_and_dtype_of_the_inputs() -> None:
    """One input, and indices that stay as they are, where the batch is behind the first axis."""
    batches: list[Any] = []

    def run_both(batch: CheckBatch) -> list[tuple[np.ndarray, np.ndarray]]:
        batches.append(batch.model)
        assert not batch.is_real
        return [(np.zeros(1), np.zeros(1))]

    example = [np.zeros((2, 5)), np.array([[3, 4]])]
    found = check_edge_cases(example, run_both, 1e-4, scales=True, seed=9, batch_axes=[0, 1])
    assert found.passed
    noise, zeros, ones, constant, negative, positive, ties = batches[0][0]
    assert len(set(noise)) == 5
    assert abs(noise).max() < 5
    assert (zeros == 0).all()
    assert (ones == 1).all()
    assert (constant == -0.5).all()
    assert (negative < 0).all()
    assert positive.min() == 0 < positive.max() < 5
    assert (ties == ties.round()).all()
    assert len({*ties}) > 1
    tiny, huge = (batch[0] for batch in batches[1:])
    assert (tiny.shape, huge.shape) == ((2, 5), (2, 5))
    assert 0 < abs(tiny).max() < 5e-6
    assert 1e5 < abs(huge).max() < 5e6
    assert {array.dtype for batch in batches for array in batch[:1]} == {np.dtype(np.float64)}
    indices = [batch[1].tolist() for batch in batches]
    assert indices == [[[3, 4, 3, 4, 3, 4, 3]], [[3, 4]], [[3, 4]]]


@pytest.mark.parametrize("scales", [True, False])
def test_inputs_are_scaled_only_where_the_network_takes_numbers(scales: bool) -> None:
    """Bytes and whole numbers have no other scale."""
    example = np.zeros((1, 3, 4, 4), np.float32)
    kinds = [names for names, _ in _batches(example, [0], scales, np.random.default_rng(0))]
    assert kinds[0] == [name for name, _ in _KINDS]
    assert kinds[1:] == ([[f"noise of {scale:g}"] * 2 for scale in _SCALES] if scales else [])


def test_rounding_is_unknown_where_a_model_takes_no_doubles() -> None:
    """A layer may keep a dtype of its own: then no error is explained, and none is hidden."""

    def refuse(inputs: Any) -> list[np.ndarray]:
        raise ModelInputError("expected Float but found Double")

    def run_both(batch: CheckBatch) -> list[tuple[np.ndarray, np.ndarray]]:
        outputs = np.tanh(batch.model)
        return [(outputs, outputs + np.float32(off))]

    example = np.zeros((2, 5), np.float32)
    for off in (1e-5, 1e-3):
        found = check_edge_cases(example, run_both, 1e-4, False, 0, in_float64=refuse)
        assert found.passed is (off == 1e-5), found.text


def test_infinity_and_nan_of_the_file_alone_are_a_fault_and_those_of_the_model_are_none() -> None:
    example = np.zeros((2, 5), np.float32)
    both_values = ((0, np.inf), (0, -np.inf), (0, np.nan), (np.inf, 0), (np.nan, np.inf))
    for model, file in both_values:

        def run_both(batch: CheckBatch, both: Any = (model, file)) -> Any:
            outputs = [np.ones_like(batch.model) for _ in both]
            for output, value in zip(outputs, both, strict=True):
                output[1, 2] = value
            return [tuple(outputs)]

        found = check_edge_cases(example, run_both, 1e-4, False, 0)
        assert found.passed is (model != 0)
        lost = "on zeros the file has NaN or infinity where the model has none"
        assert found.passed or found.text == lost


def rounded(
    own: dict[int, float], off: dict[int, float], size: float = 1.0, tolerance: float = 1e-4
) -> Any:
    """Return the finding on a constant: the model's own rounding and the file's error, by row."""

    def add(outputs: np.ndarray, rows: dict[int, float]) -> np.ndarray:
        for row, amount in rows.items():
            outputs[row, 0] += amount
        return outputs

    def run_both(batch: CheckBatch) -> list[tuple[np.ndarray, np.ndarray]]:
        outputs = add(np.full(batch.model.shape, size), own)
        return [(outputs, add(outputs.copy(), off))]

    def exact(inputs: Any) -> list[np.ndarray]:
        return [np.full(inputs.shape, size)]

    example = np.zeros((2, 5), np.float32)
    return check_edge_cases(example, run_both, tolerance, False, 0, in_float64=exact)


@pytest.mark.parametrize(("size", "times", "passes"), [
    (1.0, 7.9, True), (1.0, 8.1, False), (4.0, 7.9, True), (4.0, 8.1, False),
])  # fmt: skip
def test_eight_times_the_rounding_of_the_model_on_such_inputs_is_allowed(
    size: float, times: float, passes: bool
) -> None:
    found = rounded({1: -size / 2**10}, {1: times * size / 2**10}, size)
    assert found.passed is passes, found.text
    if passes:
        error, allowed = f"{times / 2**10:.1e}", f"{8 / 2**10:.1e}"
        # It is told apart, and is not the largest error of the others.
        assert found.text.endswith(
            f"largest error 0.0e+00 of the largest output; on zeros {error}, where rounding may "
            f"move {allowed}"
        )


def test_a_tolerance_of_0_allows_no_rounding() -> None:
    assert rounded({1: 0.01}, {1: 0.01}).passed
    assert rounded({1: 0.01}, {}, tolerance=0).passed
    found = rounded({1: 0.01}, {1: 0.01}, tolerance=0)
    assert (found.passed, "0 allowed" in found.text) == (False, True)


def test_rounding_on_other_inputs_explains_nothing() -> None:
    assert rounded({1: 0.01}, {1: 0.05}).passed
    found = rounded({1: 0.01}, {2: 0.05})
    assert not found.passed
    assert "on ones an error" in found.text


@pytest.mark.parametrize(
    ("second_off", "third_off", "problem"),
    [
        (7e-3, 0.01, ""),
        (9.5e-3, 0.01, "on noise an error of 9.5e-03"),
        (7e-3, 0.05, "on ones an error of 5.0e-02"),
    ],
)
def test_each_output_has_its_own_rounding_and_the_largest_error_of_all_is_told(
    second_off: float, third_off: float, problem: str
) -> None:
    """The first is off by little, the second is rounded in the model, the third moves with x."""

    def exact(inputs: Any) -> list[np.ndarray]:
        ones = np.ones(inputs.shape)
        # By 1e4 · |cos 1e4| · 32 · 2⁻²³ = 0.036 with the last digits of 1.
        return [2 * ones, ones, np.sin(1e4 * np.asarray(inputs, np.float64))]

    def run_both(batch: CheckBatch) -> list[tuple[np.ndarray, np.ndarray]]:
        first, second, third = exact(batch.model)
        second += 1e-3
        off = third_off * (batch.model == 1)
        return [(first, first + 1e-4), (second, second + second_off), (third, third + off)]

    example = np.zeros((2, 5), np.float32)
    found = check_edge_cases(example, run_both, 1e-4, False, 0, in_float64=exact)
    assert found.passed is (not problem), found.text
    assert problem in found.text
    if not problem:
        assert "largest error 5.0e-05 of the largest output; on noise 7.0e-03, where" in found.text
        assert "on ones 1.0e-02, where rounding may move 3." in found.text


@pytest.mark.parametrize(("off", "problem"), [(0.5, "an error of"), (np.nan, "the file has NaN")])
def test_rows_that_are_steps_of_examples_are_of_their_kinds_in_turn(
    off: float, problem: str
) -> None:
    """Two steps of seven examples: the ninth row is the second step of the zeros."""

    def run_both(batch: CheckBatch) -> list[tuple[np.ndarray, np.ndarray]]:
        outputs = np.ones((2 * len(batch.model), 5))
        actual = outputs.copy()
        actual[8, 3] += off
        return [(outputs, actual)]

    found = check_edge_cases(np.zeros((2, 5), np.float32), run_both, 1e-4, False, 0)
    assert found.text.startswith(f"on zeros {problem}")


@pytest.mark.parametrize(("off", "tolerance"), [(0.25, 0.25), (0.0, 0.0)])
def test_exactly_what_is_allowed_is_no_error_of_a_kind(off: float, tolerance: float) -> None:
    def run_both(batch: CheckBatch) -> list[tuple[np.ndarray, np.ndarray]]:
        outputs = np.ones(batch.model.shape)
        return [(outputs, outputs + off)]

    found = check_edge_cases(np.zeros((2, 5), np.float32), run_both, tolerance, False, 0)
    assert found.passed, found.text
    assert found.text.endswith(f"largest error {off:.1e} of the largest output")


def test_both_examples_of_another_scale_are_compared() -> None:
    for row in (0, 1):

        def run_both(batch: CheckBatch, row: int = row) -> Any:
            outputs = np.ones(batch.model.shape)
            actual = outputs.copy()
            if len(actual) == 2:
                actual[row, 0] += 1e-3
            return [(outputs, actual)]

        found = check_edge_cases(np.zeros((2, 5), np.float32), run_both, 1e-4, True, 0)
        assert not found.passed
        assert "on noise of 1e-06 an error of 1.0e-03" in found.text


def test_an_error_is_told_where_single_precision_has_no_number_for_it() -> None:
    def run_both(batch: CheckBatch) -> list[tuple[np.ndarray, np.ndarray]]:
        outputs = np.full(batch.model.shape, 3e38, np.float32)
        return [(outputs, -outputs)]

    found = check_edge_cases(np.zeros((2, 5), np.float32), run_both, 1e-4, False, 0)
    assert "on noise an error of 2.0e+00" in found.text
