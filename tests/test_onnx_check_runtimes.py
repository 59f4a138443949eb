"""What is made of another runtime's answers: which cases it gets, and what is said of them.

The runtime is replaced by a function of the file's inputs; `test_onnx_runtimes` starts real ones.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper
from torch import nn

from torchlift.converters.images import Preprocessing
from torchlift.converters.inference import InferenceError
from torchlift.converters.inference.metadata import Metadata
from torchlift.converters.onnx import PROFILES, InstalledRuntime, OnnxError
from torchlift.converters.onnx.checker import runtime_checks, runtime_divergence
from torchlift.converters.onnx.checker.check_inputs import CheckBatch
from torchlift.converters.onnx.checker.pair import ExportPair
from torchlift.converters.onnx.checker.report import RuntimeResult
from torchlift.converters.onnx.checker.runtime_checks import check_runtimes
from torchlift.converters.onnx.checker.runtime_divergence import (
    _save_with_values,
    first_divergence,
)
from torchlift.converters.saved import SavedModel

LIMITS = PROFILES["fp32-cpu"]
RUNTIME = InstalledRuntime("reference", ("python",))
Answer = Callable[[dict[str, np.ndarray], list[str]], list[np.ndarray]]


class Sum(nn.Module):
    """A network of two inputs, of which the file needs one."""

    def forward(self, inputs: list[torch.Tensor]) -> torch.Tensor:
        return inputs[0].relu()


def pair(folder: Path, **metadata: Any) -> ExportPair:
    """Return a network of two inputs, and its file."""
    x, y, z = (helper.make_tensor_value_info(n, TensorProto.FLOAT, ["batch", 3]) for n in "xyz")
    graph = helper.make_graph([helper.make_node("Relu", ["x"], ["z"], "relu")], "g", [x, y], [z])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    helper.set_model_props(model, Metadata(**metadata).to_props())
    onnx.save(model, folder / "f.onnx")
    return ExportPair.open(SavedModel(Sum(), "logits", labels=[*"abc"]), folder / "f.onnx")


def batches() -> list[CheckBatch]:
    values = np.float32([[3, 1, 0], [0, 2, 1], [1, 0, 4]])
    both = [values, values * 100]
    first = CheckBatch(np.arange(1), [one[:1] for one in both], [one[:1] for one in both], True)
    return [first, CheckBatch(np.array([1, 2]), [one[1:] for one in both], [one[1:] for one in both], True)]  # fmt: skip # noqa: E501


@pytest.fixture
def runtime(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Return a function that replaces the runtime by an answer, and what it was given."""
    given: list[Any] = []

    def replaced(answer: Answer) -> list[Any]:
        class Session:
            version = arithmetic = ""

            def __init__(self, found: InstalledRuntime, path: Path) -> None:
                given.append((found, path))

            def __enter__(self) -> Any:
                self.version, self.arithmetic = "5.0", "CPU"
                return self

            def __exit__(self, *_: object) -> None:
                given.append("closed")

            def run(self, feeds: dict[str, np.ndarray], names: list[str]) -> list[np.ndarray]:
                given.append((sorted(feeds), [*names]))
                return answer(feeds, names)

        monkeypatch.setattr(runtime_checks, "RuntimeSession", Session)
        return given

    return replaced


def relu(feeds: dict[str, np.ndarray], _: list[str]) -> list[np.ndarray]:
    return [np.maximum(feeds["x"], 0)]


def test_a_runtime_that_computes_the_same_passes_and_gets_what_the_file_needs(
    runtime: Any, tmp_path: Path
) -> None:
    made, given = pair(tmp_path), runtime(relu)
    elsewhere = InstalledRuntime("opencv", ("other/python", "worker"), is_elsewhere=True)
    first, second = check_runtimes(made, batches(), None, LIMITS, [RUNTIME, elsewhere])
    assert first == RuntimeResult(
        runtime="reference",
        version="5.0",
        arithmetic="CPU",
        python=None,
        passed=True,
        error=0.0,
        agreeing=3,
        count=3,
        problem=None,
        node=None,
        cure=None,
        skipped=None,
    )
    assert second == replace(first, runtime="opencv", python="other/python")
    runs = [(["x"], ["z"])] * 2
    assert given == [
        (RUNTIME, tmp_path / "f.onnx"), *runs, "closed",
        (elsewhere, tmp_path / "f.onnx"), *runs, "closed",
    ]  # fmt: skip
    assert check_runtimes(made, batches(), None, LIMITS, []) == []


