"""The limits of `check` bite: a file just outside one fails, and nothing else makes up for it.

The files are put together by hand, not exported, so that each has exactly one fault. The limits are
those of the table in docs/checks.md.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from onnx_check_support import failed
from support import ROOT
from torch import nn

from torchlift.converters.images.preprocessing import Preprocessing
from torchlift.converters.inference.metadata import Metadata
from torchlift.converters.onnx import PROFILES, check
from torchlift.converters.onnx.checker import divergence
from torchlift.converters.onnx.checker.check import full_float32
from torchlift.converters.onnx.checker.comparison import compare
from torchlift.converters.onnx.checker.profiles import choose_profile
from torchlift.converters.onnx.checker.thresholds import (
    check_accuracy,
    check_outputs,
    is_enough,
)
from torchlift.converters.saved import SavedModel


def documented() -> dict[str, list[float]]:
    """The table of docs/checks.md: profile → error, top-1, top-5, loss."""
    text = (ROOT / "docs" / "checks.md").read_text(encoding="utf-8")
    rows = text.split("| loss of accuracy |")[1].split("\n\n")[0].splitlines()[2:]

    def number(cell: str) -> float:
        if cell.endswith("%"):
            return float(cell[:-1]) / 100
        over, _, under = cell.partition("/")
        return float(over) / float(under or 1)

    cells = [[cell.strip() for cell in row.strip("|").split("|")] for row in rows]
    return {row[0].split()[0]: [number(cell) for cell in row[1:]] for row in cells}


def test_profiles_are_those_of_the_documentation() -> None:
    values = {
        name: [limits.tolerance, limits.top1, limits.top5, limits.drop]
        for name, limits in PROFILES.items()
    }
    assert values == {name: pytest.approx(row) for name, row in documented().items()}


def test_the_profile_follows_the_arithmetic_and_the_provider() -> None:
    for precision, provider, name in (
        ("fp16", "CPUExecutionProvider", "fp16"),
        ("int8", "CUDAExecutionProvider", "int8"),
        ("fp32", "CPUExecutionProvider", "fp32-cpu"),
        (None, "", "fp32-cpu"),
        ("fp32", "CUDAExecutionProvider", "fp32-gpu"),
    ):
        assert choose_profile(None, None, precision, provider).name == name
    assert choose_profile("fp16", 0.0, "fp32", "").tolerance == 0


@pytest.mark.parametrize("name", PROFILES)
def test_a_file_may_lose_as_much_accuracy_as_its_profile_says(name: str) -> None:
    allowed = round(PROFILES[name].drop * 1000)
    classes = np.zeros(1000, np.int64)
    for lost, ties, passes in ((allowed, 0, True), (allowed + 1, 0, False), (allowed + 3, 3, True)):
        file = classes.copy()
        file[:lost] = 1
        finding = check_accuracy(classes, (classes, file), ties, PROFILES[name].drop)
        assert finding.passed is passes, finding.text
        # A file may be more accurate than its model.
        assert check_accuracy(file, (classes, file), 0, PROFILES[name].drop).passed


@pytest.mark.parametrize("name", PROFILES)
def test_one_output_of_all_batches_may_be_off_by_the_tolerance_and_no_more(name: str) -> None:
    """The largest output is 2; the error is one output's, in the second of three batches."""
    limits = PROFILES[name]
    for factor, passes in ((0.999, True), (1.001, False), (-1.001, False)):
        comparisons = []
        for batch in range(3):
            expected = np.array([[2.0, -1.0], [0.5, 0.0]])
            actual = expected.copy()
            actual[1, 1] += factor * limits.tolerance * 2 * (batch == 1)
            examples = np.arange(2) + 2 * batch
            comparisons.append(compare(expected, actual, examples, limits.tolerance, False))
        (finding,) = (
            one for one in check_outputs(comparisons, limits, None) if one.name == "outputs"
        )
        assert finding.passed is passes, finding.text
        assert f"({0 if passes else 1} of 12 outputs above)" in finding.text
        assert "at [3, 1]" in finding.text


