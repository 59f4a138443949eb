"""`predict` over any number of images takes the memory of a few batches.

`TORCHLIFT_IMAGES=1000000` makes it as long as docs/soak.md says.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from support import FIXTURES

MODEL = FIXTURES / "0.1.0" / "model.onnx"


def resident(process: int) -> int:
    """The resident memory of a process in bytes; 0 when it has ended."""
    try:
        status = Path(f"/proc/{process}/status").read_text(encoding="utf-8")
    except OSError:
        return 0
    found = re.search(r"VmRSS:\s+(\d+) kB", status)
    return int(found[1]) * 1024 if found else 0


def _lines(file: Path) -> float:
    """About how many lines a file has: they are equally long but for the probabilities."""
    with file.open(encoding="utf-8") as stream:
        head = stream.readlines(10_000)
    return file.stat().st_size / (sum(map(len, head)) / len(head)) if head else 0


@pytest.mark.slow
def test_the_last_nine_tenths_add_hardly_any_memory(tmp_path: Path) -> None:
    """At most a twentieth more than after the first tenth."""
    count = int(os.environ.get("TORCHLIFT_IMAGES", "20000"))
    folder = tmp_path / "images"
    folder.mkdir()
    pixels = np.random.default_rng(0).integers(0, 256, (200, 32, 32), np.uint8)
    for number in range(count):
        file, first = folder / f"{number:07}.png", folder / f"{number % len(pixels):07}.png"
        if file == first:
            Image.fromarray(pixels[number]).save(file)
        else:
            os.link(first, file)
    target = tmp_path / "results.csv"
    command = [sys.executable, "-m", "torchlift.cli", "predict", str(MODEL), str(folder)]
    process = subprocess.Popen(
        [*command, "--provider=cpu", "--top=1", "-o", str(target)], stderr=subprocess.DEVNULL
    )
    early, late = 0, 0
    partial = tmp_path / "results.csv.partial"
    while process.poll() is None:
        time.sleep(0.2)
        late = resident(process.pid) or late
        if partial.is_file() and _lines(partial) < 0.1 * count:
            early = late
    assert process.returncode == 0
    lines = target.read_text(encoding="utf-8").count("\n")
    assert lines >= count
    print(f"{count:,} images: {early / 1e6:.0f} MB, then {late / 1e6:.0f} MB")
    assert late <= 1.05 * early
