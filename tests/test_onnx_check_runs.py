"""What `check` passes on to its parts, and what it leaves out.

The parts are replaced: what each of them decides is tested where it stands. The model is a ReLU of
five numbers, and its file is put together by hand.
"""

from __future__ import annotations

import importlib
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper
from onnx_check_support import failed, text_of
from test_onnx_check_rules import flat
from torch import nn

from torchlift.converters.errors import WriteError
from torchlift.converters.inference import ProviderError
from torchlift.converters.inference.providers import Session
from torchlift.converters.onnx import PROFILES, OnnxError, check
from torchlift.converters.onnx.checker.batch_results import BatchResults, batch_in_front
from torchlift.converters.onnx.checker.check_inputs import CheckBatch
from torchlift.converters.onnx.checker.comparison import Tie
from torchlift.converters.onnx.checker.pair import ExportPair
from torchlift.converters.onnx.checker.report import Finding, RuntimeResult
from torchlift.converters.saved import SavedModel

#: The module; the package has the function under this name.
checking: Any = importlib.import_module("torchlift.converters.onnx.checker.check")
AXES = ["batch", 5]


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> dict[str, tuple[Any, ...]]:
    """Replace all that judges; return what each part was asked."""
    found: dict[str, tuple[Any, ...]] = {}

    def part(name: str, result: Any) -> None:
        def record(*given: Any, **named: Any) -> Any:
            found[name] = (*given, *named.values())
            return result

        monkeypatch.setattr(checking, name, record)

    runtime = RuntimeResult("opencv", "5.0", "CPU", None, True, 1e-6, 8, 9, None, None, None, None)
    for name in ("contents", "reference", "outputs"):
        part(f"check_{name}", [Finding(name, True, "")])
    for name in ("accuracy", "nodes", "edge_cases"):
        part(f"check_{name}", Finding(name, True, ""))
    part("check_runtimes", [runtime])
    return found


def scores() -> tuple[np.ndarray, np.ndarray]:
    """Return 12 examples that stay as they are, and their largest class."""
    classes = np.arange(12) % 5
    return np.eye(5, dtype=np.float32)[classes], classes