@pytest.mark.parametrize("name", PROFILES)
def test_as_many_predictions_must_agree_as_a_profile_says(name: str) -> None:
    limits = replace(PROFILES[name], tolerance=10)
    needed = round(limits.top1 * 100)
    for agreeing, passes in ((needed, True), (needed - 1, False)):
        expected = np.tile([2.0, 1.0], (100, 1))
        actual = expected.copy()
        actual[agreeing:] = [1.0, 2.0]
        result = compare(expected, actual, np.arange(100), limits.tolerance, is_classifier=True)
        findings = {f.name: f.passed for f in check_outputs([result], limits, None)}
        assert findings == {"finite": True, "outputs": True, "top-1": passes}


def test_fractions_are_counted_exactly() -> None:
    """In floating point 0.9 is a little more than 9/10, and 0.3 a little less than 3/10."""
    assert is_enough(63, 0.9, 70)
    assert not is_enough(62, 0.9, 70)
    classes, file = np.zeros(10, np.int64), np.array([1, 1, 1] + [0] * 7)
    assert check_accuracy(classes, (classes, file), 0, 0.3).passed
    assert not check_accuracy(classes, (classes, file), 0, 0.29).passed


def test_predictions_are_judged_only_where_every_output_has_classes() -> None:
    scores = np.array([[2.0, 1.0]])
    with_classes, without = (compare(scores, scores, np.arange(1), 1e-4, is_) for is_ in (1, 0))
    for comparisons, names in (
        ([with_classes, with_classes], ["finite", "outputs", "top-1"]),
        ([with_classes, without], ["finite", "outputs"]),
    ):
        findings = check_outputs(comparisons, PROFILES["fp16"], None)
        assert [found.name for found in findings] == names


@pytest.mark.parametrize("side", [0, 1])
def test_nan_and_infinity_of_either_side_fail(side: int) -> None:
    for value in (np.nan, np.inf):
        outputs = np.ones((2, 3)), np.ones((2, 3))
        outputs[side][1, 1] = value
        result = compare(*outputs, np.arange(2), 10, is_classifier=False)
        findings = {f.name: f.passed for f in check_outputs([result], PROFILES["fp16"], None)}
        assert not findings["finite"]


def test_top5_is_counted_over_examples_not_over_batches() -> None:
    scores = np.arange(10.0)[None]
    other = scores.copy()
    other[0, [4, 5]] = other[0, [5, 4]]  # One of the five is another.
    agreeing = compare(scores.repeat(9, 0), scores.repeat(9, 0), np.arange(9), 10, True)
    differing = compare(scores, other, np.arange(1), 10, True)
    assert (agreeing.top5, differing.top5) == (45, 4)
    limits = replace(PROFILES["fp16"], tolerance=10, top5=0.98)
    assert {f.name: f.passed for f in check_outputs([agreeing, differing], limits, None)}["top-5"]
    limits = replace(limits, top5=0.981)
    findings = {f.name: f.passed for f in check_outputs([agreeing, differing], limits, None)}
    assert not findings["top-5"]


def test_only_a_thousandth_of_the_largest_output_is_a_tie_whatever_the_tolerance() -> None:
    for gap, agreeing in ((0.0009, 1), (0.0011, 0)):
        expected = np.array([[100.0, 100.0 * (1 - gap), 0]])
        actual = expected[:, [1, 0, 2]]
        for tolerance in (0.2, 0.01):
            result = compare(expected, actual, np.arange(1), tolerance, is_classifier=True)
            assert (result.agreeing, len(result.ties)) == (agreeing, agreeing)


def graph(
    bias: np.ndarray, metadata: Metadata, pixels: bool = False, shape: tuple[int, ...] = (2, 1, 1)
) -> onnx.ModelProto:
    """Return what `export` writes for `classifier`, with another bias."""
    kind = TensorProto.UINT8 if pixels else TensorProto.FLOAT
    values = [
        helper.make_tensor_value_info("input", kind, ["batch", *shape]),
        helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", len(bias)]),
    ]
    nodes = [
        helper.make_node("Flatten", ["floats" if pixels else "input"], ["flatten"], "flat", axis=1),
        helper.make_node("Gemm", ["flatten", "1.weight", "1.bias"], ["logits"], "gemm", transB=1),
    ]
    if pixels:
        nodes.insert(0, helper.make_node("Cast", ["input"], ["floats"], "cast", to=1))
    weights = [
        numpy_helper.from_array(np.eye(2, dtype=np.float32), "1.weight"),
        numpy_helper.from_array(bias.astype(np.float32), "1.bias"),
    ]
    model = helper.make_model(
        helper.make_graph(nodes, "hand-made", values[:1], values[1:], weights),
        opset_imports=[helper.make_opsetid("", 18)],
        ir_version=8,
    )
    helper.set_model_props(model, metadata.to_props())
    return model


