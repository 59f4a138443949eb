"""What of a network is still its file's: arguments, places in storages, values that fit.

Whole networks and files are written back in `test_write_back`.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from torchlift.converters import convert, t7
from torchlift.converters.modules import keep_batch_dimension
from torchlift.converters.modules.errors import ConversionError
from torchlift.converters.modules.to_torch7 import to_torch7, torch7_skeleton
from torchlift.converters.modules.torch7_skeleton import _same, _Storages
from torchlift.converters.modules.torch7_source import materialize
from torchlift.converters.t7 import LuaFunction, LuaObject, LuaTable, TorchArray


@pytest.mark.parametrize(
    ("first", "second", "is_same"),
    [
        (2, 2, True),
        (2, 3, False),
        ((2, 3), [2, 3], True),
        ((2, 3), [2, 4], False),
        ((2, 3), (2, 3, 3), False),
        ((2, 2), 2, True),
        (0, (0, 0), True),
        # One number stands for a pair only if both are it.
        ((2, 3), 2, False),
        (3, (2, 3), False),
        ((), 2, False),
        ("zeros", "zeros", True),
        (None, 0, False),
    ],
)
def test_a_number_stands_for_as_many_of_itself(first: Any, second: Any, is_same: bool) -> None:
    assert _same(first, second) is is_same


def test_one_side_of_a_window_that_changed_is_written() -> None:
    network = convert(to_torch7(nn.Sequential(nn.MaxPool2d((2, 3), (2, 3)))))
    network[0].kernel_size = 2
    pooling = to_torch7(network)["modules"][1]
    assert [pooling[name] for name in ("kH", "kW", "dH", "dW")] == [2, 2, 2, 3]


def test_memory_that_is_read_as_numbers_of_another_type_is_no_weight_of_a_file() -> None:
    value = t7.loads(t7.dumps(LuaObject("nn.Mul", LuaTable({"weight": np.zeros(4, "f4")}))))
    weight, storages = value["weight"], _Storages(value)
    found = storages.find(weight[2:])
    assert found is not None
    assert found[1] == 2
    assert found[0] is weight.storage
    for other in (np.asarray(weight).view("i4"), np.zeros(4, "f4"), weight[4:]):
        assert storages.find(other) is None


def test_values_that_a_skeleton_holds_itself_take_no_more_memory_than_its_file(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Whatever the network's size is; storages without values are limited by it."""
    source = t7.loads(t7.dumps(LuaObject("nn.Tanh", LuaTable({"extra": np.arange(5.0)}))))
    network = convert(source)
    skeleton = torch7_skeleton(network)
    monkeypatch.setattr("torchlift.converters.modules.torch7_source._LARGEST", 0)
    assert materialize(skeleton, network.state_dict())["extra"].tolist() == [0, 1, 2, 3, 4]
    skeleton["storages"][1]["content"] = None
    with pytest.raises(ConversionError, match="a storage of 5 elements"):
        materialize(skeleton, network.state_dict())


def test_storages_without_values_share_what_a_small_file_may_ask_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Many of them, of which each may be made, would take all memory."""
    monkeypatch.setattr("torchlift.converters.modules.torch7_source._LARGEST", 1)
    half = {"class": "torch.FloatStorage", "size": 2**15, "places": LuaTable()}
    for count in (2, 3):
        storages = LuaTable((number, LuaTable(half)) for number in range(1, count + 1))
        entries = {"storages": storages, "object": LuaObject("nn.Tanh", LuaTable())}
        skeleton = LuaObject("skeleton", LuaTable(entries))
        if count == 2:
            assert materialize(skeleton, {}).class_name == "nn.Tanh"
        else:
            with pytest.raises(ConversionError, match="a storage of 32768 elements"):
                materialize(skeleton, {})


@pytest.mark.parametrize(
    "tensors",
    [
        {},
        {"weight": torch.ones(3)},
        {"weight": torch.ones(5)},
        {"weight": torch.ones(4, device="meta")},
    ],
)
def test_a_tensor_that_no_longer_fits_leaves_zeros(tensors: dict[str, torch.Tensor]) -> None:
    network = convert(LuaObject("nn.CMul", LuaTable({"weight": np.full((2, 2), 7.0, "f4")})))
    skeleton = torch7_skeleton(network)
    assert materialize(skeleton, tensors)["weight"].tolist() == [[0, 0], [0, 0]]
    # One of another shape with as many numbers fits.
    values = {"weight": torch.arange(4.0).reshape(4, 1)}
    assert materialize(skeleton, values)["weight"].tolist() == [[0, 1], [2, 3]]


@pytest.mark.parametrize(
    "source",
    [
        LuaObject("nn.View", LuaTable({"size": np.array([4]), "numElements": 4})),
        LuaObject("nn.Reshape", LuaTable({"size": np.array([4]), "nelement": 4})),
        LuaObject("nn.Squeeze"),
    ],
    ids=lambda source: source.class_name,
)
def test_a_layer_that_keeps_a_batch_of_one_is_still_its_files(source: LuaObject) -> None:
    """Only an exported network needs that; `nn.Reshape` could not be described anew."""
    network = convert(source)
    keep_batch_dimension(network)
    assert network.keep_batch
    written = to_torch7(network)
    assert written.class_name == source.class_name
    assert list(written.fields.keys()) == list(source.fields.keys())


def test_noise_is_a_buffer_and_so_are_tables_of_outputs() -> None:
    """As `clearState` leaves them."""
    noise = np.ones(3, "f4")
    tables = {name: LuaTable.from_list([noise]) for name in ("output", "gradInput")}
    fields = {"p": 0.5, "v2": True, "noise": noise, **tables, "kept": LuaTable.from_list([noise])}
    written = to_torch7(convert(LuaObject("nn.Dropout", LuaTable(fields))))
    assert written["noise"].size == 0
    assert [len(written[name]) for name in ("output", "gradInput", "kept")] == [0, 0, 1]


def test_steps_that_were_counted_in_training_are_no_change_of_the_file() -> None:
    """PyTorch counts batches; Torch7's class has no field for it."""
    fields = {name: np.ones(2, "f4") for name in ("running_mean", "running_var")}
    network = convert(LuaObject("nn.BatchNormalization", LuaTable(fields), 2))
    network.train()(torch.randn(4, 2))
    assert network.num_batches_tracked.item() == 1
    written = to_torch7(network)
    np.testing.assert_array_equal(written["running_mean"], network.running_mean)


