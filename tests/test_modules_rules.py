"""Small rules of the conversion, each by itself: memory, dtypes, damage, words of errors."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from torchlift.converters import convert, t7
from torchlift.converters.errors import NotFiniteError
from torchlift.converters.modules.conversion import count_runs
from torchlift.converters.modules.dtypes import dtype_name, module_dtype
from torchlift.converters.modules.errors import ConversionError, UnknownClass, UnknownClassError
from torchlift.converters.modules.finite import require_finite_parameters
from torchlift.converters.modules.in_place import InPlace
from torchlift.converters.modules.meta_device import largest_result, on_meta_device
from torchlift.converters.modules.shared_memory import SharedMemory
from torchlift.converters.t7 import LuaObject, LuaTable


def test_a_variance_is_negative_only_where_it_has_no_root() -> None:
    norm = nn.BatchNorm1d(2, eps=1e-5)
    assert norm.running_var is not None
    norm.running_var[1] = -1e-6
    require_finite_parameters(nn.Sequential(norm))
    norm.running_var[1] = -1e-4
    with pytest.raises(NotFiniteError, match=r"0\.running_var reaches -0\.0001, where no variance"):
        require_finite_parameters(nn.Sequential(norm))


@pytest.mark.parametrize("name", ["running_mean", "running_var"])
def test_statistics_are_finite_and_other_buffers_may_be_infinite(name: str) -> None:
    norm = nn.BatchNorm1d(2)
    norm.get_buffer(name)[0] = float("inf")
    with pytest.raises(NotFiniteError, match=name):
        require_finite_parameters(norm)
    masked = nn.Module()
    masked.register_buffer("mask", torch.tensor([0.0, -float("inf")]))
    require_finite_parameters(masked)
    masked.get_buffer("mask")[0] = float("nan")
    with pytest.raises(NotFiniteError, match="mask"):
        require_finite_parameters(masked)


def test_the_first_array_of_the_same_memory_is_named() -> None:
    memory, held = np.zeros(12, np.float32), SharedMemory()
    assert held.add(memory[:8], "first") is None
    assert held.add(memory[8:], "beside") is None
    assert held.add(memory[2:4], "inside") == "first"
    assert held.add(memory[3:10], "across") == "first"
    # Every second number, and those between: their bounds overlap, their numbers do not.
    grid, apart = np.zeros(10, np.float32), SharedMemory()
    assert apart.add(grid[::2], "even") is None
    assert apart.add(grid[1::2], "odd") is None
    # A short array behind a long one is still seen to overlap it.
    long, short = np.zeros(100, np.float32), SharedMemory()
    short.add(long, "long")
    short.add(np.zeros(1, np.float32), "elsewhere")
    assert short.add(long[90:], "end") == "long"


def test_memory_that_is_too_much_work_to_compare_counts_as_shared(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """So that two tied weights are noted rather than passed over."""

    def gives_up(*arrays: np.ndarray, max_work: int) -> bool:
        assert max_work == 10_000
        raise np.exceptions.TooHardError

    memory, held = np.zeros(10, np.float32), SharedMemory()
    assert held.add(memory[::2], "even") is None
    monkeypatch.setattr(np, "shares_memory", gives_up)
    assert held.add(memory[1::2], "odd") == "even"


def test_a_dtype_is_that_of_the_type_or_else_of_the_output() -> None:
    double = np.zeros(2)
    typed = LuaObject("nn.Copy", LuaTable({"_type": "torch.HalfTensor", "output": double}))
    assert module_dtype(typed) == "float32"
    output = t7.loads(t7.dumps(LuaTable({"output": LuaTable.from_list([double])})))["output"]
    fields = {"_type": "torch.FloatTensor", "output": output}
    assert module_dtype(LuaObject("nn.Copy", LuaTable(fields))) == "float32"
    assert module_dtype(LuaObject("nn.Copy", LuaTable({"output": output}))) == "float64"
    assert module_dtype(LuaObject("nn.Copy")) == "float32"
    assert dtype_name("torch.CudaLongTensor") == "int64"


def test_an_error_names_the_file_then_the_path_then_the_problem() -> None:
    error = ConversionError("it is wrong", "model.modules[2]")
    error.source = "net.t7"
    assert str(error) == "net.t7: model.modules[2]: it is wrong"
    assert str(ConversionError("it is wrong")) == "it is wrong"


def test_the_skeleton_of_a_taken_name_asks_for_a_field_of_its_own() -> None:
    unknown = UnknownClass("nn.Scale", {"output": "empty", "core": "table of 2"}, ["model"], [])
    own = UnknownClassError([unknown], is_taken=True).skeleton
    assert "@register('nn.Scale', fields=('core',))" in own
    assert "@register('nn.Scale')" in UnknownClassError([unknown]).skeleton


def test_a_layer_runs_as_often_as_it_occurs() -> None:
    shared = nn.Sequential(nn.Tanh(), nn.Tanh())
    assert count_runs(nn.Sequential(shared, shared)) == 1 + 2 * 3


def test_shapes_are_computed_without_values_and_ties_stay() -> None:
    linear = nn.Linear(3, 3)
    tied = nn.Linear(3, 3)
    tied.weight = linear.weight
    copied = on_meta_device(nn.Sequential(linear, tied))
    assert copied[0].weight is copied[1].weight
    assert {tensor.device.type for tensor in copied.state_dict().values()} == {"meta"}
    assert linear.weight.device.type == "cpu"
    assert (
        largest_result(nn.Sequential(nn.Linear(2, 500), nn.Linear(500, 3)), torch.zeros(4, 2))
        == 2000
    )


class Flattened(nn.Module):
    """Needs an input without gaps in its memory."""

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        return input.view(-1).repeat(10)[:3]


def test_the_largest_result_is_known_for_the_strides_of_the_input() -> None:
    """The last result is not the largest; and where the network fails, it ends there."""
    inputs = torch.zeros(4, 5)
    assert largest_result(Flattened(), inputs) == 200
    assert largest_result(Flattened(), inputs.t()) == 20


def layer(name: str, **fields: object) -> LuaObject:
    return LuaObject(name, LuaTable(fields))


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("view", [None, "nn.Squeeze", "nn.Identity", "nn.Copy"])
def test_what_an_inplace_layer_overwrites_is_read_by_the_next_branch(
    view: str | None, training: bool
) -> None:
    """Through views too, as in Lua: the second branch sees the first one's output."""
    writer = layer("cudnn.ReLU", inplace=True)
    steps = [*([] if view is None else [layer(view)]), writer]
    first = layer("nn.Sequential", modules=LuaTable.from_list(steps), train=training)
    branches = [first, layer("nn.MulConstant", constant_scalar=1.0)]
    source = layer("nn.ConcatTable", modules=LuaTable.from_list(branches), train=training)
    module = convert(source)
    assert isinstance(module, InPlace)
    assert module.training is training
    inputs = torch.tensor([[-1.0, 2.0], [3.0, -4.0]])
    positive, seen = module(inputs)
    assert torch.equal(positive, inputs.relu())
    assert torch.equal(seen, inputs.relu())
    assert inputs.min() == -4