def test_each_part_of_a_check_gets_what_was_asked_for(
    asked: dict[str, tuple[Any, ...]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(BatchResults, "count_ties", lambda _: 7)
    model, path = flat(tmp_path / "f.onnx", AXES)
    model = replace(model, output_kind="logits", labels=[*"abcde"])
    inputs, classes = scores()
    wrong = np.where(np.arange(12) < 3, 4 - classes, classes)
    runtimes: Any = ["a runtime"]
    limits = replace(PROFILES["fp16"], name="own", drop=0.25)
    report = check(
        model,
        path,
        inputs,
        classes=wrong,
        profile=limits,
        tolerance=0.125,
        min_compared=0.5,
        locate=True,
        runtimes=runtimes,
    )
    limits = replace(limits, tolerance=0.125)
    names = ["contents", "reference", "provider", "outputs", "edge_cases", "accuracy"]
    assert [one.name for one in report.findings] == [*names, "runtime", "nodes"]
    assert report.passed, list(report.lines())
    assert asked["check_reference"][2] == 0.5
    assert asked["check_reference"][1].shape == (1, 5)
    comparisons, given, labels, skipped = asked["check_outputs"]
    assert (comparisons, given, labels, skipped) == (report.comparisons, limits, [*"abcde"], "")
    assert len(comparisons) == 4
    true, (by_model, by_file), ties, drop = asked["check_accuracy"]
    assert np.array_equal(true, wrong)
    assert np.array_equal(by_model, classes)
    assert np.array_equal(by_file, classes)
    assert (ties, drop) == (7, 0.25)
    assert asked["check_edge_cases"][2] == 0.125
    pair, batches, images, given, asked_runtimes, skipped = asked["check_runtimes"]
    assert (pair.path, images is inputs, given, skipped) == (path, True, limits, "")
    assert asked_runtimes is runtimes
    assert [len(batch.examples) for batch in batches] == [1, 2, 7, 2]
    assert asked["check_nodes"][2] == 0.125
    assert (report.profile, report.tolerance, report.path) == ("own", 0.125, str(path))
    assert [one.runtime for one in report.runtimes] == ["opencv"]


@pytest.mark.parametrize(("kind", "judged"), [("logits", True), ("features", False)])
def test_accuracy_is_that_of_classes_and_nodes_are_located_on_request(
    kind: str, judged: bool, asked: dict[str, tuple[Any, ...]], tmp_path: Path
) -> None:
    model, path = flat(tmp_path / "f.onnx", AXES)
    inputs, classes = scores()
    report = check(replace(model, output_kind=kind), path, inputs, classes=classes)
    assert ("check_accuracy" in asked) is judged
    assert "check_nodes" not in asked
    assert "accuracy" not in [one.name for one in report.findings if not judged]
    for count in (11, 13):
        with pytest.raises(OnnxError, match=f"{count} classes were given for 12 examples"):
            check(model, path, inputs, classes=np.resize(classes, count))


@pytest.mark.parametrize(("given", "meant"), [(None, "features"), ("logits", "logits")])
def test_a_file_is_compared_with_what_the_outputs_of_the_model_mean(
    given: str | None, meant: str, asked: dict[str, tuple[Any, ...]], tmp_path: Path
) -> None:
    """Scores that have no row for each example are features, unless somebody says what they are."""
    model, path = flat(tmp_path / "f.onnx", [4, "batch", 5])
    details: Any = {} if given is None else {"output_kind": given}
    check(replace(model, output_kind="logits"), path, **details)
    for part in ("contents", "runtimes"):
        assert asked[f"check_{part}"][0].model.output_kind == meant


@pytest.mark.parametrize(
    ("changes", "precision", "runs"),
    [
        ({}, "fp32", True),
        ({}, "int8", False),
        ({"random_operators": ["Bernoulli"]}, "fp32", False),
        ({"needs_images": True}, "fp32", False),
    ],
)
def test_edge_cases_are_for_numbers_that_are_neither_rounded_nor_drawn(
    changes: dict[str, Any],
    precision: str,
    runs: bool,
    asked: dict[str, tuple[Any, ...]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name, value in changes.items():
        monkeypatch.setattr(ExportPair, name, value)
    model, path = flat(tmp_path / "f.onnx", AXES, precision)
    inputs, classes = scores()
    report = check(replace(model, output_kind="logits"), path, inputs, classes=classes)
    assert ("check_edge_cases" in asked) is runs
    # Where chance decides no accuracy is measured either.
    assert ("check_accuracy" in asked) is ("random_operators" not in changes)
    assert [one.name for one in report.findings].count("edge_cases") == runs
    assert asked["check_outputs"][3] == ("random" if "random_operators" in changes else "")


@pytest.mark.parametrize(
    ("provider", "profile"), [("CPUExecutionProvider", "fp32-cpu"), ("CUDAEx", "fp32-gpu")]
)
def test_limits_are_those_of_the_provider_that_ran(
    provider: str,
    profile: str,
    asked: dict[str, tuple[Any, ...]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The first batch is run before the nodes of a provider are counted, and they are once."""
    model, path = flat(tmp_path / "f.onnx", AXES)
    ran: list[int] = []
    counted: list[int] = []

    def run(inputs: dict[str, np.ndarray]) -> list[np.ndarray]:
        ran.append(len(inputs["x"]))
        return [np.maximum(inputs["x"], 0)]

    def opened(file: Path, name: str, profile: Path) -> Any:
        assert (file, name) == (path, "cuda")
        runtime = SimpleNamespace(get_inputs=lambda: [SimpleNamespace(name="x")])
        return SimpleNamespace(provider=provider, runtime=runtime, run=run)

    def found(session: Any, precision: str) -> Finding:
        counted.append(len(ran))
        return Finding("provider", True, precision)

    monkeypatch.setattr(checking, "open_session", opened)
    monkeypatch.setattr(checking, "_provider_finding", found)
    report = check(model, path, provider="cuda")
    assert (report.provider, report.profile) == (provider, profile)
    assert asked["check_outputs"][1].name == profile
    assert (ran, counted) == ([1, 2, 7], [1])
    assert text_of(report, "provider") == "fp32"


@pytest.mark.usefixtures("asked")
def test_outputs_of_other_shapes_are_a_run_that_failed(tmp_path: Path) -> None:
    model, path = flat(tmp_path / "f.onnx", AXES)
    other = replace(model, module=nn.Sequential(nn.ReLU(), nn.Unflatten(1, (5, 1))))
    report = check(other, path)
    assert failed(report) == ["run"]
    assert text_of(report, "run") == (
        "the outputs of the model have the shapes [(1, 5, 1)], those of the file [(1, 5)]"
    )
    # Nothing of it is left to judge.
    assert report.provider == "CPUExecutionProvider"
    assert report.comparisons == []


@pytest.mark.parametrize("error", [ProviderError("no GPU"), WriteError("disk full")])
@pytest.mark.usefixtures("asked")
def test_what_is_no_fault_of_the_file_is_no_finding(
    error: Exception, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise error

    monkeypatch.setattr(checking, "open_session", fail)
    with pytest.raises(type(error), match=str(error)):
        check(*flat(tmp_path / "f.onnx", AXES))


def test_a_provider_says_its_note_and_where_half_precision_is_none(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    node = SimpleNamespace(name="n", provider="CPUExecutionProvider", has_weights=True)
    monkeypatch.setattr(checking, "nodes_by_provider", lambda _: [node] * 3)
    session = Session(None, "CPUExecutionProvider")
    found = checking._provider_finding(session, "fp32")
    assert found == Finding("provider", True, "CPUExecutionProvider ran 3 of 3 nodes")
    found = checking._provider_finding(replace(session, note="runs on the CPU"), "fp16")
    assert found.passed
    assert found.text == (
        "runs on the CPU; CPUExecutionProvider ran 3 of 3 nodes; float16 is mostly computed in "
        "float32 there"
    )
    gpu = Session(None, "CUDAExecutionProvider")
    found = checking._provider_finding(gpu, "fp16")
    assert not found.passed
    assert found.text == (
        "CUDAExecutionProvider ran 0 of 3 nodes, 0% (3 on CPUExecutionProvider); nodes with "
        "weights ran elsewhere: n, n, n"
    )
    monkeypatch.setattr(checking, "nodes_by_provider", lambda _: [node] * 4)
    assert checking._provider_finding(gpu, "fp16").text.endswith("elsewhere: n, n, n")
    # Where no node has weights, one of them must have run there all the same.
    node.has_weights = False
    assert not checking._provider_finding(gpu, "fp32").passed


def test_a_model_in_double_precision_is_compared_in_single(tmp_path: Path) -> None:
    """And in double where rounding is measured."""
    model, path = flat(tmp_path / "f.onnx", AXES)
    pair = ExportPair.open(replace(model, module=nn.Linear(5, 2).double()), path)
    pair.module.weight.data.fill_(1 / 3)
    inputs = np.ones((1, 5), np.float32)
    (exact,) = checking._in_float64(pair, inputs)
    assert exact.dtype == np.float64
    expected = inputs.astype(float) @ pair.module.weight.detach().numpy().T
    np.testing.assert_allclose(exact, expected + pair.module.bias.detach().numpy(), rtol=1e-14)
    runtime = SimpleNamespace(get_inputs=lambda: [SimpleNamespace(name="x")])
    given: list[dict[str, np.ndarray]] = []

    def run(names: dict[str, np.ndarray]) -> list[np.ndarray]:
        given.append(names)
        return [np.zeros((1, 2), np.float32)]

    session: Any = SimpleNamespace(runtime=runtime, run=run)
    batch = CheckBatch(np.arange(1), inputs, inputs * 2, is_real=True)
    ((mine, others),) = checking._run_both(pair, pair.module, session, batch)
    assert (mine.dtype, others.any()) == (np.dtype(np.float32), False)
    # The model and the file get each its own inputs.
    np.testing.assert_allclose(mine, exact, rtol=1e-6)
    assert np.array_equal(given[0]["x"], inputs * 2)


def test_images_are_compared_where_the_file_takes_one(
    asked: dict[str, tuple[Any, ...]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The file itself, and the network behind its preprocessing, on the provider of the check."""
    given: list[Any] = []
    model, path = flat(tmp_path / "f.onnx", AXES)
    behind = ExportPair.open(model, path)

    @contextmanager
    def network_of(pair: ExportPair) -> Any:
        given.append(pair)
        yield behind

    def images(*asked: Any) -> Finding:
        given.append(asked)
        return Finding("images", False, "off by one")

    monkeypatch.setattr(ExportPair, "takes_image", True)
    monkeypatch.setattr(checking, "network_of", network_of)
    monkeypatch.setattr(checking, "check_images", images)
    inputs, _ = scores()
    report = check(model, path, inputs, provider="auto", locate=True, output_kind="features")
    assert failed(report) == ["images"]
    opened, (pair, network, images_given, provider) = given
    assert (pair is opened, network is behind, images_given is inputs) == (True, True, True)
    assert provider == "auto"
    # What a file says and what other runtimes run is all of it; weights and nodes are behind.
    for name in ("contents", "runtimes"):
        assert asked[f"check_{name}"][0] is opened, name
    for name in ("reference", "nodes"):
        assert asked[f"check_{name}"][0] is behind, name


def test_predictions_are_those_of_real_examples_and_a_tie_counts_once() -> None:
    results = BatchResults(PROFILES["fp32-cpu"])
    # Of example 3 the first two classes tie, in two batches.
    expected = np.array([[0.0, 1.0, 0.0], [1.0, 1.0, 0.0]])
    actual = np.array([[0.0, 1.0, 0.0], [1.0, 1.00001, 0.0]])
    for examples, is_real in (([1, 3], True), ([3, 3], True), ([0, 2], False)):
        batch = CheckBatch(np.array(examples), expected, expected, is_real)
        results.add(batch, [(expected, actual)], True, list)
    by_model, by_file = results.predictions(5)
    # Nothing is known of the others, and random images are none of them.
    assert by_model.tolist() == [0, 1, 0, 0, 0]
    assert by_file.tolist() == [0, 1, 0, 1, 0]
    assert results.is_classifier
    assert results.comparisons[0].ties == [Tie(3, 0, 1)]
    assert results.count_ties() == 1
    without = BatchResults(PROFILES["fp32-cpu"])
    without.add(batch, [(expected, actual)], True, list)
    assert not without.is_classifier
    features = BatchResults(PROFILES["fp32-cpu"])
    real = CheckBatch(np.array([0, 1]), expected, expected, is_real=True)
    features.add(real, [(expected, actual)], False, list)
    assert not features.is_classifier
    # Of several outputs the first tells the class.
    several = BatchResults(PROFILES["fp32-cpu"])
    several.add(real, [(expected[:, ::-1] + [[0, 9, 0]], expected), (expected, actual)], True, list)
    assert several.predictions(2)[0].tolist() == [1, 1]
    assert several.count_ties() == 0
    # Maps, and rows that are no examples, have no class each.
    for output in (np.zeros((2, 3, 4)), np.zeros((5, 3))):
        results = BatchResults(PROFILES["fp32-cpu"])
        results.add(real, [(output, output)], True, list)
        assert not results.is_classifier


def test_the_batch_comes_to_the_front_of_each_array() -> None:
    arrays = [np.arange(24).reshape(2, 3, 4), np.arange(3), np.float64(5)]
    found = batch_in_front(arrays, [2, 1, 0])
    assert np.array_equal(found[0], arrays[0].transpose(2, 0, 1))
    assert [array.shape for array in found] == [(4, 2, 3), (3,), ()]


def test_the_input_of_a_file_that_no_output_needs_is_left_out(tmp_path: Path) -> None:
    """ONNX Runtime does not have it any more."""
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", 2]) for name in "xy"]
    output = helper.make_tensor_value_info("z", TensorProto.FLOAT, ["batch", 2])
    graph = helper.make_graph([helper.make_node("Relu", ["y"], ["z"])], "g", values, [output])
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    onnx.save(made, tmp_path / "f.onnx")
    pair = ExportPair.open(SavedModel(nn.Identity(), "features"), tmp_path / "f.onnx")
    runtime = SimpleNamespace(get_inputs=lambda: [SimpleNamespace(name="y")])
    given: list[Any] = []
    session: Any = SimpleNamespace(
        runtime=runtime, run=lambda inputs, *_: given.append(inputs) or [inputs["y"]]
    )
    both = [np.zeros((1, 2), np.float32), np.ones((1, 2), np.float32)]
    batch = CheckBatch(np.arange(1), both, both, is_real=True)

    class Second(nn.Module):
        def forward(self, inputs: list[torch.Tensor]) -> torch.Tensor:
            return inputs[1]

    ((expected, actual),) = checking._run_both(pair, Second(), session, batch)
    assert [*given[0]] == ["y"]
    assert np.array_equal(expected, actual)
