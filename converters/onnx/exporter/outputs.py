"""What the outputs of an exported file are called, and what they mean."""

from __future__ import annotations

from ...input_shapes import interface_names
from .kept_outputs import Kept


def output_name(output_kind: str) -> str:
    """Return the name of an output; features are named `output`, since they can be anything."""
    return "output" if output_kind == "features" else output_kind


def names_of_outputs(output_kind: str, count: int, kept: Kept | None) -> list[str]:
    """Return the names of a file's outputs; those that are kept of several keep their numbers.

    Example:
        >>> names_of_outputs("logits", 1, None), names_of_outputs("features", 2, Kept((3, 1)))
        (['logits'], ['output_3', 'output_1'])
    """
    if kept is not None and kept.outputs is not None:
        return [f"output_{number}" for number in kept.outputs]
    return interface_names(output_name(output_kind), count)


def kind_of_outputs(output_kind: str, count: int, dims: int, by_example: bool = True) -> str:
    """Return what outputs mean: several are features, and so is a map of values of pixels.

    Args:
        output_kind: What the last layer suggests.
        count: How many outputs there are.
        dims: The dimensions of the first, the batch included.
        by_example: Whether it has a row for each example.

    Example:
        >>> kind_of_outputs("probabilities", 1, 2), kind_of_outputs("probabilities", 1, 4)
        ('probabilities', 'features')
    """
    is_map = dims > 2 and output_kind in ("probabilities", "logits")
    return "features" if count > 1 or is_map or not by_example else output_kind
