"""Recognize nn modules, and find the model of a file, without torch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from .errors import T7Error
from .paths import path_step
from .values import LuaObject, LuaTable

#: Names that checkpoints give their model, most probable first.
_NAMES = ("model", "net", "network", "module", "modelState")

#: Fields that identify an instance as a module, whatever its class: those of `Module.lua`, of a
#: container, and of an old nngraph gModule.
_MODULE_FIELDS = {"modules", "output", "gradInput", "_type", "forwardnodes"}

#: Number of levels of tables to search for the model of a checkpoint.
_SEARCH_DEPTH = 3


def is_module(value: Any) -> bool:
    """Return whether a value has the fields of an nn module or criterion."""
    return isinstance(value, LuaObject) and any(name in value for name in _MODULE_FIELDS)


def is_criterion(value: LuaObject) -> bool:
    """Return whether a module is a loss; a `ModuleCriterion` is one despite its network."""
    return value.class_name.endswith(("Criterion", "L1Cost"))


def root_path(value: Any) -> str:
    """Return the start of paths into a value: `model` if the value is one, else an empty string."""
    return "model" if is_module(value) else ""


def find_model(
    value: Any, path: str = "", accept: Callable[[Any], bool] = is_module
) -> tuple[LuaObject, str]:
    """Find the model inside a value of a `.t7`, and its path.

    The model is the value itself if that is a module. Otherwise it is the only network among a
    table's entries, or the one with a usual name (`model`, `net`, …). Tables without a network are
    searched one level deeper. A criterion is the model only if there is no other module.

    Args:
        value: A value returned by `load`.
        path: Path of the value.
        accept: Returns whether a value is a module.

    Raises:
        T7Error: If there is no module, or there are several and none has a usual name.
    """
    level = [(path, value)]
    criterions: list[tuple[str, LuaObject]] = []
    for _ in range(_SEARCH_DEPTH):
        accepted = [(item_path, item) for item_path, item in level if accept(item)]
        networks = [entry for entry in accepted if not is_criterion(entry[1])]
        if networks:
            return _choose(networks)
        criterions += accepted
        # A table that occurs in many places is searched once.
        tables = {id(item): (item_path, item) for item_path, item in reversed(level)}
        level = [
            (f"{table_path}{path_step(key)}".removeprefix("."), child)
            for table_path, table in reversed(tables.values())
            if isinstance(table, LuaTable)
            for key, child in table.items()
            if isinstance(child, (LuaTable, LuaObject))
        ]
    if criterions:
        return _choose(criterions)
    raise T7Error(f"no model in this file: {_describe_contents(value)}")


def _choose(modules: list[tuple[str, LuaObject]]) -> tuple[LuaObject, str]:
    """Return the only module, or the one with the most usual name."""
    if len({id(module) for _, module in modules}) == 1:
        return modules[0][1], modules[0][0] or "model"
    for name in _NAMES:
        named = [(path, module) for path, module in modules if path.rpartition(".")[2] == name]
        if len(named) == 1:
            return named[0][1], named[0][0]
    listed = ", ".join(f"{path} ({module.class_name})" for path, module in modules)
    raise T7Error(
        f"several modules could be the model: {listed}. "
        f"Choose one: load_model(file, at={modules[0][0]!r})"
    )


def _describe_contents(value: Any) -> str:
    """Describe a value without a model; a training script's `latest.t7` names its model's file."""
    if not isinstance(value, LuaTable):
        kind = getattr(value, "class_name", None) or getattr(value, "torch_class", None)
        return f"it holds a {kind or type(value).__name__}"
    keys = ", ".join(map(str, value.keys()[:8])) or "nothing"
    files = [
        f"{key} names the file {text!r}"
        for key, text in value.items()
        if isinstance(text, str) and text.endswith((".t7", ".net"))
    ]
    return "; ".join([f"there is no nn module in its outer tables, which hold {keys}", *files])
