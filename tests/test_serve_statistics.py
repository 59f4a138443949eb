"""The counts and times of a model, and the metrics of several processes: numbers by hand."""

from __future__ import annotations

import math
import os
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from support import ROOT

pytest.importorskip("fastapi")

from torchlift.cli.serve.metrics import BATCH_SIZE, DURATION, exposition
from torchlift.cli.serve.statistics import Statistics, added
from torchlift.cli.serve.supervisor import _forget_metrics


def times(told: dict[str, Any]) -> dict[str, tuple[int, float]]:
    """The count and the seconds of each part."""
    return {
        name: (one["count"], one["ns"] / 1e9) for name, one in told.items() if isinstance(one, dict)
    }


def test_each_request_of_a_batch_has_waited_for_all_of_it() -> None:
    statistics = Statistics("by-hand", "3")
    before = int(time.time() * 1000)
    # Two requests ran in three batches of 4, 4 and 2 examples.
    statistics.ran([0.5, 0.25], [4, 4, 2], copying=0.75, running=1.5)
    statistics.answered(4.0, passed=True)
    statistics.answered(0.5, passed=False)
    told = statistics.to_json()
    assert (told["name"], told["version"]) == ("by-hand", "3")
    assert (told["inference_count"], told["execution_count"]) == (10, 3)
    assert before <= told["last_inference"] <= int(time.time() * 1000)
    assert times(told["inference_stats"]) == {
        "success": (1, 4.0),
        "fail": (1, 0.5),
        "queue": (2, 0.75),
        "compute_input": (2, 1.5),
        "compute_infer": (2, 3.0),
        "compute_output": (0, 0.0),
    }
    # The time of a run is shared by its batches.
    two, four = told["batch_stats"]
    assert (two["batch_size"], four["batch_size"]) == (2, 4)
    assert times(two) == {
        "compute_input": (1, 0.25),
        "compute_infer": (1, 0.5),
        "compute_output": (1, 0.0),
    }
    assert times(four) == {
        "compute_input": (2, 0.5),
        "compute_infer": (2, 1.0),
        "compute_output": (2, 0.0),
    }
    sizes = BATCH_SIZE.labels("by-hand")
    assert sizes._sum.get() == 10


@pytest.mark.parametrize(
    ("size", "bound"),
    [(1, 1), (2, 2), (3, 4), (5, 8), (32, 32), (33, 64), (65, 128), (256, 256), (257, math.inf)],
)
def test_a_batch_is_counted_with_those_up_to_the_next_power_of_two(size: int, bound: float) -> None:
    model = f"of {size}"
    Statistics(model, "1").ran([0.0], [size], copying=0, running=0)
    assert first_bucket("batch_size", f'model="{model}"') == bound


@pytest.mark.parametrize(
    ("seconds", "bound"),
    [(0.0005, 0.001), (0.002, 0.0025), (0.3, 0.5), (0.5, 0.5), (4, 5), (29, 30), (31, math.inf)],
)
def test_the_time_of_a_request_is_told_from_a_millisecond_to_the_longest_that_may_be(
    seconds: float, bound: float
) -> None:
    endpoint = f"of {seconds} seconds"
    DURATION.labels("m", endpoint).observe(seconds)
    assert first_bucket("request_duration_seconds", f'endpoint="{endpoint}"') == bound


def first_bucket(metric: str, label: str) -> float:
    """The limit of the first bucket of a histogram that holds something."""
    text, _ = exposition()
    found = re.findall(rf"torchlift_{metric}_bucket{{(.*)}} (\S+)", text.decode())
    (first, *_) = [labels for labels, count in found if label in labels and float(count)]
    return float(re.findall(r'le="(\S+?)"', first)[0])


def entry(last: int, passed: int, sizes: dict[int, int]) -> dict[str, Any]:
    return {
        "name": "m",
        "version": "1",
        "last_inference": last,
        "inference_count": passed,
        "inference_stats": {"success": {"count": passed, "ns": passed * 10}},
        "batch_stats": [
            {"batch_size": size, "compute_infer": {"count": count, "ns": count * 3}}
            for size, count in sizes.items()
        ],
    }


@pytest.mark.parametrize("turned", [False, True])
def test_processes_are_added_and_the_last_inference_is_the_latest(turned: bool) -> None:
    pair = [entry(70, 5, {1: 2, 8: 1}), entry(60, 4, {2: 1, 8: 3})]
    total = added(*pair[:: -1 if turned else 1])
    assert total == entry(70, 9, {1: 2, 2: 1, 8: 4})


def test_of_a_process_that_has_died_only_its_queue_is_forgotten(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it has counted was counted."""
    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", str(tmp_path))
    kinds = ("gauge_livesum", "gauge_livemax", "counter", "histogram")
    for kind in kinds:
        for process in (71, 72):
            (tmp_path / f"{kind}_{process}.db").touch()
    _forget_metrics(71)
    left = {file.name for file in tmp_path.iterdir()}
    assert left == {*(f"{kind}_72.db" for kind in kinds), "counter_71.db", "histogram_71.db"}


#: A process that serves, twice: what the metrics of the whole server say is printed.
_TWO = """
import os
import sys
from torchlift.cli.serve.metrics import (
    BATCH_SIZE, MODEL_INFO, QUEUE_LENGTH, RELOAD_FAILURES, REQUESTS, exposition)

for place in (1, 2):
    if (child := os.fork()) == 0:
        QUEUE_LENGTH.set(place + 2)
        MODEL_INFO.labels("m", "1", "abc").set(1)
        MODEL_INFO.labels("m", "1", "old").set(0)
        REQUESTS.labels("m", "infer", "200").inc(place)
        RELOAD_FAILURES.labels("m").inc()
        BATCH_SIZE.labels("m").observe(place * 3)
        os._exit(0)
    os.waitpid(child, 0)
text, kind = exposition()
print(kind)
print(text.decode())
"""


def test_metrics_of_processes_are_summed_but_for_what_is_said_of_a_file(tmp_path: Path) -> None:
    environment = {
        **os.environ,
        "PROMETHEUS_MULTIPROC_DIR": str(tmp_path),
        "PYTHONPATH": str(ROOT.parent),
    }
    done = subprocess.run(
        [sys.executable, "-c", _TWO], env=environment, capture_output=True, text=True, check=True
    )
    kind, *lines = done.stdout.splitlines()
    assert kind.startswith("text/plain; version=")
    values = dict(line.rsplit(" ", 1) for line in lines if line and not line.startswith("#"))
    found = {name.removeprefix("torchlift_"): float(value) for name, value in values.items()}
    assert found["queue_length"] == 7
    assert found['model_info{model="m",sha256="abc",version="1"}'] == 1
    assert found['model_info{model="m",sha256="old",version="1"}'] == 0
    assert found['requests_total{endpoint="infer",model="m",status="200"}'] == 3
    assert found['reload_failures_total{model="m"}'] == 2
    assert found['batch_size_sum{model="m"}'] == 9
    assert found['batch_size_bucket{le="4.0",model="m"}'] == 1
    assert all(name.startswith("torchlift_") for name in values)
