"""Tensors as the reader returns them: views of storages."""

from __future__ import annotations

import numpy as np

from torchlift.converters.t7 import TorchArray


def storage(count: int, dtype: str = "f4") -> TorchArray:
    array = np.zeros(count, dtype).view(TorchArray)
    array.torch_class, array.stored_bytes = "torch.FloatStorage", array.nbytes
    return array


def view(base: TorchArray, offset: int, *shape: int, strides: tuple[int, ...] = ()) -> TorchArray:
    steps = [stride * base.itemsize for stride in strides] or None
    array = TorchArray(shape, base.dtype, base, offset * base.itemsize, steps)
    array.torch_class, array.storage, array.storage_offset = "torch.FloatTensor", base, offset
    return array
