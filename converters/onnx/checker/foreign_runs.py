"""Running a file that another program exported, as the model it is compared with runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from ...inference.onnx_interface import in_batches
from ...inference.providers import Session
from ..errors import OnnxError
from ..runtimes.session import RuntimeSession
from .pair import ExportPair


def run_foreign(
    pair: ExportPair,
    session: Session | RuntimeSession,
    inputs: Mapping[str, np.ndarray],
    shapes: Sequence[tuple[int, ...]],
) -> list[np.ndarray]:
    """Return the outputs of a file that are the model's.

    A file that takes batches of one size gets them in pieces. Axes of size 1 and the place of the
    channels are brought to the model's.

    Args:
        pair: The model and the file.
        session: The file.
        inputs: An array for each input.
        shapes: Those of the model's outputs.

    Raises:
        OnnxError: If the file has more outputs than the model, and none is chosen.
        InferenceError: If ONNX Runtime cannot run the inputs; an OnnxError of another runtime.
    """
    names = pair.compared_outputs
    if len(names) != len(shapes):
        raise OnnxError(
            f"the model has {len(shapes)} outputs, the file {len(names)}: {', '.join(names)}; "
            "output_name=NAME chooses one"
        )
    if pair.batch is None:
        outputs = session.run(inputs, names)
    else:
        pieces = [
            [output[:count] for output in session.run(batch, names)]
            for batch, count in in_batches(inputs, pair.batch)
        ]
        outputs = [np.concatenate(parts) for parts in zip(*pieces, strict=True)]
    return [_like(*both) for both in zip(outputs, shapes, strict=True)]


def _like(output: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Return an output in the shape of the model's, if it is that but for the order of its axes."""
    if output.shape != shape and _without_ones(output.shape) == _without_ones(shape):
        return output.reshape(shape)
    is_map = output.ndim == len(shape) == 4
    if is_map and output.shape != shape and output.transpose(0, 3, 1, 2).shape == shape:
        return output.transpose(0, 3, 1, 2)
    return output


def _without_ones(shape: tuple[int, ...]) -> list[int]:
    """Return the sizes of an array's axes behind the batch, but for those of 1."""
    return [shape[0], *(size for size in shape[1:] if size != 1)] if shape else []
