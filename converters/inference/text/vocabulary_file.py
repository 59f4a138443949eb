"""Files that hold the vocabulary of a model."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from ... import t7
from ...saved.vocabularies import vocabularies_in
from ...t7 import LuaTable
from ...t7.paths import follow
from ...vocabulary import Vocabulary
from ..errors import InferenceError


def read_vocabulary_file(name: str) -> list[Vocabulary]:
    """Return the vocabularies in a file.

    Args:
        name: A `.t7`, with `:PATH` behind it for a value in it; or a `.json`, as the preprocessing
            of torch-rnn writes it.

    Raises:
        InferenceError: If there is none.
        T7Error: If a `.t7` cannot be read, or has no value there.
    """
    file, path = name, ""
    if not Path(name).exists() and ":" in name:
        file, _, path = name.rpartition(":")
    if Path(file).suffix.lower() == ".json":
        value = _json_value(file)
    else:
        value = t7.load(file, writable=False)
    try:
        value = follow(value, path)
    except t7.T7Error as error:
        error.source = file
        raise
    is_table = isinstance(value, (t7.LuaTable, t7.LuaObject))
    found = vocabularies_in(value, path) if is_table else []
    if not found:
        raise InferenceError(f"{name}: no vocabulary: a table of tokens with numbers was expected")
    return found


def _json_value(file: str) -> Any:
    def table(value: Any) -> Any:
        if isinstance(value, dict):
            return LuaTable({key: table(inner) for key, inner in value.items()})
        return LuaTable.from_list(list(map(table, value))) if isinstance(value, list) else value

    try:
        return table(json.loads(Path(file).read_text(encoding="utf-8")))
    except (ValueError, RecursionError) as error:
        raise InferenceError(f"{file}: no JSON: {error}") from None
