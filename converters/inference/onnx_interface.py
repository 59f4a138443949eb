"""What the graph of an `.onnx` file takes and gives, also where another program wrote it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from .errors import InferenceError
from .prepare import to_input_dtype

#: The input types of a graph that NumPy arrays are converted to.
INPUT_DTYPES: dict[str, np.dtype[Any]] = {
    "tensor(float)": np.dtype(np.float32),
    "tensor(double)": np.dtype(np.float64),
    "tensor(float16)": np.dtype(np.float16),
    "tensor(uint8)": np.dtype(np.uint8),
    "tensor(int32)": np.dtype(np.int32),
    "tensor(int64)": np.dtype(np.int64),
}

#: The types of scores.
_SCORES = ("tensor(float)", "tensor(double)", "tensor(float16)")

#: How many channels an image may have.
_CHANNELS = (1, 3)


@dataclass(frozen=True)
class NetworkInput:
    """The only input of a graph.

    Attributes:
        name: Its name.
        axes: The size of each axis; None where it is free.
        dtype: What its numbers are.
        channels_last: Whether images are (N, H, W, C), and not (N, C, H, W).
    """

    name: str
    axes: tuple[int | None, ...]
    dtype: np.dtype[Any]
    channels_last: bool = False

    @property
    def takes_image(self) -> bool:
        """Whether it is one image of any size: uint8 (height, width, channels)."""
        is_free = len(self.axes) == 3 and self.axes[:2] == (None, None)
        return is_free and self.dtype == np.uint8

    @property
    def batch(self) -> int | None:
        """How many examples a run takes; None for any number."""
        return self.axes[0] if self.axes else None

    @property
    def channels(self) -> int | None:
        """How many channels an image must have; None if that is open.

        A row of numbers is a gray image: in which order colors would stand, nobody can say.
        """
        if len(self.axes) == 2:
            return 1
        if len(self.axes) != 4:
            return None
        return self.axes[3 if self.channels_last else 1]

    @property
    def image_shape(self) -> tuple[int, int, int] | None:
        """(C, H, W) of an example, or None if it is open or no image."""
        if self.channels_last and len(self.axes) == 4:
            order: Sequence[int | None] = (self.axes[3], *self.axes[1:3])
        else:
            order = self.axes[1:]
        sizes = [size for size in order if size is not None]
        return (sizes[0], sizes[1], sizes[2]) if len(order) == len(sizes) == 3 else None

    def batches(self, inputs: np.ndarray) -> Iterator[tuple[dict[str, np.ndarray], int]]:
        """Yield what ONNX Runtime takes for inputs, and how many examples of them that is.

        A graph that takes batches of one size gets them in pieces, the last one filled up. One
        that takes an image gets one at a time.

        Args:
            inputs: (N, C, H, W), or what else the network takes.
        """
        inputs = to_input_dtype(inputs, self.dtype)
        if self.takes_image:
            for image in inputs:
                yield {self.name: np.ascontiguousarray(image.transpose(1, 2, 0))}, 1
            return
        yield from in_batches({self.name: self._arranged(inputs)}, self.batch)

    def _arranged(self, inputs: np.ndarray) -> np.ndarray:
        """Return images (N, C, H, W) as the graph takes them."""
        if inputs.ndim != 4:
            return inputs
        if len(self.axes) == 2:
            return inputs.reshape(len(inputs), -1)
        return np.ascontiguousarray(inputs.transpose(0, 2, 3, 1)) if self.channels_last else inputs


def in_batches(
    inputs: Mapping[str, np.ndarray], size: int | None
) -> Iterator[tuple[dict[str, np.ndarray], int]]:
    """Yield inputs in batches of one size, and how many examples each holds.

    The last one is filled up with its last example.

    Args:
        inputs: An array (N, …) for each input.
        size: How many examples a run takes; None for any number.

    Example:
        >>> [(batch["x"].tolist(), count) for batch, count in in_batches({"x": np.arange(3)}, 2)]
        [([0, 1], 2), ([2, 2], 1)]
    """
    count = len(next(iter(inputs.values())))
    if size is None or size == count:
        yield dict(inputs), count
        return
    for start in range(0, count, size):
        taken = np.minimum(np.arange(start, start + size), count - 1)
        yield {name: array[taken] for name, array in inputs.items()}, min(size, count - start)


def has_channels_last(axes: Sequence[int | str | None]) -> bool:
    """Return whether the axes of a foreign graph's input are those of images (N, H, W, C).

    Example:
        >>> has_channels_last([None, 224, 224, 3]), has_channels_last([None, 3, None, None])
        (True, False)
    """
    return len(axes) == 4 and axes[3] in _CHANNELS and axes[1] not in _CHANNELS


def find_input(inputs: Sequence[Any], is_foreign: bool) -> NetworkInput:
    """Return the only input of a network.

    Args:
        inputs: Those of an ONNX Runtime session.
        is_foreign: Whether another program than torchlift wrote the file.

    Raises:
        InferenceError: If there are several, or arrays cannot be converted to its type.
    """
    if len(inputs) != 1:
        raise InferenceError(
            f"it takes {len(inputs)} inputs, {describe_values(inputs)}, where one was expected: "
            "run it in ONNX Runtime by these names; sample runs a network of texts with its states"
        )
    (value,) = inputs
    if value.type not in INPUT_DTYPES:
        raise InferenceError(f"inputs of type {value.type}")
    axes = tuple(size if isinstance(size, int) else None for size in value.shape)
    last = is_foreign and has_channels_last(axes)
    return NetworkInput(value.name, axes, INPUT_DTYPES[value.type], last)


def describe_values(values: Sequence[Any]) -> str:
    """Return the names and sizes of a session's inputs or outputs.

    Example:
        >>> from types import SimpleNamespace as Value
        >>> describe_values([Value(name="x", shape=["batch", 3]), Value(name="y", shape=[None])])
        'x (batch×3) and y (?)'
    """
    named = [f"{one.name} ({'×'.join(str(size or '?') for size in one.shape)})" for one in values]
    return " and ".join(filter(None, [", ".join(named[:-1]), *named[-1:]])) or "none"


def find_scores(outputs: Sequence[Any], name: str | None) -> tuple[Any, str]:
    """Return the output of a network that holds the scores of classes, and a note on the choice.

    Args:
        outputs: Those of an ONNX Runtime session.
        name: Its name, where it is known.

    Raises:
        InferenceError: If there is none, or several.

    Example:
        >>> from types import SimpleNamespace as Output
        >>> label = Output(name="label", type="tensor(int64)", shape=["N"])
        >>> scores = Output(name="probabilities", type="tensor(float)", shape=["N", 3])
        >>> find_scores([label, scores], None)[1]
        'the scores are the output probabilities, of label, probabilities'
    """
    names = ", ".join(output.name for output in outputs)
    if name is not None:
        named = next((output for output in outputs if output.name == name), None)
        if named is None:
            raise InferenceError(f"no output {name}: it has {names}")
        outputs = [named]
    if len(outputs) == 1:
        if not outputs[0].type.startswith("tensor"):
            raise InferenceError(_no_tensor(outputs[0].type))
        return outputs[0], ""
    scores = [one for one in outputs if one.type in _SCORES and len(one.shape) > 1]
    if len(scores) != 1:
        others = [one for one in outputs if not one.type.startswith("tensor")]
        if others and not scores:
            raise InferenceError(_no_tensor(others[0].type))
        raise InferenceError(
            f"{len(outputs)} outputs ({names}), a classifier has one: output_name=NAME chooses one"
        )
    return scores[0], f"the scores are the output {scores[0].name}, of {names}"


def _no_tensor(kind: str) -> str:
    return (
        f"outputs of type {kind}, where a tensor was expected; scikit-learn's exporter writes one "
        "with zipmap=False"
    )
