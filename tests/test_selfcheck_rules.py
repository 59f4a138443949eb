"""Rules of the self-check, each by itself: how errors are counted, what a graph's nodes read."""

from __future__ import annotations

import math
import sys
from typing import Any

import numpy as np
import pytest
import torch

from torchlift.converters.modules import convert_recorded
from torchlift.converters.modules.forward_pass import (
    Call,
    _children,
    _MissingValueError,
    _recorded_input,
    _Unknown,
    arrays_in,
)
from torchlift.converters.modules.selfcheck import _check_size, _relative_error, self_check
from torchlift.converters.t7 import LuaObject, LuaTable, TorchArray

ONE, NAN, INF = torch.ones(2), torch.tensor([1.0, math.nan]), torch.tensor([1.0, math.inf])


@pytest.mark.parametrize(
    ("actual", "expected", "error"),
    [
        (ONE, ONE, 0),
        (ONE * 3, ONE * 4, 0.25),
        (torch.tensor([1.0, 5]), torch.tensor([2.0, 4]), 0.25),
        (NAN, NAN, 0),
        (INF, INF, 0),
        (ONE, NAN, math.inf),
        (NAN, ONE, math.inf),
        (ONE, INF, math.inf),
        (INF, ONE, math.inf),
        (torch.tensor([math.inf]), torch.tensor([math.inf]), 0),
        (torch.ones(0), torch.ones(0), 0),
        (torch.zeros(2), torch.zeros(2), 0),
        ([ONE, ONE * 2], [ONE, ONE * 4], 0.5),
        ({"a": ONE * 2, "b": [ONE]}, {"a": ONE, "b": [ONE]}, 1),
        ([], [], 0),
        (3, 3, 0),
        (3, 4, math.inf),
        (None, None, 0),
        (torch.ones(2, 1), ONE, "its output is 2×1, Torch7's is 2"),
        (3, ONE, "its output is int, Torch7's is 2"),
        (torch.tensor(1.0), ONE, "its output is a scalar, Torch7's is 2"),
        ([ONE], [ONE, ONE], "its output is a list of 1, Torch7's is a list of 2"),
        ({"a": ONE}, [ONE], "its output is a dict of 1, Torch7's is a list of 1"),
        (ONE, [ONE], "its output is 2, Torch7's is a list of 1"),
    ],
)
def test_an_error_is_the_largest_difference_over_the_largest_number(
    actual: Any, expected: Any, error: float | str
) -> None:
    """Of a table that of its worst entry; what has another form has none."""
    if isinstance(error, str):
        with pytest.raises(ValueError, match=f"^{error}$"):
            _relative_error(actual, expected)
    else:
        found = _relative_error(actual, expected)
        assert found == error or min(found, error) >= sys.float_info.max


def test_the_nodes_of_a_graph_say_what_they_read() -> None:
    """A list of one is that input itself; nodes without a module are left out."""
    first, second = LuaObject("nn.Tanh"), LuaObject("nn.CAddTable")
    x, y = np.ones(1), np.ones(2)

    def node(**data: Any) -> LuaObject:
        return LuaObject("nngraph.Node", LuaTable({"data": LuaTable(data)}))

    nodes = [
        node(input=LuaTable.from_list([x])),
        node(module=first, input=LuaTable.from_list([x])),
        node(module=second, input=LuaTable.from_list([x, y])),
        node(module=LuaObject("nn.Sigmoid")),
    ]
    fields = {"innode": nodes[0], "forwardnodes": LuaTable.from_list(nodes)}
    graph = LuaObject("nn.gModule", LuaTable(fields))
    assert _recorded_input(graph) is x
    (one, two, three) = _children(graph, None)
    assert [each[0] for each in (one, two, three)] == [
        f".forwardnodes[{number}].data.module" for number in (2, 3, 4)
    ]
    assert one[1:] == (first, x)
    assert (two[1], two[2].to_list()) == (second, [x, y])
    assert three[2] is None


OUTPUT, GIVEN = np.ones(1), np.ones(2)


@pytest.mark.parametrize(
    "class_name", ["nn.Sequential", "nn.LayerNormalization", "nn.Maxout", "nn.SpatialLPPooling"]
)
def test_children_in_a_row_read_what_the_one_before_computed(class_name: str) -> None:
    first, second = children_of(class_name, GIVEN)
    assert first is GIVEN
    assert second is OUTPUT


@pytest.mark.parametrize("class_name", ["nn.Concat", "nn.ConcatTable", "nn.DepthConcat"])
def test_branches_read_what_their_container_did(class_name: str) -> None:
    assert all(read is GIVEN for read in children_of(class_name, GIVEN))


