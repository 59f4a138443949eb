"""PyTorch 0.4's `torch.utils.serialization.load_lua`: modules with `torch.legacy.nn`'s names.

Modules have the fields of the file as attributes, with dimensions from 0, and compute by
`converters.modules`.
"""

from __future__ import annotations

import os
from typing import Any

import numpy as np
import torch

from ..t7 import LuaFunction, LuaObject, T7Error, TorchArray, load
from ..t7.class_layouts import TDS_HASHES, TDS_VECS
from .building import Steps, ValueBuilder
from .legacy_module import Module, is_module_class, new_module
from .torchfile import TorchObject

#: What `load_lua` raises; PyTorch's has this name.
T7ReaderException = T7Error

#: Classes that stand in the graph of an `nn.gModule`, whose fields nobody asks for by name.
_GRAPH_PACKAGES = ("nngraph.", "graph.")


class hashable_uniq_dict(dict[Any, Any]):  # noqa: N801 - PyTorch's name
    """A Lua table: compared by reference as in Lua, with its entries as attributes too.

    Example:
        >>> table = hashable_uniq_dict(epoch=3)
        >>> table.epoch, table.missing
        (3, None)
    """

    def __hash__(self) -> int:  # type: ignore[override]  # a dict has none
        return id(self)

    def __getattr__(self, key: str) -> Any:
        if key.startswith("__") and key.endswith("__"):
            # Asked for by copy, pickle and numpy, to which None is an answer.
            raise AttributeError(key)
        return self.get(key)

    def __eq__(self, other: object) -> bool:
        return self is other

    def __ne__(self, other: object) -> bool:
        return self is not other


def load_lua(
    filename: str | os.PathLike[str],
    *,
    list_heuristic: bool = True,
    int_heuristic: bool = True,
    unknown_classes: bool = False,
    long_size: int | None = None,
) -> Any:
    """Load the object of a `.t7` file as PyTorch 0.4's `torch.utils.serialization.load_lua` does.

    Tensors are torch tensors on the CPU, also those of cutorch. Modules are `Module`s, whose
    classes have the names of Torch7's; those of cudnn too.

    Args:
        filename: The file.
        list_heuristic: Whether tables with the keys 1..n become lists.
        int_heuristic: Whether whole numbers become ints.
        unknown_classes: Whether an instance of a class without a converter becomes a
            `TorchObject`, else it is an error.
        long_size: Bytes of a long in the file, 4 or 8; what fits the file by default.

    Raises:
        OSError: If the file cannot be opened.
        T7Error: If it is not a `.t7`, is damaged, or holds a class without a converter.

    Example:
        >>> import tempfile
        >>> from pathlib import Path
        >>> from torchlift.converters import t7
        >>> path = Path(tempfile.mkdtemp()) / "net.t7"
        >>> fields = t7.LuaTable({"weight": np.eye(2), "bias": np.ones(2)})
        >>> t7.save(t7.LuaObject("nn.Linear", fields), path)
        >>> model = load_lua(path)
        >>> model.weight.shape, model.forward(torch.zeros(1, 2).double())
        (torch.Size([2, 2]), tensor([[1., 1.]], dtype=torch.float64))
    """

    def scalar(value: Any) -> Any:
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            whole = int_heuristic and float(value).is_integer()
            return int(value) if whole else float(value)
        return value

    def instance(item: LuaObject) -> Steps:
        if item.class_name in TDS_HASHES + TDS_VECS:
            return (yield item.fields)
        if is_module_class(item.class_name):
            module = new_module(item)
            builder.remember(item, module)
            module.set_lua_fields((yield item.fields))
            return module
        if not unknown_classes and not item.class_name.startswith(_GRAPH_PACKAGES):
            raise T7Error(
                f"the class {item.class_name} is not known; unknown_classes=True loads its fields",
                source=os.fspath(filename),
            )
        unknown = TorchObject(item.class_name)
        builder.remember(item, unknown)
        unknown._obj = yield item.body[0] if len(item.body) == 1 else item.fields
        return unknown

    builder = ValueBuilder(
        table_type=hashable_uniq_dict,
        scalar=scalar,
        array=_tensor,
        instance=instance,
        function=_function,
        use_lists=list_heuristic,
    )
    with open(filename, "rb") as stream:  # noqa: PTH123 - its errors are PyTorch's
        return builder.build(load(stream, long_size=long_size))


def _tensor(plain: np.ndarray, source: TorchArray) -> Any:
    """Return a tensor; a LongStorage, which holds sizes, is a `torch.Size`."""
    if source.torch_class == "torch.LongStorage":
        return torch.Size(plain.tolist())
    return torch.from_numpy(plain)


def _function(source: LuaFunction, upvalues: Any) -> LuaFunction:
    return source


__all__ = ["Module", "T7ReaderException", "TorchObject", "hashable_uniq_dict", "load_lua"]
