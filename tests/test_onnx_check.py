"""`check` passes a correct file, and finds each kind of fault by its own part of the check."""

from __future__ import annotations

import copy
import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper
from support import FIXTURES
from torch import nn

from torchlift.converters.images.preprocessing import Preprocessing
from torchlift.converters.onnx import (
    PROFILES,
    CheckReport,
    OnnxError,
    check,
    export,
    write_check_report,
)
from torchlift.converters.onnx.checker.comparison import Tie, compare
from torchlift.converters.saved import SavedModel, open_model
from torchlift.transfer.data import read_dataset

DIGITS = FIXTURES / "digits"
DATA = read_dataset(DIGITS / "digits-test.t7")
PIXELS, CLASSES = DATA.images[:40], DATA.classes[:40]


@pytest.fixture(scope="module", params=["digits-lenet5", "digits-lenet5-bn"])
def exported(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple:
    model = open_model(
        DIGITS / f"{request.param}.t7",
        labels=DIGITS / "digits_classes.t7",
        mean_std=DIGITS / "digits_meanStd.t7",
    )
    path = tmp_path_factory.mktemp("exported") / "digits.onnx"
    export(model, path)
    return model, path


def failed(report: CheckReport) -> list[str]:
    return [finding.name for finding in report.findings if not finding.passed]


def text_of(report: CheckReport, name: str) -> str:
    return next(finding.text for finding in report.findings if finding.name == name)


def tampered(path: Path, tmp_path: Path, change: Callable[[onnx.ModelProto], None]) -> Path:
    model = onnx.load(path)
    change(model)
    onnx.save(model, tmp_path / "tampered.onnx")
    return tmp_path / "tampered.onnx"


def weight(suffix: str, change: Callable[[np.ndarray], None]) -> Callable:
    """Return a change of the first weight tensor whose name has this suffix."""

    def apply(model: onnx.ModelProto) -> None:
        tensor = next(t for t in model.graph.initializer if t.name.endswith(suffix))
        array = numpy_helper.to_array(tensor).copy()
        change(array)
        tensor.CopyFrom(numpy_helper.from_array(array, tensor.name))

    return apply


def metadata(name: str, change: Callable) -> Callable:
    def apply(model: onnx.ModelProto) -> None:
        prop = next(prop for prop in model.metadata_props if prop.key == name)
        prop.value = json.dumps(change(json.loads(prop.value)))

    return apply


def add(place: tuple[int, ...], amount: float) -> Callable[[np.ndarray], None]:
    def apply(array: np.ndarray) -> None:
        array[place] += amount

    return apply


def test_a_correct_file_passes_and_the_report_says_what_was_run(exported: tuple) -> None:
    model, path = exported
    report = check(model, path, PIXELS)
    assert report.passed, list(report.lines())
    assert report.provider == "CPUExecutionProvider"
    assert [comparison.batch for comparison in report.comparisons] == [1, 2, 7, 30]
    assert report.agreement == (40, 40)
    assert report.data == "data given (40)"
    # 1e-4 is allowed, but rounding alone gives a hundredth of it.
    assert report.error < 1e-6
    assert list(report.lines())[-1] == f"{path}: passed"

    values = json.loads(json.dumps(report.to_json()))
    assert values["passed"] is True
    assert [finding["name"] for finding in values["findings"]] == [
        *("structure", "interface", "preprocessing", "output_kind", "source", "labels", "folding"),
        *("weights", "provider", "finite", "outputs", "top-1", "top-5", "edge_cases"),
    ]
    assert values["file"] == str(path)
    assert values["error"] == max(part["error"] for part in values["comparisons"])


def test_without_data_the_inputs_are_noise_and_the_report_says_so(exported: tuple) -> None:
    model, path = exported
    report = check(model, path, seed=3)
    assert report.passed
    assert report.data == "noise from seed 3 (no data given)"
    assert [comparison.batch for comparison in report.comparisons] == [1, 2, 7]


def test_one_weight_changed_in_the_file(exported: tuple, tmp_path: Path) -> None:
    model, path = exported
    changed = tampered(path, tmp_path, weight("0.weight", add((3, 0, 2, 2), 0.5)))
    report = check(model, changed, PIXELS)
    assert failed(report)[:2] == ["weights", "outputs"]
    assert report.error > 1e-3


def test_a_small_change_of_one_weight_that_the_outputs_hardly_show(
    exported: tuple, tmp_path: Path
) -> None:
    model, path = exported
    linear = next(name for name, t in model.module.state_dict().items() if t.dim() == 2)
    report = check(model, tampered(path, tmp_path, weight(linear, add((5, 7), 1e-3))), PIXELS)
    assert failed(report) == ["weights"]
    text = next(finding.text for finding in report.findings if finding.name == "weights")
    assert text == f"not the model's values: {linear}"


@pytest.mark.parametrize("place", ["second", "last"])
def test_the_first_node_that_diverges_is_named(exported: tuple, tmp_path: Path, place: str) -> None:
    model, path = exported
    stored = onnx.load(path)
    weights = [t.name for t in stored.graph.initializer if t.name.endswith("weight")]
    changed = weights[1 if place == "second" else -1]
    node = next(node for node in stored.graph.node if changed in node.input)
    file = tampered(path, tmp_path, weight(changed, lambda array: np.add(array, 3, out=array)))
    report = check(model, file, PIXELS, locate=True)
    assert failed(report)[-1] == "locate"
    text = text_of(report, "locate")
    assert f"diverges is {node.name} ({node.op_type}), layer " in text


def test_accuracy_is_measured_on_the_labels(exported: tuple, tmp_path: Path) -> None:
    model, path = exported
    report = check(model, path, PIXELS, classes=CLASSES)
    with torch.no_grad():
        inputs = (torch.from_numpy(PIXELS).float() - 60.420907472773706) / 84.66634636325098
        accuracy = (model.module(inputs).argmax(1).numpy() == CLASSES).mean()
    text = text_of(report, "accuracy")
    assert text.startswith(f"{accuracy:.4f} of the model, {accuracy:.4f} of the file")

    # A class that is never predicted any more costs accuracy.
    last = [t.name for t in onnx.load(path).graph.initializer if t.name.endswith("bias")][-1]
    file = tampered(path, tmp_path, weight(last, add((int(CLASSES[0]),), -1e3)))
    report = check(model, file, PIXELS, classes=CLASSES, tolerance=1e9)
    assert "accuracy" in failed(report)
    with pytest.raises(OnnxError, match="3 classes were given for 40 examples"):
        check(model, path, PIXELS, classes=CLASSES[:3])


def test_a_version_that_older_runtimes_do_not_read(exported: tuple, tmp_path: Path) -> None:
    model, path = exported

    def newer(stored: onnx.ModelProto) -> None:
        stored.ir_version = 11

    report = check(model, tampered(path, tmp_path, newer), PIXELS)
    assert failed(report) == ["structure"]
    assert "opset 13 to 18 and IR 7 to 8 were expected" in text_of(report, "structure")


def test_one_weight_changed_in_the_model(exported: tuple) -> None:
    model, path = exported
    other = copy.deepcopy(model)
    with torch.no_grad():
        next(p for p in other.module.parameters() if p.dim() == 2)[0, 0] += 1
    assert "weights" in failed(check(other, path, PIXELS))


def test_two_labels_swapped(exported: tuple, tmp_path: Path) -> None:
    model, path = exported
    swapped = metadata("labels", lambda names: [names[0], names[2], names[1], *names[3:]])
    report = check(model, tampered(path, tmp_path, swapped), PIXELS)
    assert failed(report) == ["labels"]
    text = next(finding.text for finding in report.findings if finding.name == "labels")
    assert text == "output 1 is 'two' in the file, 'one' in the model"
    shortened = tampered(path, tmp_path, metadata("labels", lambda names: names[:9]))
    assert failed(check(model, shortened, PIXELS)) == ["labels"]
    # A model without labels has none to compare with; the file's must still fit its outputs.
    unnamed = SavedModel(model.module, model.output_kind, model.input_shape)
    assert failed(check(unnamed, shortened)) == ["labels"]


def test_another_normalization(exported: tuple, tmp_path: Path) -> None:
    model, path = exported
    other = metadata("preprocessing", lambda values: {**values, "mean": [61.0]})
    report = check(model, tampered(path, tmp_path, other), PIXELS)
    # Pixels go through the file's own preprocessing, so that the outputs differ too.
    assert failed(report) == ["preprocessing", "outputs"]
    assert failed(check(model, tampered(path, tmp_path, other))) == ["preprocessing"]


def test_channels_in_another_order(tmp_path: Path) -> None:
    torch.manual_seed(0)
    module = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(4 * 36, 5)).eval()
    model = SavedModel(module, "logits", (3, 8, 8), preprocessing=Preprocessing("RGB", (8, 8)))
    export(model, tmp_path / "model.onnx")
    pixels = np.random.default_rng(0).integers(0, 256, (9, 3, 8, 8), np.uint8)
    assert check(model, tmp_path / "model.onnx", pixels).passed
    swapped = metadata("preprocessing", lambda values: {**values, "color": "BGR"})
    report = check(model, tampered(tmp_path / "model.onnx", tmp_path, swapped), pixels)
    assert failed(report)[:2] == ["preprocessing", "outputs"]