def test_an_input_that_a_container_makes_is_not_in_the_file() -> None:
    table = LuaTable.from_list([GIVEN, OUTPUT])
    first, second = children_of("nn.ParallelTable", table)
    assert first is GIVEN
    assert second is OUTPUT
    makers = {"nn.ParallelTable": GIVEN, "nn.Bottle": GIVEN, "nn.MapTable": table}
    for class_name, given in makers.items():
        for read in children_of(class_name, given):
            assert isinstance(read, _Unknown)
            assert read.reason == f"its input from {class_name} is not in the file"


def children_of(class_name: str, given: Any) -> list[Any]:
    """Return what the two children of a container read."""
    children = [LuaObject("nn.Tanh", LuaTable({"output": OUTPUT})), LuaObject("nn.Tanh")]
    source = LuaObject(class_name, LuaTable({"modules": LuaTable.from_list(children)}))
    found = list(_children(source, given))
    assert [(path, child) for path, child, _ in found] == [
        (f".modules[{index}]", child) for index, child in enumerate(children, 1)
    ]
    return [read for _, _, read in found]


def test_the_keys_of_arrays_are_those_of_the_converted_value() -> None:
    """Lists count from 0, tables with names keep them, and each table is walked through once."""
    first, second, third = np.ones(1), np.ones(2), np.ones(3)
    named = LuaTable({"a": second, 5: third})
    table = LuaTable.from_list([first, named])
    named["again"] = table
    found = list(arrays_in(table))
    assert [keys for keys, _ in found] == [(0,), (1, "a"), (1, 5)]
    pairs = zip(found, (first, second, third), strict=True)
    assert all(array is each for (_, array), each in pairs)


def padded_call(columns: int, kept: int) -> tuple[Call, torch.Tensor]:
    """Return a padding of one pixel to 4096 rows and some columns, with an output in the file."""
    sides = {"pad_l": columns - 1, "pad_r": 0, "pad_t": 4095, "pad_b": 0}
    source = LuaObject("nn.SpatialZeroPadding", LuaTable({**sides, "output": np.ones(kept)}))
    module = convert_recorded(source).module
    return Call(source, "model", module, np.ones((1, 1, 1)), 1, 1), torch.ones(1, 1, 1)


@pytest.mark.parametrize(
    ("columns", "kept", "fits"),
    [(4096, 0, True), (4097, 0, False), (4097, 254, False), (4097, 255, True)],
)
def test_a_layer_computes_16_times_what_the_file_keeps_of_it(
    columns: int, kept: int, fits: bool
) -> None:
    """Beyond the 2²⁴ numbers that any layer may compute; 4097 columns are 4096 more."""
    call, input = padded_call(columns, kept)
    if fits:
        _check_size(call, input)
    else:
        problem = f"a tensor of {4096 * columns:,} elements from {kept + 1}"
        with pytest.raises(_MissingValueError, match=problem):
            _check_size(call, input)


def test_parameters_count_as_what_the_file_keeps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torchlift.converters.modules.selfcheck._SMALL", 0)
    fields = {"weight": np.zeros((100, 100), "f4"), "output": np.zeros((1, 100), "f4")}
    source = LuaObject("nn.Linear", LuaTable({**fields, "train": False}))
    # The transposed weight has 10,000 numbers; the input and the output would allow 16 · 200.
    report = self_check(convert_recorded(source), input=np.zeros((1, 100), "f4"))
    assert [layer.status for layer in report.layers] == ["equal"]


def test_a_check_draws_no_number_of_the_programs() -> None:
    """Layers that draw random numbers run with seeds of their own."""
    fields = {"p": 0.5, "v2": True, "train": True, "output": np.ones(4, "f4")}
    conversion = convert_recorded(LuaObject("nn.Dropout", LuaTable(fields)))
    torch.manual_seed(3)
    before = torch.random.get_rng_state()
    report = self_check(conversion, input=np.ones(4, "f4"))
    assert report.layers[0].reason == "it draws random numbers in training mode"
    assert torch.equal(torch.random.get_rng_state(), before)


@pytest.mark.parametrize(
    ("class_name", "training", "status"),
    [("nn.Mul", True, "unchecked"), ("nn.Mul", False, "differs"), ("nn.Tanh", True, "differs")],
)
def test_only_parameters_in_training_may_have_changed_since(
    class_name: str, training: bool, status: str
) -> None:
    fields = {"weight": np.full(1, 2.0), "train": training, "output": np.full(3, 9.0)}
    report = self_check(convert_recorded(LuaObject(class_name, LuaTable(fields))), input=np.ones(3))
    assert [layer.status for layer in report.layers] == [status]


@pytest.mark.parametrize(("tolerance", "status"), [(0.02, "equal"), (0.005, "differs")])
def test_the_tolerance_of_the_caller_decides(tolerance: float, status: str) -> None:
    source = LuaObject("nn.Identity", LuaTable({"output": np.full(3, 1.01)}))
    report = self_check(convert_recorded(source), np.full(3, 1.0), tolerance)
    assert [layer.status for layer in report.layers] == [status]
    assert report.layers[0].error == pytest.approx(0.01 / 1.01)
    assert report.to_json()["largest_error"] == report.layers[0].error


