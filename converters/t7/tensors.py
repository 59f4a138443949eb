"""Convert the arrays of a `.t7` to torch tensors and back: the only module that needs torch."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ..expanded import expanded_elements, memory_of, without_repeats
from .class_layouts import TDS_HASHES, TDS_VECS
from .copying import copy_array
from .errors import T7Error
from .values import LuaObject, LuaTable

if TYPE_CHECKING:
    import torch


def to_torch(value: Any) -> Any:
    """Convert arrays to tensors, list-like tables to lists, and other tables to dicts.

    Class instances stay `LuaObject`s, except `tds.Vec` and `tds.Hash`, which are converted like
    tables. Other values are returned unchanged. Tensors are copies in native, aligned memory; an
    array that occurs twice becomes one tensor. Cycles between tables are preserved.

    Args:
        value: A value returned by `load`.

    Example:
        >>> import numpy as np
        >>> from torchlift.converters import t7
        >>> value = t7.loads(t7.dumps({"mean": np.array([1.0, 2.0]), "classes": ["cat", "dog"]}))
        >>> t7.to_torch(value)
        {'mean': tensor([1., 2.], dtype=torch.float64), 'classes': ['cat', 'dog']}
    """
    converted: dict[int, Any] = {}
    unfilled: list[tuple[LuaTable, Any]] = []

    def convert(item: Any) -> Any:
        """Convert one value; the contents of a table are added later."""
        if isinstance(item, LuaObject) and item.class_name in TDS_HASHES + TDS_VECS:
            item = item.fields
        if id(item) in converted:
            return converted[id(item)]
        if isinstance(item, np.ndarray):
            converted[id(item)] = result = tensor(item)
            return result
        if isinstance(item, LuaTable):
            container: Any = [] if item.is_list() else {}
            converted[id(item)] = container
            unfilled.append((item, container))
            return container
        return item

    root = convert(value)
    while unfilled:
        table, container = unfilled.pop()
        if isinstance(container, list):
            container.extend(convert(item) for item in table.to_list())
        else:
            container.update((key, convert(item)) for key, item in table.items())
    return root


def tensor(array: np.ndarray) -> torch.Tensor:
    """Copy an array into a tensor with memory of its own.

    What is expanded stays expanded, so that a small file cannot request more memory than its own
    size.
    """
    import torch

    stored = without_repeats(array)
    if not expanded_elements(stored):
        return torch.from_numpy(copy_array(stored)).expand(array.shape)
    # Its rows overlap, as those of Torch7's `unfold`.
    strides = [step // array.itemsize for step in array.strides]
    return torch.from_numpy(copy_array(memory_of(array))).as_strided(array.shape, strides)


def strided_storage(tensor: torch.Tensor) -> tuple[np.ndarray, tuple[int, str]]:
    """Return all elements of the storage behind a tensor, and a key that identifies that storage.

    Returns:
        The elements (N,), and the storage's address and device.

    Raises:
        T7Error: If the tensor is sparse, quantized or of a dtype that numpy does not have.
    """
    try:
        storage = tensor.untyped_storage()
        count = storage.nbytes() // tensor.element_size()
        flat = tensor.detach().as_strided((count,), (1,), 0).cpu()
        return flat.numpy(), (storage.data_ptr(), str(tensor.device))
    except (RuntimeError, TypeError, NotImplementedError):
        raise T7Error(
            f"Torch7 has no tensor of {tensor.dtype} and {tensor.layout}: "
            "convert it with .float() or .to_dense() first"
        ) from None
