"""Conversion of PyTorch networks to Torch7 objects.

Files that Torch7 wrote are converted and written again; each object must have the same class,
version, fields and values. Other networks must have the same outputs when they are read again.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from support import FIXTURES
from torch import nn

from torchlift.cli.main import main
from torchlift.converters import convert, t7
from torchlift.converters.modules import ConversionError
from torchlift.converters.modules.layers.container import Concat, ConcatTable, ParallelTable
from torchlift.converters.modules.layers.shape import View
from torchlift.converters.modules.layers.table_arithmetic import CAddTable
from torchlift.converters.modules.to_torch7 import to_torch7
from torchlift.converters.saved import infer_input_shape, open_model
from torchlift.converters.t7 import LuaObject, LuaTable
from torchlift.transfer.networks import NETWORKS

FILES = {
    "models/softmax": (3, 32, 32),
    "models/convnet_bn": (3, 32, 32),
    "models/lenet5": (1, 32, 32),
    "models/alexnetowtbn_small": (3, 224, 224),
    "digits/digits-lenet5-bn": (1, 32, 32),
}
#: Fields that do not change the output: recorded sizes, `inplace` and buffers.
IGNORED_FIELDS = {"iheight", "iwidth", "inplace", "addBuffer"}


def comparable(value: Any) -> Any:
    """Return a value of a `.t7` as Python values that compare by content."""
    if isinstance(value, LuaObject):
        fields = {
            key: comparable(item) for key, item in value.fields.items() if key not in IGNORED_FIELDS
        }
        return (value.class_name, value.version, fields)
    if isinstance(value, LuaTable):
        return {key: comparable(item) for key, item in value.items()}
    if isinstance(value, np.ndarray):
        return (value.torch_class, value.shape, np.asarray(value).tolist())
    return value


@pytest.mark.parametrize("name", FILES)
def test_round_trip_keeps_the_fields_of_torch7s_files(name: str, tmp_path: Path) -> None:
    original = t7.load(FIXTURES / f"{name}.t7")
    t7.save(to_torch7(convert(original), FILES[name]), tmp_path / "again.t7")
    expected, actual = comparable(original), comparable(t7.load(tmp_path / "again.t7"))
    assert without_gradients(actual) == without_gradients(expected)


def without_gradients(value: Any) -> Any:
    """Reduce gradients to their shapes: a file holds those of its last training step."""
    class_name, version, fields = value
    reduced = {}
    for key, item in fields.items():
        if key == "modules":
            reduced[key] = {index: without_gradients(child) for index, child in item.items()}
        else:
            reduced[key] = item[:2] if key.startswith("grad") and key != "gradInput" else item
    return class_name, version, reduced


@pytest.mark.parametrize(
    "name",
    [
        *("two_layer", "lenet", "net_batch_norm", "net_res_deep_shared"),
        *("net_res_deep_projected", pytest.param("googlenet_bn", marks=pytest.mark.slow)),
    ],
)
def test_round_trip_keeps_the_outputs_of_networks(name: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = NETWORKS[name](3, 10).eval()
    shape = infer_input_shape(network)
    assert shape is not None
    t7.save(to_torch7(network, shape), tmp_path / "model.t7")
    images = torch.rand(2, *shape)
    with torch.no_grad():
        again = open_model(tmp_path / "model.t7").module(images)
        torch.testing.assert_close(again, network(images))


def test_shared_layers_are_written_once() -> None:
    blocks = to_torch7(NETWORKS["net_res_deep_shared"](3, 2), (3, 32, 32))["modules"][4]["modules"]
    assert len({id(block) for block in blocks.values()}) == 1
    assert len(blocks) == 10


@pytest.mark.parametrize(
    "layer",
    [
        nn.AvgPool2d(3, 2, 1, count_include_pad=False),
        nn.AvgPool2d((3, 2), (1, 2), (1, 0)),
        nn.AvgPool2d(3, 2, ceil_mode=True),
        nn.MaxPool2d((3, 2), (2, 1), (1, 0), ceil_mode=True),
        # Only without padding, and with a stride above the kernel, Torch7 has one window more.
        *(nn.MaxPool2d(3, ceil_mode=True), nn.AvgPool2d((3, 5), (3, 2), ceil_mode=True)),
        *(nn.MaxPool2d(2, 3, 1, ceil_mode=True), nn.MaxPool2d(2, 3)),
        nn.Conv2d(4, 2, (3, 1), (1, 2), (2, 0), bias=False),
        nn.BatchNorm2d(4, eps=0.5, momentum=0.3),
        nn.BatchNorm2d(4, affine=False),
        nn.Threshold(0.25, -3),
        nn.ReLU(),
        nn.Sequential(nn.Flatten(), nn.Linear(256, 3, bias=False), nn.LogSoftmax(1)),
        nn.Sequential(nn.Flatten(), nn.Linear(256, 3), nn.Softmax(1), nn.Tanh(), nn.Sigmoid()),
        nn.Dropout(0.3),
        Concat(nn.Conv2d(4, 2, 1), nn.Conv2d(4, 3, 1), dim=1),
        nn.Sequential(ConcatTable(nn.Tanh(), nn.Sigmoid()), CAddTable()),
    ],
    ids=str,
)
def test_arguments_of_layers_are_written(layer: nn.Module) -> None:
    """What is read again computes the same; a lost argument would mean Lua's default."""
    torch.manual_seed(0)
    for name, buffer in layer.named_buffers():
        if name.startswith("running_"):
            buffer.uniform_(0.5, 2)
    written = to_torch7(nn.Sequential(layer.eval()), (4, 8, 8))
    again = convert(t7.loads(t7.dumps(written))).eval()
    images = torch.randn(3, 4, 8, 8)
    # One rounding: with ceil_mode, an average is a product with 1/count instead of a quotient.
    torch.testing.assert_close(again(images), layer(images), rtol=1e-6, atol=1e-7)
    # Dropout and the momentum act in training mode only.
    layer.train()
    again.train()
    torch.manual_seed(1)
    expected = layer(images)
    torch.manual_seed(1)
    torch.testing.assert_close(again(images), expected, rtol=1e-6, atol=1e-7)
    for name, buffer in layer.named_buffers():
        torch.testing.assert_close(again.get_buffer(f"0.{name}"), buffer, rtol=0, atol=0)