def test_another_source_and_output_kind(exported: tuple, tmp_path: Path) -> None:
    model, path = exported
    other = metadata("source", lambda source: {**source, "sha256": "0" * 64})
    assert failed(check(model, tampered(path, tmp_path, other))) == ["source"]
    other = metadata("output_kind", lambda _: "logits")
    assert failed(check(model, tampered(path, tmp_path, other))) == ["output_kind"]


def test_a_nan_in_the_file_and_in_the_model(exported: tuple, tmp_path: Path) -> None:
    model, path = exported
    changed = tampered(path, tmp_path, weight(".bias", add((0,), np.nan)))
    report = check(model, changed, PIXELS)
    assert "weights" in failed(report)
    assert text_of(report, "weights").startswith("NaN in ")

    # NaN on both sides does not pass as agreement.
    broken = copy.deepcopy(model)
    with torch.no_grad():
        [p for p in broken.module.parameters() if p.dim() == 1][-1][0] = torch.nan
    export(broken, tmp_path / "broken.onnx")
    report = check(broken, tmp_path / "broken.onnx", PIXELS)
    assert {"weights", "finite", "outputs"} <= set(failed(report))
    # No output is finite, and JSON has no NaN.
    values = json.loads(json.dumps(report.to_json(), allow_nan=False))
    assert values["error"] is None
    assert {comparison["error"] for comparison in values["comparisons"]} == {None}