def test_tables_with_names_and_half_precision_are_recomputed() -> None:
    """Half precision is computed in single, which every processor can."""
    half = np.full((1, 2), 0.5, "f2")
    table = LuaTable({"x": np.ones(2), "none": np.zeros(0), "name": "cat"})
    fields = {"weight": np.eye(2, dtype="f4"), "output": half}
    linear = LuaObject("nn.Linear", LuaTable(fields))
    identity = LuaObject("nn.Identity", LuaTable({"output": table}))
    for source, given in ((linear, half), (identity, table)):
        (layer,) = self_check(convert_recorded(source), input=given).layers
        assert (layer.status, layer.error) == ("equal", 0)


def in_memory(values: Any, other: TorchArray | None = None) -> TorchArray:
    """Return a tensor as in a file, in memory of its own or in that of another one."""
    result = np.asarray(values, np.float32).view(TorchArray)
    result.storage = np.ravel(result).view(TorchArray) if other is None else other.storage
    return result


def times(factor: float, output: Any, **fields: Any) -> LuaObject:
    fields |= {"constant_scalar": factor, "output": output}
    return LuaObject("nn.MulConstant", LuaTable(fields))


def test_an_entry_of_a_table_that_was_overwritten_is_computed_again() -> None:
    """Once and ten times 3, as a table; then the first entry is doubled in place."""
    first, second = in_memory([6.0]), in_memory([30.0])
    both = LuaTable.from_list([first, second])
    layers = [
        container("nn.ConcatTable", both, times(1, first), times(10, second)),
        container("nn.ParallelTable", both, times(2, first, inplace=True), times(1, second)),
    ]
    source = LuaObject("nn.Sequential", LuaTable({"modules": LuaTable.from_list(layers)}))
    report = self_check(convert_recorded(source), input=np.full(1, 3, "f4"))
    found = [(layer.path.removeprefix("model.modules"), layer.status) for layer in report.layers]
    assert found == [
        ("[1].modules[1]", "unchecked"),
        ("[1].modules[2]", "equal"),
        ("[1]", "unchecked"),
        ("[2].modules[1]", "equal"),
        ("[2].modules[2]", "equal"),
        ("[2]", "equal"),
    ]


def container(class_name: str, output: Any, *children: LuaObject) -> LuaObject:
    return LuaObject(
        class_name, LuaTable({"modules": LuaTable.from_list(children), "output": output})
    )


def test_children_that_were_not_converted_are_passed_over() -> None:
    """What `nn.CReLU` is made of, and the replicas for other GPUs."""
    tanh = [LuaObject("nn.Tanh", LuaTable({"output": np.zeros(2)})) for _ in range(2)]
    doubled = container("nn.CReLU", np.array([1.0, 0.0, 0.0, 2.0]), *tanh)
    doubled.fields["nInputDims"] = 1
    parallel = container("nn.DataParallelTable", np.tanh([1.0, -2.0]), *tanh)
    for source, paths in ((doubled, ["model"]), (parallel, ["model.modules[1]", "model"])):
        report = self_check(convert_recorded(source), input=np.array([1.0, -2.0]))
        assert [layer.path for layer in report.layers] == paths
        assert report.layers[-1].status == "equal"


@pytest.mark.parametrize(
    ("fields", "status"),
    [
        ({"train": True}, "equal"),
        # Gradients of a file may have another type than the weights.
        ({"train": True, "gradWeight": np.ones((2, 2))}, "equal"),
        # Nothing was updated in evaluation mode: the weight is another one.
        ({"train": False}, "differs"),
        # A gradient of another size is none of this weight.
        ({"train": True, "gradWeight": np.ones(3, "f4")}, "unchecked"),
    ],
)
def test_a_step_is_undone_where_training_took_one(fields: dict[str, Any], status: str) -> None:
    """The weight was 2 everywhere, the gradient 1, and the rate a half."""
    arrays = {"weight": np.full((2, 2), 1.5, "f4"), "gradWeight": np.ones((2, 2), "f4")}
    output = np.array([[6.0, 6.0], [2.0, 2.0]], "f4")
    source = LuaObject("nn.Linear", LuaTable({**arrays, "output": output, **fields}))
    report = self_check(convert_recorded(source), input=np.array([[1, 2], [0, 1]], "f4"))
    assert report.layers[0].status == status


def test_an_error_of_0_is_one_and_what_was_not_compared_has_none() -> None:
    source = LuaObject("nn.Identity", LuaTable({"output": np.ones(3)}))
    for given, error in ((np.ones(3), 0), (None, None)):
        report = self_check(convert_recorded(source), given)
        assert report.largest_error == error
        found = report.to_json()
        assert (found["largest_error"], found["layers"][0]["error"]) == (error, error)