@pytest.mark.parametrize(
    ("layer", "message"),
    [
        (nn.Conv2d(4, 4, 3, groups=2), "0: .* has groups"),
        (nn.Conv2d(4, 4, 3, padding="same"), "0: .* has a padding that is not a number"),
        (nn.Conv2d(4, 4, 3, dilation=2), "0: .* has a dilation"),
        (nn.Conv2d(4, 4, 3, padding=1, padding_mode="reflect"), "0: .* has a padding_mode other"),
        (nn.MaxPool2d(2, dilation=2), "0: .* has a dilation"),
        *(
            (layer, "0: .* has a dilation")
            for dilation in ((1, 2), (2, 1))
            for layer in (
                nn.MaxPool2d(2, dilation=dilation),
                nn.Conv2d(4, 4, 3, dilation=dilation),
            )
        ),
        (nn.AvgPool2d(2, divisor_override=3), "0: .* has a divisor_override"),
        (nn.Softmax(2), "0: .* has dim=2"),
        (nn.LogSoftmax(0), "0: .* has dim=0"),
        # Torch7 would place a last window outside the image: 4 columns of 9, where PyTorch has 3.
        (nn.MaxPool2d(2, 3, ceil_mode=True), "0: .* has ceil_mode and a stride above the kernel"),
        (nn.AvgPool2d(2, 3, ceil_mode=True), "0: .* has ceil_mode and a stride above the kernel"),
        (nn.MaxPool2d(2, (3, 1), ceil_mode=True), "0: .* has ceil_mode and a stride above"),
        (nn.AvgPool2d(2, (1, 3), ceil_mode=True), "0: .* has ceil_mode and a stride above"),
        (nn.BatchNorm2d(4, momentum=None), "0: .* has momentum=None"),
        (nn.BatchNorm2d(4, track_running_stats=False), "0: .* has no running statistics"),
        (nn.Flatten(2), "0: .* has other dimensions to flatten"),
        (nn.Flatten(1, 2), "0: .* has other dimensions to flatten"),
        (View([-1]), "0: .* has a size of -1"),
        (nn.GELU(), "0: GELU has no Torch7 counterpart"),
        # nn.SpatialDropout scales in evaluation mode, nn.Dropout2d in training mode.
        (nn.Dropout2d(), "0: Dropout2d has no Torch7 counterpart"),
    ],
)
def test_unsupported_layers_are_named(layer: nn.Module, message: str) -> None:
    with pytest.raises(ConversionError, match=message):
        to_torch7(nn.Sequential(layer), (4, 8, 8))


