"""The fast path through the tables of a binary stream.

This module and `fast_tensors` duplicate the semantics of `Reader` for speed;
`tests/test_t7_fast_path.py` checks that both give equal values and errors.

`Reader` handles every value and every kind of damage. The fast path handles the most frequent kinds
of values, in one loop with few calls, and leaves the others to `Reader`.
"""

from __future__ import annotations

import struct
from typing import Any

from ..scalars import (
    BOOLEAN,
    MAX_EXACT_INTEGER,
    MIN_NUMBER_RUN,
    NUMBER,
    STRING,
    TABLE,
    TORCH,
    lua_number,
)
from ..values import LuaObject, LuaTable
from .classes import Classes
from .decoder import Container, OpenTable, entries_of
from .fast_tensors import STORAGE_FORMS, TENSOR_FORMS, read_storage_fast, read_tensor_fast
from .primitives import Unpackers

#: Longer class names are left to the reader.
_MAX_NAME_LENGTH = 100

#: Most whole numbers of a model are small: a dict lookup is faster than a conversion. 0 is not in
#: it because -0 equals it.
_SMALL_INTEGERS = {float(value): value for value in range(1, 256)}


class FastTables:
    """Reads tables of a binary stream until it meets a value that it does not handle.

    Args:
        buffer: The whole stream.
        unpackers: Those of its byte order.
        long_size: Bytes of a C long in it; the fast path handles instances and arrays if it is 8.
    """

    def __init__(self, buffer: Any, unpackers: Unpackers, long_size: int) -> None:
        self._buffer = buffer
        self._unpackers = unpackers
        self._is_native = unpackers.is_native and long_size == 8
        self._strings: dict[bytes, str] = {}

    def read(
        self,
        position: int,
        container: Container,
        count: int,
        memo: dict[int, Any],
        classes: Classes | None,
    ) -> tuple[list[OpenTable], int]:
        """Read a table and those inside it.

        Args:
            position: Offset of the container's next entry.
            container: See `Decoder.fast_tables`, also for the other arguments.
            count: Number of entries left.
            memo: Index → object read before.
            classes: Those of the stream.

        Returns:
            The incomplete containers, and the offset of the first unread byte.
        """
        # Local names: the loop below runs once for each value of a file.
        buffer, size, strings = self._buffer, len(self._buffer), self._strings
        is_native, unpackers = self._is_native, self._unpackers
        int_at, two_ints, three_ints = unpackers.int, unpackers.two_ints, unpackers.three_ints
        double, after_number = unpackers.double, unpackers.after_number
        new, max_exact, small = LuaTable.__new__, MAX_EXACT_INTEGER, _SMALL_INTEGERS
        tensor_forms = TENSOR_FORMS
        outer: list[OpenTable] = []
        entries, left = entries_of(container), count
        key: Any = None
        value: Any
        try:
            while True:
                key = None
                tag, operand = two_ints(buffer, position)
                if tag == STRING:
                    start = position + 8
                    end = start + operand
                    if operand < 0 or end > size:
                        break
                    raw = buffer[start:end]
                    key = strings.get(raw)
                    if key is None:
                        key = strings[raw] = raw.decode()
                    position = end
                    tag, operand, inner_count = three_ints(buffer, position)
                elif tag == NUMBER:
                    key, tag, operand, inner_count = after_number(buffer, position + 4)
                    position += 12
                    if key.is_integer() and -max_exact <= key <= max_exact:
                        key = int(key) or lua_number(key)
                else:
                    break
                if tag == NUMBER:
                    (number,) = double(buffer, position + 4)
                    end = position + 12
                    value = small.get(number, number)
                    if value is number and value.is_integer() and -max_exact <= value <= max_exact:
                        value = int(value) or lua_number(value)
                elif tag == STRING:
                    start = position + 8
                    end = start + operand
                    if operand < 0 or end > size:
                        break
                    value = buffer[start:end].decode()
                elif tag == TORCH and is_native and key not in entries:
                    value = memo.get(operand)
                    end = position + 8
                    if value is None:
                        (name_length,) = int_at(buffer, position + 15)
                        if not 0 < name_length < _MAX_NAME_LENGTH:
                            break
                        start, end = position + 8, position + 19 + name_length
                        header = buffer[start : end + 4]
                        form = tensor_forms.get(header)
                        if form is not None:
                            tensor = read_tensor_fast(buffer, end + 4, form, operand, memo)
                            if tensor is None:
                                break
                            value, end = tensor
                        else:
                            instance = self._read_instance(header[:-4], end, operand, memo, classes)
                            if instance is None:
                                break
                            value, end, inner_count = instance
                            if inner_count:
                                outer.append((container, entries, left, key))
                                container, entries = value, value.fields._entries
                                left, position = inner_count, end
                                continue
                elif tag == TABLE and operand not in memo:
                    if not 0 <= inner_count < MIN_NUMBER_RUN:
                        break
                    end = position + 12
                    value = memo[operand] = new(LuaTable)
                    value._entries = {}
                    if inner_count:
                        outer.append((container, entries, left, key))
                        container, entries = value, value._entries
                        left, position = inner_count, end
                        continue
                elif tag == TABLE:
                    value = memo[operand]
                    end = position + 8
                elif tag == BOOLEAN:
                    value = operand == 1
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
        """Read a storage, or the start of an instance that is a table.

        Args:
            header: The bytes of its class header.
            position: Offset after the header.
            index: Index of the object.
            memo: Index → object read before; the new object is added.
            classes: Those of the stream.

        Returns:
            The object, the offset of the first unread byte, and the number of fields to read; None,
            with nothing changed, if the fast path does not handle it.

        Raises:
            struct.error: If the stream ends here.
        """
        if header in STORAGE_FORMS:
            storage = read_storage_fast(self._buffer, position, STORAGE_FORMS[header], index, memo)
            return None if storage is None else (*storage, 0)
        lua_class = None if classes is None else classes.find_by_bytes(header)
        if classes is None or lua_class is None or not lua_class.is_table:
            return None
        tag, fields_index, count = self._unpackers.three_ints(self._buffer, position)
        is_short_new_table = (
            tag == TABLE
            and 0 <= count < MIN_NUMBER_RUN
            and fields_index != index
            and fields_index not in memo
        )
        if not is_short_new_table:
            return None
        classes.record_instance(lua_class, position)
        fields = memo[fields_index] = LuaTable()
        value = memo[index] = LuaObject(lua_class.name, fields, lua_class.version)
        return value, position + 12, count
