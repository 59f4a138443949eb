"""Graphs of modules, of nngraph (`gmodule.lua`)."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from typing import Any, TypeAlias

import torch
from torch import nn

from ...t7 import LuaObject, LuaTable
from ..context import Context
from ..layers.container import Container
from ..registry import layer, register

#: The origin of a value: [0] is the graph's input, [n] the output of step n. Further numbers are
#: indices into lists: [0, 1] is the second entry of the input.
Edge: TypeAlias = list[int]
#: [child, edges]: the index of a child (None for no child) and the values that it takes.
Step: TypeAlias = list[Any]


@layer
class GModule(Container):
    """`nn.gModule`: modules connected as a directed acyclic graph.

    A step calls one child, with a value if it takes one, or with a list if it takes several. The
    children are in the order of the steps; one that is called twice is listed twice.

    Args:
        modules: The children.
        steps: Pairs [child, edges] in topological order. An edge is [n] for the output of step n,
            counted from 1, or [0] for the input; [n, i, …] is an entry of it. A step without a
            child (None) makes a list of its values.
        outputs: Edges of the graph's outputs; a single one is returned as it is, several as a list.
    """

    def __init__(self, *modules: nn.Module, steps: list[Step], outputs: list[Edge]) -> None:
        super().__init__(*modules)
        self.steps = steps
        self.outputs = outputs

    def forward(self, input: Any) -> Any:
        """Map the input, or a list of inputs, to the output, or a list of outputs."""
        return self.walk(input, lambda child, value: child(value))

    def walk(self, input: Any, call: Callable[[nn.Module, Any], Any]) -> Any:
        """Return the output of the graph in which `call` runs a child."""
        values = [input]
        for child, edges in self.steps:
            value = _values_of(values, edges)
            values.append(value if child is None else call(self[child], value))
        return _values_of(values, self.outputs)

    def extra_repr(self) -> str:
        """Return the steps as lines of code."""
        lines = []
        for number, (child, edges) in enumerate(self.steps, 1):
            value = _expression(edges)
            lines.append(f"v{number} = {value if child is None else f'self[{child}]({value})'}")
        return "\n".join([*lines, f"return {_expression(self.outputs)}"])


def _values_of(values: list[Any], edges: list[Edge]) -> Any:
    """Return the values that edges name: a single one as it is, several as a list."""
    selected = []
    for number, *entries in edges:
        value = values[number]
        for entry in entries:
            value = value[entry]
        selected.append(value)
    return selected[0] if len(selected) == 1 else selected


def _expression(edges: list[Edge]) -> str:
    """Return the code of the values that edges name."""
    names = [
        (f"v{number}" if number else "input") + "".join(f"[{entry}]" for entry in entries)
        for number, *entries in edges
    ]
    return names[0] if len(names) == 1 else f"[{', '.join(names)}]"


@register("nn.gModule", ignored=("fg", "bg", "backwardnodes", "nInputs", "verbose"))
def gmodule(source: LuaObject, context: Context) -> nn.Module:
    """Convert `gmodule.lua`, all versions; its `forwardnodes` run in the order of the file."""
    table = source.get("modules", LuaTable())
    if not len(table):
        context.note("no field modules, as in older files: they are taken from the nodes")
    modules: list[nn.Module] = []
    for number, node in enumerate(source["forwardnodes"].to_list(), 1):
        module = node["data"].get("module")
        if module is not None:
            index = len(modules) + 1
            step = f".modules[{index}]" if table.get(index) is module else None
            modules.append(context.convert(module, step or f".forwardnodes[{number}].data.module"))
    steps, outputs = _steps_and_outputs(source, context)
    return GModule(*modules, steps=steps, outputs=outputs)


def _steps_and_outputs(source: LuaObject, context: Context) -> tuple[list[Step], list[Edge]]:
    """Return the steps and the outputs of a graph.

    A node is identified by its table `data`: the forward and the backward graph have separate Node
    objects for the same data, and the keys of `mapindex` are data too. A node without a module
    returns its input, or with `selectindex` one entry of it; it needs no step unless it makes a
    list.
    """
    innode, outnode = source["innode"]["data"], source["outnode"]["data"]
    steps: list[Step] = []
    child_index = 0
    # The edges into each node, by the identity of its data and then by position.
    inputs: dict[int, dict[int, Edge]] = defaultdict(dict)
    for node in source["forwardnodes"].to_list():
        data = node["data"]
        edges = _in_order(inputs[id(data)])
        if "criterion" in data:
            raise context.error("a node that computes a criterion cannot be converted")
        if data is outnode:
            continue
        if data is innode:
            edge = [0]
        elif "module" in data:
            steps.append([child_index, edges])
            child_index, edge = child_index + 1, [len(steps)]
        elif len(edges) == 1:
            edge = edges[0]
        else:
            steps.append([None, edges])
            edge = [len(steps)]
        if "selectindex" in data:
            edge = [*edge, int(data["selectindex"]) - 1]
        for child in node["children"].to_list():
            consumer = child["data"]
            position = consumer["mapindex"].get(data)
            if position is None:
                raise context.error("a node does not map its inputs to other nodes (mapindex)")
            inputs[id(consumer)][position] = [*edge, *_entry_of_input(data, consumer)]
    return steps, _in_order(inputs[id(outnode)])


def _entry_of_input(data: LuaTable, consumer: LuaTable) -> Edge:
    """Return the index of the entry of the graph's input that a node takes, as a list.

    Until 2015 the input node distributed the entries of its input, by its own `mapindex`. Since
    then a node that splits the input follows it, and the list is empty.
    """
    mapindex = data["mapindex"]
    number = mapindex.get(consumer)
    return [int(number) - 1] if number is not None and len(mapindex.to_list()) > 1 else []


def _in_order(by_position: dict[int, Edge]) -> list[Edge]:
    return [edge for _, edge in sorted(by_position.items())]


@layer
class JustElement(nn.Module):
    """`nngraph.JustElement`: the only entry of a list."""

    def forward(self, input: list[Any]) -> Any:
        """Map a list of one entry to that entry."""
        (element,) = input
        return element


@register("nngraph.JustElement")
def just_element(source: LuaObject, context: Context) -> nn.Module:
    """Convert `JustElement.lua`: the only entry of a list."""
    return JustElement()


@layer
class JustTable(nn.Module):
    """`nngraph.JustTable`: a list with one entry."""

    def forward(self, input: Any) -> list[Any]:
        """Map any value to a list with this one entry."""
        return [input]


@register("nngraph.JustTable")
def just_table(source: LuaObject, context: Context) -> nn.Module:
    """Convert `JustTable.lua`: a list with one entry."""
    return JustTable()


@layer
class ModuleFromCriterion(nn.Module):
    """`ModuleFromCriterion.lua`: a criterion as a layer; the target gets no gradient.

    Args:
        criterion: The criterion.
    """

    def __init__(self, criterion: nn.Module) -> None:
        super().__init__()
        self.criterion = criterion

    def forward(self, input: list[torch.Tensor]) -> torch.Tensor:
        """Map `[prediction, target]` to the loss (1,)."""
        prediction, target = input
        loss: torch.Tensor = self.criterion(prediction, target.detach())
        return loss.reshape(1)


@register("nn.ModuleFromCriterion")
def module_from_criterion(source: LuaObject, context: Context) -> nn.Module:
    """Convert `ModuleFromCriterion.lua`: a criterion as a layer."""
    return ModuleFromCriterion(context.convert(source["criterion"], ".criterion"))
