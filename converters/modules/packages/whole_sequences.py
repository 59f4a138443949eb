"""Modules of one step on whole sequences, without a loop, for `torch.export`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from typing import Any

import torch
from torch import nn
from torch.utils import _pytree

from ..layers.embedding import LookupTable
from ..recurrence import known_cell, scan_module

#: Layers that take the steps of all examples as one batch; they have no state.
_EACH_STEP = (
    *(nn.Linear, nn.Dropout, nn.Identity, nn.ReLU, nn.Tanh, nn.Sigmoid, LookupTable),
    *(nn.LogSoftmax, nn.Softmax),
)


@contextmanager
def one_sequence(module: nn.Module, memory: Sequence[torch.Tensor] = ()) -> Iterator[None]:
    """Make the recurrent layers inside a module keep their state from call to call.

    Args:
        module: The module.
        memory: The states to begin with, those of all layers one after the other.
    """
    recurrent = recurrent_layers(module)
    states = iter(memory)
    try:
        for inner in recurrent:
            before = list(islice(states, _state_count(inner)))
            inner.step_state = inner.nested(before) if before else []
        yield
    finally:
        for inner in recurrent:
            inner.step_state = None


def _state_count(layer: Any) -> int:
    """Return how many tensors a layer remembers between calls; none if it does not say so."""
    count: int = getattr(layer, "num_states", 0)
    return count


def recurrent_layers(module: nn.Module) -> list[Any]:
    """Return the layers inside a module that keep a state from step to step."""
    return [inner for inner in module.modules() if hasattr(inner, "step_state")]


def stacked(steps: list[Any]) -> Any:
    """Return the steps of a sequence, tensors or tables of them, as tensors (T, …)."""
    return _pytree.tree_map(lambda *values: torch.stack(values), *steps)


def unstacked(sequence: Any) -> list[Any]:
    """Return the steps of tensors (T, …)."""
    leaves, structure = _pytree.tree_flatten(sequence)
    steps = zip(*(leaf.unbind(0) for leaf in leaves), strict=True)
    return [_pytree.tree_unflatten(step, structure) for step in steps]


def each_step(
    module: nn.Module, steps: list[Any], memory: Sequence[torch.Tensor] = ()
) -> tuple[list[Any], list[torch.Tensor]]:
    """Apply a module to every step of a sequence.

    Args:
        module: The module.
        steps: Tensors, or tables of them.
        memory: The states before the first step (see `one_sequence`); none for zeros.

    Returns:
        The outputs, and the states after the last step.
    """
    if torch.compiler.is_exporting():
        outputs, after = run_on_sequence(module, stacked(steps), memory)
        return unstacked(outputs), after
    with one_sequence(module, memory):
        results = [module(step) for step in steps]
        states = [inner.step_state for inner in recurrent_layers(module)]
    return results, _pytree.tree_leaves(states)


def run_on_sequence(
    module: nn.Module, sequence: Any, memory: Sequence[torch.Tensor] = ()
) -> tuple[Any, list[torch.Tensor]]:
    """Apply a module of one step to tensors (T, N, …), or tables of them (see `each_step`)."""
    states, after = iter(memory), []
    for stage, cell in _stages(module):
        if cell is None:
            sequence, new = _run_group(stage, sequence, states)
        else:
            sequence, new = cell.run(sequence, list(islice(states, stage.num_states)))
        after += new
    return sequence, after


def _stages(module: nn.Module) -> Iterator[tuple[Any, Any]]:
    """Yield the parts of a module of one step: a layer with its cell, or others in a Sequential."""
    group: list[nn.Module] = []
    for layer in _layers(module):
        cell = known_cell(layer)
        if cell is None:
            group.append(layer)
            continue
        if group:
            yield nn.Sequential(*group), None
            group = []
        yield layer, cell
    if group:
        yield nn.Sequential(*group), None


def _layers(module: nn.Module) -> Iterator[nn.Module]:
    if type(module) is nn.Sequential:
        for child in module:
            yield from _layers(child)
    else:
        yield module


def _run_group(
    module: nn.Sequential, sequence: Any, memory: Iterator[torch.Tensor]
) -> tuple[Any, list[torch.Tensor]]:
    """Apply modules one after the other, each step's output the next one's input."""
    if isinstance(sequence, torch.Tensor) and all(isinstance(m, _EACH_STEP) for m in module):
        least = 3 if sequence.is_floating_point() else 2
        if sequence.dim() >= least:
            output: torch.Tensor = module(sequence.flatten(0, 1))
            return output.unflatten(0, sequence.shape[:2]), []
    return _scan(module, sequence, memory)


def _scan(
    module: nn.Module, sequence: Any, memory: Iterator[torch.Tensor]
) -> tuple[Any, list[torch.Tensor]]:
    leaves, structure = _pytree.tree_flatten(sequence)
    recurrent = recurrent_layers(module)
    with one_sequence(module):
        # Only the shapes of what this gives are used.
        output = module(_pytree.tree_unflatten([leaf[0] for leaf in leaves], structure))
        states = [_zero_state(inner) for inner in recurrent]
    zeros, state_structure = _pytree.tree_flatten(states)
    first = list(islice(memory, len(zeros))) or zeros
    output_structure = _pytree.tree_structure(output)

    def step(
        run: Callable[[Any], Any], states: list[torch.Tensor], inputs: list[torch.Tensor]
    ) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
        with one_sequence(module):
            before = _pytree.tree_unflatten(states, state_structure)
            for inner, state in zip(recurrent, before, strict=True):
                inner.step_state = state
            output = run(_pytree.tree_unflatten(inputs, structure))
            after = [inner.step_state for inner in recurrent]
        return _pytree.tree_leaves(after), _pytree.tree_leaves(output)

    after, outputs = scan_module(module, step, first, leaves)
    return _pytree.tree_unflatten(outputs, output_structure), after


def _zero_state(layer: Any) -> list[Any]:
    """Return the state of a layer before the first step."""
    zeros: list[Any] = _pytree.tree_map(
        lambda value: value.new_zeros(value.shape), layer.step_state
    )
    if getattr(layer, "first_step_differs", False):
        leaf = _pytree.tree_leaves(zeros)[0]
        zeros.append(leaf.new_zeros((), dtype=torch.bool))
    return zeros
