"""From texts to the tokens of a vocabulary, and back."""

from __future__ import annotations

import codecs
from collections.abc import Iterable, Iterator
from functools import cached_property

from ...vocabulary import UTF_8, Vocabulary
from ..errors import InferenceError

#: The token that ends a line, in vocabularies of words without a line break.
END_OF_LINE = "<eos>"

#: How many unknown tokens an error lists.
_LISTED = 20


class Tokenizer:
    r"""Takes texts apart into tokens, each given by its place in a vocabulary, and joins them.

    Texts of words are taken apart at blanks and joined by blanks. Other texts are taken apart as
    bytes: a token may be a part of a character.

    Args:
        vocabulary: The tokens.

    Example:
        >>> tokenizer = Tokenizer(Vocabulary("vocab", ("a", "b", "\n")))
        >>> tokenizer.encode(b"ab\na"), "".join(tokenizer.texts([1, 0]))
        ([0, 1, 2, 0], 'ba')
        >>> Tokenizer(Vocabulary("vocab", ("the", "<eos>", "sea"))).encode(b"the sea\nthe\n")
        [0, 2, 1, 0, 1]
    """

    def __init__(self, vocabulary: Vocabulary) -> None:
        self.vocabulary = vocabulary

    @cached_property
    def is_words(self) -> bool:
        """Whether a token has more than one character."""
        return any(len(_characters(token)) > 1 for token in self._places)

    @cached_property
    def end_of_line(self) -> int | None:
        """The place of the token of words that ends a line, if there is one."""
        return self._places.get(END_OF_LINE.encode()) if self.is_words else None

    def encode(self, text: bytes) -> list[int]:
        """Return the places of a text's tokens.

        Raises:
            InferenceError: If the vocabulary lacks some; the message lists them.
        """
        unknown = dict[str, None]()
        places = list(self._words(text, unknown) if self.is_words else self._parts(text, unknown))
        if unknown:
            kind = "words" if self.is_words else "characters"
            listed = ", ".join(map(repr, list(unknown)[:_LISTED]))
            more = f" and {len(unknown) - _LISTED:,} more" if len(unknown) > _LISTED else ""
            raise InferenceError(f"the model's vocabulary lacks these {kind}: {listed}{more}")
        return places

    def texts(self, places: Iterable[int]) -> Iterator[str]:
        """Yield the text of tokens as they come; together they are the text of all.

        What is no UTF-8 is replaced.
        """
        decoder = codecs.getincrementaldecoder(UTF_8)("replace")
        for number, place in enumerate(places):
            blank = b" " if self.is_words and number else b""
            if text := decoder.decode(blank + self._tokens.get(place, b"\xff")):
                yield text
        if text := decoder.decode(b"", final=True):
            yield text

    @cached_property
    def _tokens(self) -> dict[int, bytes]:
        """The bytes of the tokens, by their places."""
        one = self.vocabulary
        return {
            place: token.encode(one.encoding)
            for place, token in enumerate(one.tokens)
            if token is not None
        }

    @cached_property
    def _places(self) -> dict[bytes, int]:
        return {token: place for place, token in reversed(self._tokens.items())}

    def _words(self, text: bytes, unknown: dict[str, None]) -> Iterator[int]:
        ends = b"\n" not in self._places and self.end_of_line is not None
        for line in text.splitlines(keepends=True):
            for word in line.split():
                place = self._places.get(word)
                if place is None:
                    unknown[word.decode(UTF_8, "replace")] = None
                else:
                    yield place
            if ends and line.endswith(b"\n"):
                yield self._places[END_OF_LINE.encode()]

    def _parts(self, text: bytes, unknown: dict[str, None]) -> Iterator[int]:
        """Yield the places of the longest tokens that follow each other in a text."""
        longest = max(map(len, self._places), default=1)
        start = 0
        while start < len(text):
            for size in range(longest, 0, -1):
                place = self._places.get(text[start : start + size])
                if place is not None:
                    yield place
                    start += size
                    break
            else:
                character, start = _character_at(text, start)
                unknown[character] = None


def _characters(token: bytes) -> str | bytes:
    """Return the characters of a token; a part of one is a single character."""
    try:
        return token.decode(UTF_8)
    except UnicodeDecodeError as error:
        return token[:1] if error.start == 0 and len(token) < 4 else token


def _character_at(text: bytes, start: int) -> tuple[str, int]:
    """Return the character of which a byte is a part, and where the next one begins."""
    first = start
    while first > 0 and start - first < 3 and text[first] & 0xC0 == 0x80:
        first -= 1
    for size in range(start - first + 1, 5):
        try:
            return text[first : first + size].decode(UTF_8), first + size
        except UnicodeDecodeError:
            continue
    return f"\\x{text[start]:02x}", start + 1
