"""Random pixels, datasets in memory and malicious objects, for the tests of readers."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np

from torchlift.transfer.data import Dataset, open_data

RANDOM = np.random.default_rng(0)


def in_memory(source: Any, **options: Any) -> Dataset:
    data = open_data(source, **options)
    assert isinstance(data, Dataset)
    return data


class Malicious:
    def __init__(self, witness: Path) -> None:
        self.witness = witness

    def __reduce__(self) -> Any:
        return (os.mkdir, (str(self.witness),))
