"""`check` passes what `export` and `quantize` write, and nothing that differs from it anywhere.

Every constant of a file is changed by four times the least that its format resolves, and every node
is removed, one at a time. No output of a few images would show most of these.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import onnx_ir
import pytest
import torch
from onnx import numpy_helper
from onnx_check_support import DATA, DIGITS, failed
from torch import nn

from torchlift.converters.onnx import check, export, quantize
from torchlift.converters.onnx.checker.nodes import Structure, differences
from torchlift.converters.onnx.checker.pair import ExportPair
from torchlift.converters.onnx.checker.reference import Reference, reference_of
from torchlift.converters.onnx.checker.weights import compare_weights
from torchlift.converters.saved import SavedModel, open_model
from torchlift.transfer.network_by_name import load_network

PRECISIONS = ("fp32", "fp16", "int8", "dynamic")


class Transformer(nn.Module):
    """Linear layers on three axes, attention, layer norm, positions, and a tiny factor."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.TransformerEncoderLayer(16, 2, 32, batch_first=True)
        self.positions = nn.Parameter(torch.randn(8, 16))
        self.factor = nn.Parameter(torch.full((16,), 1e-6))
        self.branch = nn.Sequential(nn.Linear(16, 16), nn.GELU(), nn.Linear(16, 16))
        self.head = nn.Linear(16, 5)

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        values = self.layer(input.flatten(1).reshape(-1, 8, 16) + self.positions)
        values = values + self.factor * self.branch(values)
        return torch.log_softmax(self.head(values.mean(1)), 1)


