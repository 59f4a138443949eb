"""Input shapes, output shapes and the meaning of outputs, inferred from a network's layers."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn
from torch.utils import _pytree as pytree

from ..input_shapes import InputShapes
from ..modules.meta_device import on_meta_device
from .first_layers import vector_inputs, vector_size
from .input_trial import input_problem
from .token_steps import find_step, token_sequence

#: Square input sizes that image networks are trained on, in the order in which they are tried.
_USUAL_SIZES = (
    *(224, 227, 231, 221, 256, 299, 320, 384, 448, 512),
    *(32, 28, 64, 96, 128, 112, 48, 40, 36, 24, 20, 16, 8),
    *(60, 80, 100, 144, 160, 192, 200, 240),
)

#: Last layer of a classifier → kind of its outputs; classes of ours that derive from one count too.
_KINDS: dict[type[nn.Module], str] = {
    nn.LogSoftmax: "log_probabilities",
    nn.Softmax: "probabilities",
    nn.Softmax2d: "probabilities",
    nn.Sigmoid: "probabilities",
    nn.Linear: "logits",
}

#: Layers after which the outputs of an example add up to 1.
_SOFTMAX = (nn.LogSoftmax, nn.Softmax, nn.Softmax2d)
#: Containers that set the outputs of their branches side by side.
_JOINING = ("Concat", "DepthConcat", "Parallel")

#: First layers with weights of networks that take sequences.
_SEQUENCES = ("Temporal", "Seq", "LSTM", "GRU", "VanillaRNN")
#: First layers with weights of networks that take no image.
_NO_IMAGES = (*_SEQUENCES, "LookupTable", "Embedding", "Conv1d", "Conv3d", "ConvTranspose3d")

#: Layers that change no value in evaluation mode.
_IDENTITIES = (
    *("View", "Reshape", "Collapse", "Squeeze", "Unsqueeze", "Flatten"),
    *("Identity", "Dropout", "Cast", "L1Penalty", "GradientReversal"),
)


def infer_output_kind(module: nn.Module) -> str:
    """Return what a network's outputs mean, inferred from the last layer that changes values.

    Returns:
        `log_probabilities`, `probabilities`, `logits` after a linear layer, otherwise `features`.

    Example:
        >>> infer_output_kind(nn.Sequential(nn.Linear(4, 2), nn.LogSoftmax(1)))
        'log_probabilities'
    """
    last = last_layer(module)
    return next((kind for cls, kind in _KINDS.items() if isinstance(last, cls)), "features")


def is_sigmoid_last(module: nn.Module) -> bool:
    """Return whether a network ends in a sigmoid, whose probabilities are no choice of one class.

    Example:
        >>> is_sigmoid_last(nn.Sequential(nn.Linear(4, 2), nn.Sigmoid()))
        True
    """
    return isinstance(last_layer(module), nn.Sigmoid)


def side_by_side(module: nn.Module) -> int:
    """Return how many classifiers a network joins in one output, as GoogLeNet does in training.

    Example:
        >>> side_by_side(nn.Sequential(nn.Linear(4, 2), nn.LogSoftmax(1)))
        1
    """
    last = last_layer(module)
    joined = [layer for layer in module.modules() if type(layer).__name__ in _JOINING]
    for container in joined:
        branches = [last_layer(branch) for branch in container.children()]
        kinds = [isinstance(branch, _SOFTMAX) for branch in branches]
        if branches and branches[-1] is last and sum(kinds) > 1:
            return sum(kinds)
    return 1


def last_layer(module: nn.Module) -> nn.Module | None:
    """Return the last layer that changes values."""
    leaves = [layer for layer in module.modules() if not any(True for _ in layer.children())]
    computing = (leaf for leaf in reversed(leaves) if type(leaf).__name__ not in _IDENTITIES)
    return next(computing, None)


def output_shape(module: nn.Module, input_shape: Sequence[int]) -> tuple[int, ...] | None:
    """Return the shape of a network's output for two examples, without computing any value.

    Args:
        module: A network in evaluation mode.
        input_shape: The shape of one example, (C, H, W).

    Returns:
        (2, …), or None if the network does not take such an input, does not keep the two examples
        apart, or does not return a single tensor.

    Example:
        >>> output_shape(nn.Sequential(nn.Flatten(), nn.Linear(784, 10)), (1, 28, 28))
        (2, 10)
    """
    return _output_shape(on_meta_device(module), input_shape)


def output_count(module: nn.Module) -> int | None:
    """Return how many outputs a network has, if a glance at its last layers tells.

    Example:
        >>> output_count(nn.Sequential(nn.Flatten(), nn.Linear(784, 10), nn.LogSoftmax(1)))
        10
    """
    if isinstance(module, nn.Linear):
        return module.out_features
    if type(module) is not nn.Sequential:
        return None
    kept = (nn.Softmax, nn.LogSoftmax, nn.Sigmoid, nn.Dropout, nn.Identity)
    last = next((layer for layer in reversed(module) if not isinstance(layer, kept)), None)
    return None if last is None else output_count(last)


def infer_inputs(module: nn.Module) -> InputShapes | None:
    """Return what a network takes that its layers tell: vectors, or tokens and states.

    Code of somebody else's may flatten images first; then nothing is told.

    Example:
        >>> str(infer_inputs(nn.Sequential(nn.Linear(9, 4), nn.Tanh(), nn.Linear(4, 2))))
        '9'
    """
    vectors = vector_inputs(module)
    if vectors is not None:
        return None if input_problem(module, vectors) else vectors
    step = find_step(module)
    return token_sequence(module) if step is None else step.inputs


def input_hint(module: nn.Module) -> str:
    """Return an `--input` to begin with, as far as the first layer with weights tells; or empty.

    Example:
        >>> input_hint(nn.Sequential(nn.Conv3d(1, 2, 3)))
        '1x?x?x?'
    """
    layer = _first_weighted(module)
    if isinstance(layer, nn.Embedding) or type(layer).__name__.startswith("LookupTable"):
        return "?:int64"
    channels = _channels(layer)
    if channels is None:
        return ""
    name = type(layer).__name__
    if isinstance(layer, (nn.Conv3d, nn.ConvTranspose3d, nn.BatchNorm3d)):
        return f"{channels}x?x?x?"
    if name.startswith(_SEQUENCES) or isinstance(layer, (nn.Conv1d, nn.RNNBase)):
        return f"?x{channels}"
    if vector_size(layer) is not None:
        return str(channels)
    return f"{channels}x?x?"


def _first_weighted(module: nn.Module) -> nn.Module | None:
    weighted = (layer for layer in module.modules() if any(True for _ in layer.parameters(False)))
    return next(weighted, None)


def _channels(layer: nn.Module | None) -> int | None:
    """Return how many channels or features a layer takes, if it says so."""
    names = ("in_channels", "num_features", "in_features", "input_size")
    found = (getattr(layer, name, None) for name in names)
    return next((count for count in found if isinstance(count, int)), None)


def _image_channels(module: nn.Module) -> tuple[int, ...]:
    """Return how many channels images may have: what the first layer takes, or 3 or 1."""
    first = _first_weighted(module)
    # What a linear layer takes is not the channels of the images that are flattened for it.
    is_flat = isinstance(first, (nn.Linear, nn.BatchNorm1d))
    known = None if is_flat else _channels(first)
    return (3, 1) if known is None else (known,)


def infer_input_shape(
    module: nn.Module, size: tuple[int, int] | None = None
) -> tuple[int, int, int] | None:
    """Return the (C, H, W) that a network takes, inferred by trying usual sizes.

    Without `size` only a classifier has an answer. If it flattens its features for a linear layer,
    one size fits, or a few similar ones, of which the most usual is returned. If twice that size
    fits too, the network takes any size, and there is no answer.

    Args:
        module: A network in evaluation mode.
        size: (height, width), if only the number of channels is to be inferred.

    Returns:
        The shape, or None if no shape or any shape fits.

    Example:
        >>> infer_input_shape(nn.Sequential(nn.Conv2d(1, 2, 5), nn.Flatten(), nn.Linear(1152, 10)))
        (1, 28, 28)
    """
    channels = _image_channels(module)
    trial = on_meta_device(module)
    if size is not None:
        return next(((c, *size) for c in channels if _takes(module, trial, (c, *size))), None)
    if not _may_take_images(module):
        return None
    for side in _USUAL_SIZES:
        for count in channels:
            shape = _output_shape(trial, (count, side, side))
            if shape is not None and len(shape) != 2:
                # It runs and does not classify: no size makes it a classifier.
                return None
            if shape is not None:
                takes_any_size = _classifies(trial, (count, 2 * side, 2 * side))
                return None if takes_any_size else (count, side, side)
    return None


def some_image_shape(module: nn.Module) -> tuple[int, int, int] | None:
    """Return a (C, H, W) with which a network runs, whatever it gives; None if none is found.

    Example:
        >>> some_image_shape(nn.Sequential(nn.Conv2d(1, 2, 5), nn.Flatten(), nn.Linear(1152, 10)))
        (1, 28, 28)
    """
    if not _may_take_images(module):
        return None
    trial = on_meta_device(module)
    channels = _image_channels(module)
    shapes = ((count, side, side) for side in _USUAL_SIZES for count in channels)
    return next((shape for shape in shapes if _takes(module, trial, shape)), None)


def _output_shape(module: nn.Module, input_shape: Sequence[int]) -> tuple[int, ...] | None:
    """Return the `output_shape` of a network on the `meta` device."""
    try:
        with torch.no_grad():
            output = module(torch.empty(2, *input_shape, dtype=_dtype(module), device="meta"))
    except Exception:  # each layer raises its own class of exception for an input that does not fit
        return None
    shape = tuple(output.shape) if isinstance(output, torch.Tensor) else ()
    return shape if shape[:1] == (2,) else None


def _takes(module: nn.Module, trial: nn.Module, shape: tuple[int, int, int]) -> bool:
    """Return whether a network takes an image, as Torch7 does, and keeps two examples apart."""
    try:
        with torch.no_grad():
            output = trial(torch.empty(2, *shape, dtype=_dtype(trial), device="meta"))
    except Exception:  # as in `_output_shape`
        return False
    leaves = [leaf for leaf in pytree.tree_leaves(output) if isinstance(leaf, torch.Tensor)]
    keeps = bool(leaves) and all(leaf.shape[:1] == (2,) for leaf in leaves)
    return keeps and not input_problem(module, InputShapes.single(shape))


def _may_take_images(module: nn.Module) -> bool:
    """Whether the first layer with weights leaves it possible, so that sizes are worth a try."""
    return not type(_first_weighted(module)).__name__.startswith(_NO_IMAGES)


def _dtype(module: nn.Module) -> torch.dtype:
    return next((t.dtype for t in module.parameters() if t.is_floating_point()), torch.float32)


def _classifies(module: nn.Module, input_shape: tuple[int, int, int]) -> bool:
    """Return whether a batch of two examples of a shape gives two rows of outputs."""
    shape = _output_shape(module, input_shape)
    return shape is not None and len(shape) == 2
