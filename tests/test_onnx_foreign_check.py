"""`check` of a file that another program exported: outputs, and weights by their values.

What is protected: a right file passes although its names, order of axes, batch and folding are its
own, and one wrong number fails.
"""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import helper, numpy_helper
from onnx_check_support import failed, text_of
from onnx_foreign_support import (
    FLOAT,
    INT64,
    LABELS,
    channels_last,
    network,
    torch_onnx,
    value,
    write,
)
from torch import nn

from torchlift.converters.images import Preprocessing
from torchlift.converters.onnx import OnnxError, annotate, check
from torchlift.converters.onnx.checker.foreign_runs import run_foreign
from torchlift.converters.onnx.checker.foreign_weights import compare_by_value
from torchlift.converters.onnx.checker.pair import ExportPair
from torchlift.converters.onnx.checker.reference import Constant
from torchlift.converters.saved import SavedModel

SHAPE = {"input_shape": (3, 6, 6)}


def test_files_of_torch_onnx_pass(tmp_path: Path) -> None:
    """With the batch normalization folded or not, and with a fixed batch or a free one."""
    module = network()
    folded = torch_onnx(tmp_path / "f.onnx", module)
    report = check(module, folded, **SHAPE)
    assert report.passed, "\n".join(report.lines())
    assert text_of(report, "weights") == "307 of 307 numbers compared: they are the model's"
    assert "exported by pytorch" in text_of(report, "interface")
    unfolded = torch_onnx(
        tmp_path / "u.onnx", module, None, training=torch.onnx.TrainingMode.PRESERVE,
        do_constant_folding=False,
    )  # fmt: skip
    assert check(module, unfolded, **SHAPE).passed
    half = torch_onnx(tmp_path / "h.onnx", network().half())
    report = check(module, half, **SHAPE)
    assert (report.profile, failed(report)) == ("fp16", [])


def test_channels_last_passes(tmp_path: Path) -> None:
    module = network()
    path = channels_last(tmp_path / "f.onnx", module)
    report = check(nn.Sequential(*module, nn.Softmax(1)), path, **SHAPE)
    assert report.passed, "\n".join(report.lines())


@pytest.mark.parametrize("name", ["5.weight", "onnx::Conv_13"])
def test_one_wrong_number_fails(tmp_path: Path, name: str) -> None:
    path = torch_onnx(tmp_path / "f.onnx", network())
    model = onnx.load(path)
    tensor = max(
        (one for one in model.graph.initializer if len(one.dims) == (2 if name[0] == "5" else 4)),
        key=lambda one: one.ByteSize(),
    )
    array = numpy_helper.to_array(tensor).copy()
    array.flat[3] *= 1.0001
    tensor.CopyFrom(numpy_helper.from_array(array, tensor.name))
    onnx.save(model, path)
    report = check(network(), path, **SHAPE)
    assert "weights" in failed(report)
    assert tensor.name in text_of(report, "weights")


def stored(**arrays: np.ndarray) -> onnx.ModelProto:
    """Return a graph that holds nothing but constants."""
    tensors = [numpy_helper.from_array(array, name) for name, array in arrays.items()]
    return helper.make_model(helper.make_graph([], "graph", [], [], tensors))


@pytest.mark.parametrize(
    ("units", "is_computed", "found"),
    [(0, False, True), (1, False, False), (1, True, True), (8, True, True), (9, True, False)],
)
def test_folded_numbers_may_differ_in_their_last_digits(
    units: int, is_computed: bool, found: bool
) -> None:
    """By 8 units of each number of a matrix, and of the largest of a bias."""
    matrix = np.array([[1, 2**-10], [2**10, 1]], np.float32)
    other = matrix.copy()
    other[0, 1] += np.float32(units) * np.spacing(matrix[0, 1])
    constant = {"w": Constant(matrix, is_computed)}
    result = compare_by_value([constant], stored(w=other))
    assert (result.compared, result.differing) == ((4, []) if found else (0, ["w (the model's w)"]))
    bias, shifted = matrix.ravel(), matrix.ravel().copy()
    shifted[1] += np.float32(units) * np.spacing(np.float32(2**10))
    result = compare_by_value([{"b": Constant(bias, is_computed)}], stored(b=shifted))
    assert result.compared == (4 if found else 0)
    # A row is no sign of its own: it may be folded, or of another layer.
    assert (result.differing, result.unknown) == ([], [] if found else ["b"])
    assert result.total == 4


def test_of_weights_of_one_shape_the_one_that_is_missing_is_named() -> None:
    first, second = np.arange(4.0, dtype=np.float32).reshape(2, 2), np.ones((2, 2), np.float32)
    constants = {"first": Constant(first, False), "second": Constant(second, False)}
    result = compare_by_value([constants], stored(a=first.T.copy(), b=second * 2))
    assert result.differing == ["b (the model's second)"]
    assert result.unknown == ["b"]
    # One of as many numbers in another shape is another one.
    row = stored(a=first.T.copy(), b=np.full((1, 4), 9, np.float32))
    result = compare_by_value([constants], row)
    assert (result.differing, result.unknown) == ([], ["b"])