def classifier(**details: Any) -> SavedModel:
    """Return a network whose scores are its input's two values."""
    network = nn.Sequential(nn.Flatten(), nn.Linear(2, 2)).eval()
    with torch.no_grad():
        network[1].weight.copy_(torch.eye(2))
        network[1].bias.zero_()
    return SavedModel(network, "logits", (2, 1, 1), **details)


def metadata(**entries: Any) -> Metadata:
    return Metadata(**{"output_kind": "logits", "precision": "fp32", **entries})


@pytest.mark.parametrize(("flipped", "passes"), [(1, True), (2, False)])
def test_an_int8_file_that_loses_accuracy_fails(flipped: int, passes: bool, tmp_path: Path) -> None:
    """Its outputs are within 0.2 and 98 % of its predictions agree: only the accuracy tells."""
    scores = np.tile(np.float32([1, 0]), (100, 1))
    scores[:flipped] = [0.5, 0.45]
    # The bias of a quantized file is not compared with the model's under another name.
    model = graph(np.zeros(2), metadata(precision="int8"))
    gemm = model.graph.node[1]
    gemm.input[2] = "shifted"
    model.graph.initializer[1].CopyFrom(numpy_helper.from_array(np.float32([-0.1, 0]), "shifted"))
    onnx.save(model, tmp_path / "int8.onnx")
    inputs, classes = scores.reshape(100, 2, 1, 1), np.zeros(100, np.int64)
    report = check(classifier(), tmp_path / "int8.onnx", inputs, classes=classes, min_compared=0.5)
    assert report.profile == "int8"
    assert failed(report) == ([] if passes else ["accuracy"])


def test_random_images_of_other_sizes_do_not_count_as_the_examples(tmp_path: Path) -> None:
    """A file for images of any size runs noise of other sizes too, which has no true class."""
    model = graph(np.array([0, 3]), metadata())
    for axis, name in ((2, "height"), (3, "width")):
        model.graph.input[0].type.tensor_type.shape.dim[axis].dim_param = name
    model.graph.node.insert(0, helper.make_node("GlobalAveragePool", ["input"], ["pooled"], "pool"))
    model.graph.node[1].input[0] = "pooled"
    onnx.save(model, tmp_path / "model.onnx")
    network = nn.Sequential(nn.AdaptiveAvgPool2d(1), *classifier().module).eval()
    with torch.no_grad():
        network[2].bias[1] = 3
    # Class 0 for these, class 1 for whatever has a mean near 0.
    images = np.zeros((10, 2, 4, 6), np.float32)
    images[:, 0] = 10
    saved = SavedModel(network, "logits", (2, 4, 6))
    report = check(saved, tmp_path / "model.onnx", images, classes=np.zeros(10, np.int64))
    assert len({comparison.input_shape for comparison in report.comparisons}) == 3
    text = next(finding.text for finding in report.findings if finding.name == "accuracy")
    assert text.startswith("1.0000 of the model, 1.0000 of the file")


def test_pixels_without_preprocessing_in_the_graph(tmp_path: Path) -> None:
    """Such a file would get pixels that nothing has normalized, without an error."""
    preprocessing = Preprocessing("gray", (2, 1), value_range=255)
    shape = (1, 2, 1)
    model = replace(classifier(), preprocessing=preprocessing, input_shape=shape)
    file = tmp_path / "pixels.onnx"
    pixels = np.random.default_rng(0).integers(0, 256, (9, *shape)).astype(np.float32)
    for baked, expected in ((None, ["interface"]), (preprocessing, [])):
        entries = metadata(preprocessing=preprocessing, baked_preprocessing=baked)
        onnx.save(graph(np.zeros(2), entries, pixels=True, shape=shape), file)
        names = failed(check(model, file, pixels))
        assert [name for name in names if name == "interface"] == expected
    # And the other way: a graph that takes floats has no preprocessing inside.
    onnx.save(graph(np.zeros(2), entries, shape=shape), file)
    assert "interface" in failed(check(model, file, pixels))


