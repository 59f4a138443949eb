"""What a model has done: the counts and times of `/v2/models/M/stats`, the sizes of batches."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

from .metrics import BATCH_SIZE

#: The times that are told, in the protocol's words.
_TIMES = ("success", "fail", "queue", "compute_input", "compute_infer", "compute_output")


class Statistics:
    """The counts and times of one version of a model; times are in seconds here.

    Args:
        name: The model's name.
        version: Its version.
    """

    def __init__(self, name: str, version: str) -> None:
        self.name, self.version = name, version
        self._counts: dict[str, int] = defaultdict(int)
        self._seconds: dict[str, float] = defaultdict(float)
        self._batches: dict[int, list[float]] = defaultdict(lambda: [0, 0.0, 0.0])
        self._examples = self._executions = self._last = 0
        self._batch_size = BATCH_SIZE.labels(name)

    def ran(
        self, queued: Sequence[float], sizes: Sequence[int], copying: float, running: float
    ) -> None:
        """Count what has run as one.

        Args:
            queued: How long each request has waited.
            sizes: How many examples each batch had.
            copying: How long it took to put the batch together.
            running: How long the model ran.
        """
        requests = len(queued)
        self._add("queue", requests, sum(queued))
        self._add("compute_input", requests, copying * requests)
        self._add("compute_infer", requests, running * requests)
        self._examples += sum(sizes)
        self._executions += len(sizes)
        self._last = int(time.time() * 1000)
        for size in sizes:
            batch = self._batches[size]
            batch[0] += 1
            batch[1] += copying / len(sizes)
            batch[2] += running / len(sizes)
            self._batch_size.observe(size)

    def answered(self, seconds: float, passed: bool) -> None:
        """Count a request that was answered."""
        self._add("success" if passed else "fail", 1, seconds)

    def to_json(self) -> dict[str, Any]:
        """Return the entry of `model_stats`, times in nanoseconds."""
        return {
            "name": self.name,
            "version": self.version,
            "last_inference": self._last,
            "inference_count": self._examples,
            "execution_count": self._executions,
            "inference_stats": {
                name: _duration(self._counts[name], self._seconds[name]) for name in _TIMES
            },
            "batch_stats": [
                {
                    "batch_size": size,
                    "compute_input": _duration(int(count), copying),
                    "compute_infer": _duration(int(count), running),
                    "compute_output": _duration(int(count), 0),
                }
                for size, (count, copying, running) in sorted(self._batches.items())
            ],
        }

    def _add(self, name: str, count: int, seconds: float) -> None:
        self._counts[name] += count
        self._seconds[name] += seconds


def _duration(count: int, seconds: float) -> dict[str, int]:
    return {"count": count, "ns": int(seconds * 1e9)}


def added(first: dict[str, Any], second: dict[str, Any]) -> dict[str, Any]:
    """Return the sum of two processes' statistics of the same model.

    Example:
        >>> total = added(Statistics("m", "1").to_json(), Statistics("m", "1").to_json())
        >>> total["name"], total["inference_count"]
        ('m', 0)
    """
    total: dict[str, Any] = {}
    for key, value in first.items():
        other = second[key]
        if isinstance(value, dict):
            total[key] = added(value, other)
        elif key == "batch_stats":
            by_size = {entry["batch_size"]: entry for entry in value}
            for entry in other:
                size = entry["batch_size"]
                known = by_size.get(size)
                by_size[size] = added(known, entry) | {"batch_size": size} if known else entry
            total[key] = [by_size[size] for size in sorted(by_size)]
        elif key == "last_inference":
            total[key] = max(value, other)
        else:
            total[key] = value if isinstance(value, str) else value + other
    return total
