"""Random pixels, datasets in memory and malicious objects, for the tests of readers."""

from __future__ import annotations

import io
import os
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

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


def png(image: np.ndarray) -> bytes:
    """Return an image (3, H, W) as the content of a PNG file."""
    stream = io.BytesIO()
    Image.fromarray(image.transpose(1, 2, 0)).save(stream, "png")
    return stream.getvalue()


def archive(file: Path, **members: bytes) -> Path:
    """Write a tar archive; `__` in the name of a member stands for a dot."""
    with tarfile.open(file, "w") as tar:
        for name, content in members.items():
            member = tarfile.TarInfo(name.replace("__", "."))
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return file