def test_a_file_of_another_program_gets_batches_of_its_size_and_is_asked_for_the_models_output(
    runtime: Any, tmp_path: Path
) -> None:
    """It takes two examples a run, and gives the predicted class beside the scores."""
    model = pair(tmp_path).onnx_model
    del model.metadata_props[:]
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.shape.dim[0].dim_value = 2
    model.graph.output.insert(0, helper.make_tensor_value_info("label", TensorProto.INT64, [2, 1]))
    model.graph.node.append(helper.make_node("ArgMax", ["z"], ["label"], axis=1))
    onnx.save(model, tmp_path / "f.onnx")
    made = ExportPair.open(SavedModel(Sum(), "logits", labels=[*"abc"]), tmp_path / "f.onnx")
    given = runtime(lambda feeds, _: [np.maximum(feeds["x"].reshape(2, 3), 0)])
    (found,) = check_runtimes(made, batches(), None, LIMITS, [RUNTIME])
    assert (found.passed, found.agreeing, found.count) == (True, 3, 3), found.problem
    assert given[1:3] == [(["x"], ["z"])] * 2


def test_a_runtime_that_computes_something_else_fails_with_numbers_and_names(
    runtime: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Any] = []
    monkeypatch.setattr(
        runtime_checks, "first_divergence", lambda *given: asked.append(given) or "the node"
    )

    def swapped(feeds: dict[str, np.ndarray], names: list[str]) -> list[np.ndarray]:
        (found,) = relu(feeds, names)
        return [found[:, [1, 0, 2]]] if len(found) == 2 else [found]

    made = pair(tmp_path)
    runtime(swapped)
    (result,) = check_runtimes(made, batches(), None, LIMITS, [RUNTIME])
    # Of three examples the second is another class; 2 of 4 is the largest error.
    assert (result.passed, result.error, result.agreeing, result.count) == (False, 0.5, 2, 3)
    assert (result.node, result.cure) == ("the node", None)
    assert "largest error 5.0e-01 of the largest output" in (result.problem or "")
    assert "2 of 3 predictions agree" in (result.problem or "")
    ((found, graph, feeds, tolerance),) = asked
    assert (found, graph, tolerance) == (RUNTIME, made.onnx_model, LIMITS.tolerance)
    # The batch that was worst is what is looked at.
    assert feeds["x"].shape == (2, 3)
    asked.clear()
    (result,) = check_runtimes(made, batches(), None, LIMITS, [RUNTIME], skipped="random")
    assert (result.passed, result.skipped, result.problem, asked) == (True, "random", None, [])
    # Features have no classes.
    features = replace(made, model=replace(made.model, output_kind="features"))
    (result,) = check_runtimes(features, batches(), None, LIMITS, [RUNTIME])
    assert (result.agreeing, result.count, result.passed) == (None, 3, False)


