"""Modules of one step on whole sequences, without a loop, for `torch.export`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
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
def one_sequence(module: nn.Module) -> Iterator[None]:
    """Make the recurrent layers inside a module keep their state from call to call."""
    recurrent = recurrent_layers(module)
    try:
        for inner in recurrent:
            inner.step_state = []
        yield
    finally:
        for inner in recurrent:
            inner.step_state = None


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


def each_step(module: nn.Module, steps: list[Any]) -> list[Any]:
    """Apply a module to every step of a sequence, from zero states."""
    if torch.compiler.is_exporting():
        return unstacked(run_on_sequence(module, stacked(steps)))
    with one_sequence(module):
        return [module(step) for step in steps]


def run_on_sequence(module: nn.Module, sequence: Any) -> Any:
    """Apply a module of one step to tensors (T, N, …), or tables of them, from zero states."""
    group: list[nn.Module] = []
    for stage in _stages(module):
        cell = known_cell(stage)
        if cell is None:
            group.append(stage)
            continue
        sequence = cell.run(_run_group(group, sequence))
        group = []
    return _run_group(group, sequence)


def _stages(module: nn.Module) -> Iterator[nn.Module]:
    if type(module) is nn.Sequential:
        for child in module:
            yield from _stages(child)
    else:
        yield module


def _run_group(group: list[nn.Module], sequence: Any) -> Any:
    """Apply modules one after the other, each step's output the next one's input."""
    if not group:
        return sequence
    module = nn.Sequential(*group)
    if isinstance(sequence, torch.Tensor) and all(isinstance(m, _EACH_STEP) for m in group):
        least = 3 if sequence.is_floating_point() else 2
        if sequence.dim() >= least:
            output: torch.Tensor = module(sequence.flatten(0, 1))
            return output.unflatten(0, sequence.shape[:2])
    return _scan(module, sequence)


def _scan(module: nn.Module, sequence: Any) -> Any:
    leaves, structure = _pytree.tree_flatten(sequence)
    recurrent = recurrent_layers(module)
    with one_sequence(module):
        # Only the shapes of what this gives are used.
        output = module(_pytree.tree_unflatten([leaf[0] for leaf in leaves], structure))
        states = [_zero_state(inner) for inner in recurrent]
    first, state_structure = _pytree.tree_flatten(states)
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

    _, outputs = scan_module(module, step, first, leaves)
    return _pytree.tree_unflatten(outputs, output_structure)


def _zero_state(layer: Any) -> list[Any]:
    """Return the state of a layer before the first step."""
    zeros: list[Any] = _pytree.tree_map(
        lambda value: value.new_zeros(value.shape), layer.step_state
    )
    if getattr(layer, "first_step_differs", False):
        leaf = _pytree.tree_leaves(zeros)[0]
        zeros.append(leaf.new_zeros((), dtype=torch.bool))
    return zeros
