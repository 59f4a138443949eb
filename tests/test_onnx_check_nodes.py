"""The nodes of a file: whatever one of them computes otherwise is noticed.

Graphs are written as text; each case changes one thing in a graph. What a conversion to float16 or
int8 adds is no difference.
"""

from __future__ import annotations

import numpy as np
import onnx
import onnx_ir
import pytest

from torchlift.converters.onnx.checker.nodes import Structure, _attribute, differences

GRAPH = """
<ir_version: 8, opset_import: ["" : 18]>
network (float[N,3] x, float[N,3] y) => (float[N,2] z)
<float[3,2] w = {1, 2, 3, 4, 5, 6}, float[3,2] v = {1, 2, 3, 4, 5, 6}, float[2] b = {7, 8},
 int64[1] axes = {1}>
{
  d = Sub(x, y)
  g = Gemm <alpha = 1.0>(d, w, b)
  h = MatMul(y, v)
  l = LeakyRelu <alpha = 0.25>(g)
  s, t = Split <axis = 1, num_outputs = 2>(l)
  c = Concat <axis = 1>(s, t)
  m = ReduceMean <keepdims = 1>(h, axes)
  p = Mul(c, m)
  r = Relu(p)
  z = Add(r, c)
}
"""
WEIGHTS = ("w", "v", "b")


def structure(text: str, is_int8: bool = False) -> Structure:
    graph = onnx_ir.from_proto(onnx.parser.parse_model(text)).graph
    return Structure(graph, WEIGHTS, is_int8)


def changed(old: str, new: str, is_int8: bool = False) -> str:
    """Return how the graph with one text replaced differs from the graph."""
    assert GRAPH.count(old) == 1, old
    return differences(structure(GRAPH, is_int8), structure(GRAPH.replace(old, new), is_int8))


FILL = """
<ir_version: 8, opset_import: ["" : 18]>
network (int64[1] n) => (float[N] z) { z = ConstantOfShape(n) }
"""


@pytest.mark.parametrize(
    ("value", "is_same"), [("float {0.0}", True), ("float {1.0}", False), ("int64 {0}", False)]
)
def test_zeros_that_are_said_are_those_that_are_not(value: str, is_same: bool) -> None:
    """Without a value ConstantOfShape gives zeros; a file in float16 must say so."""
    said = FILL.replace("ConstantOfShape", f"ConstantOfShape <value = {value}>")
    assert (differences(structure(FILL), structure(said)) == "") is is_same


OTHER = "the nodes have other inputs or attributes"


def test_other_names_and_another_order_of_attributes_are_no_difference() -> None:
    renamed = GRAPH.replace("s, t", "first, second")
    assert differences(structure(GRAPH), structure(renamed)) == ""
    assert changed("axis = 1, num_outputs = 2", "num_outputs = 2, axis = 1") == ""


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("Sub(x, y)", "Sub(y, x)"),
        ("alpha = 0.25", "alpha = 0.5"),
        ("Concat <axis = 1>(s, t)", "Concat <axis = 1>(t, s)"),
        ("Concat <axis = 1>", "Concat <axis = 0>"),
        ("keepdims = 1", "keepdims = 0"),
        ("axes = {1}", "axes = {0}"),
        ("Mul(c, m)", "Mul(h, m)"),
        ("Add(r, c)", "Add(c, c)"),
    ],
)
def test_other_inputs_and_attributes(old: str, new: str) -> None:
    assert changed(old, new) == OTHER


def test_weights_of_equal_shape_are_told_apart_by_their_names() -> None:
    assert changed("MatMul(y, v)", "MatMul(y, w)") == OTHER


def test_another_bias_of_a_linear_layer() -> None:
    added = GRAPH.replace("float[2] b = {7, 8}", "float[2] b = {7, 8}, float[1] q = {7}")
    other = added.replace("(d, w, b)", "(d, w, q)")
    assert differences(structure(added), structure(other)) == OTHER


def test_operators_are_counted() -> None:
    assert changed("r = Relu(p)", "r = Abs(p)") == (
        "Abs 1 in the file, 0 in the model, Relu 0 in the file, 1 in the model"
    )