@pytest.mark.parametrize("helps", [True, False])
@pytest.mark.parametrize(
    ("name", "precision", "cure"),
    [
        ("openvino", "f32", "INFERENCE_PRECISION_HINT=f32"),
        ("opencv", "no-winograd", "enableWinograd(False)"),
    ],
)
def test_a_more_exact_arithmetic_is_tried_once_and_named_if_it_helps(
    name: str,
    precision: str,
    cure: str,
    helps: bool,
    runtime: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    nodes: list[Any] = []
    monkeypatch.setattr(
        runtime_checks, "first_divergence", lambda *asked: nodes.append((asked[0], asked[3]))
    )
    limits = replace(LIMITS, tolerance=0.25)

    def opened() -> list[InstalledRuntime]:
        return [one[0] for one in given if isinstance(one[0], InstalledRuntime)]

    def answer(feeds: dict[str, np.ndarray], names: list[str]) -> list[np.ndarray]:
        return relu(feeds, names) if helps and opened()[-1].precision else [feeds["x"] * 2]

    given, found = runtime(answer), InstalledRuntime(name, ("python",))
    exact = replace(found, precision=precision)
    (result,) = check_runtimes(pair(tmp_path), batches(), None, limits, [found])
    assert (result.passed, result.cure) == (False, cure if helps else None)
    assert opened() == [found, exact]
    # Where it helps the nodes need not be searched.
    assert nodes == ([] if helps else [(found, 0.25)])
    given.clear()
    check_runtimes(pair(tmp_path), batches(), None, LIMITS, [exact])
    assert opened() == [exact]


def test_an_answer_that_is_no_number_has_no_error(
    runtime: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runtime_checks, "first_divergence", lambda *_: None)
    runtime(lambda feeds, _: [feeds["x"] * np.nan])
    (result,) = check_runtimes(pair(tmp_path), batches(), None, LIMITS, [RUNTIME])
    assert (result.passed, result.error) == (False, None)
    assert "NaN or infinite: 0 outputs of the model, 9 of the file" in (result.problem or "")


def test_a_runtime_that_stops_midway_keeps_what_it_gave(
    runtime: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is not asked for its nodes, and an answer of another shape is told with its inputs."""
    monkeypatch.setattr(runtime_checks, "first_divergence", lambda *_: "the node")

    def stops(feeds: dict[str, np.ndarray], names: list[str]) -> list[np.ndarray]:
        if len(feeds["x"]) == 2:
            raise OnnxError("it hangs")
        return relu(feeds, names)

    given = runtime(stops)
    (result,) = check_runtimes(pair(tmp_path), batches(), None, LIMITS, [RUNTIME])
    assert (result.problem, result.passed, result.node) == ("it hangs", False, None)
    assert (result.count, result.error, result.version) == (1, 0.0, "5.0")
    assert given[-1] == "closed"
    runtime(lambda feeds, names: [2 * one for one in stops(feeds, names)])
    (result,) = check_runtimes(pair(tmp_path), batches(), None, LIMITS, [RUNTIME])
    assert (result.problem or "").startswith("it hangs; largest error 1.0e+00 of the largest")
    runtime(lambda feeds, names: [relu(feeds, names)[0].T])
    (result,) = check_runtimes(pair(tmp_path), batches(), None, LIMITS, [RUNTIME])
    assert result.problem == (
        "its outputs have the shapes [(3, 1)], where [(1, 3)] was expected, of inputs of [(1, 3)]"
    )
    assert (result.count, result.error, result.agreeing) == (0, None, None)


def test_errors_that_rounding_explains_are_no_errors_of_a_runtime(
    runtime: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Any] = []
    monkeypatch.setattr(
        runtime_checks, "allowed_rounding", lambda *given: asked.append(given) or [1.0]
    )
    runtime(lambda feeds, names: [relu(feeds, names)[0] + np.float32(0.5)])
    made = pair(tmp_path)
    (result,) = check_runtimes(made, batches()[1:], None, LIMITS, [RUNTIME])
    assert result.passed, result.problem
    ((_, inputs, profile),) = asked
    assert (profile, inputs[0].shape) == ("fp32-cpu", (2, 3))


def test_what_is_worst_of_images_is_named_and_too_small_ones_are_left_out(
    runtime: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = Preprocessing("BGR", resize="none", value_range=255, mean=(1, 2, 3), std=(2, 2, 2))
    module = nn.MaxPool2d(3, 1).eval()
    model = SavedModel(module, "features", preprocessing=own)
    metadata: Any = SimpleNamespace(baked_preprocessing=own, is_foreign=False)
    graph = SimpleNamespace(node=[], output=[SimpleNamespace(name="output")])
    made = ExportPair(
        model, module, tmp_path / "f.onnx", SimpleNamespace(graph=graph, producer_name=""), metadata
    )  # type: ignore[arg-type]
    monkeypatch.setattr(ExportPair, "takes_image", True)
    sizes = [(2, 9), (5, 4), (4, 6)]
    images = [np.full((*size, 3), [10, 20, 30], np.uint8) for size in sizes]
    monkeypatch.setattr(runtime_checks, "odd_images", lambda *_: images)
    monkeypatch.setattr(runtime_checks, "first_divergence", lambda *_: None)

    def answer(feeds: dict[str, np.ndarray], _: list[str]) -> list[np.ndarray]:
        # The file takes RGB pixels, the network BGR: 30, 20 and 10, normalized.
        image = feeds["image"]
        assert (image.dtype, image[0, 0].tolist()) == (np.uint8, [10, 20, 30])
        height, width = image.shape[:2]
        value = np.float32([14.5, 9.0, 3.5]) * (2 if height == 4 else 1)
        return [np.tile(value.reshape(1, 3, 1, 1), (1, 1, height - 2, width - 2))]

    runtime(answer)
    (result,) = check_runtimes(made, [], None, LIMITS, [RUNTIME])
    assert (result.count, result.error) == (2, 1.0)
    assert (result.problem or "").endswith("worst for an image of 4×6")
    # The preprocessing in the file stands in for that of a model which has none.
    without = replace(made, model=replace(model, preprocessing=None))
    assert check_runtimes(without, [], None, LIMITS, [RUNTIME]) == [result]
    # Those that are too small for the crop are left out like those that the network refuses.
    cropped = replace(made, model=replace(model, preprocessing=replace(own, crop=(4, 4))))
    monkeypatch.setattr(
        runtime_checks._Cases, "_expected", lambda _, inputs: [inputs[:, :, :2, :2] * 0]
    )
    runtime(lambda *_: [np.zeros((1, 3, 2, 2), np.float32)])
    (result,) = check_runtimes(cropped, [], None, LIMITS, [RUNTIME])
    assert (result.count, result.error) == (2, 0)
    monkeypatch.undo()
    monkeypatch.setattr(ExportPair, "takes_image", True)
    runtime(answer)
    monkeypatch.setattr(runtime_checks, "odd_images", lambda *_: images[:1])
    (result,) = check_runtimes(made, [], None, LIMITS, [RUNTIME])
    assert (result.passed, result.problem) == (False, "the model takes none of the images")


def chain(*operators: str) -> onnx.ModelProto:
    """Return a graph of nodes, one behind the other."""
    names = ["x", *(f"v{number}" for number in range(len(operators) - 1)), "y"]
    nodes = [
        helper.make_node(operator, [names[number]], [names[number + 1]], f"node_{number}")
        for number, operator in enumerate(operators)
    ]
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", 3]) for name in "xy")
    graph = helper.make_graph(nodes, "g", [x], [y])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)


@pytest.mark.parametrize(
    ("changes", "found"),
    [
        ({}, None),
        ({"v1": 1.0}, "node_1 (Neg, error 2.5e-01)"),
        ({"v1": 1.0, "y": 5.0}, "node_1 (Neg, error 2.5e-01)"),
        ({"y": 1.0, "v0": 0.5e-3}, "node_2 (Exp, error 2.5e-01)"),
        # What is no number is no small error.
        ({"v0": math.nan}, "node_0 (Relu, error nan)"),
        ({"v1": 4e-3}, None),
    ],
)
def test_the_first_node_that_differs_by_more_than_is_allowed_is_named(
    changes: dict[str, float], found: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every value is at most 4, and a thousandth of that is allowed."""
    feeds = {"x": np.zeros((1, 3), np.float32)}
    paths: list[Path] = []

    def run(given: Any, names: list[str]) -> list[np.ndarray]:
        assert (given, names) == (feeds, ["v0", "v1", "y"])
        return [np.float32([[4, 1, 0]]) for _ in names]

    def other(given: Any, names: list[str]) -> list[np.ndarray]:
        return [
            value + np.float32([[0, changes.get(name, 0), 0]])
            for name, value in zip(names, run(given, names), strict=True)
        ]

    class Session:
        def __init__(self, runtime: InstalledRuntime, path: Path) -> None:
            assert (runtime, path) == (RUNTIME, paths[0])

        def __enter__(self) -> Any:
            return SimpleNamespace(run=other)

        def __exit__(self, *_: object) -> None:
            pass

    def open_session(path: Path, provider: str) -> Any:
        assert (path.is_file(), provider) == (True, "cpu")
        paths.append(path)
        return SimpleNamespace(run=run)

    monkeypatch.setattr(runtime_divergence, "open_session", open_session)
    monkeypatch.setattr(runtime_divergence, "RuntimeSession", Session)
    # A little more, because a thousandth is none in float32.
    assert first_divergence(RUNTIME, chain("Relu", "Neg", "Exp"), feeds, 1.001e-3) == found
    assert not paths[0].parent.exists()

    def fail(*_: Any) -> None:
        raise InferenceError("no such output")

    monkeypatch.setattr(runtime_divergence, "open_session", fail)
    assert first_divergence(RUNTIME, chain("Relu", "Neg", "Exp"), feeds, 0.0) is None


def test_every_number_between_the_nodes_is_given_out_once(tmp_path: Path) -> None:
    model = chain("Relu", "Shape", "Cast", "Neg")
    model.graph.node[2].attribute.append(helper.make_attribute("to", TensorProto.INT32))
    model.graph.output[0].type.tensor_type.elem_type = TensorProto.INT32
    before = model.SerializeToString()
    # Shapes are int64, which is not compared.
    assert _save_with_values(model, tmp_path / "f.onnx") == ["v0", "v2", "y"]
    stored = onnx.load(tmp_path / "f.onnx")
    assert [value.name for value in stored.graph.output] == ["y", "v0", "v2"]
    assert model.SerializeToString() == before