def test_a_node_whose_result_is_nan_is_located(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """NaN is in no difference: where it is finite, the node's result is the model's."""

    def torch_values(module: nn.Sequential, inputs: torch.Tensor, _: bool) -> Any:
        flat = module[0](inputs)
        values = {"flatten": (flat, "0"), "linear": (module[1](flat), "1")}
        return {name: (v.detach().numpy(), layer) for name, (v, layer) in values.items()}, [
            "linear"
        ]

    # Tracing takes seconds, and `test_onnx_check_faults` does it.
    monkeypatch.setattr(divergence, "_torch_values", torch_values)
    onnx.save(graph(np.array([np.nan, 0]), metadata()), tmp_path / "nan.onnx")
    report = check(classifier(), tmp_path / "nan.onnx", locate=True)
    assert report.findings[-1].name == "locate"
    assert not report.findings[-1].passed
    assert "diverges is gemm (Gemm), layer 1" in report.findings[-1].text


class Recorder(nn.Module):
    """Keeps whether products may be rounded to TF32 while it runs."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network
        self.allowed: set[bool] = set()

    def __deepcopy__(self, memo: dict[int, Any]) -> Recorder:
        return self

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        self.allowed |= {
            torch.backends.cuda.matmul.allow_tf32,
            torch.backends.cudnn.allow_tf32,
        }
        return self.network(input)  # type: ignore[no-any-return]  # a module's call


@pytest.fixture
def _tf32_allowed() -> Any:
    matmul, cudnn = torch.backends.cuda.matmul, torch.backends.cudnn
    before = matmul.allow_tf32, cudnn.allow_tf32
    matmul.allow_tf32 = cudnn.allow_tf32 = True
    yield
    matmul.allow_tf32, cudnn.allow_tf32 = before


@pytest.mark.usefixtures("_tf32_allowed")
def test_pytorch_does_not_round_to_tf32_during_a_check(tmp_path: Path) -> None:
    """TF32 keeps 10 bits, an error of 5e-4 where 1e-3 is allowed; the flags need no GPU."""
    onnx.save(graph(np.zeros(2), metadata()), tmp_path / "model.onnx")
    recorder = Recorder(classifier().module)
    check(recorder, tmp_path / "model.onnx", input_shape=(2, 1, 1), output_kind="logits")
    assert recorder.allowed == {False}
    # The caller's choice is back, whether the check ends well or not.
    assert torch.backends.cuda.matmul.allow_tf32
    assert torch.backends.cudnn.allow_tf32
    # Each has one of its own.
    for cudnn in (True, False):
        torch.backends.cudnn.allow_tf32 = cudnn
        with pytest.raises(ZeroDivisionError), full_float32():
            _ = 1 / 0
        assert torch.backends.cuda.matmul.allow_tf32
        assert torch.backends.cudnn.allow_tf32 is cudnn


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.usefixtures("_tf32_allowed")
def test_products_on_a_gpu_have_the_precision_of_float32() -> None:
    torch.manual_seed(0)
    first, second = torch.randn(2, 512, 512, dtype=torch.float64)
    with full_float32():
        product = (first.float().cuda() @ second.float().cuda()).double().cpu()
    expected = first @ second
    # float32 keeps 24 bits, TF32 11: errors of 1e-7 and 5e-4 of a factor, averaged over 512 terms.
    assert float((product - expected).abs().max() / expected.abs().max()) < 5e-6


@pytest.mark.parametrize(("share", "passes"), [(0.5, True), (0.5 + 1e-9, False)])
def test_exactly_as_many_numbers_as_required_are_enough(
    share: float, passes: bool, tmp_path: Path
) -> None:
    """Six numbers of the model, and six of which it has none."""
    model = graph(np.zeros(2), metadata())
    strangers = np.arange(6, dtype=np.float32) + 9
    model.graph.initializer.append(numpy_helper.from_array(strangers, "strangers"))
    onnx.save(model, tmp_path / "more.onnx")
    report = check(classifier(), tmp_path / "more.onnx", min_compared=share)
    (found,) = [finding for finding in report.findings if finding.name == "weights"]
    assert "6 of 12 numbers compared" in found.text
    assert found.passed is passes
