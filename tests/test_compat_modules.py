"""The methods of the modules that `load_lua` returns: what each changes, and what it leaves alone.

They are those of PyTorch 0.4's `torch.legacy.nn.Module` and `Container`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from torchlift.compat import load_lua
from torchlift.converters import t7
from torchlift.converters.t7 import LuaObject, LuaTable


def layer(name: str, **fields: object) -> LuaObject:
    return LuaObject(f"nn.{name}", LuaTable(fields))


def loaded(folder: Path, value: object) -> Any:
    t7.save(value, folder / "value.t7")
    return load_lua(folder / "value.t7")


@pytest.fixture
def model(tmp_path: Path) -> Any:
    """Two linear layers, the second one in a container, with gradients and a mask of bytes."""
    first = layer("Linear", weight=np.eye(2), bias=np.ones(2), gradWeight=np.full((2, 2), 3.0))
    first.fields["mask"] = np.ones(2, np.uint8)
    second = layer("Linear", weight=np.eye(2) * 2, bias=np.zeros(2), gradBias=np.full(2, 4.0))
    inner = layer("Sequential", modules=LuaTable.from_list([second, layer("Tanh")]))
    return loaded(tmp_path, layer("Sequential", modules=LuaTable.from_list([first, inner])))


@pytest.mark.parametrize(
    ("name", "dtype"),
    [
        ("torch.FloatTensor", torch.float32),
        ("torch.DoubleTensor", torch.float64),
        ("torch.HalfTensor", torch.float16),
    ],
)
def test_a_type_is_that_of_every_tensor_of_numbers_with_a_fraction(
    model: Any, name: str, dtype: torch.dtype
) -> None:
    assert model.type() == "torch.DoubleTensor"
    assert model.type(name) is model
    first, second = model.get(0), model.get(1).get(0)
    tensors = [first.weight, first.bias, first.gradWeight, second.weight, second.gradBias]
    assert {tensor.dtype for tensor in tensors} == {dtype}
    assert first.mask.dtype == torch.uint8
    assert (model.type(), second.type()) == (name, name)


def test_cuda_moves_single_precision_to_the_gpu_and_cpu_moves_it_back(
    model: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    moved: list[tuple[str, torch.dtype]] = []
    for target in ("cuda", "cpu"):

        def move(tensor: torch.Tensor, target: str = target) -> torch.Tensor:
            moved.append((target, tensor.dtype))
            return tensor.clone()

        monkeypatch.setattr(torch.Tensor, target, move)
    assert model.cuda() is model
    assert set(moved) == {("cuda", torch.float32)}
    count = len(moved)
    assert count == 6, "two weights, two biases and two gradients"
    assert model.cpu() is model
    assert moved[count:] == [("cpu", torch.float32)] * count


def test_calls_have_three_names_and_keep_no_graph(model: Any) -> None:
    model.get(0).weight.requires_grad_()
    x = torch.ones(1, 2).double()
    outputs = [model.forward(x), model.updateOutput(x), model(x)]
    assert all(output.equal(outputs[0]) for output in outputs)
    assert not outputs[0].requires_grad
    torch.testing.assert_close(outputs[0], torch.full((1, 2), 4.0).double().tanh())
    assert model.output is outputs[-1]
    assert model.get(0).output.tolist() == [[2, 2]]


def test_modes_are_set_in_every_module(model: Any) -> None:
    modules = [model, model.get(0), model.get(1), *model.get(1).modules]
    assert model.evaluate() is model
    assert [module.train for module in modules] == [False] * 5
    assert model.training() is model
    assert [module.train for module in modules] == [True] * 5


def test_children_are_put_in_taken_out_and_counted(model: Any, tmp_path: Path) -> None:
    first, inner = model.modules
    tanh = loaded(tmp_path, layer("Tanh"))
    model.insert(tanh, 1)
    assert model.modules == [first, tanh, inner]
    assert (len(model), model.size(), model.get(-1)) == (3, 3, inner)
    model.remove(0)
    assert model.modules == [tanh, inner]
    model.remove()
    assert model.modules == [tanh]
    model.remove()
    assert len(model) == 0
    assert model, "an empty container is true, as any object"
    assert model.add(tanh) is model
    assert model.modules == [tanh]


def test_modules_are_listed_once_parents_first(model: Any) -> None:
    first, inner = model.modules
    expected = [model, first, inner, *inner.modules]
    model.add(first)
    assert model.listModules() == expected
    seen: list[Any] = []
    model.apply(seen.append)
    assert seen == expected
    assert model.findModules("nn.Linear") == [first, inner.get(0)]
    assert model.findModules("Tanh") == [inner.get(1)]
    assert model.findModules("nn.ReLU") == []


def test_parameters_are_the_weights_and_then_the_gradients(model: Any) -> None:
    first, second = model.get(0), model.get(1).get(0)
    weights, gradients = model.parameters()
    expected = [first.weight, first.bias, second.weight, second.bias]
    assert [id(tensor) for tensor in weights] == [id(tensor) for tensor in expected]
    assert [tensor.flatten()[0].item() for tensor in gradients] == [3, 4]


def test_a_copy_computes_the_same_with_tensors_of_its_own(model: Any) -> None:
    x = torch.ones(1, 2).double()
    before = model.forward(x).clone()
    twin = model.clone()
    assert twin.forward(x).equal(before)
    twin.get(0).weight.zero_()
    assert not twin.forward(x).equal(before)
    assert model.forward(x).equal(before)
    # The network that computes is made again for a copy.
    assert not any("torchlift" in name for name in model.__getstate__())


@pytest.mark.parametrize("change", ["in place", "replaced", "transposed", "of another type"])
def test_a_changed_weight_computes(model: Any, change: str) -> None:
    x = torch.tensor([[1.0, 2.0]]).double()
    model.forward(x)
    first = model.get(0)
    weight = torch.tensor([[1.0, 2.0], [3.0, 4.0]]).double()
    if change == "in place":
        first.weight.copy_(weight)
    elif change == "replaced":
        first.weight = weight
    elif change == "transposed":
        # Not contiguous: it has to be copied, and the copy follows the next call too.
        first.weight = weight.t().contiguous().t()
    else:
        model.float()
        first.weight, x = weight.float(), x.float()
    expected = x @ weight.to(x.dtype).t() + 1
    model.forward(x)
    torch.testing.assert_close(first.output, expected)
    first.weight.data = first.weight.data * 2
    model.forward(x)
    torch.testing.assert_close(first.output, expected * 2 - 1)


def test_a_weight_that_no_view_brings_into_the_layers_shape_is_copied(tmp_path: Path) -> None:
    """`nn.Add` takes its bias in memory order, here of a transposed matrix."""
    add = loaded(tmp_path, layer("Add", bias=np.zeros((2, 3))))
    add.bias = torch.tensor([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]]).double().t()
    assert add.forward(torch.zeros(1, 6).double()).tolist() == [[1, 3, 5, 2, 4, 6]]


def test_a_module_is_shown_with_its_children(model: Any) -> None:
    assert repr(model) == (
        "nn.Sequential {\n  (0): nn.Linear\n  (1): nn.Sequential {\n    (0): nn.Linear\n"
        "    (1): nn.Tanh\n  }\n}"
    )


def test_tensors_in_tables_and_unknown_objects_are_converted_too(tmp_path: Path) -> None:
    """A tensor that stands in two places stays one."""
    shared = np.arange(3.0)
    table = LuaTable({"list": LuaTable.from_list([shared, 5]), "inner": LuaTable({"x": shared})})
    unknown = LuaObject("my.Part", LuaTable({"tensor": shared, "sizes": np.array([1, 2])}))
    tanh = layer("Tanh", table=table, part=unknown, weight=shared)
    t7.save(tanh, tmp_path / "value.t7")
    model = load_lua(tmp_path / "value.t7", unknown_classes=True)
    assert model.float() is not None
    found = [model.weight, model.table["list"][0], model.table.inner.x, model.part.tensor]
    assert [id(tensor) for tensor in found] == [id(model.weight)] * 4
    assert model.weight.dtype == torch.float32
    assert model.table["list"][1] == 5
    assert model.part.sizes.dtype == torch.int64
    assert model.double().weight.dtype == torch.float64


def test_sizes_and_numbers_of_fields_are_torch7s_when_a_module_computes(tmp_path: Path) -> None:
    """A LongStorage is a `torch.Size` here; what is changed before the next call counts then."""
    sizes = np.array([3, 2]).view(t7.TorchArray)
    sizes.torch_class = "torch.LongStorage"
    view = loaded(tmp_path, layer("View", size=sizes, numElements=6))
    x = torch.arange(12.0).reshape(2, 6)
    assert view.size == torch.Size([3, 2])
    assert view.forward(x).equal(x.reshape(2, 3, 2))
    narrow = loaded(tmp_path, layer("Narrow", dimension=2, index=2, length=2))
    assert (narrow.dimension, narrow.index) == (1, 1)
    assert narrow.forward(x).equal(x[:, 1:3])
    narrow.index = 3
    assert narrow.forward(x).equal(x[:, 3:5])
    soft = loaded(tmp_path, LuaObject("nn.SoftShrink", LuaTable({"lambda": 2.0})))
    assert soft.lambd == 2
    assert soft.forward(torch.tensor([1.0, 5.0])).tolist() == [0, 3]


def test_gradients_and_outputs_of_former_passes_do_not_compute(tmp_path: Path) -> None:
    """They are kept in the file, and change with every pass."""
    linear = loaded(tmp_path, layer("Linear", weight=np.eye(2), bias=np.zeros(2)))
    x = torch.ones(1, 2).double()
    linear.forward(x)
    network = vars(linear)["_torchlift_network"]
    linear.gradWeight, linear.output, linear.gradInput = "nothing", [1], {}
    assert linear.forward(x).tolist() == [[1, 1]]
    assert vars(linear)["_torchlift_network"] is network
    linear.weight = linear.weight * 2
    assert linear.forward(x).tolist() == [[2, 2]]
    both = LuaTable.from_list([layer("Tanh"), layer("Identity")])
    table = loaded(tmp_path, layer("ConcatTable", modules=both))
    networks = []
    for _ in range(2):
        # A table as output is another list each time.
        assert [one.tolist() for one in table.forward(torch.zeros(2))] == [[0, 0], [0, 0]]
        networks.append(vars(table)["_torchlift_network"])
    assert networks[0] is networks[1]
