"""The short way through tables in a binary stream: nearly all of a file's values are plain.

The reader knows every value and every way to be damaged. This knows the values that nearly all
are, in one loop with hardly a call, and leaves the others to the reader.
"""

from __future__ import annotations

import struct
from typing import Any

from ..scalars import BOOLEAN, EXACT, NUMBER, RUN, STRING, TABLE, TORCH, number
from ..values import LuaObject, LuaTable
from .classes import Classes
from .decoder import Container, OpenTable, entries_of
from .fast_tensors import STORAGE_FORMS, TENSOR_FORMS, read_plain_storage, read_plain_tensor
from .primitives import Unpackers

#: Bytes of a class's name; more are left to the reader.
_LONGEST_NAME = 100

#: Most whole numbers of a model: they are found faster than converted. Not 0, which -0 equals.
_SMALL = {float(value): value for value in range(1, 256)}


class FastTables:
    """Reads tables of a binary stream for as long as all in them is plain and short.

    Args:
        buffer: the whole stream.
        words: its byte order.
        long_size: bytes of a C long in it; instances and arrays are plain where it has 8.
    """

    def __init__(self, buffer: Any, words: Unpackers, long_size: int) -> None:
        self._buffer = buffer
        self._words = words
        self._is_native = words.is_native and long_size == 8
        self._names: dict[bytes, str] = {}

    def read(
        self,
        position: int,
        container: Container,
        count: int,
        memo: dict[int, Any],
        classes: Classes | None,
    ) -> tuple[list[OpenTable], int]:
        """The containers that are not complete, and the offset of the first byte not read.

        Args:
            position: where the container's next entry begins.
            container: see `Decoder.plain_tables`, as for the others.
            count: how many entries are left.
            memo: index → object that was read.
            classes: those of the stream.
        """
        buffer, size, names, native = self._buffer, len(self._buffer), self._names, self._is_native
        words = self._words
        int_at, two_ints, three_ints = words.int, words.two_ints, words.three_ints
        double, after_number = words.double, words.after_number
        new, exact, small, tensor_forms = LuaTable.__new__, EXACT, _SMALL, TENSOR_FORMS
        outer: list[OpenTable] = []
        entries, left = entries_of(container), count
        key: Any = None
        value: Any
        try:
            while True:
                key = None
                tag, word = two_ints(buffer, position)
                if tag == STRING:
                    start = position + 8
                    end = start + word
                    if word < 0 or end > size:
                        break
                    name = buffer[start:end]
                    key = names.get(name)
                    if key is None:
                        key = names[name] = name.decode()
                    position = end
                    tag, word, inner = three_ints(buffer, position)
                elif tag == NUMBER:
                    key, tag, word, inner = after_number(buffer, position + 4)
                    position += 12
                    if key.is_integer() and -exact <= key <= exact:
                        key = int(key) or number(key)
                else:
                    break
                if tag == NUMBER:
                    (numeral,) = double(buffer, position + 4)
                    end = position + 12
                    value = small.get(numeral, numeral)
                    if value is numeral and value.is_integer() and -exact <= value <= exact:
                        value = int(value) or number(value)
                elif tag == STRING:
                    start = position + 8
                    end = start + word
                    if word < 0 or end > size:
                        break
                    value = buffer[start:end].decode()
                elif tag == TORCH and native and key not in entries:
                    value = memo.get(word)
                    end = position + 8
                    if value is None:
                        (length,) = int_at(buffer, position + 15)
                        if not 0 < length < _LONGEST_NAME:
                            break
                        start, end = position + 8, position + 19 + length
                        header = buffer[start : end + 4]
                        form = tensor_forms.get(header)
                        if form is not None:
                            tensor = read_plain_tensor(buffer, end + 4, form, word, memo)
                            if tensor is None:
                                break
                            value, end = tensor
                        else:
                            found = self._read_instance(header[:-4], end, word, memo, classes)
                            if found is None:
                                break
                            value, end, inner = found
                            if inner:
                                outer.append((container, entries, left, key))
                                container, entries, left = value, value.fields._entries, inner
                                position = end
                                continue
                elif tag == TABLE and word not in memo:
                    if not 0 <= inner < RUN:
                        break
                    end = position + 12
                    value = memo[word] = new(LuaTable)
                    value._entries = {}
                    if inner:
                        outer.append((container, entries, left, key))
                        container, entries, left = value, value._entries, inner
                        position = end
                        continue
                elif tag == TABLE:
                    value = memo[word]
                    end = position + 8
                elif tag == BOOLEAN:
                    value = word == 1
                    end = position + 8
                else:
                    break
                entries[key] = value
                position = end
                left -= 1
                while not left:
                    if not outer:
                        return [], position
                    value = container
                    container, entries, left, key = outer.pop()
                    entries[key] = value
                    left -= 1
        except (struct.error, UnicodeDecodeError):
            pass
        return [*outer, (container, entries, left, key)], position

    def _read_instance(
        self,
        header: bytes,
        position: int,
        index: int,
        memo: dict[int, Any],
        classes: Classes | None,
    ) -> tuple[Any, int, int] | None:
        """The storage or instance whose class ends at `position`, where it is plain.

        Returns:
            it, the offset of the first byte not read, and how many fields it waits for; `None`,
            with nothing changed, where it is not plain.

        Raises:
            struct.error: when the stream ends here.
        """
        if header in STORAGE_FORMS:
            storage = read_plain_storage(self._buffer, position, STORAGE_FORMS[header], index, memo)
            return None if storage is None else (*storage, 0)
        known = None if classes is None else classes.of_bytes(header)
        if classes is None or known is None or not known.is_table:
            return None
        tag, fields_index, count = self._words.three_ints(self._buffer, position)
        if tag != TABLE or not 0 <= count < RUN or fields_index == index or fields_index in memo:
            return None
        classes.begin(known, position)
        fields = memo[fields_index] = LuaTable()
        value = memo[index] = LuaObject(known.name, fields, known.version)
        return value, position + 12, count
