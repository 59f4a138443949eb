"""Build values from a decoded stream: `File.lua`'s readObject without its recursion.

The reader knows type tags and the nesting of values; the decoder knows how each number is encoded.
Incomplete containers are kept on an explicit stack. Depth is therefore limited by memory alone, and
an error can include the path of the value.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from typing import Any

from ..class_layouts import BRANCHES, ClassLayout
from ..errors import T7Error, abbreviated_path
from ..scalars import BOOLEAN, MIN_NUMBER_RUN, NIL, OLD_FUNCTION, STRING, TABLE, TORCH
from ..types import STORAGE_DTYPES, TENSOR_DTYPES
from ..values import LuaFunction, LuaObject, LuaTable, TorchArray, wrap_key
from .arrays import MAX_DIMENSIONS, tensor_view
from .classes import Classes, Guess, LuaClass
from .decoder import Container, Decoder, read_class_header
from .frames import Frame

#: Smaller counts are not checked against the bytes that are left: if one is wrong, the read soon
#: fails anyway.
_MIN_CHECKED_COUNT = 1000

_USUAL_KEY_TYPES = (int, str, float)


class Reader:
    """Reads the objects of one stream.

    Args:
        decoder: The stream.
        layouts: Class name → layout, for classes that do not use the most probable one.
        stop_offset: Raise an error in front of the instance's body at this offset. The error has
            the path of the instance.

    Attributes:
        anomalies: Offsets of table entries with a key that is neither string nor number (rare), or
            with nil as the value or a repeated key (never written by Torch).
    """

    def __init__(
        self,
        decoder: Decoder,
        layouts: Mapping[str, ClassLayout] | None = None,
        stop_offset: int | None = None,
    ) -> None:
        self._decoder = decoder
        self._classes = Classes(layouts or {}, decoder.long_size)
        self._stop_offset = stop_offset
        self._memo: dict[int, Any] = {}
        self._stack: list[Frame] = []
        self.anomalies: list[int] = []

    @property
    def guesses(self) -> dict[str, Guess]:
        """The classes that may have other layouts."""
        return self._classes.guesses

    def restart_indices(self) -> None:
        """Forget all indexed objects, for a file that was appended to another one."""
        self._memo.clear()

    def read(self) -> Any:
        """Read the next object of the stream.

        Raises:
            T7Error: If the stream is damaged; the error has the offset and the path in the value.
        """
        try:
            return self._read()
        except T7Error as error:
            error.path = error.path or abbreviated_path(self._stack, Frame.step)
            raise
        finally:
            self._stack.clear()

    def _read(self) -> Any:
        stack, token = self._stack, self._decoder.token
        while True:
            tag, value = token()
            if tag == BOOLEAN:
                value = value == 1
            elif tag > STRING:
                depth = len(stack)
                value = self._open(tag, value)
                if len(stack) > depth:
                    continue
            # Put a complete value into the container on top of the stack, which may complete it.
            while stack:
                frame = stack[-1]
                key = frame.key
                if key is None:
                    if value is None:
                        raise self._decoder.error("a table has nil as a key")
                    if type(value) not in _USUAL_KEY_TYPES:
                        self.anomalies.append(self._decoder.position)
                        value = wrap_key(value)
                    frame.key = value
                    break
                if frame.numbered:
                    frame.entries[key] = value
                elif value is None or key in frame.entries:
                    self.anomalies.append(self._decoder.position)
                if value is not None:
                    frame.entries[key] = value
                frame.left -= 1
                frame.key = key + 1 if frame.numbered else None
                if frame.parts:
                    self._read_untagged(frame)
                if frame.left and frame.numbered:
                    break
                stack.pop()
                if frame.left and self._fill_table(frame.result, frame.left):
                    break
                value = frame.result
                if frame.numbered:
                    self._complete(frame)
            else:
                return value

    def _open(self, tag: int, index: int) -> Any:
        """Return an indexed object: read before, complete, or on the stack to be filled."""
        if tag == OLD_FUNCTION:
            return self._open_function(tag, index)
        if index in self._memo:
            return self._memo[index]
        if tag == TABLE:
            return self._open_table(index)
        if tag == TORCH:
            return self._open_instance(index)
        function = self._open_function(tag, self._decoder.integer())
        self._memo[index] = function
        return function

    def _open_table(self, index: int, owner: LuaObject | None = None) -> LuaTable:
        """Open a new table.

        Args:
            index: Index of the table.
            owner: The instance whose fields the table is; complete with the table's last entry.
        """
        count = self._decoder.integer()
        self._check_count(count, "a table", "entries")
        pairs = self._decoder.number_pairs(count) if count >= MIN_NUMBER_RUN else None
        table = LuaTable.from_numbers(*pairs) if pairs else LuaTable()
        self._memo[index] = table
        if pairs:
            count -= len(pairs[0])
        if owner is not None:
            owner.fields, owner.body = table, [table]
        if count:
            self._fill_table(table if owner is None else owner, count)
        return table

    def _fill_table(self, container: Container, count: int) -> bool:
        """Read a table on the fast path, and push what remains of it.

        Returns:
            Whether the table is incomplete.
        """
        classes = self._classes if self._stop_offset is None else None
        incomplete = self._decoder.fast_tables(container, count, self._memo, classes)
        for result, entries, left, key in incomplete:
            self._stack.append(Frame(entries, left, result, key))
        return bool(incomplete)

    def _open_function(self, tag: int, size: int) -> LuaFunction:
        bytecode = self._read_old_bytecode(size) if tag == OLD_FUNCTION else self._decoder.raw(size)
        function = LuaFunction(bytecode, tag=tag)
        self._stack.append(Frame({}, 1, function, numbered=True))
        return function

    def _read_old_bytecode(self, size: int) -> bytes:
        """Read the bytecode of a function with tag 6.

        Bytecode begins with ESC. For some days of July 2014, Torch wrote an index in front of the
        size; then `size` is that index, which nothing refers to.
        """
        decoder = self._decoder
        start = decoder.position
        bytecode = decoder.raw(size)
        end = decoder.position
        if not bytecode.startswith(b"\x1b"):
            decoder.position = start
            with contextlib.suppress(T7Error):
                indexed = decoder.raw(decoder.integer())
                if indexed.startswith(b"\x1b"):
                    return indexed
            decoder.position = end
        return bytecode

    def _open_instance(self, index: int) -> Any:
        lua_class = self._read_class()
        class_name = lua_class.name
        if class_name in TENSOR_DTYPES:
            tensor = self._memo[index] = self._read_tensor(class_name)
            return tensor
        if class_name in STORAGE_DTYPES:
            return self._read_storage(class_name, index)
        decoder, layout = self._decoder, lua_class.layout
        if decoder.position == self._stop_offset:
            raise decoder.error(f"stopped at the body of a {class_name}")
        value = self._memo[index] = LuaObject(class_name, version=lua_class.version)
        value.layout = layout if layout == BRANCHES else lua_class.unusual_layout
        is_outermost = not self._stack
        self._classes.record_instance(lua_class, decoder.position, is_outermost=is_outermost)
        if layout.kind == "raw":
            value.body = [decoder.raw(layout.size)]
        elif layout.parts or layout.kind == "parts":
            if not (lua_class.is_table and self._open_fields(value)):
                self._open_parts(value, layout.parts)
        else:
            (count,) = decoder.longs(1)
            self._check_count(count, f"a {class_name}", "objects")
            if count and layout.kind == "pairs":
                self._fill_table(value, count)
            elif count:
                self._stack.append(Frame(value.fields._entries, count, value, numbered=True))
        return value

    def _open_fields(self, value: LuaObject) -> bool:
        """Open the table of an instance's fields.

        Returns:
            False, with nothing read, if the body is not a new table.
        """
        start = self._decoder.position
        tag, index = self._decoder.token()
        if tag != TABLE or index in self._memo:
            self._decoder.position = start
            return False
        self._open_table(index, value)
        return True

    def _open_parts(self, value: LuaObject, parts: str) -> None:
        frame = Frame({}, len(parts), value, numbered=True, parts=parts.strip("o") and parts)
        self._read_untagged(frame)
        if frame.left:
            self._stack.append(frame)
        else:
            self._complete(frame)

    def _read_untagged(self, frame: Frame) -> None:
        """Read the parts of a body without a type tag, up to the next object."""
        decoder = self._decoder
        while frame.parts and frame.left and (letter := frame.parts[-frame.left]) != "o":
            if letter == "*":
                before = frame.entries[frame.key - 1]
                count = len(before) if type(before) is LuaTable else 0
                frame.parts = frame.parts.replace("*", "o" * count)
                frame.left += count - 1
                continue
            if letter == "i":
                number: float = decoder.integer()
            elif letter == "l":
                (number,) = decoder.longs(1)
            else:
                number = decoder.double()
            frame.entries[frame.key] = number
            frame.key += 1
            frame.left -= 1

    def _complete(self, frame: Frame) -> None:
        """Assign the parts in a frame to their instance or function."""
        result, parts = frame.result, list(frame.entries.values())
        if type(result) is LuaFunction:
            result.upvalues = parts[0]
        elif not frame.fills_items():
            result.body = parts
            tables = [part for part in parts if type(part) is LuaTable]
            names = () if result.layout is None else result.layout.field_names
            if result.layout == BRANCHES:
                assignments, *modules, others = parts
                branches = {"gpuAssignments": assignments, "modules": LuaTable.from_list(modules)}
                entries = others.items() if type(others) is LuaTable else ()
                result.fields = LuaTable([*entries, *branches.items()])
                result.body = [result.fields]
            elif names:
                result.fields = LuaTable(zip(names, parts, strict=True))
            else:
                result.fields = tables[-1] if tables else LuaTable()
            if result.layout is None and not tables and result.class_name in self.guesses:
                self.guesses[result.class_name].is_table = False

    def _check_count(self, count: int, what: str, items: str) -> None:
        # The smallest entry is a tag of 4 bytes; in ASCII it is a digit and whitespace.
        if not (0 <= count < _MIN_CHECKED_COUNT or 0 <= count <= self._decoder.remaining() // 2):
            raise self._decoder.error(
                f"{what} of {count:,} {items} does not fit in the "
                f"{self._decoder.remaining():,} bytes that are left"
            )

    def _read_class(self) -> LuaClass:
        header = read_class_header(self._decoder)
        lua_class = self._classes.find(header)
        if lua_class is None:
            *_, name = (part for part in header if part is not None)
            raise self._decoder.error(f"expected a class name, found {name[:40]!r}")
        return lua_class

    def _read_tensor(self, class_name: str) -> TorchArray:
        decoder = self._decoder
        dimensions = decoder.integer()
        if not 0 <= dimensions <= MAX_DIMENSIONS:
            raise decoder.error(f"a {class_name} has {dimensions} dimensions")
        longs = decoder.longs(2 * dimensions + 1)
        sizes, strides = longs[:dimensions], longs[dimensions:-1]
        storage = self._read_tensor_storage(class_name)
        try:
            return tensor_view(class_name, sizes, strides, longs[-1] - 1, storage)
        except ValueError as error:
            raise decoder.error(str(error)) from None

    def _read_tensor_storage(self, tensor_class: str) -> TorchArray | None:
        """Read the storage at the end of a tensor's body; nil for an empty tensor."""
        decoder = self._decoder
        tag, index = decoder.token()
        if tag == NIL:
            return None
        storage = self._memo.get(index) if tag == TORCH else None
        if storage is None and tag == TORCH:
            storage = self._read_storage(self._read_class().name, index)
        if not (
            isinstance(storage, TorchArray)
            and STORAGE_DTYPES.get(storage.torch_class or "") == TENSOR_DTYPES[tensor_class]
        ):
            raise decoder.error(f"expected the storage of a {tensor_class}")
        return storage

    def _read_storage(self, class_name: str, index: int) -> TorchArray:
        decoder = self._decoder
        dtype = STORAGE_DTYPES.get(class_name)
        if dtype is None:
            raise decoder.error(f"expected a storage, found a {class_name}")
        (count,) = decoder.longs(1)
        start = decoder.position
        storage = self._memo[index] = decoder.array(
            dtype, count, is_long=class_name.endswith("LongStorage")
        )
        storage.torch_class, storage.stored_bytes = class_name, decoder.position - start
        return storage