def test_a_value_that_the_file_holds_in_another_form_stays_or_is_refused() -> None:
    """Version 1 of the class has the inverse root of the variance."""
    fields = {name: np.ones(2, "f4") for name in ("running_mean", "running_std")}
    network = convert(LuaObject("nn.BatchNormalization", LuaTable({**fields, "eps": 0.5})))
    assert to_torch7(network)["running_std"].tolist() == [1, 1]
    network.running_var[0] = 3
    with pytest.raises(ConversionError, match=r"running_var: has changed, and Torch7's class"):
        to_torch7(network)


def frames() -> nn.Module:
    """Return a convolution of frames, whose PyTorch layer inside has no object of its own."""
    fields = {"inputFrameSize": 2, "outputFrameSize": 3, "kW": 1, "dW": 1}
    arrays = {"weight": np.ones((3, 2), "f4"), "bias": np.zeros(3, "f4")}
    return convert(LuaObject("nn.TemporalConvolution", LuaTable({**fields, **arrays})))


def test_a_part_of_a_torch7_layer_is_not_replaced_alone() -> None:
    network = frames()
    network.module = nn.Tanh()
    with pytest.raises(ConversionError, match=r"^module: has changed, and is part of a Torch7 lay"):
        to_torch7(network)
    network = frames()
    network.add_module("behind", nn.Tanh())
    with pytest.raises(ConversionError, match=r"^the network: its layers are not those of Torch7"):
        to_torch7(network)


def test_functions_of_a_file_keep_what_they_hold() -> None:
    """`nn.Copy` and others keep a closure; it is data, and is written back."""
    upvalue = LuaTable({"name": "count", "value": np.arange(3.0)})
    hook = LuaFunction(b"bytecode", LuaTable({1: upvalue}))
    source = t7.loads(t7.dumps(LuaObject("nn.Tanh", LuaTable({"hook": hook, "again": hook}))))
    written = t7.loads(t7.dumps(to_torch7(convert(source))))
    assert written["hook"] is written["again"]
    assert (written["hook"].bytecode, written["hook"].tag) == (b"bytecode", 8)
    found = written["hook"].upvalues[1]
    assert (found["name"], found["value"].tolist()) == ("count", [0, 1, 2])


def test_a_weight_that_a_function_holds_is_written_with_its_present_values() -> None:
    weight = np.ones((2, 3))
    hook = LuaFunction(b"bytecode", LuaTable({1: LuaTable({"value": weight})}))
    source = LuaObject("nn.Linear", LuaTable({"weight": weight, "hook": hook}))
    network = convert(t7.loads(t7.dumps(source)))
    with torch.no_grad():
        network.weight.fill_(4)
    written = t7.loads(t7.dumps(to_torch7(network)))
    assert written["hook"].upvalues[1]["value"] is written["weight"]
    assert written["weight"].tolist() == [[4, 4, 4]] * 2


@pytest.mark.parametrize("name", ["nn.DataParallelTable", "nn.DataParallel"])
def test_the_first_replica_is_written_in_the_place_of_all(name: str) -> None:
    tanh = [LuaObject("nn.Tanh", LuaTable({"number": n})) for n in (1, 2)]
    source = LuaObject(name, LuaTable({"modules": LuaTable.from_list(tanh)}))
    written = to_torch7(convert(source))
    assert (written.class_name, written["number"]) == ("nn.Tanh", 1)


def test_an_emptied_buffer_keeps_its_class() -> None:
    """The type of a GPU is not that of its numbers."""

    def on_gpu(value: float) -> TorchArray:
        storage = np.full(1, value, "f4").view(TorchArray)
        storage.torch_class = "torch.CudaStorage"
        tensor = storage.view(TorchArray)
        tensor.torch_class, tensor.storage = "torch.CudaTensor", storage
        return tensor

    fields = LuaTable({"weight": on_gpu(2), "output": on_gpu(3)})
    written = to_torch7(convert(t7.loads(t7.dumps(LuaObject("nn.Mul", fields)))))
    for name, values in (("weight", [2]), ("output", [])):
        assert written[name].tolist() == values
        assert written[name].torch_class == "torch.CudaTensor"


def test_a_weight_of_another_size_is_written_as_it_is() -> None:
    """Its layer's `in_features` and `out_features` may be left as they were."""
    fields = LuaTable({"weight": np.ones((2, 3)), "bias": np.ones(2)})
    inner = LuaTable.from_list([LuaObject("nn.Linear", fields), LuaObject("nn.Tanh")])
    network = convert(LuaObject("nn.Sequential", LuaTable({"modules": inner})))
    network[0].weight = nn.Parameter(torch.full((4, 3), 2.0).double())
    network[0].bias = nn.Parameter(torch.full((4,), 3.0).double())
    linear = t7.loads(t7.dumps(to_torch7(network)))["modules"][1]
    assert linear["weight"].tolist() == [[2, 2, 2]] * 4
    assert linear["bias"].tolist() == [3] * 4
