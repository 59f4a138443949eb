"""The self-check finds a wrong layer, names it, and raises no false alarm.

The activations in the files were computed by Torch7. For cases that no file covers (in-place
layers, a layer that is called twice) tensors are moved as Torch7 would have left them.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from support import FIXTURES, SHARED

from torchlift.converters import t7
from torchlift.converters.modules import convert_recorded, register
from torchlift.converters.modules.selfcheck import (
    LayerCheck,
    SelfCheck,
    _relative_error,
    self_check,
)
from torchlift.converters.t7 import LuaObject, LuaTable, TorchArray

INF, NAN = float("inf"), float("nan")
UNCLEARED = FIXTURES / "digits" / "digits-lenet5-bn_uncleared.t7"


def checkpoint() -> LuaObject:
    return t7.load(UNCLEARED)["model"]


def checked(model: LuaObject, **options: Any) -> SelfCheck:
    return self_check(convert_recorded(model), **options)


def by_path(report: SelfCheck) -> dict[str, LayerCheck]:
    return {layer.path.removeprefix("model"): layer for layer in report.layers}


def tensor(array: Any, storage: TorchArray | None = None) -> TorchArray:
    """Return a float tensor as in a file, optionally in the storage of another tensor."""
    result = np.asarray(array, np.float32).view(TorchArray)
    result.storage = np.ravel(result).view(TorchArray) if storage is None else storage
    return result


def layer(class_name: str, **fields: Any) -> LuaObject:
    return LuaObject(class_name, LuaTable(fields))


def container(class_name: str, *children: LuaObject, **fields: Any) -> LuaObject:
    return layer(class_name, modules=LuaTable.from_list(children), **fields)


def linear(weight: Any, **fields: Any) -> LuaObject:
    return layer("nn.Linear", weight=tensor(weight), **fields)


def test_a_correct_checkpoint_is_equal_in_every_layer() -> None:
    report = checked(checkpoint())
    assert [layer.status for layer in report.layers] == ["unchecked"] + ["equal"] * 14
    assert "the network's input is not in the file" in report.layers[0].reason
    assert report.first_difference is None
    # float32 sums in another order differ by a few units in the last place.
    assert report.largest_error is not None
    assert report.largest_error < 1e-6
    assert report.layers[4].path == "model.modules[5]"


def test_the_networks_input_makes_the_first_layer_checkable() -> None:
    statistics = t7.load(FIXTURES / "digits" / "digits_meanStd.t7")
    pixels = t7.load(FIXTURES / "digits" / "digits-test.t7")["data"][:3]
    images = (np.asarray(pixels, np.float32) - statistics["mean"][1]) / statistics["std"][1]
    report = checked(checkpoint(), input=tensor(images))
    assert report.count("equal") == 15


@pytest.mark.parametrize(("index", "name"), [(2, "running_var"), (5, "weight"), (14, "bias")])
def test_only_the_wrong_layer_is_named(index: int, name: str) -> None:
    model = checkpoint()
    wrong_layer = model["modules"][index]
    wrong_layer.fields[name] = np.array(wrong_layer[name]) * np.float32(1.01)
    report = checked(model)
    assert report.first_difference is not None
    assert report.first_difference.path == f"model.modules[{index}]"
    assert report.count("differs") == 1
    assert report.to_json()["first_difference"] == f"model.modules[{index}]"


def test_a_layer_that_fails_or_has_another_output_shape_differs() -> None:
    model = checkpoint()
    model["modules"][9].fields["size"] = np.array([200])
    model["modules"][8].fields["output"] = tensor(np.zeros((3, 16, 5, 4)))
    report = by_path(checked(model))
    assert "16×5×5, Torch7's is 3×16×5×4" in report[".modules[8]"].reason
    assert report[".modules[9]"].status == "differs"


def test_the_model_does_not_change() -> None:
    model = checkpoint()
    for module in model["modules"].to_list():
        module.fields["train"] = True
    conversion = convert_recorded(model)
    before = {name: value.clone() for name, value in conversion.module.state_dict().items()}
    report = self_check(conversion)
    assert report.layers[1].reason == "computed in evaluation mode, saved in training mode"
    assert report.count("differs") == 0
    after = conversion.module.state_dict()
    assert all(before[name].equal(after[name]) for name in before)
    assert conversion.module[1].training


def test_in_place_layers_are_checked_from_recomputed_inputs() -> None:
    """Conv → batch norm → in-place ReLU: the file holds the output of the ReLU twice."""
    model = checkpoint()
    relu, norm = model["modules"][3], model["modules"][2]
    relu.fields["inplace"] = True
    norm.fields["output"] = relu["output"]
    report = by_path(checked(model))
    assert report[".modules[2]"].status == "unchecked"
    assert report[".modules[2]"].reason.endswith("overwritten by model.modules[3] (nn.ReLU)")
    assert report[".modules[3]"].status == "equal"
    norm.fields["weight"] = np.array(norm["weight"]) * 2
    assert by_path(checked(model))[".modules[3]"].status == "differs"


def test_what_was_overwritten_last_is_what_the_next_layer_read() -> None:
    """Three layers write in place: the third read what the second computed, not the first."""
    output = tensor([[24.0, 48.0]])
    model = container(
        "nn.Sequential",
        linear(np.eye(2), output=output),
        layer("nn.MulConstant", constant_scalar=2.0, inplace=True, output=output),
        layer("nn.MulConstant", constant_scalar=3.0, inplace=True, output=output),
        layer("nn.MulConstant", constant_scalar=4.0, inplace=True, output=output),
    )
    report = checked(model, input=tensor([[1.0, 2.0]]))
    assert [one.status for one in report.layers] == ["unchecked"] * 3 + ["equal"]


def test_a_container_read_its_input_before_its_layers_overwrote_it() -> None:
    """The container is computed from what the layer before it wrote, not from what is left."""
    output = tensor([[2.0, 4.0]])
    model = container(
        "nn.Sequential",
        linear(np.eye(2), output=output),
        container(
            "nn.Concat",
            layer("nn.MulConstant", constant_scalar=2.0, inplace=True, output=output),
            dimension=2,
            output=tensor([[2.0, 4.0]]),
        ),
    )
    report = checked(model, input=tensor([[1.0, 2.0]]))
    assert [one.status for one in report.layers] == ["unchecked", "equal", "equal"]


@pytest.mark.parametrize("class_name", ["nn.ConcatTable", "nn.Concat"])
def test_a_branch_that_reads_what_another_one_wrote_is_no_difference(class_name: str) -> None:
    """1, 2 → twice as much, in place → tanh of that; then three times as much, in place."""
    output, tanh = tensor([[6.0, 12.0]]), tensor(np.tanh([[2.0, 4.0]]))
    first, last = (tensor([[6.0, 12.0]], output.storage) for _ in range(2))
    both = LuaTable.from_list([first, tanh, last])
    joined = tensor(np.concatenate([first, tanh, last], 1))
    branches = container(
        class_name,
        layer("nn.MulConstant", constant_scalar=2.0, inplace=True, output=first),
        layer("nn.Tanh", output=tanh),
        layer("nn.MulConstant", constant_scalar=3.0, inplace=True, output=last),
        dimension=2,
        output=both if class_name == "nn.ConcatTable" else joined,
    )
    model = container("nn.Sequential", linear(np.eye(2), output=output), branches)
    report = checked(model, input=tensor([[1.0, 2.0]]))
    # What the tanh read is nowhere: neither in the file, nor the output of the linear layer.
    assert [one.status for one in report.layers] == ["unchecked"] * 4 + ["equal"]
    assert report.layers[2].reason.startswith("its input was overwritten by")


def test_values_overwritten_through_a_view_are_missing() -> None:
    """Linear → View → in-place ReLU in one storage; the input of the Linear is unknown."""
    output = tensor([[1.0, 0.0]])
    view = output.reshape(2).view(TorchArray)
    view.storage = output.storage
    model = container(
        "nn.Sequential",
        linear(np.eye(2), output=output),
        layer("nn.View", size=np.array([2]), output=view),
        layer("nn.ReLU", inplace=True, output=view),
    )
    report = checked(model)
    assert [item.status for item in report.layers] == ["unchecked"] * 3
    assert "overwritten by model.modules[3]" in report.layers[1].reason
    report = checked(model, input=tensor([[1.0, -1.0]]))
    assert [item.status for item in report.layers] == ["unchecked", "unchecked", "equal"]


def test_a_layer_called_twice_is_compared_at_its_last_call() -> None:
    shared = linear([[2.0, 0.0], [0.0, 3.0]], output=tensor([[4.0, 9.0]]))
    model = container("nn.Sequential", shared, shared)
    report = checked(model, input=tensor([[1.0, 1.0]]))
    assert [item.status for item in report.layers] == ["unchecked", "equal"]
    assert [item.path for item in report.layers] == ["model.modules[1]", "model.modules[2]"]


def test_branches_take_the_input_of_their_container() -> None:
    input = tensor([[1.0, 2.0]])
    first, second = tensor([[2.0, 4.0]]), tensor([[3.0, 6.0]])
    both = tensor([[2.0, 4.0, 3.0, 6.0]])
    model = container(
        "nn.Sequential",
        container(
            "nn.ConcatTable",
            linear(2 * np.eye(2), output=first),
            linear(3 * np.eye(2), output=second),
            output=LuaTable.from_list([first, second]),
        ),
        container(
            "nn.ParallelTable",
            layer("nn.Identity", output=first),
            layer("nn.Identity", output=second),
            output=LuaTable.from_list([first, second]),
        ),
        layer("nn.JoinTable", dimension=2, output=both),
    )
    report = checked(model, input=input)
    assert [item.status for item in report.layers] == ["equal"] * 7


def test_an_update_after_the_forward_pass_is_undone() -> None:
    """A layer saved after a training step computed its output with the weights before it."""
    generator = np.random.default_rng(0)
    input, weight, gradient = (generator.normal(size=(4, 4)) for _ in range(3))
    bias, bias_gradient = generator.normal(size=(2, 4))
    trained = linear(
        weight - 0.25 * gradient,
        bias=tensor(bias - 0.25 * bias_gradient),
        gradWeight=tensor(gradient),
        gradBias=tensor(bias_gradient),
        output=tensor(input @ weight.T + bias),
        train=True,
    )
    report = checked(trained, input=tensor(input))
    assert report.layers[0].status == "equal"
    assert report.layers[0].reason == "with its last update undone (learning rate 0.25)"
    trained.fields["gradWeight"] = tensor(gradient.T)
    report = checked(trained, input=tensor(input))
    assert report.layers[0].status == "unchecked"
    assert "may have been updated since" in report.layers[0].reason


def test_a_step_uphill_is_no_update() -> None:
    """Descent with the rate -0.5 would explain the output: the weights are wrong."""
    generator = np.random.default_rng(0)
    input, weight, gradient = (generator.normal(size=(4, 4)) for _ in range(3))
    output = tensor(input @ weight.T)
    fields = {"gradWeight": tensor(gradient), "output": output, "train": True}
    for rate, status in ((0.5, "equal"), (-0.5, "unchecked")):
        report = checked(linear(weight - rate * gradient, **fields), input=tensor(input))
        assert report.layers[0].status == status


def test_one_value_does_not_prove_an_update() -> None:
    """A single value can always be explained by some learning rate."""
    input = tensor([[1.0, 2.0]])
    fields = {"gradWeight": tensor([[1.0, 1.0]]), "train": True}
    report = checked(linear([[1.0, 1.0]], output=tensor([[4.5]]), **fields), input=input)
    assert report.layers[0].status == "unchecked"


def test_random_and_cleared_layers_are_unchecked() -> None:
    ones = tensor(np.ones((2, 50)))
    model = container(
        "nn.Sequential",
        layer("nn.Dropout", p=0.5, v2=True, train=True, output=ones),
        layer("nn.Tanh", output=tensor(np.zeros(0))),
        layer("nn.Tanh", output=tensor(np.zeros((2, 50)))),
    )
    reasons = [item.reason for item in checked(model, input=ones).layers]
    assert reasons == [
        "it draws random numbers in training mode",
        "its output is not in the file",
        "its input is not in the file",
    ]


def test_half_precision_outputs_have_a_larger_tolerance() -> None:
    input = np.linspace(-2, 2, 7, dtype=np.float32)
    model = layer("nn.Tanh", output=np.tanh(input).astype(np.float16))
    assert checked(model, input=tensor(input)).layers[0].status == "equal"
    model = layer("nn.Tanh", output=np.tanh(input * 1.01).astype(np.float16))
    assert checked(model, input=tensor(input)).layers[0].status == "differs"


@pytest.mark.parametrize(
    ("actual", "expected", "error"),
    [
        ([1.0, 3.0], [1.0, 4.0], 0.25),
        ([1.0, -4.0], [1.0, 4.0], 2.0),
        ([NAN, 2.0], [NAN, 2.0], 0.0),
        ([NAN, 2.0], [1.0, 2.0], INF),
        ([1.0, 2.0], [NAN, 2.0], INF),
        ([INF, 1.0], [INF, 2.0], 0.5),
        ([-INF, 2.0], [INF, 2.0], INF),
        ([5.0, 2.0], [INF, 2.0], INF),
        ([1e-13, 0.0], [0.0, 0.0], 0.1),
        ([], [], 0.0),
    ],
)
def test_an_error_is_relative_to_the_largest_finite_number(
    actual: list[float], expected: list[float], error: float
) -> None:
    """A NaN equals another NaN, and nothing else."""
    pair = torch.tensor(actual), torch.tensor(expected)
    same = torch.ones(1)
    # Of tables the largest error counts.
    tables: list[dict[str, Any]] = [{"a": one, "b": same} for one in pair]
    for both in (pair, ([same, pair[0]], [same, pair[1]]), tables):
        found = _relative_error(*both)
        assert found > 1e300 if error == INF else found == pytest.approx(error, rel=1e-6)


def test_outputs_of_another_form_are_no_small_error() -> None:
    one, two = torch.ones(1), torch.ones(2)
    for actual, expected in (
        (one, two),
        (two, torch.ones(2, 1)),
        ([one], [one, one]),
        ([one], one),
        (one, [one]),
        ({"a": one}, [one]),
        (3.0, one),
    ):
        with pytest.raises(ValueError, match=r"its output is .*, Torch7's is "):
            _relative_error(actual, expected)
    assert (_relative_error(3, 3), _relative_error("a", "b")) == (0, INF)


@register("test.Broken")
def broken(source: LuaObject, context: Any) -> Any:
    from torch import nn

    return nn.Tanh()


def test_a_wrong_converter_is_found() -> None:
    """The file is unchanged, but a class is converted to another module."""
    model = checkpoint()
    model["modules"][7].class_name = "test.Broken"
    report = checked(model)
    assert report.first_difference is not None
    assert report.first_difference.class_name == "test.Broken"


@pytest.mark.skipif(not (SHARED / "wild").is_dir(), reason="the shared files are not available")
def test_published_graphs_and_training_checkpoints_have_no_difference() -> None:
    """The graph holds its input, so all layers are checked; the other was saved after an update."""
    folder = SHARED / "wild"
    graph = t7.load(folder / "jsenellart+luatorch-onnx-convert__test__data__model2.t7")
    assert {item.status for item in checked(graph).layers} == {"equal"}
    trained = t7.load(folder / "socurites+tic-tac-toe-rl.torch__tictactoc-12000-O.t7")
    report = checked(trained)
    assert [item.status for item in report.layers] == ["unchecked"] + ["equal"] * 5
    assert report.layers[2].reason == "with its last update undone (learning rate 0.3)"


@pytest.mark.skipif(not (SHARED / "wild").is_dir(), reason="the shared files are not available")
def test_a_graph_that_never_ran_is_unchecked() -> None:
    """Its first node holds the empty table `input = {}`."""
    file = SHARED / "wild" / "jsenellart+luatorch-onnx-convert__test__data__model3.t7@ab13d07"
    assert {item.status for item in checked(t7.load(file)).layers} == {"unchecked"}


def test_layers_may_share_the_memory_of_their_outputs() -> None:
    """As optnet lets them: what a later layer wrote there is not what an earlier one computed."""
    inputs = tensor([[1.0, 2.0]])
    storage = tensor([[15.0, 18.0]]).storage
    first = linear([[1.0, 2.0], [3.0, 0.0]], output=tensor([[15.0, 18.0]], storage))
    second = layer("nn.MulConstant", constant_scalar=1.0, output=tensor([[5.0, 3.0]]))
    third = layer("nn.MulConstant", constant_scalar=3.0, output=tensor([[15.0, 9.0]]))
    fourth = layer("nn.AddConstant", constant_scalar=0.0, output=tensor([[15.0, 9.0]], storage))
    first.fields["output"][...] = fourth["output"]
    report = checked(container("nn.Sequential", first, second, third, fourth), input=inputs)
    assert [one.status for one in report.layers] == ["unchecked", "equal", "equal", "equal"]
    assert "overwritten by model.modules[4]" in report.layers[0].reason
