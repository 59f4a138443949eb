"""Opening language models of any kind: `.t7` files, saved models, exported steps."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from ...vocabulary import Vocabulary
from ..errors import InferenceError

#: By how much a sum of probabilities in float32 may differ from 1. (`np.allclose` takes as long as
#: a step of a small network.)
_ROUNDING = 1e-4


class LanguageModel(Protocol):
    """A network that reads tokens and tells what it expects next.

    Tokens are given by their places in its vocabulary, from 0. What it has read is in its states:
    every token is read once.

    Attributes:
        vocabulary: The tokens.
        token_count: How many there are.
        provider: What runs the network, such as `CPUExecutionProvider` or `PyTorch (cpu)`.
    """

    vocabulary: Vocabulary
    token_count: int
    provider: str

    def start(self) -> Any:
        """Return the states before the first token: zeros."""
        ...

    def read(self, tokens: Sequence[int], states: Any) -> tuple[np.ndarray, Any]:
        """Read tokens.

        Args:
            tokens: At least one.
            states: Those before the first of them.

        Returns:
            The logarithms of the probabilities of what follows each of them, float64 (tokens,
            token_count), and the states after the last one.
        """
        ...


def open_language_model(
    path: str | os.PathLike[str],
    provider: str = "auto",
    *,
    vocab: str | None = None,
    at: str | None = None,
) -> LanguageModel:
    """Open a language model.

    Args:
        path: A `.t7` file, a saved model's folder, or the `.onnx` of a step or of a network whose
            states are inputs.
        provider: `auto`, `cpu` or `cuda`.
        vocab: A file with the vocabulary, if the model has none (see `read_vocabulary_file`).
        at: The Lua path of the network in a `.t7`, if it cannot be found.

    Raises:
        InferenceError: If it is no language model, or its vocabulary is not known.
        TorchliftError: If it cannot be opened.
    """
    from .vocabulary_file import read_vocabulary_file

    given = None if vocab is None else read_vocabulary_file(vocab)
    try:
        if Path(path).suffix.lower() == ".onnx":
            from .onnx_language_model import OnnxLanguageModel

            if at is not None:
                raise InferenceError("at=… is for .t7 files")
            return OnnxLanguageModel(path, provider, given)
        from .torch_language_model import open_torch_language_model

        return open_torch_language_model(path, provider, given, at)
    except InferenceError as error:
        name = os.fspath(path)
        raise error if str(error).startswith(name) else type(error)(f"{name}: {error}") from None


def choose_vocabulary(
    given: Sequence[Vocabulary] | None, own: Sequence[Vocabulary], count: int
) -> Vocabulary:
    """Return the vocabulary of a model.

    Args:
        given: What the user's file holds; None if there is none.
        own: What the model's file holds.
        count: How many tokens the network tells apart.

    Raises:
        InferenceError: If none fits.
    """
    candidates = own if given is None else given
    for one in candidates:
        if len(one.tokens) == count:
            return one
    found = ", ".join(
        f"{one.lua_path.lstrip('.')} ({len(one.tokens):,} tokens)" for one in candidates
    )
    where = "the file of vocab=… has" if given is not None else "beside the model stands"
    raise InferenceError(
        f"no vocabulary of the network's {count:,} tokens: {where} {found or 'none'}; "
        "vocab='FILE.t7:PATH' names one"
    )


def log_softmax(scores: np.ndarray) -> np.ndarray:
    """Return logarithms of probabilities, float64.

    Args:
        scores: Rows of logits, of logarithms of probabilities or of probabilities. The last are
            told by what they add up to.

    Raises:
        InferenceError: If a score is not a number.
    """
    rows: np.ndarray = scores.astype(np.float64)
    result: np.ndarray
    if np.isnan(rows).any():
        raise InferenceError("the network gives scores that are not a number")
    if rows.min() >= 0 and np.abs(rows.sum(1) - 1).max() <= _ROUNDING:
        with np.errstate(divide="ignore"):
            result = np.log(rows / rows.sum(1, keepdims=True))
        return result
    shifted = rows - rows.max(1, keepdims=True)
    result = shifted - np.log(np.exp(shifted).sum(1, keepdims=True))
    return result
