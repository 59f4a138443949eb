"""nngraph's gModule: graphs of all versions, built as nngraph stores them.

Cases are routing by the identity of `data`, splits and tables, modules used twice, and files
without `modules` or `nInputs`. Expected values come from calling the modules directly.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from torchlift.converters import convert, t7
from torchlift.converters.modules import ConversionError, convert_recorded


def module(class_name: str, **fields: Any) -> t7.LuaObject:
    return t7.LuaObject(class_name, t7.LuaTable(fields))


def linear(n_in: int, n_out: int) -> t7.LuaObject:
    weight = np.random.default_rng(n_in * n_out).standard_normal((n_out, n_in))
    return module("nn.Linear", weight=weight.astype("float32"))


def node(*parents: t7.LuaTable, **fields: Any) -> t7.LuaTable:
    """Return the data of a node that takes the outputs of its parents, in order."""
    mapindex = t7.LuaTable()
    for position, parent in enumerate(parents, 1):
        mapindex[position] = parent
        mapindex[parent] = position
    return t7.LuaTable({"mapindex": mapindex, "annotations": t7.LuaTable(), **fields})


def gmodule(*order: t7.LuaTable, **fields: Any) -> t7.LuaObject:
    """Return a gModule with nodes in this order; the first is its input, the last its output."""
    nodes = [module("nngraph.Node", data=data, id=i) for i, data in enumerate(order)]
    for parent in nodes:
        # nodes[0] is left out: the input node has no parents, but in files from before 2015 its
        # mapindex holds its children.
        children = [child for child in nodes[1:] if parent["data"] in child["data"]["mapindex"]]
        table = t7.LuaTable.from_list(children)
        for position, child in enumerate(children, 1):
            table[child] = position
        parent.fields["children"] = table
    # The output node belongs to the backward graph, so it is another Node with the same data.
    outnode = module("nngraph.Node", data=order[-1], children=t7.LuaTable())
    modules = [data["module"] for data in order if "module" in data]
    fields = {"modules": t7.LuaTable.from_list(modules), **fields}
    return module(
        "nn.gModule",
        forwardnodes=t7.LuaTable.from_list(nodes),
        innode=nodes[0],
        outnode=outnode,
        **fields,
    )


def split(parent: t7.LuaTable, count: int) -> list[t7.LuaTable]:
    """Return a node that splits another's output, and the nodes that each select one entry."""
    middle = node(parent, nSplitOutputs=count)
    return [middle, *(node(middle, selectindex=i) for i in range(1, count + 1))]


def test_split_inputs_and_several_outputs() -> None:
    innode = node()
    middle, first, second = split(innode, 2)
    a = node(first, module=linear(4, 3))
    b = node(second, module=linear(2, 3))
    total = node(b, a, module=module("nn.CSubTable"))
    out = node(total, a)
    # The order is topological, but not that in which the nodes were created.
    graph = gmodule(innode, middle, second, first, b, a, total, out, nInputs=2)
    model = convert(graph)
    x, y = torch.randn(5, 4), torch.randn(5, 2)
    by_a, by_b = convert(a["module"]), convert(b["module"])
    difference, second_output = model([x, y])
    assert torch.equal(difference, by_b(y) - by_a(x))
    assert torch.equal(second_output, by_a(x))
    # Parameters are in the order of execution, as in Lua.
    assert [tuple(p.shape) for p in model.parameters()] == [(3, 2), (3, 4)]


def test_a_graph_from_before_splits_and_the_list_of_modules() -> None:
    innode = node(data=t7.LuaTable())
    first, second = node(innode), node(innode)
    for position, child in enumerate((second, first), 1):
        innode["mapindex"][position] = child
        innode["mapindex"][child] = position
    a, b = node(first, module=linear(4, 3)), node(second, module=linear(2, 3))
    total = node(a, b, module=module("nn.CAddTable"))
    graph = gmodule(innode, first, second, a, b, total, node(total))
    graph.fields["modules"] = None
    conversion = convert_recorded(graph)
    x, y = torch.randn(5, 4), torch.randn(5, 2)
    by_a, by_b = convert(a["module"]), convert(b["module"])
    assert torch.equal(conversion.module([y, x]), by_a(x) + by_b(y))
    assert "no field modules" in conversion.notes[0].text
    assert conversion.layers[0].path == "model.forwardnodes[4].data.module"


def test_an_old_graph_with_one_input_takes_it_unchanged() -> None:
    innode = node(data=t7.LuaTable())
    first = node(innode, module=module("nn.SelectTable", index=2))
    innode["mapindex"][1] = first
    innode["mapindex"][first] = 1
    model = convert(gmodule(innode, first, node(first)))
    x = torch.randn(2, 3)
    assert model([x, x + 1]) is not x
    assert torch.equal(model([x, x + 1]), x + 1)


