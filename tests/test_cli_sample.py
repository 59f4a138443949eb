"""What `sample` reads before it writes a text, and how it is printed, without a model."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from torchlift.cli.sample import _read_first, sample
from torchlift.converters.inference.text import Tokenizer
from torchlift.converters.vocabulary import BYTES, Vocabulary


@pytest.mark.parametrize(
    ("is_words", "prime", "printed"),
    [
        (True, "the ship", "the ship and\n"),
        # What ends in a blank needs none.
        (True, "the ship ", "the ship and\n"),
        (True, "the ship\n", "the ship\nand\n"),
        (True, None, "and\n"),
        (False, "the ship", "the shipand\n"),
    ],
)
def test_words_stand_apart_from_the_prime_and_characters_do_not(
    is_words: bool, prime: str | None, printed: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Words:
        end_of_line = None

        def __init__(self, vocabulary: Any) -> None:
            self.is_words = is_words

        def encode(self, text: bytes) -> list[int]:
            return [1]

        def texts(self, tokens: Any) -> list[str]:
            return ["a", "nd"]

    name = "torchlift.converters.inference.text"
    monkeypatch.setattr(f"{name}.Tokenizer", Words)
    monkeypatch.setattr(
        f"{name}.open_language_model", lambda *_, **__: SimpleNamespace(vocabulary=0)
    )
    monkeypatch.setattr(f"{name}.sample_tokens", lambda *_, **__: [])
    result = sample("m.t7", prime=prime)
    assert "".join(result.stream or ()) == printed


def test_a_prime_may_hold_any_bytes() -> None:
    """A terminal gives what is no UTF-8 as surrogates."""
    tokenizer = Tokenizer(Vocabulary("vocab", ("a", "ÿ"), encoding=BYTES))
    assert _read_first(tokenizer, "a\udcff") == [0, 1]


@pytest.mark.parametrize("prime", [None, ""])
def test_without_a_prime_a_model_of_words_reads_the_end_of_a_line(prime: str | None) -> None:
    words = Tokenizer(Vocabulary("vocab", ("the", "<eos>", "sea")))
    assert _read_first(words, prime) == [1]
    assert _read_first(words, "sea the") == [2, 0]
    characters = Tokenizer(Vocabulary("vocab", ("a", "b")))
    assert _read_first(characters, prime) == []