@pytest.mark.parametrize("attribute", ["scales = [1.0, 2.0]", "sizes = [1, 2]", 'mode = "linear"'])
def test_lists_and_texts_of_attributes_are_compared(attribute: str) -> None:
    text = """
<ir_version: 8, opset_import: ["" : 18]>
network (float[N,3] x) => (float[N,3] z) { z = Custom <ATTRIBUTE>(x) }
"""
    other = attribute.replace("2", "3").replace("linear", "cubic")
    model, file = (structure(text.replace("ATTRIBUTE", value)) for value in (attribute, other))
    assert differences(model, model) == ""
    assert differences(model, file) == OTHER


def test_casts_between_floats_are_no_difference_and_others_are() -> None:
    """FLOAT16 is 10 and INT64 is 7 in ONNX."""
    assert changed("l = Leaky", "g2 = Cast <to = 10>(g)\n  l = Leaky") == ""
    assert changed("h = MatMul(y, v)", "y2 = Cast <to = 10>(y)\n  h = MatMul(y2, v)") == ""
    text = changed("h = MatMul(y, v)", "y2 = Cast <to = 7>(y)\n  h = MatMul(y2, v)")
    assert text == "Cast 1 in the file, 0 in the model"


def test_a_linear_layer_may_be_a_product_and_a_sum() -> None:
    split = "e = MatMul(d, w)\n  g = Add(e, b)"
    assert changed("g = Gemm <alpha = 1.0>(d, w, b)", split) == ""


@pytest.mark.parametrize("factor", ["alpha = 1.001", "alpha = 1.0, beta = 0.999"])
def test_a_factor_of_a_linear_layer_is_compared(factor: str) -> None:
    """One near 1 hardly shows in the outputs; a quantizer leaves such a layer as it is."""
    other = GRAPH.replace("Gemm <alpha = 1.0>", f"Gemm <{factor}>")
    for is_int8 in (False, True):
        model, scaled = structure(GRAPH, is_int8), structure(other, is_int8)
        assert differences(model, scaled).startswith("Add 1 in the file, 2 in the model, Gemm 1")
        assert differences(scaled, structure(other, is_int8)) == ""


MEASURED = """q, s1, n = DynamicQuantizeLinear(y)
  i = MatMulInteger(q, v_quantized, n)
  f = Cast <to = 1>(i)
  u = Mul(s1, v_scale)
  h = Mul(f, u)"""


def test_a_product_whose_scale_is_measured_at_each_run() -> None:
    """ONNX Runtime's dynamic quantization of a MatMul; another factor is a difference."""
    steps = "int8[3,2] v_quantized = {1, 2, 3, 4, 5, 6}, float v_scale = {0.5}, float[2] b ="
    text = GRAPH.replace("h = MatMul(y, v)", MEASURED).replace("float[2] b =", steps)
    model = structure(GRAPH, is_int8=True)
    assert differences(model, structure(text, is_int8=True)) == ""
    twice = text.replace("h = Mul(f, u)", "f2 = Mul(f, v_scale)\n  h = Mul(f2, u)")
    found = differences(model, structure(twice, is_int8=True))
    assert found == "Mul 2 in the file, 1 in the model"


def test_constants_that_are_no_weights_have_no_names() -> None:
    """The exporter numbers them; their shapes tell them apart."""
    added = GRAPH.replace("float[2] b =", "float[1] k = {1}, float[2] b =")
    model = added.replace("r = Relu(p)", "r = Add(p, k)")
    renamed = model.replace("k = {1}", "k_7 = {1}").replace("(p, k)", "(p, k_7)")
    assert differences(structure(model), structure(renamed)) == ""
    longer = model.replace("float[1] k = {1}", "float[2] k = {1, 1}")
    assert differences(structure(model), structure(longer)) == OTHER


ROUNDED = """p2 = Relu(p)
  q = QuantizeLinear(RELU, scale, zero)
  r = DequantizeLinear(q, scale, zero)"""


def int8(quantized: str, zero: int) -> str:
    constants = f"axes = {{1}}, float scale = {{0.5}}, uint8 zero = {{{zero}}}"
    text = GRAPH.replace("r = Relu(p)", ROUNDED.replace("RELU", quantized))
    return text.replace("axes = {1}", constants)


