"""How features are computed and stored."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from ..errors import StoreError, check_choices

#: What a feature map becomes: one value per channel, its mean or its largest, or all of it.
Pool = Literal["none", "avg", "max"]


@dataclass(frozen=True)
class Settings:
    """How the output of a layer is computed and stored.

    Attributes:
        pool: Store one value per channel of a feature map: its avg or max; or none for the map.
        flatten: Store one row of values per example, whatever the layer's shape.
        dtype: The dtype on disk.
        batch_size: Examples that are computed together, on one core.
        chunk: Examples that are written together: the most that is lost when extract is stopped.
    """

    pool: Pool = "none"
    flatten: bool = False
    dtype: Literal["float32", "float16"] = "float32"
    batch_size: int = 64
    chunk: int = 512

    def __post_init__(self) -> None:
        check_choices(self, StoreError)
        for name in ("batch_size", "chunk"):
            if getattr(self, name) < 1:
                raise StoreError(f"{name}={getattr(self, name)}: expected at least 1")


#: Every value of a layer, as float32.
AS_THEY_ARE = Settings()
