"""Other readers' values made of those of `converters.t7`: tables as lists and dicts, plain arrays.

What is shared in a file is shared in the result, and depth is limited by memory alone.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import Any, TypeAlias

import numpy as np

from ..t7 import LuaFunction, LuaObject, LuaTable, T7Error, TorchArray
from ..t7.types import STORAGE_DTYPES

#: Yields values of `converters.t7`, is sent what was made of each, and returns a value.
Steps: TypeAlias = Generator[Any, Any, Any]


class ValueBuilder:
    """Makes another reader's values.

    Args:
        table_type: The class of tables that are no lists, a dict.
        scalar: Makes a string, number, boolean or nil.
        array: Makes a tensor or storage of a plain array; the second argument is the original.
        instance: Makes an instance of a class; it calls `remember` before it yields the fields,
            which may refer to the instance.
        function: Makes a function of itself and its upvalues.
        use_lists: Whether tables with the keys 1..n become lists.

    Attributes:
        remember: Sets what was made of an object.
    """

    def __init__(
        self,
        *,
        table_type: type[dict[Any, Any]],
        scalar: Callable[[Any], Any],
        array: Callable[[np.ndarray, TorchArray], Any],
        instance: Callable[[LuaObject], Steps],
        function: Callable[[LuaFunction, Any], Any],
        use_lists: bool = True,
    ) -> None:
        self._table_type = table_type
        self._scalar = scalar
        self._array = array
        self._instance = instance
        self._function = function
        self._use_lists = use_lists
        self._made: dict[int, Any] = {}
        self._storages: dict[int, np.ndarray] = {}
        self._sources: list[Any] = []

    def build(self, value: Any) -> Any:
        """Return what is made of a value; what was made before is made once.

        Raises:
            T7Error: If a table has a key that no dict can have.
        """
        self._sources.append(value)  # Its parts keep their ids.
        running: list[Steps] = [self._steps(value)]
        result = None
        while running:
            try:
                running.append(self._steps(running[-1].send(result)))
                result = None
            except StopIteration as done:
                running.pop()
                result = done.value
        return result

    def remember(self, item: Any, made: Any) -> None:
        """Set what is made of an object, for what refers to it."""
        self._made[id(item)] = made

    def _steps(self, item: Any) -> Steps:
        if item is None or isinstance(item, (bool, int, float, str, bytes)):
            return self._scalar(item)
        if id(item) in self._made:
            return self._made[id(item)]
        if isinstance(item, LuaTable):
            return (yield from self._table_steps(item))
        if isinstance(item, LuaObject):
            made = yield from self._instance(item)
        elif isinstance(item, LuaFunction):
            # A function among its own upvalues is nil there.
            self.remember(item, None)
            made = self._function(item, (yield item.upvalues))
        else:
            made = self._array(self._plain(item), item)
        self.remember(item, made)
        return made

    def _table_steps(self, item: LuaTable) -> Steps:
        # Inside itself a table is the dict, as in torchfile; a list is made at its end.
        table = self._table_type()
        self.remember(item, table)
        total, natural = 0, self._use_lists
        for lua_key, lua_value in item.items():
            key = yield lua_key
            value = yield lua_value
            try:
                table[key] = value
            except TypeError:
                raise T7Error(
                    f"a table has a {type(key).__name__} as a key, which no dict can have: "
                    "torchlift.converters.t7 reads it"
                ) from None
            natural = natural and isinstance(key, int) and key > 0
            total += key if natural else 0
        count = len(table)
        if not natural or count * (count + 1) != 2 * total:
            return table
        values: list[Any] = []
        values.extend(values if table[i] is table else table[i] for i in range(1, count + 1))
        self.remember(item, values)
        return values

    def _plain(self, array: TorchArray) -> np.ndarray:
        """Return a storage in memory of its own, and a tensor as a view of its storage's."""
        if array.torch_class in STORAGE_DTYPES:
            if id(array) not in self._storages:
                self._storages[id(array)] = np.array(array, array.dtype.newbyteorder("="))
            return self._storages[id(array)]
        if array.storage is None:
            return np.empty(0, array.dtype)
        storage = self._plain(array.storage)[array.storage_offset :]
        return np.lib.stride_tricks.as_strided(storage, array.shape, array.strides)