def test_names_and_axes_are_read_from_the_file(exported: tuple, tmp_path: Path) -> None:
    model, path = exported

    def rename(stored: onnx.ModelProto) -> None:
        stored.graph.node[-1].output[0] = stored.graph.output[0].name = "scores"

    def fix(stored: onnx.ModelProto) -> None:
        stored.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 2

    assert failed(check(model, tampered(path, tmp_path, rename))) == ["interface"]
    report = check(model, tampered(path, tmp_path, fix))
    assert "interface" in failed(report)
    # ONNX Runtime accepts only a batch of 2, and the first batch has one example.
    assert "run" in failed(report)


def test_an_unknown_operator(exported: tuple, tmp_path: Path) -> None:
    model, path = exported

    def misspell(stored: onnx.ModelProto) -> None:
        stored.graph.node[0].op_type = "Convv"

    report = check(model, tampered(path, tmp_path, misspell))
    assert {"structure", "run"} <= set(failed(report))
    assert report.to_json()["error"] is None


class SevenIsDifferent(nn.Module):
    def __init__(self, wrong: bool) -> None:
        super().__init__()
        self.linear = nn.Linear(4, 3)
        self.wrong = wrong

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        output = self.linear(input.flatten(1))
        return output * 1.01 if self.wrong and input.shape[0] == 7 else output


def test_a_network_that_is_wrong_for_one_batch_size(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = SevenIsDifferent(wrong=False)
    export(model, tmp_path / "model.onnx", input_shape=(1, 2, 2), output_kind="logits")
    model.wrong = True
    report = check(model, tmp_path / "model.onnx", input_shape=(1, 2, 2), output_kind="logits")
    assert failed(report) == ["outputs", "edge_cases"]
    assert [comparison.error < 1e-6 for comparison in report.comparisons] == [True, True, False]


class FirstOfTwo(nn.Module):
    def forward(self, inputs: list[torch.Tensor]) -> torch.Tensor:
        return inputs[0] + 1


def test_modules_are_run_on_noise_of_the_input_shapes_in_the_file(tmp_path: Path) -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(12, 5))
    export(model, tmp_path / "model.onnx", input_shape=(3, 2, 2))
    assert check(model, tmp_path / "model.onnx").passed
    # Also with an input that no output depends on.
    export(FirstOfTwo(), tmp_path / "two.onnx", inputs=[torch.ones(2, 3), torch.ones(2, 1)])
    report = check(FirstOfTwo(), tmp_path / "two.onnx")
    assert report.passed, list(report.lines())


def test_files_that_are_missing_or_not_onnx(exported: tuple, tmp_path: Path) -> None:
    model, _ = exported
    with pytest.raises(OnnxError, match=r"missing\.onnx: no such file"):
        check(model, tmp_path / "missing.onnx")
    (tmp_path / "text.onnx").write_text("This is not a model.\n")
    with pytest.raises(OnnxError, match=r"text\.onnx: not an ONNX file"):
        check(model, tmp_path / "text.onnx")


