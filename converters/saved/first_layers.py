"""The vectors that a network takes, as the sizes of its first layers tell."""

from __future__ import annotations

from collections.abc import Iterable

from torch import nn

from ..input_shapes import BATCH, Entry, InputShape, InputShapes
from ..modules.layers.container import Concat, ConcatTable, ParallelTable
from ..modules.layers.linear import Bilinear
from ..modules.packages.nngraph import GModule

#: Layers that hand on what they get.
_PASSING = (nn.Identity, nn.Dropout)


def vector_size(layer: nn.Module | None) -> int | None:
    """Return how many features a layer takes that takes vectors only, None for any other.

    Example:
        >>> vector_size(nn.Linear(9, 4)), vector_size(nn.Conv2d(3, 4, 3))
        (9, None)
    """
    name = "num_features" if isinstance(layer, nn.BatchNorm1d) else "in_features"
    size = getattr(layer, name, None)
    return size if isinstance(size, int) else None


def vector_inputs(module: nn.Module) -> InputShapes | None:
    """Return the vectors that a network takes, None if its first layers take anything else.

    They are not tried: a layer behind them may want more.

    Example:
        >>> str(vector_inputs(ParallelTable(nn.Linear(9, 4), nn.Linear(3, 4))))
        '9,3'
    """
    entry = _entry(module)
    if entry is None:
        return None
    return InputShapes(entry if isinstance(entry, list) and len(entry) > 1 else [entry])


def _entry(module: nn.Module) -> Entry | None:
    size = vector_size(module)
    if size is not None:
        return InputShape((BATCH, size))
    if isinstance(module, nn.Sequential):
        first = next((layer for layer in module if not isinstance(layer, _PASSING)), None)
        return None if first is None else _entry(first)
    if isinstance(module, (Concat, ConcatTable)):
        return _common(_entry(branch) for branch in module)
    if isinstance(module, ParallelTable):
        return _complete([_entry(branch) for branch in module])
    if isinstance(module, Bilinear):
        return [InputShape((BATCH, n)) for n in (module.in1_features, module.in2_features)]
    return _graph_entry(module) if isinstance(module, GModule) else None


def _common(told: Iterable[Entry | None]) -> Entry | None:
    """Return what the branches of one input tell, where they do not contradict each other."""
    known = [entry for entry in told if entry is not None]
    return known[0] if known and all(entry == known[0] for entry in known) else None


def _complete(told: list[Entry | None]) -> Entry | None:
    """Return what the entries of a table are, if each is known."""
    known = [entry for entry in told if entry is not None]
    return known if known and len(known) == len(told) else None


def _graph_entry(graph: GModule) -> Entry | None:
    """Return what the nodes of a graph tell that take its input, or entries of it."""
    # Which entry of the input a value is; () is the input itself, None any other value.
    places: list[tuple[int, ...] | None] = [()]
    told: dict[tuple[int, ...], list[Entry | None]] = {}
    for child, edges in graph.steps:
        number, *entries = edges[0]
        start = places[number] if len(edges) == 1 else None
        place = None if start is None else (*start, *entries)
        passes = child is None or isinstance(graph[child], _PASSING)
        if place is not None and not passes:
            told.setdefault(place, []).append(_entry(graph[child]))
        places.append(place if passes else None)
    if () in told:
        return _common(told[()])
    count = len(told)
    return _complete([_common(told.get((index,), [])) for index in range(count)])
