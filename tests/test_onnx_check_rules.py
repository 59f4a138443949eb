"""The rules of `check` one by one, where a whole check would hide which of them decided.

Each is tried on both sides of its limit, with numbers that are put together by hand.
"""

from __future__ import annotations

import importlib
import math
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from torch import nn

from torchlift.converters.images import Preprocessing
from torchlift.converters.inference.errors import ModelInputError
from torchlift.converters.input_shapes import InputShape, parse_inputs
from torchlift.converters.onnx import PROFILES, OnnxError, check, export
from torchlift.converters.onnx.checker import image_file, runtime_checks
from torchlift.converters.onnx.checker.batch_results import BatchResults, compare_outputs
from torchlift.converters.onnx.checker.check_inputs import CheckBatch, CheckInputs, _scaled
from torchlift.converters.onnx.checker.comparison import compare
from torchlift.converters.onnx.checker.edge_cases import check_edge_cases
from torchlift.converters.onnx.checker.graph_checks import (
    _accepts,
    _folding,
    _labels,
    unfolded_nodes,
)
from torchlift.converters.onnx.checker.pair import ExportPair
from torchlift.converters.saved import SavedModel

#: The module; the package has the function under this name.
checking: Any = importlib.import_module("torchlift.converters.onnx.checker.check")


@pytest.mark.parametrize(
    ("random_operators", "precision", "is_random", "begins"),
    [
        ([], "fp32", True, ""),
        ([], "int8", False, ""),
        ([], "int8", True, "no data"),
        (["Bernoulli"], "fp32", False, "random"),
        (["Bernoulli"], "int8", False, "random"),
    ],
)
def test_outputs_are_judged_unless_chance_or_noise_decides(
    random_operators: list[str], precision: str, is_random: bool, begins: str
) -> None:
    metadata = SimpleNamespace(precision=precision)
    pair: Any = SimpleNamespace(random_operators=random_operators, metadata=metadata)
    reason = checking._reason_to_skip(pair, SimpleNamespace(is_random=is_random))
    assert reason.startswith(begins)
    assert bool(reason) == bool(begins)


