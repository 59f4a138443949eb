"""How well a language model expects a text."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from ..errors import InferenceError
from .language_model import LanguageModel

#: How many tokens are read at once.
_CHUNK = 256


@dataclass(frozen=True)
class TextLoss:
    """The loss of a text.

    Attributes:
        tokens: How many tokens the text has.
        loss: The mean of -log p of each token but the first, given those before it, in nats.
    """

    tokens: int
    loss: float

    @property
    def perplexity(self) -> float:
        """The exponential of the loss; infinite where it is too large."""
        return math.exp(self.loss) if self.loss < math.log(1e308) else math.inf


def text_loss(
    model: LanguageModel, tokens: Sequence[int], progress: Callable[[int], object] | None = None
) -> TextLoss:
    """Return the loss of a text, which the model reads from its zero state.

    Args:
        model: The model.
        tokens: The places of the text's tokens.
        progress: Called with the number of tokens that were read.

    Raises:
        InferenceError: If the text has less than two tokens.

    Example:
        >>> from types import SimpleNamespace
        >>> half = np.log([0.5, 0.5])  # This model expects either token at any place.
        >>> model = SimpleNamespace(
        ...     start=lambda: None,
        ...     read=lambda tokens, states: (np.tile(half, (len(tokens), 1)), states),
        ... )
        >>> loss = text_loss(model, [0, 1, 1, 0])
        >>> loss.tokens, round(loss.perplexity, 6)
        (4, 2.0)
    """
    if len(tokens) < 2:
        raise InferenceError("the text is too short: a loss needs two tokens at least")
    states, losses = model.start(), []
    for start in range(0, len(tokens) - 1, _CHUNK):
        read = tokens[start : min(start + _CHUNK, len(tokens) - 1)]
        rows, states = model.read(read, states)
        following = tokens[start + 1 : start + 1 + len(read)]
        losses.append(-rows[np.arange(len(read)), following])
        if progress is not None:
            progress(len(read))
    return TextLoss(len(tokens), float(np.concatenate(losses).mean()))
