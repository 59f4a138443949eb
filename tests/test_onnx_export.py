"""`export` writes one self-describing file for every batch size, and leaves the model unchanged."""

from __future__ import annotations

import json
import warnings
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
import torchvision
from support import FIXTURES, ROOT, relative_error
from torch import nn

import torchlift
from torchlift.converters import t7
from torchlift.converters.errors import LabelsError, WriteError
from torchlift.converters.inference import InferenceError, open_predictor
from torchlift.converters.inference.providers import open_session
from torchlift.converters.onnx import OnnxError, check, describe_file, export
from torchlift.converters.onnx.onnx_file import axes
from torchlift.converters.saved import SavedModel, open_model

DIGITS = FIXTURES / "digits"
MODELS = ("softmax", "convnet", "convnet_bn", "lenet5", "alexnetowtbn_small")


@pytest.fixture(scope="module")
def digits() -> SavedModel:
    return open_model(
        DIGITS / "digits-lenet5-bn.t7",
        labels=DIGITS / "digits_classes.t7",
        mean_std=DIGITS / "digits_meanStd.t7",
    )


def run(path: Path, *inputs: torch.Tensor) -> list[torch.Tensor]:
    session = open_session(path, "cpu").runtime
    names = [value.name for value in session.get_inputs()]
    feed = {name: array.numpy() for name, array in zip(names, inputs, strict=True)}
    return [torch.from_numpy(array) for array in session.run(None, feed)]


@pytest.mark.parametrize("name", MODELS)
def test_fixture_networks_give_torch7s_outputs_at_every_batch_size(
    name: str, tmp_path: Path
) -> None:
    io = t7.to_torch(t7.load(FIXTURES / "models" / f"{name}_io.t7"))
    inputs, outputs = io["input"], io["output"]
    if inputs.dim() == 3:
        inputs, outputs = inputs[None], outputs[None]
    model = open_model(FIXTURES / "models" / f"{name}.t7")
    export(model, tmp_path / "model.onnx", input_shape=inputs.shape[1:])
    # Torch7 and ONNX Runtime sum in different orders; single precision leaves about 1e-6.
    assert relative_error(run(tmp_path / "model.onnx", inputs)[0], outputs) < 1e-5

    report = check(model, tmp_path / "model.onnx", inputs, input_shape=inputs.shape[1:])
    assert report.passed, list(report.lines())
    assert [comparison.batch for comparison in report.comparisons] == [1, 2, 7]
    assert report.agreement == (10, 10)
    assert report.error < 1e-5


def test_the_file_carries_its_labels_and_preprocessing(digits: SavedModel, tmp_path: Path) -> None:
    written = export(digits, tmp_path / "digits.onnx")
    assert written.files == [tmp_path / "digits.onnx"] == list(tmp_path.iterdir())
    assert (written.inputs, written.outputs) == (["input"], ["log_probabilities"])

    model = onnx.load(tmp_path / "digits.onnx")
    (input,), (output,) = model.graph.input, model.graph.output
    assert (input.name, axes(input)) == ("input", ["batch", 1, 32, 32])
    assert (output.name, axes(output)) == ("log_probabilities", ["batch", 10])
    # The versions that ONNX Runtime 1.14, TensorRT 8.6 and OpenCV 4.8 read.
    assert (model.opset_import[0].version, model.ir_version) == (18, 8)

    metadata = {prop.key: json.loads(prop.value) for prop in model.metadata_props}
    assert metadata["labels"] == digits.labels
    assert metadata["output_kind"] == "log_probabilities"
    assert metadata["preprocessing"]["mean"] == [60.420907472773706]
    assert metadata["source"]["file"] == "digits-lenet5-bn.t7"
    assert metadata["torchlift_version"] == torchlift.__version__


def test_batch_normalization_is_folded_and_the_file_holds_no_local_path(
    digits: SavedModel, tmp_path: Path
) -> None:
    export(digits, tmp_path / "digits.onnx")
    operators = {node.op_type for node in onnx.load(tmp_path / "digits.onnx").graph.node}
    assert "Conv" in operators
    assert "BatchNormalization" not in operators
    data = (tmp_path / "digits.onnx").read_bytes()
    assert str(ROOT).encode() not in data
    assert b"site-packages" not in data


def test_the_model_is_not_changed(tmp_path: Path) -> None:
    model = torchlift.convert(t7.load(DIGITS / "digits-lenet5-bn.t7")).double()
    model.train()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    guessing = [part.keep_batch for part in model.modules() if hasattr(part, "keep_batch")]

    export(model, tmp_path / "digits.onnx", input_shape=(1, 32, 32))
    assert all(part.training for part in model.modules())
    assert guessing == [part.keep_batch for part in model.modules() if hasattr(part, "keep_batch")]
    assert not any(guessing)
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())
    # Yet it was exported in evaluation mode and single precision.
    assert check(model, tmp_path / "digits.onnx", input_shape=(1, 32, 32)).passed