def test_the_range_of_a_quantizer_may_be_an_activation() -> None:
    """A quantizer whose zero is its smallest value cuts what is negative, as a ReLU does."""
    model = structure(GRAPH, is_int8=True)
    assert differences(model, structure(int8("p2", 0), is_int8=True)) == ""
    without = int8("p", 0).replace("p2 = Relu(p)\n", "")
    assert differences(model, structure(without, is_int8=True)) == ""
    signed = int8("p", 3).replace("p2 = Relu(p)\n", "")
    assert differences(model, structure(signed, is_int8=True)) == "1 activations are missing"


def test_a_missing_activation_of_a_float_file() -> None:
    assert changed("Add(r, c)", "Add(p, c)") == OTHER
    text = changed("r = Relu(p)\n", "r = Identity(p)\n")
    assert text == "Relu 0 in the file, 1 in the model"


def test_factors_are_compared_as_single_precision_holds_them() -> None:
    """A translation has doubles, a file has floats; a number of another float differs."""
    stored = float(np.float32(0.1))
    assert _attribute(onnx_ir.AttrFloat32("alpha", 0.1)) == _attribute(
        onnx_ir.AttrFloat32("alpha", stored)
    )
    assert _attribute(onnx_ir.AttrFloat32s("scales", [0.1, 2])) == _attribute(
        onnx_ir.AttrFloat32s("scales", [stored, 2])
    )
    other = float(np.nextafter(np.float32(0.1), np.float32(1)))
    assert _attribute(onnx_ir.AttrFloat32("alpha", 0.1)) != _attribute(
        onnx_ir.AttrFloat32("alpha", other)
    )
    assert _attribute(onnx_ir.AttrFloat32s("scales", [2, 0.1])) != _attribute(
        onnx_ir.AttrFloat32s("scales", [0.1, 2])
    )


LOOP = """
<ir_version: 8, opset_import: ["" : 18]>
network (bool c, float[N,3] x) => (float[N,3] z)
{ z = If (c) <
    then_branch = yes () => (float[N,3] y) { y = OPERATOR(x) },
    else_branch = no () => (float[N,3] n) { n = Neg(x) }
> }
"""


def test_the_nodes_inside_a_branch_are_compared_by_their_operators() -> None:
    relu, neg = (structure(LOOP.replace("OPERATOR", name)) for name in ("Relu", "Abs"))
    assert differences(relu, relu) == ""
    assert differences(relu, neg) == OTHER


def test_whole_numbers_of_a_weight_are_known_by_its_name_and_others_by_themselves() -> None:
    indices = GRAPH.replace("int64[1] axes = {1}>", "int64[1] axes = {1}, int64[2] v2 = {0, 1}>")
    taken = indices.replace("d = Sub(x, y)", "e = Sub(x, y)\n  d = Gather <axis = 0>(e, v2)")
    other = taken.replace("v2 = {0, 1}", "v2 = {1, 0}")
    assert differences(structure(taken), structure(other)) == OTHER
    # Of a weight the numbers are compared elsewhere.
    named = [
        Structure(onnx_ir.from_proto(onnx.parser.parse_model(text)).graph, (*WEIGHTS, "v2"))
        for text in (taken, other)
    ]
    assert differences(*named) == ""


def test_only_an_activation_that_cuts_is_part_of_a_quantizer() -> None:
    assert changed("r = Relu(p)", "r = Clip(p)", is_int8=True) == ""
    found = changed("r = Relu(p)", "r = Abs(p)", is_int8=True)
    assert found == "Abs 1 in the file, 0 in the model"


def test_two_outputs_that_are_exchanged_are_others() -> None:
    text = """
    <ir_version: 8, opset_import: ["" : 18]>
    network (float[N,3] x) => (float[N,3] a, float[N,3] b) { a = Exp(x) b = Neg(x) }
    """
    exchanged = text.replace("a = Exp(x) b = Neg(x)", "b = Exp(x) a = Neg(x)")
    assert differences(structure(text), structure(text)) == ""
    assert differences(structure(text), structure(exchanged)) == OTHER


@pytest.mark.parametrize("kind", [1, 10, 11])
def test_a_cast_to_any_float_is_no_difference(kind: int) -> None:
    text = """
    <ir_version: 8, opset_import: ["" : 18]>
    network (float[N,3] x) => (float[N,3] b) { a = Exp(x) b = Neg(a) }
    """
    cast = text.replace("b = Neg(a)", f"c = Cast <to = {kind}> (a) b = Neg(c)")
    assert differences(structure(text), structure(cast)) == ""