def test_a_module_in_two_nodes_is_shared() -> None:
    shared = linear(3, 3)
    innode = node()
    once = node(innode, module=shared)
    twice = node(once, module=shared)
    model = convert(gmodule(innode, once, twice, node(twice), nInputs=1))
    x = torch.randn(2, 3)
    assert torch.equal(model(x), model[0](model[0](x)))
    assert model[0] is model[1]
    assert len(list(model.parameters())) == 1


def test_a_module_is_found_by_the_path_at_which_the_file_holds_it() -> None:
    """In the list of modules at its own place, else at its node."""
    innode = node()
    first = node(innode, module=linear(4, 3))
    second = node(first, module=linear(3, 2))
    graph = gmodule(innode, first, second, node(second))
    paths = [layer.path for layer in convert_recorded(graph).layers]
    assert paths == ["model.modules[1]", "model.modules[2]", "model"]
    # A list of the same modules in another order, as no version of nngraph writes it.
    graph.fields["modules"] = t7.LuaTable.from_list([second["module"], first["module"]])
    paths = [layer.path for layer in convert_recorded(graph).layers]
    places = [f"model.forwardnodes[{number}].data.module" for number in (2, 3)]
    assert paths == [*places, "model"]


def test_nodes_without_a_module_create_tables() -> None:
    innode = node()
    a = node(innode, module=linear(4, 3))
    pair = node(a, innode)
    nested = node(pair, a)
    flat = node(nested, module=module("nn.FlattenTable"))
    _, first, second = split_nodes = split(pair, 2)
    outnode = node(flat, second, first)
    model = convert(gmodule(innode, a, pair, nested, flat, *split_nodes, outnode))
    x = torch.randn(2, 4)
    entries, entry_2, entry_1 = model(x)
    assert entry_2 is x
    assert torch.equal(entry_1, model[0](x))
    assert [entry.shape for entry in entries] == [(2, 3), (2, 4), (2, 3)]


def test_a_graph_inside_a_graph() -> None:
    innode = node()
    inner = node(innode, module=linear(4, 3))
    graph = gmodule(innode, inner, node(inner), nInputs=1)
    outer = node()
    call = node(outer, module=graph)
    model = convert(gmodule(outer, call, node(call), nInputs=1))
    x = torch.randn(2, 4)
    assert torch.equal(model(x), model[0][0](x))


def test_a_node_without_inputs_receives_an_empty_list() -> None:
    innode = node()
    source = node(module=module("nn.Identity"))
    pair = node(innode, source, module=module("nn.Identity"))
    model = convert(gmodule(innode, source, pair, node(pair), nInputs=1))
    x = torch.randn(1)
    assert model(x) == [x, []]


def test_repr_shows_the_routing_as_code() -> None:
    innode = node()
    middle, first, second = split(innode, 2)
    a = node(second, module=linear(4, 3))
    graph = gmodule(innode, middle, first, second, a, node(first, a), nInputs=2)
    lines = repr(convert(graph)).splitlines()
    assert lines[1:3] == ["  v1 = self[0](input[1])", "  return [input[0], v1]"]


def test_a_node_that_does_not_list_its_input_is_an_error() -> None:
    innode = node()
    a = node(innode, module=linear(4, 3))
    graph = gmodule(innode, a, node(a))
    a["mapindex"] = t7.LuaTable()
    with pytest.raises(ConversionError, match="does not map its inputs"):
        convert(graph)


@pytest.mark.covers("nngraph.JustTable", "nngraph.JustElement", compared="outputs")
def test_tables_with_one_entry() -> None:
    x = torch.randn(2)
    assert convert(module("nngraph.JustTable"))(x) == [x]
    assert convert(module("nngraph.JustElement"))([x]) is x
    with pytest.raises(ValueError, match="too many values"):
        convert(module("nngraph.JustElement"))([x, x])


@pytest.mark.covers("nn.ModuleFromCriterion", compared="outputs")
def test_a_criterion_as_a_module() -> None:
    loss = convert(
        module("nn.ModuleFromCriterion", criterion=module("nn.MSECriterion", sizeAverage=True))
    )
    prediction, target = torch.randn(2, 3, 4).requires_grad_().unbind()
    target = target.detach().requires_grad_()
    value = loss([prediction, target])
    assert value.shape == (1,)
    assert torch.allclose(value[0], (prediction - target).square().mean())
    value.sum().backward()
    assert target.grad is None
