"""nngraph: a gModule as a module (`gmodule.lua`)."""

from __future__ import annotations

from collections import defaultdict
from typing import Any, TypeAlias

import torch
from torch import nn

from ...t7 import LuaObject, LuaTable
from ..context import Context
from ..registry import layer, register

#: Where a value comes from: [0] is the graph's input, [n] the output of its n-th step, and what
#: follows picks from a list: [0, 1] is the second entry of the input.
Edge: TypeAlias = list[int]
#: [child, sources]: a child's index (None for no child) and the values that it takes.
Step: TypeAlias = list[Any]


@layer
class GModule(nn.ModuleList):
    """`nn.gModule`: children that are wired as a graph without cycles.

    A step calls one child, with its value if it takes one and with a list if it takes several.
    The children stand in the order of the steps; one that is called twice stands there twice.

    Args:
        modules: the children.
        steps: pairs [child, sources], each after what it depends on. A source is [n] for the
            output of step n, counted from 1, or [0] for the input; [n, i, …] is an entry of it.
            Without a child (None) a step makes a list of its values.
        outputs: sources of the graph's outputs; one is given as it is, several as a list.
    """

    def __init__(self, *modules: nn.Module, steps: list[Step], outputs: list[Edge]) -> None:
        super().__init__(modules)
        self.steps = steps
        self.outputs = outputs

    def forward(self, input: Any) -> Any:
        """The input, or a list of them → the output, or a list of them."""
        values = [input]
        for child, sources in self.steps:
            value = _values_of(values, sources)
            values.append(value if child is None else self[child](value))
        return _values_of(values, self.outputs)

    __repr__ = nn.Module.__repr__

    def extra_repr(self) -> str:
        """The steps as lines of code."""
        lines = []
        for number, (child, sources) in enumerate(self.steps, 1):
            value = _written(sources)
            lines.append(f"v{number} = {value if child is None else f'self[{child}]({value})'}")
        return "\n".join([*lines, f"return {_written(self.outputs)}"])


def _values_of(values: list[Any], sources: list[Edge]) -> Any:
    """The values of some sources: a single one as it is, several as a list."""
    found = []
    for number, *entries in sources:
        value = values[number]
        for entry in entries:
            value = value[entry]
        found.append(value)
    return found[0] if len(found) == 1 else found


def _written(sources: list[Edge]) -> str:
    names = [
        (f"v{number}" if number else "input") + "".join(f"[{entry}]" for entry in entries)
        for number, *entries in sources
    ]
    return names[0] if len(names) == 1 else f"[{', '.join(names)}]"


@register("nn.gModule")
def gmodule(source: LuaObject, context: Context) -> nn.Module:
    """`gmodule.lua` of every age; `forwardnodes` run in the order of the file."""
    listed = source.get("modules", LuaTable())
    if not len(listed):
        context.note("no field modules, as in older files: they are taken from the nodes")
    modules: list[nn.Module] = []
    for number, node in enumerate(source["forwardnodes"].to_list(), 1):
        module = node["data"].get("module")
        if module is not None:
            place = len(modules) + 1
            step = f".modules[{place}]" if listed.get(place) is module else None
            modules.append(context.convert(module, step or f".forwardnodes[{number}].data.module"))
    steps, outputs = _route(source, context)
    return GModule(*modules, steps=steps, outputs=outputs)


def _route(source: LuaObject, context: Context) -> tuple[list[Step], list[Edge]]:
    """The steps and outputs of a graph.

    Nodes are told apart by their `data` table: the forward and the backward graph have Node
    objects of their own for the same data, and `mapindex` goes by the data too. Nodes without a
    module pass on what they get, or with `selectindex` one entry of it; they need no step unless
    they make a list.
    """
    innode, outnode = source["innode"]["data"], source["outnode"]["data"]
    steps: list[Step] = []
    called = 0
    # What each node gets, by its data and then by position.
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
            steps.append([called, edges])
            called, edge = called + 1, [len(steps)]
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
                raise context.error("a node does not say which of its inputs comes from where")
            inputs[id(consumer)][position] = [*edge, *_entry_of_input(data, consumer)]
    return steps, _in_order(inputs[id(outnode)])


def _entry_of_input(data: LuaTable, consumer: LuaTable) -> Edge:
    """The entry of the graph's input that a node gets, where the input node itself deals them out.

    Until 2015 it did, by its own `mapindex`; since then a split follows it.
    """
    places = data["mapindex"]
    number = places.get(consumer)
    return [int(number) - 1] if number is not None and len(places.to_list()) > 1 else []


def _in_order(by_position: dict[int, Edge]) -> list[Edge]:
    return [source for _, source in sorted(by_position.items())]


@layer
class JustElement(nn.Module):
    """`nngraph.JustElement`: the only entry of a list."""

    def forward(self, input: list[Any]) -> Any:
        """A list of one → what is in it."""
        (element,) = input
        return element


@register("nngraph.JustElement")
def just_element(source: LuaObject, context: Context) -> nn.Module:
    """`JustElement.lua`."""
    return JustElement()


@layer
class JustTable(nn.Module):
    """`nngraph.JustTable`: a list with one entry."""

    def forward(self, input: Any) -> list[Any]:
        """Anything → a list of it."""
        return [input]


@register("nngraph.JustTable")
def just_table(source: LuaObject, context: Context) -> nn.Module:
    """`JustTable.lua`."""
    return JustTable()


@layer
class ModuleFromCriterion(nn.Module):
    """`ModuleFromCriterion.lua`: a criterion as a layer; the target gets no gradient."""

    def __init__(self, criterion: nn.Module) -> None:
        super().__init__()
        self.criterion = criterion

    def forward(self, input: list[torch.Tensor]) -> torch.Tensor:
        """[prediction, target] → the loss (1,)."""
        prediction, target = input
        return self.criterion(prediction, target.detach()).reshape(1)


@register("nn.ModuleFromCriterion")
def module_from_criterion(source: LuaObject, context: Context) -> nn.Module:
    """`ModuleFromCriterion.lua`."""
    return ModuleFromCriterion(context.convert(source["criterion"], ".criterion"))