def test_errors_are_relative_to_the_largest_output_and_say_where() -> None:
    expected = np.array([[1.0, -4.0, 2.0], [0.5, 0.25, 0.0]], np.float32)
    actual = expected.copy()
    actual[1, 2] = 0.04
    result = compare(expected, actual, np.array([8, 9]), 1e-4, is_classifier=True)
    assert result.error == pytest.approx(0.01)
    assert result.where == (9, 2)
    assert result.values == pytest.approx((0.0, 0.04))
    assert result.agreeing == 2


def test_a_tie_counts_as_agreement_and_a_clear_difference_does_not() -> None:
    expected = np.array([[1.0, 1.00001, 0.0]])
    actual = np.array([[1.00002, 1.0, 0.0]])
    tied = compare(expected, actual, np.array([8]), 1e-4, is_classifier=True)
    assert tied.agreeing == 1
    assert tied.ties == [Tie(example=8, first=1, second=0)]
    assert compare(expected, actual, np.arange(1), 1e-6, is_classifier=True).agreeing == 0


def test_nan_is_counted_and_left_out_of_the_error() -> None:
    expected, actual = np.array([[1.0, 2.0]]), np.array([[np.nan, 2.0]])
    result = compare(expected, actual, np.arange(1), 1e-4, is_classifier=False)
    assert result.not_finite == (0, 1)
    assert result.error == 0
    nothing = compare(expected * np.nan, actual, np.arange(1), 1e-4, is_classifier=False)
    assert math.isnan(nothing.error)


def test_top5_is_compared_as_a_set_with_ties() -> None:
    expected = np.array([[9.0, 8, 7, 6, 5, 4.995, 3]])
    swapped = expected[:, [1, 0, 2, 3, 4, 5, 6]]
    assert compare(expected, swapped, np.arange(1), 1e-4, is_classifier=True).top5 == 1
    other = expected[:, [0, 1, 2, 3, 5, 4, 6]]
    assert compare(expected, other, np.arange(1), 1e-4, is_classifier=True).top5 == 0.8
    # The fifth and the sixth class tie.
    assert compare(expected, other, np.arange(1), 1e-3, is_classifier=True).top5 == 1
    # No tolerance makes a tie of scores that are clearly apart.
    last = expected[:, [0, 1, 2, 3, 6, 5, 4]]
    assert compare(expected, last, np.arange(1), 0.5, is_classifier=True).top5 == 0.8


def test_errors_above_the_tolerance_are_counted() -> None:
    expected, actual = np.array([[1.0, 10.0, 3.0]]), np.array([[1.5, 10.0, 3.2]])
    result = compare(expected, actual, np.arange(1), 0.03, is_classifier=False, input_shape=(3,))
    assert (result.above, result.count, result.input_shape) == (1, 3, (3,))


def test_limits_can_be_named_given_or_changed(exported: tuple) -> None:
    model, path = exported
    assert check(model, path, PIXELS, profile="fp16").tolerance == 1e-2
    strict = replace(PROFILES["fp32-cpu"], name="strict", tolerance=0)
    for report in (
        check(model, path, PIXELS, profile=strict),
        check(model, path, PIXELS, tolerance=0),
    ):
        assert failed(report) == ["outputs", "edge_cases"]
    with pytest.raises(OnnxError, match="no profile 'fp8': choose fp32-cpu, fp32-gpu, fp16, int8"):
        check(model, path, PIXELS, profile="fp8")


def test_details_replace_those_of_a_saved_model(exported: tuple) -> None:
    model, path = exported
    report = check(model, path, PIXELS, labels=[f"class {index}" for index in range(10)])
    assert failed(report) == ["labels"]
    report = check(model, path, PIXELS, output_kind="logits")
    assert failed(report) == ["interface", "output_kind"]
    with pytest.raises(TypeError, match="lables"):
        check(model, path, PIXELS, lables=["zero"])


def test_reports_are_replaced_as_a_whole(exported: tuple) -> None:
    model, path = exported
    report = check(model, path, PIXELS)
    for _ in range(2):
        files = write_check_report(report)
    assert json.loads(files[0].read_text(encoding="utf-8")) == json.loads(
        json.dumps(report.to_json())
    )
    assert files[1].read_text(encoding="utf-8").splitlines() == list(report.lines())
    assert sorted(path.parent.iterdir()) == sorted([path, *files])
    for file in files:
        file.unlink()
