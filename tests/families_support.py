"""Two classes of random images, and commands that must succeed, for whole families of networks."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from torchlift.cli.main import main


def two_classes(folder: Path) -> Path:
    """Write two classes of four random images."""
    random = np.random.default_rng(0)
    for name in ("cat", "dog"):
        (folder / name).mkdir(parents=True)
        for index in range(4):
            pixels = random.integers(0, 256, (72, 80, 3), np.uint8)
            Image.fromarray(pixels).save(folder / name / f"{index}.png")
    return folder


def run(*arguments: object) -> None:
    """Run a command, which must succeed."""
    assert main([str(argument) for argument in arguments]) == 0, arguments
