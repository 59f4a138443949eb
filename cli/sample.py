"""`torchlift sample`."""

from __future__ import annotations

from itertools import chain
from typing import TYPE_CHECKING

from .model_options import run_plugin
from .result import CommandResult
from .values import CountOrZero, NotNegative, Provider

if TYPE_CHECKING:
    from ..converters.inference.text import Tokenizer


def sample(
    model: str,
    *,
    prime: str | None = None,
    length: CountOrZero = 500,
    temperature: NotNegative = 1.0,
    seed: CountOrZero = 0,
    vocab: str | None = None,
    at: str | None = None,
    plugin: str | None = None,
    provider: Provider = "cpu",
) -> CommandResult:
    """Write a text with a model of characters or words.

    The text is printed as it is made: the prime, then as many tokens as --length says. The model
    reads every token once.

    Args:
        model: A .t7 file, a saved model's folder or an .onnx file of a language model, such as
            char-rnn's and torch-rnn's.
        prime: The text that the model reads first; where there is none, every token is as
            probable as any other at first, and a model of words reads <eos>.
        length: How many tokens to write: characters, or words where the vocabulary holds words.
        temperature: Below 1 what is probable becomes more so; 0 takes the most probable token.
        seed: Of the random numbers; the same seed gives the same text.
        vocab: A .t7 with the vocabulary where the model has none, with :PATH behind it for a value
            in it; or the .json of torch-rnn's preprocessing.
        at: The path of the network in a .t7 that holds several, such as protos.rnn.
        plugin: A Python file with converters for classes of your own; it is run.
        provider: What to run on: cpu, cuda, or auto.
    """
    from ..converters.inference.text import Tokenizer, open_language_model, sample_tokens

    run_plugin(plugin)
    opened = open_language_model(model, provider, vocab=vocab, at=at)
    tokenizer = Tokenizer(opened.vocabulary)
    tokens = sample_tokens(
        opened, _read_first(tokenizer, prime), length, temperature=temperature, seed=seed
    )
    pieces = tokenizer.texts(tokens)
    blank = [" "] if tokenizer.is_words and prime and not prime[-1].isspace() else []
    return CommandResult(
        lambda: {"prime": prime or "", "text": "".join(pieces)},
        stream=chain([prime or "", *blank], pieces, ["\n"]),
    )


def _read_first(tokenizer: Tokenizer, prime: str | None) -> list[int]:
    """Return the tokens that the model reads before it writes.

    Raises:
        TorchliftError: If the vocabulary lacks some of the prime's.
    """
    if prime:
        return tokenizer.encode(prime.encode("utf-8", "surrogateescape"))
    end_of_line = tokenizer.end_of_line
    return [] if end_of_line is None else [end_of_line]
