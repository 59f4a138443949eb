"""The metrics of `/metrics`, in Prometheus's format, summed over the processes of the server.

With several processes, `PROMETHEUS_MULTIPROC_DIR` must be set before this module is imported: each
process then keeps its numbers in files there.
"""

from __future__ import annotations

import os

from prometheus_client import (
    CONTENT_TYPE_LATEST,
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    generate_latest,
)
from prometheus_client.multiprocess import MultiProcessCollector

#: Ours alone: not the numbers of the Python process, which differ between processes.
_REGISTRY = CollectorRegistry()

REQUESTS = Counter(
    "torchlift_requests",
    "Requests that were answered.",
    ["model", "endpoint", "status"],
    registry=_REGISTRY,
)
DURATION = Histogram(
    "torchlift_request_duration_seconds",
    "Time from a request's head to the end of its answer.",
    ["model", "endpoint"],
    buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30),
    registry=_REGISTRY,
)
BATCH_SIZE = Histogram(
    "torchlift_batch_size",
    "Examples that ran together.",
    ["model"],
    buckets=(1, 2, 4, 8, 16, 32, 64, 128, 256),
    registry=_REGISTRY,
)
QUEUE_LENGTH = Gauge(
    "torchlift_queue_length",
    "Requests that wait.",
    multiprocess_mode="livesum",
    registry=_REGISTRY,
)
RELOAD_FAILURES = Counter(
    "torchlift_reload_failures",
    "New files of a model that could not be opened.",
    ["model"],
    registry=_REGISTRY,
)
MODEL_INFO = Gauge(
    "torchlift_model_info",
    "1 for each model that is served.",
    ["model", "version", "sha256"],
    multiprocess_mode="livemax",
    registry=_REGISTRY,
)


def exposition() -> tuple[bytes, str]:
    """Return the metrics of all processes as text, and its content type."""
    registry = _REGISTRY
    if "PROMETHEUS_MULTIPROC_DIR" in os.environ:
        registry = CollectorRegistry()
        MultiProcessCollector(registry)  # type: ignore[no-untyped-call]  # theirs has no types
    return generate_latest(registry), CONTENT_TYPE_LATEST
