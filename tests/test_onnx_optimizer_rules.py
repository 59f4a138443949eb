"""What the optimizer takes out of a graph: each rule on a graph that needs it."""

from __future__ import annotations

import numpy as np
import onnx
import onnx_ir
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnx_optimizer_support import CONSTANTS, NORM, graph, make, operators, run

from torchlift.converters.onnx import OnnxError
from torchlift.converters.onnx.exporter.fp16 import to_half
from torchlift.converters.onnx.exporter.optimizer import optimize
from torchlift.converters.onnx.exporter.tracing import _strip_metadata

CASES: dict[str, tuple[list[onnx.NodeProto], list[str]]] = {
    "two ReLUs": ([make("Relu", ["input"], ["a"]), make("Relu", ["a"], ["y"])], ["Relu"]),
    "a ReLU and a Clip": (
        [make("Relu", ["input"], ["a"]), make("Clip", ["a", "low", "high"], ["y"])],
        ["Clip"],
    ),
    "two Clips": (
        [make("Clip", ["input", "low", "high"], ["a"]), make("Clip", ["a", "mid", "high"], ["y"])],
        ["Clip"],
    ),
    "two maxima": (
        [make("Max", ["input", "low"], ["a"]), make("Max", ["a", "mid"], ["y"])],
        ["Max"],
    ),
    "two minima": (
        [make("Min", ["input", "high"], ["a"]), make("Min", ["a", "mid"], ["y"])],
        ["Min"],
    ),
    "a dropout": (
        [make("Dropout", ["input", "ratio", "no"], ["a"]), make("Relu", ["a"], ["y"])],
        ["Relu"],
    ),
    "two transpositions that cancel": (
        [
            make("Transpose", ["input"], ["a"], perm=[0, 2, 3, 1]),
            make("Transpose", ["a"], ["b"], perm=[0, 3, 1, 2]),
            make("Relu", ["b"], ["y"]),
        ],
        ["Relu"],
    ),
    "a transposition to the same order": (
        [make("Transpose", ["input"], ["a"], perm=[0, 1, 2, 3]), make("Relu", ["a"], ["y"])],
        ["Relu"],
    ),
    # An output must be computed.
    "nothing but a dropout": (
        [make("Dropout", ["input", "ratio", "no"], ["y"])],
        ["Identity"],
    ),
    "a cast to the same type": (
        [make("Cast", ["input"], ["a"], to=TensorProto.FLOAT), make("Relu", ["a"], ["y"])],
        ["Relu"],
    ),
    "two reshapes": (
        [
            make("Reshape", ["input", "flat"], ["a"]),
            make("Reshape", ["a", "square"], ["b"]),
            make("Relu", ["b"], ["y"]),
        ],
        ["Reshape", "Relu"],
    ),
    "a padding before a convolution": (
        [make("Pad", ["input", "pads"], ["a"]), make("Conv", ["a", "weight", "bias"], ["y"])],
        ["Conv"],
    ),
    "a bias of zeros": ([make("Conv", ["input", "weight", "zero_bias"], ["y"])], ["Conv"]),
    "a normalization behind a convolution": (
        [
            make("Conv", ["input", "weight", "bias"], ["a"]),
            make("BatchNormalization", ["a", *NORM], ["y"], epsilon=1e-3),
        ],
        ["Conv"],
    ),
    "a normalization behind a transposed convolution": (
        [
            make("ConvTranspose", ["input", "turned", "bias"], ["a"]),
            make("BatchNormalization", ["a", *NORM], ["y"], epsilon=1e-3),
        ],
        ["ConvTranspose"],
    ),
    "a normalization behind a linear layer": (
        [
            make("Flatten", ["input"], ["a"]),
            make("Gemm", ["a", "gemm", "bias"], ["b"]),
            make("BatchNormalization", ["b", *NORM], ["y"], epsilon=1e-3),
        ],
        ["Reshape", "Gemm"],
    ),
    "the same twice": (
        [
            make("Relu", ["input"], ["a"]),
            make("Relu", ["input"], ["b"]),
            make("Add", ["a", "b"], ["y"]),
        ],
        ["Relu", "Add"],
    ),
    "what nothing uses": (
        [make("Exp", ["input"], ["unused"]), make("Relu", ["input"], ["y"])],
        ["Relu"],
    ),
    "a padding by nothing": (
        [make("Pad", ["input", "no_pads"], ["a"]), make("Relu", ["a"], ["y"])],
        ["Relu"],
    ),
    "factors and divisors of 1": (
        [
            make("Mul", ["input", "ones"], ["a"]),
            make("Mul", ["one", "a"], ["b"]),
            make("Div", ["b", "one"], ["c"]),
            make("Relu", ["c"], ["y"]),
        ],
        ["Relu"],
    ),
    "sums with 0": (
        [
            make("Add", ["input", "nothing"], ["a"]),
            make("Sub", ["a", "nothing"], ["b"]),
            make("Relu", ["b"], ["y"]),
        ],
        ["Relu"],
    ),
    # (batch, 3, 4, 4) becomes (2, batch, 3, 4, 4) nowhere else.
    "a factor of 1 that adds an axis": ([make("Mul", ["input", "more_axes"], ["y"])], ["Mul"]),
    "what is subtracted from 0": ([make("Sub", ["nothing", "input"], ["y"])], ["Sub"]),
    "what 1 is divided by": ([make("Div", ["one", "input"], ["y"])], ["Div"]),
    "a factor of 1 that adds an axis of 1": (
        [make("Mul", ["input", "one_more_axis"], ["y"])],
        ["Mul"],
    ),
    "a factor of nearly 1": ([make("Mul", ["input", "nearly"], ["y"])], ["Mul"]),
    "a Clip and a ReLU": (
        [make("Clip", ["input", "low", "high"], ["a"]), make("Relu", ["a"], ["y"])],
        ["Clip"],
    ),
    "a maximum and a minimum": (
        [make("Max", ["input", "low"], ["a"]), make("Min", ["a", "high"], ["y"])],
        ["Clip"],
    ),
    "a minimum and a maximum": (
        [make("Min", ["input", "high"], ["a"]), make("Max", ["a", "low"], ["y"])],
        ["Clip"],
    ),
    # What a rule makes a constant of is computed ahead, too.
    "arithmetic of constants behind a dropout": (
        [
            make("Dropout", ["low", "ratio", "no"], ["a"]),
            make("Add", ["a", "mid"], ["b"]),
            make("Mul", ["input", "b"], ["y"]),
        ],
        ["Mul"],
    ),
    "arithmetic of constants": (
        [make("Add", ["low", "mid"], ["a"]), make("Mul", ["input", "a"], ["y"])],
        ["Mul"],
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_what_a_graph_does_not_need_is_left_out(name: str) -> None:
    nodes, expected = CASES[name]
    assert operators(*nodes) == expected


def test_reshapes_need_no_allowzero_unless_a_size_is_0() -> None:
    """Some programs refuse the attribute; where the shape has a 0 it means something."""
    for shape, expected in (("flat_rest", []), ("empty", ["allowzero"])):
        model = graph(make("Reshape", ["input", shape], ["y"], allowzero=1))
        sizes = {"flat_rest": [-1, 48], "empty": [0, 48]}[shape]
        model.graph.initializer.append(numpy_helper.from_array(np.array(sizes, np.int64), shape))
        optimized = onnx_ir.from_proto(model)
        optimize(optimized)
        (node,) = onnx_ir.to_proto(optimized).graph.node
        assert [attribute.name for attribute in node.attribute] == expected


def test_a_size_that_is_computed_needs_no_allowzero() -> None:
    """It is 0 for an empty batch only."""
    model = graph(
        make("Shape", ["input"], ["batch"], start=0, end=1),
        make("Concat", ["batch", "rest"], ["sizes"], axis=0),
        make("Reshape", ["input", "sizes"], ["y"], allowzero=1),
    )
    model.graph.initializer.append(numpy_helper.from_array(np.array([16, 3], np.int64), "rest"))
    optimized = onnx_ir.from_proto(model)
    optimize(optimized)
    node = onnx_ir.to_proto(optimized).graph.node[-1]
    assert (node.op_type, len(node.attribute)) == ("Reshape", 0)


def test_a_weight_that_is_larger_than_its_factors_is_computed_ahead() -> None:
    model = graph(
        make("Reshape", ["input", "flat"], ["a"]),
        make("Mul", ["column", "row"], ["b"]),
        make("MatMul", ["a", "b"], ["y"]),
    )
    random = np.random.default_rng(3)
    for name, shape in (("column", (48, 1)), ("row", (1, 48))):
        factor = random.standard_normal(shape).astype(np.float32)
        model.graph.initializer.append(numpy_helper.from_array(factor, name))
    optimized = onnx_ir.from_proto(model)
    optimize(optimized)
    result = onnx_ir.to_proto(optimized)
    assert [node.op_type for node in result.graph.node] == ["Reshape", "MatMul"]
    images = np.ones((2, 3, 4, 4), np.float32)
    np.testing.assert_allclose(run(result, images), run(model, images), rtol=1e-5, atol=1e-5)


def test_no_two_nodes_have_one_name() -> None:
    model = graph(
        make("Relu", ["input"], ["a"], "same"),
        make("Exp", ["a"], ["b"], "same"),
        make("Neg", ["b"], ["y"]),
    )
    optimized = onnx_ir.from_proto(model)
    optimize(optimized)
    names = [node.name for node in optimized.graph]
    assert all(names)
    assert len(set(names)) == 3


def test_no_trace_of_the_machine_stays_at_any_node_or_value() -> None:
    """In a branch neither."""
    value = helper.make_tensor_value_info
    branches = {
        name: helper.make_graph(
            [make("Relu", ["a"], [name])], name, [], [value(name, TensorProto.FLOAT, None)]
        )
        for name in ("then_branch", "else_branch")
    }
    convolution = make("Conv", ["input", "weight", "bias"], ["a"])
    model = onnx_ir.from_proto(graph(convolution, make("If", ["no"], ["y"], **branches)))
    graphs = [*model.graphs()]
    assert len(graphs) == 3
    values = [*model.graph.inputs, *model.graph.initializers.values()]
    outputs = [value for inside in graphs for value in inside.outputs]
    places = [*graphs, *(node for inside in graphs for node in inside), *values, *outputs]
    for place in places:
        place.metadata_props["pkg.torch.onnx.stack_trace"] = "/home/somebody/net.py"
    _strip_metadata(model)
    assert not any(place.metadata_props for place in places)
    assert b"somebody" not in onnx_ir.to_proto(model).SerializeToString()


@pytest.mark.parametrize(
    "node",
    [
        make("Conv", ["input", "weight", "zero_bias"], ["y"]),
        make("ConvTranspose", ["input", "turned", "zero_bias"], ["y"]),
        make("Gemm", ["a", "gemm", "zero_bias"], ["y"]),
    ],
    ids=lambda node: node.op_type,
)
def test_a_bias_of_zeros_is_left_out(node: onnx.NodeProto) -> None:
    nodes = [make("Flatten", ["input"], ["a"])] * (node.op_type == "Gemm")
    model = graph(*nodes, node)
    optimized = onnx_ir.from_proto(model)
    optimize(optimized)
    last = onnx_ir.to_proto(optimized).graph.node[-1]
    assert (last.op_type, len(last.input)) == (node.op_type, 2)


def test_equal_weights_are_stored_once() -> None:
    model = graph(
        make("Conv", ["input", "weight", "bias"], ["a"]),
        make("Conv", ["input", "copy", "bias"], ["b"], strides=[2, 2]),
        make("Flatten", ["a"], ["c"]),
        make("Flatten", ["b"], ["d"]),
        make("Concat", ["c", "d"], ["y"], axis=1),
    )
    model.graph.initializer.append(numpy_helper.from_array(CONSTANTS["weight"], "copy"))
    optimized = onnx_ir.from_proto(model)
    optimize(optimized)
    stored = onnx_ir.to_proto(optimized).graph.initializer
    assert sorted(each.dims[0] for each in stored if len(each.dims) == 4) == [2]


def test_a_value_that_is_nearly_nothing_is_kept() -> None:
    """PyTorch's own optimizer takes 1e-9 for 0: a norm of zeros is divided by it."""
    model = graph(
        make("Sub", ["input", "input"], ["zeros"]),
        make("Add", ["zeros", "tiny"], ["a"]),
        make("Div", ["zeros", "a"], ["y"]),
    )
    model.graph.initializer.append(numpy_helper.from_array(np.float32(1e-9), "tiny"))
    optimized = onnx_ir.from_proto(model)
    optimize(optimized)
    images = np.ones((2, 3, 4, 4), np.float32)
    assert not run(onnx_ir.to_proto(optimized), images).any()


@pytest.mark.parametrize(("value", "fits"), [(65504, True), (65600, False), (-65600, False)])
def test_weights_beyond_float16_are_refused_with_their_names(value: float, fits: bool) -> None:
    """They would become infinite."""
    model = graph(make("Conv", ["input", "weight", "bias"], ["y"]))
    bias = next(each for each in model.graph.initializer if each.name == "bias")
    bias.CopyFrom(numpy_helper.from_array(np.array([0, value], np.float32), "bias"))
    float32 = onnx_ir.from_proto(model)
    if fits:
        half = onnx_ir.to_proto(to_half(float32))
        types = {each.name: each.data_type for each in half.graph.initializer}
        assert set(types.values()) == {TensorProto.FLOAT16}
        # Inputs and outputs are those of the float32 file.
        outside = (*half.graph.input, *half.graph.output)
        assert {each.type.tensor_type.elem_type for each in outside} == {TensorProto.FLOAT}
    else:
        with pytest.raises(OnnxError, match="above 65504 do not fit float16: bias"):
            to_half(float32)


@pytest.mark.parametrize("operators_", [("Max", "Min"), ("Min", "Min"), ("Clip", "Relu")])
def test_two_branches_that_limit_the_same_value_keep_their_own_limits(
    operators_: tuple[str, str],
) -> None:
    """Onnxscript calls the joined limits after the value, in both branches alike."""
    first, second = operators_
    nodes = []
    for name, limits in (("a", ["low", "high"]), ("b", ["nothing", "mid"])):
        given = limits if first == "Clip" else limits[:1]
        nodes.append(make(first, ["input", *given], [f"{name}_1"]))
        nodes.append(make(second, [f"{name}_1", *([] if second == "Relu" else limits[1:])], [name]))
    found = operators(*nodes, make("Concat", ["a", "b"], ["y"], axis=1))
    assert found == [{"Max": "Clip"}.get(first, first)] * 2 + ["Concat"]
