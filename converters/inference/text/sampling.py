"""Writing texts: the next token is drawn from what a language model expects, and read in turn."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from .language_model import LanguageModel


def sample_tokens(
    model: LanguageModel,
    prime: Sequence[int],
    length: int,
    *,
    temperature: float = 1.0,
    seed: int = 0,
) -> Iterator[int]:
    """Yield the tokens that a language model writes, as they are made.

    Args:
        model: The model.
        prime: The places of the tokens that it reads first. Without any, every token is as probable
            as any other at first, as in the samplers of char-rnn and torch-rnn.
        length: How many tokens to write.
        temperature: Divides the logarithms of the probabilities: below 1 what is probable becomes
            more so. 0 takes the most probable token, the first of equals.
        seed: Of the random numbers.
    """
    random = np.random.default_rng(seed)
    states = model.start()
    expected = np.zeros(model.token_count)
    if prime:
        rows, states = model.read(prime, states)
        expected = rows[-1]
    for number in range(length):
        place = _draw(expected, temperature, random)
        yield place
        if number + 1 < length:
            rows, states = model.read([place], states)
            expected = rows[-1]


def _draw(log_probabilities: np.ndarray, temperature: float, random: np.random.Generator) -> int:
    if temperature == 0:
        return int(log_probabilities.argmax())
    scaled = (log_probabilities - log_probabilities.max()) / temperature
    edges = np.exp(scaled).cumsum()
    place = int(edges.searchsorted(random.random() * edges[-1], side="right"))
    # Rounding may put a draw behind the last edge.
    return min(place, len(edges) - 1)
