"""Language models in ONNX Runtime: files of one step, or of sequences, whose states are inputs."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime

from ...errors import NotFiniteError
from ...vocabulary import Vocabulary
from ..errors import InferenceError
from ..metadata import Metadata
from ..onnx_interface import INPUT_DTYPES, describe_values
from ..onnx_weights import first_not_finite_weight
from ..providers import open_session
from .language_model import choose_vocabulary, log_softmax


class OnnxLanguageModel:
    """An `.onnx` file whose first input is a token, or a sequence of them, and the others states.

    Args:
        path: The file.
        provider: `auto`, `cpu` or `cuda`.
        vocabularies: Those to choose from, in place of the file's own.

    Raises:
        InferenceError: If it is no such file, or its vocabulary is not known.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        provider: str = "auto",
        vocabularies: Sequence[Vocabulary] | None = None,
    ) -> None:
        # The operators of a step are too small to share.
        session = open_session(path, provider, threads=1)
        if place := first_not_finite_weight(Path(path)):
            raise NotFiniteError(f"{path} is damaged, or its training diverged: {place}")
        self._run, self.provider = session.runtime.run, session.provider
        metadata = Metadata.from_props(session.runtime.get_modelmeta().custom_metadata_map)
        self._interface = interface = _interface(session.runtime)
        self._zeros = [np.zeros(shape, np.float32) for shape in interface.states.values()]
        rows, _ = self.read([0], self.start())
        self.token_count = rows.shape[1]
        self.vocabulary = choose_vocabulary(
            vocabularies, metadata.vocabularies or [], self.token_count
        )

    def start(self) -> list[np.ndarray]:
        """Return the states before the first token: zeros."""
        return self._zeros

    def read(
        self, tokens: Sequence[int], states: list[np.ndarray]
    ) -> tuple[np.ndarray, list[np.ndarray]]:
        """Read tokens (see `LanguageModel`)."""
        one = self._interface
        pieces: list[Sequence[int]] = [tokens]
        if one.token_axes == 1 or one.one_hot or one.is_one_step:
            pieces = [[token] for token in tokens]
        rows = []
        for piece in pieces:
            inputs = dict(zip(one.states, states, strict=True))
            outputs = self._run(one.outputs, {one.token: one.encode(piece), **inputs})
            states = list(outputs[1:])
            rows.append(outputs[0].reshape(-1, outputs[0].shape[-1]))
        return log_softmax(np.concatenate(rows)), states


@dataclass(frozen=True)
class _Interface:
    """Which input and output of a file is what.

    Attributes:
        token: Name of the token's input.
        dtype: Its dtype.
        token_axes: How many axes it has.
        batch_axis: Which of them is the batch.
        is_one_step: Whether it takes one token at a time.
        one_hot: How many numbers a token is; 0 if it is one number.
        states: The name of each state's input, and its shape for one text.
        outputs: Names of the outputs: the scores, then the states after a step.
    """

    token: str
    dtype: np.dtype[Any]
    token_axes: int
    batch_axis: int
    is_one_step: bool
    one_hot: int
    states: Mapping[str, tuple[int, ...]]
    outputs: list[str]

    def encode(self, tokens: Sequence[int]) -> np.ndarray:
        """Return tokens as the file takes them."""
        if self.one_hot:
            return np.eye(self.one_hot, dtype=self.dtype)[list(tokens)]
        numbers = np.array(tokens, self.dtype) + self.dtype.type(1)
        return numbers if self.token_axes == 1 else np.expand_dims(numbers, self.batch_axis)


def _interface(runtime: onnxruntime.InferenceSession) -> _Interface:
    """Return which input and output of a file is what.

    Raises:
        InferenceError: If it is no step with states.
    """
    token, *states = runtime.get_inputs()
    outputs = runtime.get_outputs()
    shapes = {state.name: _for_one(state.shape) for state in states}
    names = [output.name for output in outputs]
    after = [f"new_{state.name}" for state in states]
    if not set(after) <= set(names):
        # The states come first, as in Torch7's networks of one step.
        after = names[: len(states)]
        found = [_for_one(output.shape) for output in outputs[: len(states)]]
        if found != list(shapes.values()):
            after = []
    others = [name for name in names if name not in after]
    if not states or len(after) != len(states) or len(others) != 1 or None in shapes.values():
        raise InferenceError(
            f"no language model: it takes {describe_values([token, *states])}, and gives "
            f"{describe_values(outputs)}; a file was expected that takes a token and states, and "
            "gives scores and as many new states; export writes one of char-rnn's or torch-rnn's "
            ".t7"
        )
    axes = token.shape
    is_index = token.type.startswith("tensor(int") or len(axes) == 1
    one_hot = 0 if is_index else next((a for a in axes[1:] if isinstance(a, int)), 0)
    if token.type not in INPUT_DTYPES or len(axes) > 2:
        raise InferenceError(f"no language model: the input {token.name} is {token.type} {axes}")
    batch_axis = axes.index("batch") if "batch" in axes else 0
    return _Interface(
        token.name,
        INPUT_DTYPES[token.type],
        len(axes),
        batch_axis,
        len(axes) == 2 and axes[1 - batch_axis] == 1,
        one_hot,
        {name: shape for name, shape in shapes.items() if shape is not None},
        [*others, *after],
    )


def _for_one(shape: Sequence[Any]) -> tuple[int, ...] | None:
    """Return the shape of a state for one text; None if more than the batch is free."""
    rest = shape[1:]
    if not rest or not all(isinstance(size, int) for size in rest):
        return None
    return (1, *rest)