def test_exporting_prints_nothing_and_does_not_warn(
    digits: SavedModel, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        export(digits, tmp_path / "digits.onnx")
    assert capfd.readouterr() == ("", "")


def test_an_existing_file_is_replaced_only_on_request(digits: SavedModel, tmp_path: Path) -> None:
    target = tmp_path / "digits.onnx"
    target.write_text("mine")
    with pytest.raises(WriteError, match="already exists; overwrite=True"):
        export(digits, target)
    assert target.read_text() == "mine"
    export(digits, target, overwrite=True)
    assert check(digits, target).passed
    with pytest.raises(WriteError, match="no such folder"):
        export(digits, tmp_path / "nowhere" / "digits.onnx")


def test_a_failed_export_leaves_nothing(digits: SavedModel, tmp_path: Path) -> None:
    digits_like = SavedModel(digits.module, "log_probabilities", labels=["only", "two"])
    with pytest.raises(LabelsError, match=r"2 .* 10 outputs"):
        export(digits_like, tmp_path / "digits.onnx", input_shape=(1, 32, 32))
    with pytest.raises(InferenceError, match=r"does not accept inputs of shape \(2, 1, 20, 20\)"):
        export(digits.module, tmp_path / "digits.onnx", input_shape=(1, 20, 20))
    with pytest.raises(OnnxError, match=r"input shape of the model is unknown.*input_shape=\(C"):
        export(digits.module, tmp_path / "digits.onnx")
    with pytest.raises(OnnxError, match=r"input shape of the model is unknown.*input_size=\(H, W"):
        export(SavedModel(digits.module, "logits"), tmp_path / "digits.onnx")
    assert list(tmp_path.iterdir()) == []


class Fixed(nn.Module):
    """A network whose code fixes the batch size."""

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        return input.reshape(2, -1)


def test_a_network_for_one_batch_size_is_an_error_of_one_sentence(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(OnnxError, match="works only for a batch of 2"):
        export(Fixed(), tmp_path / "model.onnx", inputs=torch.zeros(2, 4))
    assert capfd.readouterr() == ("", "")


class Steps(nn.Module):
    """A network whose weights fix how many steps there are."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(20, 3)

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        return self.linear(input.flatten(1))  # type: ignore[no-any-return]  # a module's call


def test_a_free_axis_that_the_network_fixes_is_an_error_and_no_file(tmp_path: Path) -> None:
    """Traced with whatever sizes fit, the file would say of an axis that it is free."""
    with pytest.raises(OnnxError, match=r"every size of the free axes of \?x4: give axes"):
        export(Steps(), tmp_path / "f.onnx", inputs=torch.zeros(2, 5, 4), input_shape="?x4")
    assert not list(tmp_path.iterdir())


def test_large_weights_go_to_a_second_file_beside_the_first(
    digits: SavedModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The limit is 2 GiB; this tests a lower one.
    module = import_module("torchlift.converters.onnx.exporter.export")
    monkeypatch.setattr(module, "SINGLE_FILE_BYTES", 1000)
    written = export(digits, tmp_path / "digits.onnx")
    assert [file.name for file in written.files] == ["digits.onnx", "digits.onnx.data"]
    assert sorted(tmp_path.iterdir()) == written.files
    assert written.files[0].stat().st_size < 40_000 < written.files[1].stat().st_size
    report = check(digits, tmp_path / "digits.onnx")
    assert report.passed, list(report.lines())


class TwoToTwo(nn.Module):
    """A Torch7 network of tables: a list in, a list out."""

    def forward(self, inputs: list[torch.Tensor]) -> list[torch.Tensor]:
        first, second = inputs
        return [first * 2, torch.cat([first, second], 1)]


def test_tables_have_numbered_inputs_and_outputs(tmp_path: Path) -> None:
    inputs = [torch.randn(3, 2), torch.randn(3, 5)]
    written = export(TwoToTwo(), tmp_path / "model.onnx", inputs=inputs)
    assert (written.inputs, written.outputs) == (["input_1", "input_2"], ["output_1", "output_2"])
    first, second = run(tmp_path / "model.onnx", *inputs)
    assert torch.equal(first, inputs[0] * 2)
    assert torch.equal(second, torch.cat(inputs, 1))
    assert check(TwoToTwo(), tmp_path / "model.onnx", inputs).passed


def test_one_example_of_several_inputs_is_enough_and_nothing_is_said(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """A size of 1 would become a constant; that inputs share the batch is meant."""
    inputs = [torch.randn(1, 2), torch.randn(1, 5)]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        export(TwoToTwo(), tmp_path / "model.onnx", inputs=inputs)
    assert capfd.readouterr() == ("", "")
    first, second = run(tmp_path / "model.onnx", torch.ones(4, 2), torch.zeros(4, 5))
    assert (first.shape, second.shape) == ((4, 2), (4, 7))


def test_inputs_without_a_common_batch_axis_are_errors(tmp_path: Path) -> None:
    first = torch.zeros(3, 2)
    for inputs in ([first, torch.zeros(4, 5)], [first, torch.tensor(1.0)]):
        with pytest.raises(InferenceError, match=r"batch axis|does not accept"):
            export(TwoToTwo(), tmp_path / "model.onnx", inputs=inputs)


def test_outputs_may_be_images(tmp_path: Path) -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 3, 1))
    written = export(model, tmp_path / "style.onnx", input_shape=(3, 12, 9))
    assert written.outputs == ["output"]
    report = check(model, tmp_path / "style.onnx", input_shape=(3, 12, 9))
    assert report.passed, list(report.lines())
    assert report.agreement is None


@pytest.mark.parametrize(
    ("last", "name"),
    [
        (nn.Identity(), "logits"),
        (nn.Softmax(1), "probabilities"),
        (nn.LogSoftmax(1), "log_probabilities"),
    ],
)
def test_the_output_is_named_after_its_kind(last: nn.Module, name: str, tmp_path: Path) -> None:
    model: Any = nn.Sequential(nn.Flatten(), nn.Linear(12, 5), last)
    export(model, tmp_path / "model.onnx", input_shape=(3, 2, 2), labels=list("abcde"))
    stored = onnx.load(tmp_path / "model.onnx")
    assert [value.name for value in stored.graph.output] == [name]
    assert np.array_equal(run(tmp_path / "model.onnx", torch.ones(1, 3, 2, 2))[0].shape, [1, 5])


def test_a_file_is_described_as_json(digits: SavedModel, tmp_path: Path) -> None:
    export(digits, tmp_path / "digits.onnx")
    description = json.loads(json.dumps(describe_file(tmp_path / "digits.onnx"), allow_nan=False))
    shape = ["batch", 1, 32, 32]
    assert description["inputs"] == [{"name": "input", "shape": shape, "dtype": "float32"}]
    assert description["outputs"] == [
        {"name": "log_probabilities", "shape": ["batch", 10], "dtype": "float32"}
    ]
    assert description["bytes"] == (tmp_path / "digits.onnx").stat().st_size
    assert (description["opset"], description["arithmetic"]) == (18, "fp32")


def test_free_axes_and_other_types_of_other_programs_are_described(tmp_path: Path) -> None:
    helper, types = onnx.helper, onnx.TensorProto
    input = helper.make_tensor_value_info("x", types.INT64, [None, 3])
    output = helper.make_tensor_sequence_value_info("y", types.INT64, None)
    node = helper.make_node("SplitToSequence", ["x"], ["y"], axis=0)
    onnx.save(helper.make_model(helper.make_graph([node], "g", [input], [output])), tmp_path / "f")
    description = describe_file(tmp_path / "f")
    assert description["inputs"] == [{"name": "x", "shape": [None, 3], "dtype": "int64"}]
    assert description["outputs"] == [{"name": "y", "shape": [], "dtype": None}]


def test_damaged_metadata_is_an_error_that_names_the_file(
    digits: SavedModel, tmp_path: Path
) -> None:
    export(digits, tmp_path / "digits.onnx")
    stored = onnx.load(tmp_path / "digits.onnx")
    next(prop for prop in stored.metadata_props if prop.key == "labels").value = "[zero"
    onnx.save(stored, tmp_path / "damaged.onnx")
    for error, open_file in ((OnnxError, describe_file), (InferenceError, open_predictor)):
        with pytest.raises(error, match=r"damaged\.onnx: the metadata 'labels' is damaged"):
            open_file(tmp_path / "damaged.onnx")


@pytest.mark.slow
@pytest.mark.parametrize("name", ["resnet18", "squeezenet1_1", "mobilenet_v3_small"])
def test_torchvisions_networks_pass_the_check_at_every_node(name: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = torchvision.models.get_model(name, weights=None).eval()
    export(network, tmp_path / "model.onnx", input_shape=(3, 64, 64))
    report = check(network, tmp_path / "model.onnx", input_shape=(3, 64, 64), locate=True)
    assert report.passed, list(report.lines())
    assert [comparison.batch for comparison in report.comparisons] == [1, 2, 7]

    # A changed weight fails the check of the weights, and the node that it belongs to is found.
    stored = onnx.load(tmp_path / "model.onnx")
    node = [node for node in stored.graph.node if node.op_type == "Conv"][3]
    tensor = next(t for t in stored.graph.initializer if t.name == node.input[1])
    array = onnx.numpy_helper.to_array(tensor).copy()
    array[0] += 1
    tensor.CopyFrom(onnx.numpy_helper.from_array(array, tensor.name))
    onnx.save(stored, tmp_path / "changed.onnx")
    report = check(network, tmp_path / "changed.onnx", input_shape=(3, 64, 64), locate=True)
    failed = {finding.name: finding.text for finding in report.findings if not finding.passed}
    assert {"weights", "locate"} <= failed.keys()
    assert node.name in failed["locate"]


def test_two_layers_that_share_a_constant_in_half_precision(tmp_path: Path) -> None:
    """Resizing keeps its factors in single precision; both layers take the same ones."""
    torch.manual_seed(0)
    up = nn.Upsample(scale_factor=2, mode="nearest")
    network = nn.Sequential(nn.Conv2d(1, 2, 3), up, nn.Conv2d(2, 2, 3), up, nn.Flatten())
    export(network, tmp_path / "half.onnx", input_shape=(1, 6, 6), fp16=True)
    assert check(network, tmp_path / "half.onnx").passed