def flat(path: Path, axes: list[str | int], precision: str = "fp32") -> tuple[SavedModel, Path]:
    """Return an identity, and a file of it."""
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, axes) for name in "xy"]
    graph = helper.make_graph(
        [helper.make_node("Relu", ["x"], ["y"])], "g", [values[0]], values[1:]
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    said = {"precision": f'"{precision}"', "torchlift_version": '"1"', "format_version": "2"}
    helper.set_model_props(model, said)
    onnx.save(model, path)
    saved = SavedModel(nn.ReLU(), "features")
    saved.set_inputs(parse_inputs("4xNx5" if axes[1] == "batch" else "5"))
    return saved, path


@pytest.mark.parametrize(
    ("axes", "precision", "scales", "batch_axes"),
    [
        (["batch", 5], "fp32", True, [0]),
        (["batch", 5], "fp16", False, [0]),
        ([4, "batch", 5], "fp32", True, [1]),
    ],
)
def test_edge_cases_know_the_arithmetic_the_seed_and_where_the_batch_is(
    axes: list[str | int],
    precision: str,
    scales: bool,
    batch_axes: list[int],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seen: dict[str, Any] = {}

    def edge_cases(*_: Any, **options: Any) -> None:
        seen.update(options)

    monkeypatch.setattr(checking, "check_edge_cases", edge_cases)
    monkeypatch.setattr(checking, "check_reference", lambda *_: [])
    check(*flat(tmp_path / "f.onnx", axes, precision), seed=5)
    assert (seen["scales"], seen["batch_axes"], seen["seed"]) == (scales, batch_axes, 5)


def edge_cases(change: Any, **options: Any) -> Any:
    """Return the finding on a model of five numbers and a file that changes them."""

    def run_both(batch: CheckBatch) -> list[tuple[np.ndarray, np.ndarray]]:
        outputs = np.tanh(batch.model) * 1e-3
        return [(outputs, change(outputs.copy()))]

    example = np.zeros((2, 5), np.float32)
    return check_edge_cases(example, run_both, 1e-4, False, 0, **options)


def test_errors_of_edge_cases_are_relative_to_one_at_least() -> None:
    """The largest output is 1e-3: an error of a tenth of it is one of 1e-4 of 1."""
    assert edge_cases(lambda outputs: outputs + 0.9e-4).passed
    found = edge_cases(lambda outputs: outputs + 1.1e-4)
    assert not found.passed
    assert "on noise an error of 1.1e-04" in found.text


def test_a_nan_of_the_file_is_named_by_its_kind_of_input() -> None:
    def lose(row: int) -> Any:
        def change(outputs: np.ndarray) -> np.ndarray:
            outputs[row, 2] = np.nan
            return outputs

        return change

    for row, kind in ((1, "zeros"), (3, "a constant"), (6, "ties")):
        assert edge_cases(lose(row)).text.startswith(f"on {kind} the file has NaN")

    def refuse(batch: CheckBatch) -> Any:
        raise ModelInputError("index out of range")

    finding = check_edge_cases(np.zeros((2, 5), np.float32), refuse, 1e-4, False, 0)
    assert (finding.passed, finding.text) == (True, "stopped at noise: index out of range")


def test_tiny_outputs_are_compared_with_what_the_arithmetic_holds() -> None:
    """Below its smallest full number float16 has fewer digits, and noise is no error."""
    expected, actual = np.array([[1e-6, 0.0]]), np.array([[1.5e-6, 0.0]])
    smallest = 2.0**-14
    assert PROFILES["fp16"].floor == smallest
    assert [limits.floor for name, limits in PROFILES.items() if name != "fp16"] == [1e-12] * 3
    found = compare(expected, actual, np.arange(1), 1e-2, False, floor=smallest)
    assert found.error == pytest.approx(0.5e-6 / smallest)
    batch = CheckBatch(np.arange(1), expected, expected, is_real=True)
    for name, error in (("fp16", 0.5e-6 / smallest), ("fp32-cpu", 0.5), ("int8", 0.5)):
        (found,) = compare_outputs(batch, [(expected, actual)], PROFILES[name], False, list)
        assert found.error == pytest.approx(error)


def test_rounding_is_asked_for_where_an_error_is_too_large_and_only_there() -> None:
    asked: list[int] = []

    def rounding(allowed: float) -> Any:
        return lambda: asked.append(1) or [allowed]

    expected = np.array([[1.0, 0.5]])
    batch = CheckBatch(np.arange(1), expected, expected, is_real=True)
    limits = PROFILES["fp32-cpu"]  # 1e-4
    for off, allowed, error, times in (
        (0.9e-4, 1.0, 0.9e-4, 0),
        (4e-4, 1e-5, 4e-4, 1),
        # 4e-4 where rounding explains 8e-4 is half of what passes.
        (4e-4, 8e-4, 0.5e-4, 1),
    ):
        asked.clear()
        outputs = [(expected, expected + np.array([[off, 0]]))]
        (found,) = compare_outputs(batch, outputs, limits, False, rounding(allowed))
        assert (found.error, len(asked)) == (pytest.approx(error), times)
    exact = replace(limits, tolerance=0.0)
    asked.clear()
    (found,) = compare_outputs(batch, [(expected, expected + 1e-9)], exact, False, rounding(1.0))
    assert found.error > 0
    assert not asked, "where nothing may differ, rounding may not either"


def test_rows_that_are_no_examples_are_counted_by_themselves() -> None:
    """Steps or places of a map; the examples of a batch have numbers of all the data."""
    batch = CheckBatch(np.array([7, 8]), np.zeros((2, 3)), np.zeros((2, 3)), is_real=True)
    for rows, worst in ((2, 8), (5, 1)):
        expected = np.ones((rows, 3))
        actual = expected.copy()
        actual[1, 2] = 2
        limits = PROFILES["int8"]
        (found,) = compare_outputs(batch, [(expected, actual)], limits, False, list)
        assert found.where == (worst, 2)


@pytest.mark.parametrize(
    ("outputs", "compared", "is_foreign", "passes"),
    [
        ({"y": ["batch", 3]}, ["y"], False, True),
        ({"y": ["batch", 4]}, ["y"], False, False),
        ({"y": ["batch"]}, ["y"], False, False),
        # A map of classes; as wide as there are names, it has other classes.
        ({"y": ["batch", 3, 6, 8]}, ["y"], False, True),
        ({"y": ["batch", 4, 6, 3]}, ["y"], False, False),
        ({"y": [None, 6, 8, 3]}, ["y"], True, True),
        ({"y": [None, 3, 1, 1]}, ["y"], True, True),
        # scikit-learn's exporter gives the predicted class first.
        ({"label": [None], "y": [None, 3]}, ["y"], True, True),
    ],
)
def test_there_are_as_many_names_as_classes_behind_the_batch(
    outputs: dict[str, Any], compared: list[str], is_foreign: bool, passes: bool
) -> None:
    values = [helper.make_tensor_value_info(name, 1, axes) for name, axes in outputs.items()]
    graph = SimpleNamespace(graph=SimpleNamespace(output=values))
    said = SimpleNamespace(labels=[*"abc"])
    pair: Any = SimpleNamespace(
        metadata=said,
        model=said,
        onnx_model=graph,
        compared_outputs=compared,
        is_foreign=is_foreign,
    )
    assert _labels(pair).passed is passes


def test_a_map_of_classes_with_names_passes(tmp_path: Path) -> None:
    network = nn.Sequential(nn.Conv2d(3, 4, 1)).eval()
    said: Any = {"input_shape": (3, 6, 8), "labels": [*"abcd"]}
    export(network, tmp_path / "f.onnx", **said)
    report = check(network, tmp_path / "f.onnx", **said)
    assert report.passed, list(report.lines())


def test_other_sizes_are_multiples_of_a_step_and_never_none() -> None:
    """Height and width by two factors; what is fixed stays."""
    leaf = InputShape(("N", 3, "?", "?"))
    for size, step, found in (
        ((3, 10, 10), 1, (3, 15, 20)),
        ((3, 10, 10), 8, (3, 8, 16)),
        ((3, 4, 4), 32, (3, 32, 32)),
        ((3, 100, 50), 32, (3, 128, 96)),
    ):
        assert _scaled(leaf, size, (1.5, 2), step) == found


@pytest.mark.parametrize(
    ("axes", "accepted"),
    [
        (["batch", 3, 8, 8], True),
        (["batch", 3, "height", "width"], True),
        (["batch", 1, 8, 8], False),
        (["batch", 3, 8], False),
        (["batch", 3, 8, 9], False),
    ],
)
def test_an_input_is_of_the_models_sizes_or_free(axes: list[str | int], accepted: bool) -> None:
    assert _accepts(axes, InputShape(("N", 3, 8, 8))) is accepted


def test_a_size_that_the_model_leaves_free_must_be_free_in_the_file() -> None:
    free = InputShape(("N", 3, "?", "?"))
    assert _accepts(["batch", 3, "height", "width"], free)
    assert not _accepts(["batch", 3, 8, 8], free)


def test_a_normalization_of_what_the_file_gives_out_cannot_be_folded() -> None:
    def model(outputs: list[str]) -> onnx.ModelProto:
        nodes = [
            helper.make_node("Conv", ["x", "w"], ["maps"], "conv"),
            helper.make_node("BatchNormalization", ["maps", *"ssss"], ["normal"], "norm"),
        ]
        values = [helper.make_tensor_value_info(name, 1, None) for name in outputs]
        weights = [numpy_helper.from_array(np.ones(1, np.float32), name) for name in "ws"]
        x = helper.make_tensor_value_info("x", 1, None)
        return helper.make_model(helper.make_graph(nodes, "g", [x], values, weights))

    assert unfolded_nodes(model(["normal"])) == ["norm"]
    found = _folding(model(["normal"]))
    assert (found.name, found.passed, found.text) == (
        "folding",
        False,
        "could be computed ahead: norm",
    )
    assert unfolded_nodes(model(["normal", "maps"])) == []
    found = _folding(model(["normal", "maps"]))
    assert (found.name, found.passed) == ("folding", True)


@pytest.mark.parametrize(
    ("names", "states"),
    [(["input", "state_1", "state_2"], 2), (["input"], 0), (["state_1", "state_2", "input"], 0)],
)
def test_states_are_the_last_inputs_of_a_file(
    names: list[str], states: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file whose layers begin at zeros has none, though the model's layers remember them."""
    monkeypatch.setattr("torchlift.converters.onnx.checker.pair.state_count", lambda _: 2)
    graph = SimpleNamespace(input=[SimpleNamespace(name=name) for name in names])
    model: Any = SimpleNamespace(module=None)
    pair = ExportPair(model, nn.Identity(), Path(), Any, Any)  # type: ignore[arg-type]
    object.__setattr__(pair, "onnx_model", SimpleNamespace(graph=graph))
    assert pair.states == states


def test_a_batch_that_shares_an_axis_is_taken_to_be_in_front() -> None:
    def output(*axes: int | str) -> onnx.ValueInfoProto:
        return helper.make_tensor_value_info("y", TensorProto.FLOAT, axes)

    outputs = [output("batch", 3), output(5, "batch"), output("3*batch", 2), output(4)]
    pair = ExportPair(Any, nn.Identity(), Path(), Any, Any)  # type: ignore[arg-type]
    graph = SimpleNamespace(output=outputs)
    object.__setattr__(pair, "onnx_model", SimpleNamespace(graph=graph))
    assert pair.output_batch_axes == [0, 1, 0, 0]


def test_outputs_are_constant_if_no_example_gives_another_one() -> None:
    """Batches of other sizes are compared in themselves, and NaN is equal to NaN."""

    def is_constant(*batches: tuple[np.ndarray, np.ndarray]) -> bool:
        results = BatchResults(PROFILES["fp32-cpu"])
        for inputs, outputs in batches:
            results.note_variation([inputs], [outputs])
        return results.is_constant

    vary, same = np.array([[1.0, 2.0], [3.0, 4.0]]), np.full((2, 2), np.nan)
    assert is_constant((vary, same))
    assert not is_constant((vary, vary))
    assert not is_constant((same, same))
    assert not is_constant((same, same), (vary[:1, :1], same[:1, :1]))
    assert is_constant((same, same), (vary[:, :1], same[:, :1]), (vary, same))
    assert is_constant((vary[:1], same), (vary[1:], same))
    assert not is_constant((vary[:1], vary[:1]), (vary[1:], vary[1:]))


def test_what_a_runtime_got_where_it_was_worst_is_kept_and_nan_is_worst() -> None:
    def off(value: float) -> Any:
        outputs = np.ones((1, 2))
        return compare(outputs, outputs * value, np.arange(1), 1e-4, False)

    for errors, worst in (([1.1, 1.3, 1.2], 1), ([1.1, math.nan, 1.3], 1), ([1.0, 1.0], 0)):
        outcome = runtime_checks._Outcome()
        for number, value in enumerate(errors):
            outcome.add([off(1.0), off(value)], {"input": np.array(number)})
        assert outcome.worst["input"] == worst
        assert len(outcome.comparisons) == 2 * len(errors)


@pytest.mark.parametrize(
    ("profile", "takes_image", "tolerance"),
    [("fp32-cpu", True, 1e-3), ("fp16", True, 1e-2), ("fp32-cpu", False, 1e-4)],
)
def test_a_few_pixels_of_a_file_of_images_may_be_off_in_a_runtime(
    profile: str, takes_image: bool, tolerance: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    limits: list[float] = []
    monkeypatch.setattr(
        runtime_checks, "_check", lambda _runtime, _cases, found, _: limits.append(found.tolerance)
    )
    monkeypatch.setattr(ExportPair, "takes_image", takes_image)
    model = SavedModel(nn.Identity(), "features", preprocessing=Preprocessing())
    metadata: Any = SimpleNamespace(baked_preprocessing=Preprocessing())
    pair = ExportPair(model, model.module, Path(), onnx.ModelProto(), metadata)
    runtime: Any = "a runtime"
    runtime_checks.check_runtimes(pair, [], None, PROFILES[profile], [runtime])
    assert limits == [tolerance]


@pytest.mark.parametrize(
    ("size", "enlarged"),
    [((20, 10), True), ((10, 20), False), ((5, 40), True), ((5, 10), False), (None, False)],
)
def test_an_image_is_enlarged_if_one_of_its_sides_is(size: Any, enlarged: bool) -> None:
    image = np.zeros((10, 20, 3), np.uint8)
    assert image_file._is_enlarged(image, Preprocessing(size=size)) is enlarged


def test_random_images_need_the_preprocessing_of_the_model(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A file with baked preprocessing takes bytes, and they cannot be guessed."""
    for preprocessing in (Preprocessing(size=(4, 4)), None):
        model = SavedModel(nn.Flatten(), "features", (3, 4, 4), preprocessing=preprocessing)
        metadata: Any = SimpleNamespace(preprocessing=None, inputs=None)
        pair = ExportPair(model, model.module, Path(), onnx.ModelProto(), metadata)
        monkeypatch.setattr(ExportPair, "needs_images", True)
        if preprocessing is not None:
            assert CheckInputs(pair, None, 0).is_random
            continue
        with pytest.raises(OnnxError, match="no preprocessing for random ones: pass real examples"):
            CheckInputs(pair, None, 0)