@pytest.mark.parametrize("name", ["running_mean", "running_var"])
def test_a_normalization_without_a_statistic_is_refused(name: str) -> None:
    norm = nn.BatchNorm1d(4)
    setattr(norm, name, None)
    with pytest.raises(ConversionError, match="has no running statistics"):
        to_torch7(norm)


def test_a_flatten_needs_the_shape_of_an_example() -> None:
    network = nn.Sequential(nn.Conv2d(4, 2, 3), nn.Flatten(), nn.Linear(72, 3))
    with pytest.raises(ConversionError, match=r"1: the size of .* pass input_shape=\(C, H, W\)"):
        to_torch7(network)
    assert to_torch7(network, (4, 8, 8))["modules"][2]["numElements"] == 2 * 6 * 6


def test_a_network_in_training_mode_is_written_and_not_changed() -> None:
    """To find the size of a View, a trial runs; statistics and random numbers stay as they were."""
    network = nn.Sequential(nn.BatchNorm2d(4), nn.Dropout(), nn.Flatten(), nn.Linear(256, 3))
    before = {name: value.clone() for name, value in network.state_dict().items()}
    random_state = torch.random.get_rng_state()
    written = to_torch7(network, (4, 8, 8))
    assert torch.equal(torch.random.get_rng_state(), random_state)
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    assert t7.loads(t7.dumps(written))["modules"][1]["running_var"].tolist() == [1, 1, 1, 1]
    assert not network[2]._forward_hooks


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16])
def test_a_network_of_another_dtype_may_have_a_flatten(dtype: torch.dtype) -> None:
    network = nn.Sequential(nn.Conv2d(4, 2, 3), nn.Flatten()).to(dtype)
    assert to_torch7(network, (4, 8, 8))["modules"][2]["numElements"] == 2 * 6 * 6


def test_doubles_stay_doubles_and_half_precision_becomes_single() -> None:
    """Torch7 has no float16 on a CPU."""
    for dtype, kind in ((torch.float64, "Double"), (torch.float16, "Float")):
        written = to_torch7(nn.Sequential(nn.Linear(3, 2), nn.Tanh()).to(dtype))
        linear = written["modules"][1]
        assert linear["_type"] == f"torch.{kind}Tensor"
        for name in ("weight", "bias", "gradWeight", "gradBias", "output"):
            array = t7.loads(t7.dumps(linear))[name]
            assert array.torch_class == f"torch.{kind}Tensor", name
        assert linear["gradWeight"].shape == (2, 3)
        assert not linear["gradWeight"].any()