@pytest.mark.parametrize(("inplace", "overwrites"), [(1, True), (0, True), (False, False)])
def test_whatever_is_true_in_lua_makes_a_layer_work_in_place(
    inplace: object, overwrites: bool
) -> None:
    """There all but nil and false is, also 0."""
    branches = [layer("nn.ReLU", inplace=inplace), layer("nn.Identity")]
    module = convert(layer("nn.ConcatTable", modules=LuaTable.from_list(branches)))
    assert isinstance(module, InPlace) == overwrites
    assert module(torch.tensor([-1.0]))[1].item() == (0 if overwrites else -1)


def test_what_has_no_numbers_is_not_damaged() -> None:
    """A layer without values, as one whose shapes are tried, and one without channels."""
    for norm in (nn.BatchNorm1d(2, device="meta"), nn.BatchNorm1d(0)):
        require_finite_parameters(norm)


def test_one_number_and_the_statistics_of_the_network_itself_are_named() -> None:
    scale = nn.Module()
    scale.scale = nn.Parameter(torch.tensor(float("nan")))
    with pytest.raises(NotFiniteError, match=r": scale is nan \(1 of 1 numbers"):
        require_finite_parameters(scale)
    norm = nn.BatchNorm1d(2, eps=0.5)
    norm.get_buffer("running_var")[1] = -1
    with pytest.raises(NotFiniteError, match=r": running_var reaches -1, where"):
        require_finite_parameters(norm)


def test_a_variance_of_a_layer_that_adds_nothing_to_it_is_negative() -> None:
    layer = nn.Module()
    layer.register_buffer("running_var", torch.tensor([0.5, -1e-9]))
    with pytest.raises(NotFiniteError, match="running_var reaches -1e-09"):
        require_finite_parameters(layer)


def test_the_largest_result_is_known_for_indices_and_tables() -> None:
    assert largest_result(nn.Embedding(10, 50), torch.zeros(40, dtype=torch.int64)) == 2000
    table = {"a": [torch.zeros(3, 4), torch.zeros(3, 4)]}

    class Sum(nn.Module):
        def forward(self, input: dict[str, list[torch.Tensor]]) -> torch.Tensor:
            first, second = input["a"]
            return torch.cat([first, second])

    assert largest_result(Sum(), table) == 24
