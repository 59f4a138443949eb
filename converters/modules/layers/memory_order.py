"""Tensors of different shapes, whose elements Torch7 pairs by their position in memory."""

from __future__ import annotations

import torch


def in_shape(tensor: torch.Tensor, shape: tuple[int, ...]) -> torch.Tensor:
    """Return a tensor in another shape with as many elements, which keep their order.

    A tensor that has the shape already is returned as it is: a reshape would be an operation of an
    exported graph.

    Raises:
        RuntimeError: If the shape has another number of elements.
    """
    return tensor if _equal(tensor.shape, shape) else tensor.flatten().view(shape)


def _equal(first: tuple[int, ...], second: tuple[int, ...]) -> bool:
    """Return whether two shapes are equal; in an export, whether they are for every batch size."""
    if not torch.compiler.is_exporting():
        return first == second
    # In nn.LayerNormalization the shapes are (6, N) and (N, 6). `==` would make torch.export
    # specialize N. The import is here because it takes a second.
    from torch.fx.experimental.symbolic_shapes import statically_known_true, sym_eq

    return statically_known_true(sym_eq(first, second))


def same_shape(tensors: list[torch.Tensor]) -> list[torch.Tensor]:
    """Return tensors in the shape of the first one.

    PyTorch would broadcast (N, 1) and (N,) to (N, N).
    """
    return [in_shape(tensor, tensors[0].shape) for tensor in tensors]


def join(tensors: list[torch.Tensor], dim: int) -> torch.Tensor:
    """Concatenate tensors as `JoinTable.lua` and `Concat.lua` do.

    The first tensor gives the sizes of all dimensions but `dim`. Another tensor with as many
    elements is copied in memory order, whatever its other sizes and its number of dimensions are.

    Args:
        tensors: At least one tensor.
        dim: The dimension; a negative one counts from the end of the first tensor.

    Raises:
        RuntimeError: If a tensor has another number of elements.

    Example:
        >>> join([torch.zeros(2, 3), torch.zeros(2, 4, 1)], 1).shape
        torch.Size([2, 7])
    """
    first = tensors[0].shape
    dim = dim + len(first) if dim < 0 else dim
    shapes = [(*first[:dim], tensor.shape[dim], *first[dim + 1 :]) for tensor in tensors]
    return torch.cat([in_shape(*pair) for pair in zip(tensors, shapes, strict=True)], dim)