def test_the_type_is_that_of_the_first_weight_and_not_of_a_counter() -> None:
    network = nn.Sequential(nn.Linear(3, 2)).double()
    network.register_parameter("steps", nn.Parameter(torch.tensor(3), requires_grad=False))
    assert next(network.parameters()).dtype == torch.int64
    assert to_torch7(network)["modules"][1]["_type"] == "torch.DoubleTensor"


def test_the_mode_of_each_layer_is_written() -> None:
    network = nn.Sequential(nn.Dropout(0.3), nn.Tanh()).eval()
    network[0].train()
    written = to_torch7(network)
    assert [layer["train"] for layer in written["modules"].values()] == [True, False]
    assert written["train"] is False


def test_versions_and_dimensions_are_written() -> None:
    """Version 1 of a batch normalization has other statistics; a View may know its input's rank."""
    written = to_torch7(nn.Sequential(nn.BatchNorm2d(4), View([4, 9], 3), View([36])))
    norm, known, unknown = written["modules"].values()
    assert (written.version, norm.version, known.version) == (1, 2, 1)
    assert known["numInputDims"] == 3
    assert "numInputDims" not in unknown.fields


def test_convert_writes_a_t7(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source, target = FIXTURES / "digits" / "digits-lenet5.t7", tmp_path / "again.t7"
    assert main(["convert", str(source), str(target)]) == 0
    images = torch.rand(2, 1, 32, 32)
    expected, actual = (open_model(file).module(images) for file in (source, target))
    assert torch.equal(actual, expected)
    assert main(["convert", str(source), str(target)]) == 1
    assert "--overwrite" in capsys.readouterr().err


def test_tables_and_options_of_new_layers_are_those_of_luas_constructors() -> None:
    """`ConcatTable.lua` and `CAddTable.lua` begin with tables, which Torch7 fills in its passes."""
    network = nn.Sequential(
        ConcatTable(nn.ReLU(), nn.ReLU(inplace=True)),
        ParallelTable(nn.Threshold(1, 2, inplace=True), nn.Dropout(0.3, inplace=True)),
        CAddTable(),
        Concat(nn.Tanh(), nn.BatchNorm2d(3, affine=False), dim=1),
    )
    written = to_torch7(network)
    layers = [written, *written["modules"].values()]
    tables = {
        layer.class_name: [isinstance(layer[name], LuaTable) for name in ("output", "gradInput")]
        for layer in layers
    }
    assert tables == {
        "nn.Sequential": [False, False],
        "nn.ConcatTable": [True, False],
        "nn.ParallelTable": [True, True],
        "nn.CAddTable": [False, True],
        "nn.Concat": [False, False],
    }
    relu, in_place = written["modules"][1]["modules"].values()
    assert [relu["inplace"], in_place["inplace"]] == [False, True]
    assert [layer["inplace"] for layer in written["modules"][2]["modules"].values()] == [True, True]
    assert written["modules"][3]["inplace"] is False
    concat = written["modules"][4]
    assert concat["dimension"] == 2
    norm = concat["modules"][2]
    assert norm["affine"] is False
    assert "weight" not in norm.fields
    assert to_torch7(nn.BatchNorm1d(3))["affine"] is True


@pytest.mark.parametrize("layer", [nn.Softmax, nn.LogSoftmax])
@pytest.mark.parametrize("dim", [None, 1, -1])
def test_a_softmax_over_the_classes_is_written(layer: type[nn.Module], dim: int | None) -> None:
    assert to_torch7(layer(dim)).class_name == f"nn.{layer.__name__.replace('max', 'Max')}"


def test_a_network_of_one_layer_that_torch7_lacks_is_named() -> None:
    with pytest.raises(ConversionError, match=r"^the network: GELU has no Torch7 counterpart"):
        to_torch7(nn.GELU())


def test_a_view_says_how_many_elements_it_has() -> None:
    written = to_torch7(nn.Sequential(View([4, 9], 3)))["modules"][1]
    assert (written["numElements"], written["size"].tolist()) == (36, [4, 9])
