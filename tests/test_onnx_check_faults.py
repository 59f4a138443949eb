"""`check` finds each kind of fault of a file, or of the model, by its own part of the check."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper
from onnx_check_support import CLASSES, PIXELS, export_digits, failed, text_of
from torch import nn

from torchlift.converters.images.preprocessing import Preprocessing
from torchlift.converters.onnx import OnnxError, check, export
from torchlift.converters.saved import SavedModel


# Each check translates its model, which takes seconds: the one with all kinds of layers, at first.
@pytest.fixture(
    scope="module",
    params=["digits-lenet5-bn", pytest.param("digits-lenet5", marks=pytest.mark.slow)],
)
def exported(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple:
    return export_digits(request.param, tmp_path_factory.mktemp("exported"))


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
    assert text.startswith(f"not the model's values: {linear}; ")


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
        stored.ir_version = 9

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
    # Whatever the model, the names in the file must fit its outputs.
    with pytest.raises(OnnxError, match="9 class names for 10 outputs"):
        check(model, shortened, PIXELS)


def test_another_normalization_is_found_with_and_without_pixels(
    exported: tuple, tmp_path: Path
) -> None:
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
    last = [t.name for t in onnx.load(path).graph.initializer if t.name.endswith("bias")][-1]
    report = check(broken, tampered(path, tmp_path, weight(last, add((0,), np.nan))), PIXELS)
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
    # torch cannot translate such a model for every batch either.
    assert failed(report) == ["weights", "outputs", "edge_cases"]
    assert [comparison.error < 1e-6 for comparison in report.comparisons] == [True, True, False]
