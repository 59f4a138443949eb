"""Networks that read texts token by token: what they take, and where their states are.

A step takes one token of each example and the states before it, and gives the states after it and
the scores of the next token: char-rnn's network is one. A network of whole sequences, such as
torch-rnn's, has layers that keep their states (see `modules.states`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from ..input_shapes import BATCH, FREE, InputShape, InputShapes
from ..modules.layers.embedding import LookupTable
from ..modules.layers.table import SplitTable
from ..modules.meta_device import on_meta_device
from ..modules.packages.nngraph import GModule

#: The most states that a step may have.
_MOST_STATES = 32


@dataclass(frozen=True)
class TokenStep:
    """A network of one step, which takes `[token, *states]`, all of them with the batch in front.

    Attributes:
        states: The width of each state.
        scores: How many tokens it scores.
        is_one_hot: Whether a token is a row with a single 1; otherwise it is a number, from 1.
    """

    states: tuple[int, ...]
    scores: int
    is_one_hot: bool

    @property
    def inputs(self) -> InputShapes:
        """What it takes."""
        token = InputShape((BATCH, self.scores)) if self.is_one_hot else _NUMBER
        states = [InputShape((BATCH, width)) for width in self.states]
        return InputShapes([token, *states])


_NUMBER = InputShape((BATCH,), "int64")


def find_step(module: nn.Module) -> TokenStep | None:
    """Return what a network of one step takes; None if it is something else.

    It gives a table as long as the one that it takes: the states, of the widths that it takes, and
    last the scores.
    """
    counts = _input_counts(module)
    if not counts:
        return None
    trial = on_meta_device(module)
    linear = [layer for layer in module.modules() if isinstance(layer, nn.Linear)]
    widths = dict.fromkeys(layer.in_features for layer in linear)
    scores = dict.fromkeys(layer.out_features for layer in reversed(linear))
    for count in counts:
        for width in widths:
            states = (width,) * (count - 1)
            for token in (0, *scores):
                step = TokenStep(states, token, is_one_hot=token > 0)
                if (found := _scores_of(trial, step)) and token in (0, found):
                    return TokenStep(states, found, step.is_one_hot)
    return None


def _input_counts(module: nn.Module) -> Sequence[int]:
    """Return how many inputs a network may have whose first layer tells that they are several."""
    if isinstance(module, GModule):
        edges = [edge for _, step in module.steps for edge in step if edge[0] == 0]
        entries = [edge[1] + 1 for edge in edges if len(edge) > 1]
        return [max(entries)] if entries and max(entries) <= _MOST_STATES else []
    if type(module) is nn.Sequential and len(module):
        first = module[0]
        if type(first).__name__ == "ParallelTable":
            return [len(list(first.children()))]
        return _input_counts(first)
    return []


def _scores_of(trial: nn.Module, step: TokenStep) -> int | None:
    """Return how many scores a network on the `meta` device gives as such a step; None if none."""
    if len(step.states) < 1:
        return None
    dtype = next((t.dtype for t in trial.parameters() if t.is_floating_point()), torch.float32)
    token: Any = torch.empty(2, dtype=torch.int64, device="meta")
    if step.is_one_hot:
        token = torch.empty(2, step.scores, dtype=dtype, device="meta")
    states = [torch.empty(2, width, dtype=dtype, device="meta") for width in step.states]
    try:
        with torch.no_grad():
            output = trial([token, *states])
    except Exception:  # each layer raises its own class of exception for an input that does not fit
        return None
    shapes = [tuple(value.shape) for value in output if isinstance(value, torch.Tensor)]
    if len(shapes) != len(states) + 1 or shapes[:-1] != [tuple(s.shape) for s in states]:
        return None
    return shapes[-1][1] if len(shapes[-1]) == 2 and shapes[-1][0] == 2 else None


def token_sequence(module: nn.Module) -> InputShapes | None:
    """Return what a network of whole sequences of tokens takes: ?, or ?xN where steps come first.

    Where it makes a table of the steps, which has a fixed length in a graph, that is one step. Its
    first layer with weights looks up tokens, and a later one keeps a state. None if it is
    something else, or reads the tokens in both directions.
    """
    first = next(
        (one for one in module.modules() if any(True for _ in one.parameters(False))), None
    )
    if not isinstance(first, LookupTable) or not memory_layers(module) or _looks_ahead(module):
        return None
    trial = on_meta_device(module)
    layers = memory_layers(trial)
    for layer in layers:
        layer.memory = []
    try:
        with torch.no_grad():
            trial(torch.ones(2, 3, dtype=torch.int64, device="meta"))
    except Exception:  # as in `_scores_of`
        return None
    examples = {len(state) for layer in layers for state in layer.memory}
    if examples not in ({2}, {3}):
        return None
    has_table = any(isinstance(layer, SplitTable) for layer in module.modules())
    steps: int | str = 1 if has_table else FREE
    axes = (BATCH, steps) if examples == {2} else (steps, BATCH)
    return InputShapes([InputShape(axes, "int64")])


def memory_layers(module: nn.Module) -> list[Any]:
    """Return the layers that can keep their states from call to call (see `modules.states`)."""
    return [
        layer
        for layer in module.modules()
        if hasattr(layer, "memory") and hasattr(layer, "num_states")
    ]


def _looks_ahead(module: nn.Module) -> bool:
    return any(
        getattr(layer, "bidirectional", False)
        or type(layer).__name__.startswith(("Reverse", "SeqReverse", "BiSequencer"))
        for layer in module.modules()
    )
