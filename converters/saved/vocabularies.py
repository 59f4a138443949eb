"""Finding the vocabularies that a checkpoint keeps beside or in its model."""

from __future__ import annotations

import re
from typing import Any

from ..labels import plain_key
from ..t7 import LuaObject, LuaTable
from ..t7.model import is_module
from ..t7.paths import children, path_step
from ..vocabulary import Vocabulary, read_vocabulary, without_repetitions

#: A number, and a token, in keys such as `idx_to_token` and `word2id`.
_NUMBER = "(id|ids|ix|idx|index|int|i|n)"
_TOKEN = "(token|word|char|character|symbol|vocab|ans|answer|w|c)s?"

#: Keys of vocabularies and of tables of them, as `plain_key` gives them.
_KEYS = re.compile(
    rf"i?(nv)?vocab(ulary|ularies|s|map)?|dict(s|ionary|ionaries)?|alphabet|charset"
    rf"|words|chars|characters|tokens|symbols|itow|wtoi|itoc|ctoi"
    rf"|{_NUMBER}(to|2){_TOKEN}|{_TOKEN}(to|2){_NUMBER}"
)

#: How deep in a table of vocabularies one is looked for, and how many are taken.
_LEVELS, _MOST = 6, 100


def is_vocabulary_key(key: Any) -> bool:
    """Return whether a vocabulary, or a table of vocabularies, is kept under a key.

    Example:
        >>> [is_vocabulary_key(key) for key in ("vocab", "idx_to_token", "word2id", "epoch")]
        [True, True, True, False]
    """
    return isinstance(key, str) and bool(_KEYS.fullmatch(plain_key(key)))


def vocabularies_in(value: Any, path: str) -> list[Vocabulary]:
    """Return the vocabulary that a value is, or all that stand in it.

    A value may hold one twice: the numbers of its tokens and the tokens of its numbers.

    Args:
        value: A table or an object, such as the `dicts` of OpenNMT.
        path: Its path.

    Example:
        >>> words = LuaTable({"idxToLabel": LuaTable.from_list(["a", "b"]), "pad": 1})
        >>> found = vocabularies_in(LuaTable({"src": LuaTable({"words": words})}), "dicts")
        >>> [(one.lua_path, one.tokens) for one in found]
        [('dicts.src.words.idxToLabel', ('a', 'b'))]
    """
    found: list[Vocabulary] = []
    level, seen = [(value, path)], set[int]()
    for _ in range(_LEVELS):
        inner = []
        for entry, place in level:
            vocabulary = read_vocabulary(entry, place)
            if vocabulary is not None and len(found) < _MOST:
                found.append(vocabulary)
            elif id(entry) not in seen and not is_module(entry):
                seen.add(id(entry))
                inner.append((entry, place))
        level = [pair for entry, place in inner for pair in _tables_in(entry, place)]
    return without_repetitions(found)


def _tables_in(value: LuaTable | LuaObject, path: str) -> list[tuple[Any, str]]:
    return [
        (entry, f"{path}{path_step(key)}")
        for key, entry in children(value).items()
        if isinstance(entry, (LuaTable, LuaObject))
    ]
