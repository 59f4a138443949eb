"""Torch's tensor and storage classes and their numpy dtypes."""

from __future__ import annotations

from typing import Any

import numpy as np

_DTYPE_CODES: dict[str, str] = {
    "Byte": "u1",
    "Char": "i1",
    "Short": "i2",
    "Int": "i4",
    "Long": "i8",
    "Half": "f2",
    "Float": "f4",
    "Double": "f8",
}

# The classes of cutorch and cltorch (OpenCL). torch.CudaTensor and torch.ClTensor, without an
# element type in their names, hold floats; the layouts are those of Torch7's own classes.
_DEVICE_KINDS: dict[str, str] = {
    f"{device}{kind if kind != 'Float' else ''}": kind
    for device in ("Cuda", "Cl")
    for kind in _DTYPE_CODES
}

_KINDS: dict[str, str] = {**{kind: kind for kind in _DTYPE_CODES}, **_DEVICE_KINDS}

#: `torch.FloatTensor` → native dtype; a LongTensor is int64 whatever the size of the file's longs.
TENSOR_DTYPES: dict[str, np.dtype[Any]] = {
    f"torch.{name}Tensor": np.dtype(_DTYPE_CODES[kind]) for name, kind in _KINDS.items()
}

#: `torch.FloatStorage` → native dtype.
STORAGE_DTYPES: dict[str, np.dtype[Any]] = {
    f"torch.{name}Storage": np.dtype(_DTYPE_CODES[kind]) for name, kind in _KINDS.items()
}

#: dtype → the CPU tensor class that Torch7 uses for it.
TENSOR_CLASSES: dict[np.dtype[Any], str] = {
    np.dtype(code): f"torch.{kind}Tensor" for kind, code in _DTYPE_CODES.items()
}


def storage_class(tensor_class: str) -> str:
    """Return the storage class of a tensor class: `torch.CudaTensor` → `torch.CudaStorage`."""
    return tensor_class.removesuffix("Tensor") + "Storage"
