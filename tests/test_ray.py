"""The documented example for Ray Data, on a cluster of two nodes on this machine.

What is protected: `Classifier` can be the callable of `map_batches` as docs/deploy.md shows it, and
no image is lost or counted twice when a worker is killed. Skipped without Ray.
"""

from __future__ import annotations

import os
import re
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from cli_support import write_files
from PIL import Image
from support import ROOT

from torchlift.converters import t7
from torchlift.converters.onnx import Classifier

pytestmark = pytest.mark.slow

IMAGES = 600


def example() -> str:
    """The block of docs/deploy.md."""
    text = (ROOT / "docs" / "deploy.md").read_text(encoding="utf-8")
    (block,) = [each for each in re.findall(r"```python\n(.*?)```", text, re.S) if "ray" in each]
    return block


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """Two nodes of one CPU each, whose workers import this checkout."""
    ray = pytest.importorskip("ray")
    from ray.cluster_utils import Cluster

    (tmp_path / "source").mkdir()
    (tmp_path / "source" / "torchlift").symlink_to(ROOT)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "source"))
    # Each node counts the processors itself; two workers and the readers must fit.
    nodes = Cluster(initialize_head=True, head_node_args={"num_cpus": 2})
    nodes.add_node(num_cpus=2)
    ray.init(address=nodes.address, log_to_driver=False)
    yield
    ray.shutdown()
    nodes.shutdown()


def kill_one(killed: list[int]) -> None:
    """Kill the first worker that has been seen at work for a moment."""
    import psutil

    seen: dict[int, float] = {}
    while not killed:
        for process in psutil.process_iter(["name", "cmdline"]):
            words = " ".join(process.info["cmdline"] or [])
            if words.startswith("ray::") and "Predict" in words:
                began = seen.setdefault(process.pid, time.monotonic())
                if time.monotonic() - began > 0.5:
                    os.kill(process.pid, signal.SIGKILL)
                    killed.append(process.pid)
                    return
        time.sleep(0.05)


@pytest.mark.usefixtures("cluster")
def test_every_image_is_predicted_once_though_a_worker_is_killed(tmp_path: Path) -> None:
    import pyarrow.parquet

    files = write_files(tmp_path)
    pixels = t7.load(ROOT / "fixtures" / "digits" / "digits-test.t7")["data"]
    folder = tmp_path / "images"
    folder.mkdir()
    for number in range(IMAGES):
        image = np.asarray(pixels[number % len(pixels), 0], np.uint8)
        Image.fromarray(image).save(folder / f"{number:04}.png")
    code = example()
    assert len(code.splitlines()) <= 20
    for name, path in (("images", folder), ("digits.onnx", files["onnx"])):
        code = code.replace(f"/shared/{name}", str(path))
    killed: list[int] = []
    killer = threading.Thread(target=kill_one, args=(killed,), daemon=True)
    killer.start()
    exec(code.replace("/shared/results", str(tmp_path / "results")), {"__name__": "__main__"})
    assert killed
    table = pyarrow.parquet.read_table(tmp_path / "results").to_pylist()
    names = sorted(Path(row["path"]).name for row in table)
    assert names == sorted(path.name for path in folder.iterdir())
    paths = [str(row["path"]) for row in table]
    expected = Classifier(files["onnx"], provider="cpu").predict(paths, top=1)
    for row, (first,) in zip(table, expected, strict=True):
        assert row["label"] == first.label
        assert row["probability"] == pytest.approx(first.probability, abs=1e-6)