def test_the_output_of_the_model_is_chosen(tmp_path: Path) -> None:
    node = helper.make_node
    nodes = [node("Relu", ["x"], ["other"]), node("GlobalAveragePool", ["x"], ["mean"])]
    outputs = [value("other", FLOAT, 2, 3, 6, 6), value("mean", FLOAT, 2, 3, 1, 1)]
    path = write(tmp_path / "f.onnx", nodes, [value("x", FLOAT, 2, 3, 6, 6)], outputs, {})
    model = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
    report = check(model, path, **SHAPE)
    assert "the file 2: other, mean; output_name=NAME chooses one" in text_of(report, "run")
    assert check(model, path, output_name="mean", **SHAPE).passed
    assert not check(model, path, output_name="other", **SHAPE).passed


def test_what_was_annotated_is_compared(tmp_path: Path) -> None:
    path = torch_onnx(tmp_path / "f.onnx", network())
    annotate(path, path, labels=LABELS, mean=0.5, std=0.25, overwrite=True)
    own = Preprocessing(size=(6, 6), mean=(0.5,), std=(0.25,))
    pixels = np.random.default_rng(0).integers(0, 256, (12, 3, 6, 6), np.uint8)
    said = {"labels": LABELS, "preprocessing": own, **SHAPE}
    report = check(network(), path, pixels, **said)
    assert report.passed, "\n".join(report.lines())
    for wrong in (
        {"labels": LABELS[::-1]},
        {"preprocessing": Preprocessing(size=(6, 6), mean=(0.4,), std=(0.25,))},
        {"output_kind": "log_probabilities"},
    ):
        assert next(iter(wrong)) in failed(check(network(), path, pixels, **{**said, **wrong}))


@pytest.mark.parametrize(("shape", "batch"), [([4, 3], 4), (["N", 3], None), ([0, 3], None)])
def test_the_batch_and_the_scores_of_a_file_are_found(
    tmp_path: Path, shape: list[int | str], batch: int | None
) -> None:
    """scikit-learn's exporter gives predicted classes beside the scores."""
    nodes = [
        helper.make_node("Identity", ["x"], ["scores"]),
        helper.make_node("ArgMax", ["x"], ["classes"], axis=1, keepdims=0),
    ]
    outputs = [value("classes", INT64, shape[0]), value("scores", FLOAT, *shape)]
    file = write(tmp_path / "f.onnx", nodes, [value("x", FLOAT, *shape)], outputs, {})
    pair = ExportPair.open(SavedModel(nn.Identity(), "logits"), file)
    assert pair.batch == batch
    assert pair.compared_outputs == ["scores"]


def test_a_weight_is_found_in_any_order_of_its_axes_or_as_a_row() -> None:
    """Both with a folded normalization and without, and no whole number is one."""
    kernel = np.arange(24, dtype=np.float32).reshape(2, 3, 4)
    folded, unfolded = {"w": Constant(kernel * 2, True)}, {"w": Constant(kernel, False)}
    for stored_as in (kernel.transpose(2, 0, 1), kernel.ravel(), kernel.reshape(6, 4), kernel * 2):
        result = compare_by_value([folded, unfolded], stored(k=np.ascontiguousarray(stored_as)))
        assert (result.compared, result.total, result.unknown) == (24, 24, [])
    # A reshape of the same number of axes is another weight.
    result = compare_by_value([unfolded], stored(k=kernel.reshape(4, 3, 2)))
    assert (result.compared, result.unknown) == (0, ["k"])
    # Also those of three-dimensional images.
    volume = np.arange(48, dtype=np.float32).reshape(2, 3, 1, 4, 2)
    turned = stored(k=np.ascontiguousarray(volume.transpose(2, 3, 4, 1, 0)))
    assert compare_by_value([{"w": Constant(volume, False)}], turned).compared == 48
    whole = {"w": Constant(np.arange(24), False)}
    assert compare_by_value([whole], stored(k=kernel)).compared == 0
    assert compare_by_value([unfolded], stored(k=np.arange(24))).total == 0


def test_a_fixed_batch_runs_in_pieces_whose_filling_is_dropped() -> None:
    class Session:
        def run(self, feeds: dict[str, np.ndarray], names: list[str]) -> list[np.ndarray]:
            assert (len(feeds["x"]), names) == (2, ["a", "b"])
            return [feeds["x"] * 2, feeds["x"][:, :1, None, None]]

    pair: Any = SimpleNamespace(batch=2, compared_outputs=["a", "b"])
    x = np.arange(15, dtype=np.float32).reshape(5, 3)
    session: Any = Session()
    doubled, column = run_foreign(pair, session, {"x": x}, [(5, 3), (5, 1)])
    assert np.array_equal(doubled, x * 2)
    assert np.array_equal(column, x[:, :1])
    with pytest.raises(OnnxError, match="the model has 1 outputs, the file 2: a, b; output_name=N"):
        run_foreign(pair, session, {"x": x}, [(5, 3)])
