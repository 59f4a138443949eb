"""Building values from a decoded stream (`File.lua`'s readObject, without its recursion).

The reader knows what the type tags mean and how values are nested; the decoder knows how a number
is written. Containers that are still being filled wait on an explicit stack, so that depth is
bounded by memory alone and an error can say where in the value it happened.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from typing import Any

from ..class_layouts import ClassLayout
from ..errors import T7Error, short_path
from ..scalars import BOOLEAN, NIL, OLD_FUNCTION, RUN, STRING, TABLE, TORCH
from ..types import STORAGE_DTYPES, TENSOR_DTYPES
from ..values import LuaFunction, LuaObject, LuaTable, TorchArray, wrap
from .arrays import MAX_DIMENSIONS, tensor_view
from .classes import Classes, Guess, LuaClass
from .decoder import Container, Decoder, read_class_header
from .frames import Frame

#: So many things fit anywhere, or end with the file soon.
_FEW = 1000

_PLAIN = (int, str, float)


class Reader:
    """Reads the objects of one stream.

    Args:
        decoder: the stream.
        bodies: class name → layout of its bodies, where it is not the likeliest.
        stop: offset of an instance's body that is not to be read: an error there tells its path.

    Attributes:
        oddities: offsets where an entry of a table has a key that is no name or number, which is
            rare, or nil for a value or a key that came before, which Torch never writes.
    """

    def __init__(
        self,
        decoder: Decoder,
        bodies: Mapping[str, ClassLayout] | None = None,
        stop: int | None = None,
    ) -> None:
        self._decoder = decoder
        self._classes = Classes(bodies or {}, decoder.long_size)
        self._stop = stop
        self._memo: dict[int, Any] = {}
        self._stack: list[Frame] = []
        self.oddities: list[int] = []

    @property
    def guesses(self) -> dict[str, Guess]:
        """The classes whose bodies may have other layouts."""
        return self._classes.guesses

    def forget(self) -> None:
        """Let the numbering of objects start anew, as where one file was appended to another."""
        self._memo.clear()

    def read(self) -> Any:
        """The next object of the stream.

        Raises:
            T7Error: when the stream is damaged, with its offset and the path in the value.
        """
        try:
            return self._read()
        except T7Error as error:
            error.path = error.path or self._path()
            raise
        finally:
            self._stack.clear()

    def _path(self) -> str | None:
        return short_path(self._stack, Frame.step)

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
            # A value that is complete goes to the container that waits for it, and may complete it.
            while stack:
                frame = stack[-1]
                key = frame.key
                if key is None:
                    if value is None:
                        raise self._decoder.error("a table has nil as a key")
                    if type(value) not in _PLAIN:
                        self.oddities.append(self._decoder.position)
                        value = wrap(value)
                    frame.key = value
                    break
                if frame.numbered:
                    frame.entries[key] = value
                elif value is None or key in frame.entries:
                    self.oddities.append(self._decoder.position)
                if value is not None:
                    frame.entries[key] = value
                frame.left -= 1
                frame.key = key + 1 if frame.numbered else None
                if frame.parts:
                    self._read_numbers(frame)
                if frame.left and frame.numbered:
                    break
                stack.pop()
                if frame.left and self._fill(frame.result, frame.left):
                    break
                value = frame.result
                if frame.numbered:
                    self._close(frame)
            else:
                return value

    def _open(self, tag: int, index: int) -> Any:
        """An indexed object: known already, complete, or pushed on the stack to be filled."""
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
        """A new table; where an instance owns it, that is what is complete with its last entry."""
        count = self._decoder.integer()
        self._check_count(count, "a table", "entries")
        pairs = self._decoder.number_pairs(count) if count >= RUN else None
        table = LuaTable.from_numbers(*pairs) if pairs else LuaTable()
        self._memo[index] = table
        if pairs:
            count -= len(pairs[0])
        if owner is not None:
            owner.fields, owner.body = table, [table]
        if count:
            self._fill(table if owner is None else owner, count)
        return table

    def _fill(self, container: Container, count: int) -> bool:
        """Read what is plain in a table, and let it wait for the rest if there is any."""
        classes = self._classes if self._stop is None else None
        waiting = self._decoder.plain_tables(container, count, self._memo, classes)
        for waits, entries, left, key in waiting:
            self._stack.append(Frame(entries, left, waits, key))
        return bool(waiting)

    def _open_function(self, tag: int, size: int) -> LuaFunction:
        bytecode = self._read_old_bytecode(size) if tag == OLD_FUNCTION else self._decoder.raw(size)
        function = LuaFunction(bytecode, tag=tag)
        self._stack.append(Frame({}, 1, function, numbered=True))
        return function

    def _read_old_bytecode(self, size: int) -> bytes:
        """Bytecode, which begins with ESC; for some days of July 2014 after an index and its size.

        Nobody referred to that index.
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
        decoder, body = self._decoder, lua_class.body
        if decoder.position == self._stop:
            raise decoder.error(f"the body of a {class_name} was not to be read")
        value = self._memo[index] = LuaObject(class_name, version=lua_class.version)
        value.layout = lua_class.layout
        self._classes.begin(lua_class, decoder.position, is_outermost=not self._stack)
        if body.kind == "raw":
            value.body = [decoder.raw(body.size)]
        elif body.kind == "parts":
            if not (lua_class.is_table and self._open_fields(value)):
                self._open_parts(value, body.parts)
        else:
            (count,) = decoder.longs(1)
            self._check_count(count, f"a {class_name}", "objects")
            if count and body.kind == "pairs":
                self._fill(value, count)
            elif count:
                self._stack.append(Frame(value.fields._entries, count, value, numbered=True))
        return value

    def _open_fields(self, value: LuaObject) -> bool:
        """Read a body that is a new table, as nearly all are; otherwise nothing."""
        start = self._decoder.position
        tag, index = self._decoder.token()
        if tag != TABLE or index in self._memo:
            self._decoder.position = start
            return False
        self._open_table(index, value)
        return True

    def _open_parts(self, value: LuaObject, parts: str) -> None:
        frame = Frame({}, len(parts), value, numbered=True, parts=parts.strip("o") and parts)
        self._read_numbers(frame)
        if frame.left:
            self._stack.append(frame)
        else:
            self._close(frame)

    def _read_numbers(self, frame: Frame) -> None:
        """Read the numbers of a body up to its next object."""
        decoder = self._decoder
        while frame.parts and frame.left and (letter := frame.parts[-frame.left]) != "o":
            if letter == "i":
                number: float = decoder.integer()
            elif letter == "l":
                (number,) = decoder.longs(1)
            else:
                number = decoder.double()
            frame.entries[frame.key] = number
            frame.key += 1
            frame.left -= 1

    def _close(self, frame: Frame) -> None:
        """Hand the objects of a body or function over to it."""
        result, objects = frame.result, list(frame.entries.values())
        if type(result) is LuaFunction:
            result.upvalues = objects[0]
        elif not frame.is_items():
            result.body = objects
            tables = [item for item in objects if type(item) is LuaTable]
            names = () if result.layout is None else result.layout.names
            if names:
                result.fields = LuaTable(zip(names, objects, strict=True))
            else:
                result.fields = tables[-1] if tables else LuaTable()
            if result.layout is None and not tables and result.class_name in self.guesses:
                self.guesses[result.class_name].is_table = False

    def _check_count(self, count: int, what: str, things: str) -> None:
        # The smallest thing is a tag of 4 bytes, in ASCII a digit and a blank.
        if not (0 <= count < _FEW or 0 <= count <= self._decoder.remaining() // 2):
            raise self._decoder.error(
                f"{what} of {count:,} {things} does not fit in the "
                f"{self._decoder.remaining():,} bytes that are left"
            )

    def _read_class(self) -> LuaClass:
        header = read_class_header(self._decoder)
        lua_class = self._classes.of(header)
        if lua_class is None:
            *_, name = (part for part in header if part is not None)
            raise self._decoder.error(f"a class name was expected, not {name[:40]!r}")
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
        """The storage object that ends a tensor's body; nil for an empty tensor."""
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
            raise decoder.error(f"a {tensor_class} was expected to end with its storage")
        return storage

    def _read_storage(self, class_name: str, index: int) -> TorchArray:
        decoder = self._decoder
        dtype = STORAGE_DTYPES.get(class_name)
        if dtype is None:
            raise decoder.error(f"a storage was expected, not a {class_name}")
        is_long = class_name in ("torch.LongStorage", "torch.CudaLongStorage")
        (count,) = decoder.longs(1)
        start = decoder.position
        storage = self._memo[index] = decoder.array(dtype, count, is_long=is_long)
        storage.torch_class, storage.stored_bytes = class_name, decoder.position - start
        return storage
