"""Which outputs of a network, and which columns of the only one, an exported file keeps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import nn
from torch.utils import _pytree as pytree

from ...inference.torch_module import run
from ...labels import check_labels
from ...saved import SavedModel, infer_output_kind
from ...saved.probabilities import sum_problem
from ...saved.shapes import is_sigmoid_last
from ..errors import OnnxError


@dataclass(frozen=True)
class Kept:
    """What a file keeps of a network's outputs; everything counts from 1.

    Attributes:
        outputs: The numbers of the outputs, in the order of the file; None for all.
        columns: The first and the last column of the only output; None for all.
    """

    outputs: tuple[int, ...] | None = None
    columns: tuple[int, int] | None = None

    def names(self, names: Sequence[str]) -> list[str]:
        """Return the names of the outputs that are kept, of those of all outputs."""
        return [*names] if self.outputs is None else [names[number - 1] for number in self.outputs]

    def of(self, model: SavedModel) -> SavedModel:
        """Return a model that gives what is kept, with the labels of the columns.

        Raises:
            LabelsError: If there are fewer labels than columns.
        """
        labels = model.labels
        if labels is not None and self.columns is not None:
            first, last = self.columns
            if len(labels) != last - first + 1:
                labels = labels[first - 1 : last]
                check_labels(labels, last - first + 1)
        return replace(model, module=KeptOutputs(model.module, self), labels=labels)


class KeptOutputs(nn.Module):
    """A network of which only some outputs are kept.

    Args:
        network: Gives a tensor, or a table of them.
        kept: Which of them, depth first.

    Example:
        >>> KeptOutputs(nn.Identity(), Kept(columns=(2, 3)))(torch.arange(8.0).reshape(2, 4))
        tensor([[1., 2.],
                [5., 6.]])
    """

    def __init__(self, network: nn.Module, kept: Kept) -> None:
        super().__init__()
        self.network = network
        self.kept = kept

    def forward(self, inputs: Any) -> Any:
        """Return the outputs that are kept, the only one as a tensor."""
        values = self.select(pytree.tree_leaves(self.network(inputs)))
        return values[0] if len(values) == 1 else values

    def select(self, values: Sequence[torch.Tensor]) -> list[torch.Tensor]:
        """Return what is kept of all outputs."""
        if self.kept.outputs is not None:
            values = [values[number - 1] for number in self.kept.outputs]
        if self.kept.columns is not None:
            first, last = self.kept.columns
            values = [value[:, first - 1 : last] for value in values]
        return list(values)


def choose_kept(
    outputs: Sequence[str | int] | None,
    columns: tuple[int, int] | None,
    names: Sequence[str],
    values: Sequence[torch.Tensor],
) -> Kept | None:
    """Return which outputs and columns are kept; None for all.

    Args:
        outputs: Names of outputs, or numbers from 1.
        columns: The first and the last column, from 1.
        names: The names of all outputs.
        values: All outputs for some examples.

    Raises:
        OnnxError: If the network has no such output or column.
    """
    numbers = None if outputs is None else tuple(_number(output, names) for output in outputs)
    if numbers is not None and (not numbers or len(set(numbers)) != len(numbers)):
        raise OnnxError(f"each output is kept once, of {', '.join(names)}")
    if len(names) == 1:
        numbers = None
    if columns is not None:
        _check_columns(columns, Kept(numbers).names(names), [values[n - 1] for n in numbers or [1]])
    return None if numbers is None and columns is None else Kept(numbers, columns)


def _number(output: str | int, names: Sequence[str]) -> int:
    """Return the number of an output, from 1."""
    if str(output) in names:
        return names.index(str(output)) + 1
    if str(output).isdecimal() and 1 <= int(output) <= len(names):
        return int(output)
    raise OnnxError(
        f"the network has no output {output}: its outputs are {', '.join(names)}, or 1 to "
        f"{len(names)}"
    )


def _check_columns(
    columns: tuple[int, int], names: Sequence[str], values: Sequence[torch.Tensor]
) -> None:
    if len(names) > 1:
        raise OnnxError(
            f"columns are those of one output, and there are {len(names)}: choose one of "
            f"{', '.join(names)} with outputs=…"
        )
    shape = "×".join(["batch", *map(str, values[0].shape[1:])])
    if values[0].dim() != 2:
        raise OnnxError(f"{names[0]} has the shape {shape}: only batch×columns has columns")
    first, last = columns
    if not 1 <= first <= last <= values[0].shape[1]:
        raise OnnxError(f"there are no columns {first}:{last}: {names[0]} has the shape {shape}")


def kind_of_kept(module: KeptOutputs, output_kind: str, inputs: Any) -> str:
    """Return what the outputs that are kept mean (`SavedModel.output_kind`).

    Of several outputs, the layer that gives the one that is kept tells; of the columns of one, the
    last layer, as long as the columns are all the probabilities of one choice.

    Args:
        module: The network.
        output_kind: What the only output of the network is said to mean.
        inputs: Examples.
    """
    made: list[tuple[Any, nn.Module]] = []
    leaves = [m for m in module.network.modules() if not any(True for _ in m.children())]
    hooks = [
        leaf.register_forward_hook(lambda layer, _, output: made.append((output, layer)))
        for leaf in leaves
    ]
    try:
        every = run(module.network, inputs)
    finally:
        for hook in hooks:
            hook.remove()
    values = module.select(every)
    if len(values) > 1 or values[0].dim() != 2:
        return "features"
    whole = every[module.kept.outputs[0] - 1 if module.kept.outputs is not None else 0]
    if module.kept.outputs is not None:
        layer = next((layer for output, layer in reversed(made) if output is whole), nn.Identity())
        output_kind = infer_output_kind(layer)
    else:
        layer = module.network
        output_kind = infer_output_kind(layer) if output_kind == "features" else output_kind
    is_part = values[0].shape[1] < whole.shape[1] and not _sum_problem(whole, output_kind)
    # Some of the probabilities of one choice may add up to 1 nearly, where it is sure.
    if is_sigmoid_last(layer) or (is_part and output_kind != "logits"):
        return "features"
    return "features" if _sum_problem(values[0], output_kind) else output_kind


def _sum_problem(scores: torch.Tensor, output_kind: str) -> str:
    return sum_problem(scores.float().cpu().numpy(), output_kind)