class Recurrent(nn.Module):
    """A recurrent layer over the rows of an image."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.GRU(16, 12, batch_first=True)
        self.head = nn.Linear(12, 5)

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        return self.head(self.layer(input.squeeze(1))[0][:, -1])


def convolutions() -> nn.Module:
    """Batch normalization behind each kind of layer that can absorb it, and behind a ReLU."""
    layers = nn.Sequential(
        *(nn.Conv2d(1, 8, 3, bias=False), nn.BatchNorm2d(8), nn.ReLU(), nn.BatchNorm2d(8)),
        *(nn.ConvTranspose2d(8, 8, 2, groups=2), nn.BatchNorm2d(8), nn.Flatten()),
        *(nn.Linear(8 * 7 * 15, 6), nn.BatchNorm1d(6), nn.ReLU(), nn.Linear(6, 5)),
    )
    for layer in layers:
        if isinstance(layer, (nn.BatchNorm1d, nn.BatchNorm2d)):
            nn.init.normal_(layer.running_mean)
            nn.init.uniform_(layer.running_var, 1e-3, 2)
            nn.init.normal_(layer.weight)
            nn.init.normal_(layer.bias)
    return layers


def made(name: str) -> SavedModel:
    if name == "digits":
        names, scale = DIGITS / "digits_classes.t7", DIGITS / "digits_meanStd.t7"
        return open_model(DIGITS / "digits-lenet5-bn.t7", labels=names, mean_std=scale)
    torch.manual_seed(0)
    network = {"transformer": Transformer, "recurrent": Recurrent, "convolutions": convolutions}
    module = network[name]().eval()
    kind = "log_probabilities" if name == "transformer" else "logits"
    return SavedModel(module, kind, (1, 8, 16), [*"abcde"])


def written(model: SavedModel, precision: str, folder: Path) -> tuple[Path, np.ndarray]:
    """Return the file of a model in a precision, and inputs for both."""
    inputs = DATA.images[:200]
    if model.preprocessing is None:
        inputs = np.random.default_rng(0).standard_normal((200, *model.input_shape), np.float32)
    path = folder / f"{precision}.onnx"
    if precision in ("fp32", "fp16"):
        export(model, path, fp16=precision == "fp16")
        return path, inputs
    export(model, folder / "float.onnx", overwrite=True)
    quantize(folder / "float.onnx", path, inputs, dynamic=precision == "dynamic", max_drop=0.05)
    return path, inputs


MODELS = ("digits", "convolutions", "transformer", "recurrent")
#: The others are slow together: each check translates its model.
FAST = {("digits", "fp16"), ("digits", "int8"), ("transformer", "fp32")}
CASES = [
    pytest.param((name, precision), id=f"{name}-{precision}", marks=marks)
    for name in MODELS
    for precision in PRECISIONS
    # A file is only written in int8 if it stays accurate, which not every random network does.
    if name in ("digits", "transformer") or precision.startswith("fp")
    for marks in [[] if (name, precision) in FAST else [pytest.mark.slow]]
]


@pytest.fixture(scope="module", params=CASES)
def case(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple:
    """A model, its file, inputs of both, and what the file must hold."""
    name, precision = request.param
    model = made(name)
    path, inputs = written(model, precision, tmp_path_factory.mktemp("written"))
    pair = ExportPair.open(model, path)
    return model, path, inputs, pair, reference_of(pair, inputs[:2].astype(np.float32))


def tampered_weights(model: onnx.ModelProto) -> Iterator[str]:
    """Change one number of each constant by four times the least that its format resolves."""
    generator = np.random.default_rng(0)
    used = {name for node in model.graph.node for name in node.input}
    for tensor in model.graph.initializer:
        array = numpy_helper.to_array(tensor)
        is_range = tensor.name.endswith(("_scale", "_zero_point"))
        is_shape = array.dtype == np.int64
        if is_range or is_shape or tensor.name not in used:
            continue
        before = tensor.SerializeToString()
        changed = array.copy().reshape(-1)
        place = generator.integers(changed.size)
        if array.dtype.kind == "f":
            changed[place] += 4 * np.spacing(np.abs(changed[place]))
        else:
            value = int(changed[place])
            changed[place] = value + 4 if value < 4 else value - 4
        tensor.CopyFrom(numpy_helper.from_array(changed.reshape(array.shape), tensor.name))
        yield tensor.name
        tensor.ParseFromString(before)


def test_what_is_written_passes(case: tuple) -> None:
    model, path, inputs, _, _ = case
    report = check(model, path, inputs)
    assert report.passed, list(report.lines())
    assert check(model, path).passed


def test_every_number_is_compared_and_one_that_differs_is_named(case: tuple) -> None:
    _, _, _, pair, reference = case
    found = compare_weights(reference.constants, pair.onnx_model)
    assert (found.differing, found.unknown, found.fraction) == ([], [], 1), found
    missed = [
        name
        for name in tampered_weights(pair.onnx_model)
        if not compare_weights(reference.constants, pair.onnx_model).differing
    ]
    assert missed == [], missed


def structures(pair: ExportPair, reference: Reference, model: onnx.ModelProto) -> str:
    names, is_int8 = pair.module.state_dict().keys(), pair.metadata.precision == "int8"
    graph = onnx_ir.from_proto(model).graph
    graph.sort()
    return differences(Structure(reference.graph, names, is_int8), Structure(graph, names, is_int8))


def test_a_node_that_is_missing_is_noticed(case: tuple) -> None:
    _, _, _, pair, reference = case
    assert structures(pair, reference, pair.onnx_model) == "", pair.path
    missed = []
    for node in pair.onnx_model.graph.node:
        # Casts and quantization change the precision, and not what is computed.
        if "Cast" in node.op_type or "uantize" in node.op_type or "_scale" in node.name:
            continue
        model = onnx.ModelProto()
        model.CopyFrom(pair.onnx_model)
        removed = next(other for other in model.graph.node if other.output == node.output)
        model.graph.node.remove(removed)
        for other in (*model.graph.node, *model.graph.output):
            if isinstance(other, onnx.ValueInfoProto):
                other.name = node.input[0] if other.name == node.output[0] else other.name
                continue
            for index, name in enumerate(other.input):
                if name == node.output[0]:
                    other.input[index] = node.input[0]
        if not structures(pair, reference, model):
            missed.append(node.name)
    assert missed == [], missed


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", ["resnet18", "squeezenet1_1", "densenet121", "convnext_tiny", "vit_b_16"]
)
def test_networks_of_torchvision(name: str, tmp_path: Path) -> None:
    """With random weights, whose head is drawn anew where it is zero."""
    torch.manual_seed(0)
    model = load_network(f"torchvision:{name}")
    for parameter in model.module.parameters():
        if parameter.dim() > 1 and not parameter.any():
            nn.init.normal_(parameter, std=0.05)
    inputs = np.random.default_rng(0).integers(0, 256, (12, 3, 224, 224), np.uint8)
    export(model, tmp_path / "fp32.onnx")
    export(model, tmp_path / "fp16.onnx", fp16=True)
    for path in (tmp_path / "fp32.onnx", tmp_path / "fp16.onnx"):
        report = check(model, path, inputs)
        assert report.passed, list(report.lines())
        pair = ExportPair.open(model, path)
        reference = reference_of(pair, np.zeros((2, 3, 224, 224), np.float32))
        missed = [
            changed
            for changed in tampered_weights(pair.onnx_model)
            if not compare_weights(reference.constants, pair.onnx_model).differing
        ]
        assert missed == []


def test_the_memory_format_of_the_examples_plays_no_part(tmp_path: Path) -> None:
    """Images come with the channels last, for which torch pools by other operators."""
    torch.manual_seed(0)
    pooled = (nn.Conv2d(3, 4, 3, bias=False), nn.AdaptiveAvgPool2d(1))
    network = nn.Sequential(*pooled, nn.Flatten(), nn.Linear(4, 5))
    export(network, tmp_path / "pooled.onnx", input_shape=(3, 8, 8))
    images = np.random.default_rng(0).standard_normal((12, 8, 8, 3), np.float32)
    report = check(network, tmp_path / "pooled.onnx", images.transpose(0, 3, 1, 2))
    assert report.passed, list(report.lines())


def test_outputs_that_ignore_the_input_prove_nothing(tmp_path: Path) -> None:
    network = nn.Sequential(nn.Flatten(), nn.Linear(12, 5))
    nn.init.zeros_(network[1].weight)
    export(network, tmp_path / "zero.onnx", input_shape=(3, 2, 2))
    report = check(network, tmp_path / "zero.onnx")
    assert failed(report) == ["input"]


class Noisy(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(12, 5)

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        values = self.linear(input.flatten(1))
        return values + torch.randn_like(values)


def test_a_network_that_draws_random_numbers_is_judged_by_its_weights(tmp_path: Path) -> None:
    network = Noisy()
    export(network, tmp_path / "noisy.onnx", input_shape=(3, 2, 2))
    report = check(network, tmp_path / "noisy.onnx")
    assert report.passed, list(report.lines())
    outputs = next(finding for finding in report.findings if finding.name == "outputs")
    assert outputs.text == "skipped (random)"
    with torch.no_grad():
        network.linear.weight[0, 0] += 1e-3
    assert failed(check(network, tmp_path / "noisy.onnx")) == ["weights"]


def test_too_few_numbers_compared_fails(tmp_path: Path) -> None:
    network = nn.Sequential(nn.Flatten(), nn.Linear(12, 5))
    export(network, tmp_path / "model.onnx", input_shape=(3, 2, 2))
    model = onnx.load(tmp_path / "model.onnx")
    model.graph.initializer.append(numpy_helper.from_array(np.zeros(5, np.float32), "stranger"))
    onnx.save(model, tmp_path / "model.onnx")
    report = check(network, tmp_path / "model.onnx")
    assert failed(report) == ["weights"]
    text = next(finding.text for finding in report.findings if finding.name == "weights")
    assert "only 67 of 72 numbers compared, 93.06%, 99.00% required" in text
    assert "stranger" in text
    assert check(network, tmp_path / "model.onnx", min_compared=0.9).passed


def test_constants_of_the_shape_are_known(tmp_path: Path) -> None:
    """The exporter gives an instance normalization ones and zeros of the number of channels."""
    model = SavedModel(nn.InstanceNorm2d(3).eval(), "features", (3, 4, 4))
    export(model, tmp_path / "norm.onnx")
    pair = ExportPair.open(model, tmp_path / "norm.onnx")
    constants = reference_of(pair, np.zeros((2, 3, 4, 4), np.float32)).constants
    found = compare_weights(constants, pair.onnx_model)
    assert (found.unknown, found.fraction) == ([], 1)
    assert found.total >= 2 * 3
    # All in single precision.
    kinds = {each.values.dtype for each in constants.values() if each.values.dtype.kind == "f"}
    assert kinds == {np.dtype(np.float32)}
    # Their last bits are those of another computation.
    names = [each.name for each in pair.onnx_model.graph.initializer if each.dims == [3]]
    assert names
    assert all(constants[name].is_computed for name in names)
