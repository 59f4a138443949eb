"""One array of a feature store, read only if its description is one that `create_store` writes.

A zarr array may name any codec, and its sizes may be anything. Here both are compared with what
torchlift writes, and with the bytes that are there, before memory is asked for.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ...converters.validation import read_json
from ..errors import StoreError

#: The codecs of each type, of numbers and of texts, as versions of zarr write them.
_BYTES = [{"name": "bytes", "configuration": {"endian": "little"}}]
_TEXTS = [{"name": "vlen-utf8", "configuration": {}}]
_CODECS: Mapping[str, Sequence[Any]] = {
    **{name: [_BYTES] for name in ("float32", "float16", "int64", "int32")},
    "string": [_TEXTS, [{"name": "vlen-utf8"}]],
}


@dataclass(frozen=True)
class StoredArray:
    """An array of a feature store.

    Attributes:
        path: Its folder.
        shape: Its shape according to the store's manifest.
        chunk: The examples of a chunk.
    """

    path: Path
    shape: tuple[int, ...]
    chunk: int

    def check(self, *types: str) -> str:
        """Check the description of the array, and return its type.

        Args:
            types: The types that it may have, such as `float32`.

        Raises:
            StoreError: If it is damaged, or describes anything that torchlift does not write.
        """
        file = self.path / "zarr.json"
        try:
            description = read_json(file.read_bytes())
            dtype = description["data_type"]
            expected = {
                "zarr_format": 3,
                "node_type": "array",
                "shape": list(self.shape),
                "chunk_grid": {
                    "name": "regular",
                    "configuration": {"chunk_shape": [self.chunk, *self.shape[1:]]},
                },
                "chunk_key_encoding": {"name": "default", "configuration": {"separator": "/"}},
            }
            wrong = [name for name, value in expected.items() if description.get(name) != value]
            wrong += [] if description["codecs"] in _CODECS.get(dtype, ()) else ["codecs"]
        except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
            raise StoreError(f"{file}: damaged: {error or type(error).__name__}") from None
        if dtype not in types:
            wrong.append("data_type")
        if wrong:
            raise StoreError(f"{file}: damaged: {wrong[0]} is not what torchlift writes")
        return str(dtype)

    def read(self) -> np.ndarray:
        """Return the (N,) integers or texts of an array with a single chunk.

        Raises:
            StoreError: If the array is damaged.
        """
        dtype = self.check("int64", "int32", "string")
        file, (count,) = self.path / "c" / "0", self.shape
        try:
            size = file.stat().st_size
            if dtype != "string":
                if size != count * np.dtype(dtype).itemsize:
                    raise ValueError(f"{size:,} bytes for {count:,} numbers")
                return np.fromfile(file, np.dtype(dtype).newbyteorder("<")).astype(dtype)
            with file.open("rb") as stream:
                claimed = int.from_bytes(stream.read(4), "little")
            # A number of texts, then the length and the bytes of each.
            if claimed != count or size < 4 * (count + 1):
                raise ValueError(f"{claimed:,} texts in {size:,} bytes, {count:,} were expected")
            return self._texts()
        except Exception as error:  # zarr and its codecs raise errors of any class.
            raise StoreError(f"{file}: damaged: {error}") from None

    def _texts(self) -> np.ndarray:
        import zarr

        # NumPy cannot cast StringDType to strings of a fixed length.
        return np.array(np.asarray(zarr.open_array(self.path, mode="r")[:]).tolist(), str)
