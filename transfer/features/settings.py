"""What becomes of features on their way to disk."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from ..errors import StoreError


@dataclass(frozen=True)
class Settings:
    """What becomes of the numbers that a layer gives.

    Attributes:
        pool: One number a channel instead of a map: its avg or max over all places, or none.
        flatten: Store one row of numbers an example, whatever the layer's shape.
        dtype: The number type on disk.
        batch_size: Examples that are computed together, on one core.
        chunk: Examples that are written together; what is lost at most when it is stopped.
    """

    pool: Literal["none", "avg", "max"] = "none"
    flatten: bool = False
    dtype: Literal["float32", "float16"] = "float32"
    batch_size: int = 64
    chunk: int = 512

    def __post_init__(self) -> None:
        if self.batch_size < 1 or self.chunk < 1:
            raise StoreError("batch_size and chunk must be at least 1")


#: Every number of a layer, as float32.
AS_THEY_ARE = Settings()
