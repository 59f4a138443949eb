"""What a network takes and what it gives, where its layers tell."""

from __future__ import annotations

import copy
from collections.abc import Sequence

import torch
from torch import nn

#: Square sizes that image networks are trained on, the best guess first.
_USUAL_SIZES = (
    *(224, 227, 231, 221, 256, 299, 320, 384, 448, 512),
    *(32, 28, 64, 96, 128, 112, 48, 40, 36, 24, 20, 16, 8),
    *(60, 80, 100, 144, 160, 192, 200, 240),
)

#: The layers that end a classifier, by what they give (also our own that derive from them).
_KINDS: dict[type[nn.Module], str] = {
    nn.LogSoftmax: "log_probabilities",
    nn.Softmax: "probabilities",
    nn.Softmax2d: "probabilities",
    nn.Sigmoid: "probabilities",
    nn.Linear: "logits",
}

#: Layers that change no number in evaluation mode.
_SILENT = (
    *("View", "Reshape", "Collapse", "Squeeze", "Unsqueeze", "Flatten"),
    *("Identity", "Dropout", "Cast", "L1Penalty", "GradientReversal"),
)


def infer_output_kind(module: nn.Module) -> str:
    """What a network's outputs mean, by its last layer that computes something.

    `log_probabilities`, `probabilities`, `logits` for a last linear layer, otherwise `features`.
    """
    leaves = [part for part in module.modules() if not any(True for _ in part.children())]
    computing = (leaf for leaf in reversed(leaves) if type(leaf).__name__ not in _SILENT)
    last = next(computing, None)
    return next((kind for cls, kind in _KINDS.items() if isinstance(last, cls)), "features")


def output_shape(module: nn.Module, input_shape: Sequence[int]) -> tuple[int, ...] | None:
    """The shape of a network's output for two examples, without computing a number of it.

    Args:
        module: a network in evaluation mode.
        input_shape: of one example, (C, H, W).

    Returns:
        (2, …), or None when the network does not take such an input, mixes the two examples up,
        or gives no single tensor.
    """
    return _output_shape(on_meta_device(module), input_shape)


def infer_input_shape(
    module: nn.Module, size: tuple[int, int] | None = None
) -> tuple[int, int, int] | None:
    """The (C, H, W) that a network takes.

    Without a size it must be a classifier whose layers tell: one that flattens its features for
    a linear layer takes one size (or a few neighbouring ones, of which the usual one is meant);
    one that takes twice that size as well takes any.

    Args:
        module: a network in evaluation mode.
        size: (height, width), when only the channels are not known.

    Returns:
        The shape, or None when none fits or the layers leave it open.
    """
    weighted = (part for part in module.modules() if any(True for _ in part.parameters(False)))
    first = getattr(next(weighted, None), "in_channels", None)
    channels = (3, 1) if first is None else (first,)
    module = on_meta_device(module)
    if size is not None:
        return next(((c, *size) for c in channels if _output_shape(module, (c, *size))), None)
    for side in _USUAL_SIZES:
        for count in channels:
            if _classifies(module, (count, side, side)):
                open_ended = _classifies(module, (count, 2 * side, 2 * side))
                return None if open_ended else (count, side, side)
    return None


def on_meta_device(module: nn.Module) -> nn.Module:
    """A copy whose tensors have shapes only (the `meta` device), shared ones shared."""
    tensors = [*module.parameters(), *module.buffers()]
    return copy.deepcopy(module, {id(tensor): tensor.to("meta") for tensor in tensors})


def _output_shape(module: nn.Module, input_shape: Sequence[int]) -> tuple[int, ...] | None:
    """`output_shape` of a network without numbers."""
    dtype = next((t.dtype for t in module.parameters() if t.is_floating_point()), torch.float32)
    try:
        with torch.no_grad():
            output = module(torch.empty(2, *input_shape, dtype=dtype, device="meta"))
    except Exception:  # each layer says in its own way that an input does not fit
        return None
    shape = tuple(output.shape) if isinstance(output, torch.Tensor) else ()
    return shape if shape[:1] == (2,) else None


def _classifies(module: nn.Module, input_shape: tuple[int, int, int]) -> bool:
    """Whether two examples of a shape give two rows of outputs."""
    shape = _output_shape(module, input_shape)
    return shape is not None and len(shape) == 2
