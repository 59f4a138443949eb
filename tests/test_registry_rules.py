"""Small rules of the registry: what it refuses, what stays, and how a place is named."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from torch import nn

from torchlift.converters.modules import Context, ConversionError, convert_recorded, register
from torchlift.converters.modules.plugin import load_plugin
from torchlift.converters.modules.registry import find_converter, unregister_module
from torchlift.converters.t7 import LuaObject, LuaTable


@pytest.fixture(autouse=True)
def _forgotten() -> Iterator[None]:
    """What a test registers is forgotten after it."""
    yield
    unregister_module(__name__)


def lua(class_name: str, **fields: object) -> LuaObject:
    return LuaObject(class_name, LuaTable(fields))


def identity(source: LuaObject, context: Context) -> nn.Module:
    return nn.Identity()


def test_a_converter_without_a_file_is_named_by_its_module() -> None:
    namespace: dict[str, Any] = {"__name__": __name__}
    exec("def typed(source, context): ...", namespace)
    for converter, name in ((namespace["typed"], f"{__name__}.typed"), (dict, "builtins.dict")):
        with pytest.raises(ConversionError, match=rf"; {name} registers another one"):
            register("nn.Linear")(converter)


@pytest.mark.parametrize("ignored", ["noise", ("noise",)])
def test_ignored_fields_are_a_collection_of_names(ignored: Any) -> None:
    if isinstance(ignored, str):
        with pytest.raises(ConversionError, match="@register takes class names"):
            register("my.Layer", ignored=ignored)
    else:
        register("my.Layer", ignored=ignored)(identity)
        assert convert_recorded(lua("my.Layer", noise=3)).notes == []


def test_a_converter_is_not_a_name() -> None:
    """`@register` without its parentheses."""
    with pytest.raises(ConversionError, match="@register takes class names"):
        register(identity)  # type: ignore[arg-type]


def test_fields_that_only_overlap_are_told_apart() -> None:
    register("my.Pair", fields=("shared", "first"))(identity)

    @register("my.Pair", fields=("shared", "second"))
    def second(source: LuaObject, context: Context) -> nn.Module:
        return nn.Tanh()

    assert find_converter(lua("my.Pair", shared=1, second=1)) is second
    for fields in (("shared",), ("shared", "second", "third")):
        with pytest.raises(ConversionError, match=r"my\.Pair has a converter already"):
            register("my.Pair", fields=fields)(identity)


def test_what_another_module_registered_for_a_class_stays() -> None:
    def theirs(source: LuaObject, context: Context) -> nn.Module:
        return nn.Tanh()

    theirs.__module__ = "elsewhere"
    register("my.Both", fields=("theirs",))(theirs)
    register("my.Both", fields=("ours",))(identity)
    try:
        unregister_module(__name__)
        assert find_converter(lua("my.Both", theirs=1)) is theirs
        assert find_converter(lua("my.Both", ours=1)) is None
    finally:
        unregister_module("elsewhere")


def test_a_folder_is_no_plugin_and_a_link_is_the_file_that_it_names(tmp_path: Path) -> None:
    (tmp_path / "folder.py").mkdir()
    with pytest.raises(ConversionError, match=r"no such plugin file: .*folder\.py"):
        load_plugin(tmp_path / "folder.py")
    (tmp_path / "linked_layers.py").write_text("count = []", encoding="utf-8")
    load_plugin(tmp_path / "linked_layers.py")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "linked_layers.py").symlink_to(tmp_path / "linked_layers.py")
    load_plugin(tmp_path / "other" / "linked_layers.py")


def test_a_class_of_nn_with_other_fields_may_be_that_of_another_package() -> None:
    register("nn.Thing", fields=("core",))(identity)

    @register("other.Thing")
    def theirs(source: LuaObject, context: Context) -> nn.Module:
        return nn.Tanh()

    assert find_converter(lua("nn.Thing", core=1)) is identity
    assert find_converter(lua("nn.Thing", size=1)) is theirs
