"""From images to features on disk: planned first, then chunk by chunk."""

from __future__ import annotations

import math
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any, TypeVar

import numpy as np
import torch

from ... import __version__
from ...converters.images.preprocessing import Preprocessing
from ...converters.inference import prepare
from ..data import Dataset, ImageFiles, fingerprint
from .processes import ALONE, Process
from .settings import AS_THEY_ARE, Settings
from .sources import FeatureSource
from .store import FORMAT_VERSION, FeatureStore, create_store, open_store

_Result = TypeVar("_Result")


@dataclass(frozen=True)
class ExtractionPlan:
    """What will be computed.

    Attributes:
        source: the network.
        data: the images.
        settings: what becomes of the numbers.
        manifest: what the store will say of itself.
    """

    source: FeatureSource
    data: Dataset | ImageFiles
    settings: Settings
    manifest: dict[str, Any]

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Each layer's name → the shape of all its features, (N, …)."""
        return {name: (len(self.data), *each) for name, each in self.manifest["features"].items()}

    @property
    def bytes(self) -> int:
        """What the features take on disk."""
        width = np.dtype(self.settings.dtype).itemsize
        return sum(math.prod(shape) for shape in self.shapes.values()) * width


def example_of(data: Dataset | ImageFiles, preprocessing: Preprocessing | None) -> np.ndarray:
    """The first images of a dataset as inputs (2, C, H, W); a single one twice."""
    first = _inputs(data, range(min(2, len(data))), preprocessing)
    return first if len(first) == 2 else np.concatenate([first, first])


def plan_extraction(
    source: FeatureSource, data: Dataset | ImageFiles, settings: Settings = AS_THEY_ARE
) -> ExtractionPlan:
    """Find out what an extraction gives, by running two examples.

    Raises:
        TorchliftError: when the images do not fit the network.
    """
    shapes = {
        name: list(_reduced(values, settings).shape[1:])
        for name, values in zip(
            source.names, source(example_of(data, source.preprocessing)), strict=True
        )
    }
    used = source.preprocessing
    ready = isinstance(data, Dataset) and data.images.dtype != np.uint8
    manifest = {
        "format_version": FORMAT_VERSION,
        "torchlift": __version__,
        **source.identity,
        "preprocessing": None if used is None or ready else used.to_json(),
        "features": shapes,
        **asdict(settings),
        "data": {
            "fingerprint": fingerprint(data),
            "count": len(data),
            "classes": None if data.names is None else list(data.names),
        },
    }
    return ExtractionPlan(source, data, settings, manifest)


def extract(
    plan: ExtractionPlan,
    path: str | os.PathLike[str],
    *,
    process: Process = ALONE,
    workers: int | None = None,
    progress: Callable[[int], None] = lambda examples: None,
    overwrite: bool = False,
) -> FeatureStore:
    """Compute the features that are not in a store yet; the store is created if need be.

    It may be stopped at any moment and started again, by any number of processes: chunk i is
    process i mod n's. The bytes are the same, since each batch holds the same examples.

    Args:
        plan: what to compute.
        path: the store's folder.
        process: this one, among those that share the work.
        workers: how many batches are computed at once; by default one a core.
        progress: is told how many examples were done, also of those that were there already.
        overwrite: remove a store that is there, and begin anew.

    Raises:
        StoreError: when the folder holds something else, or features of another network, data or
            settings.
    """
    if process.is_first:
        columns = {"labels": plan.data.classes, "ids": plan.data.ids, "splits": plan.data.splits}
        create_store(path, plan.manifest, columns, overwrite)
    process.wait()
    store = open_store(path)
    store.check(plan.manifest)
    if process.is_first:
        store.remove_unfinished()
    process.wait()
    mine = range(process.rank, len(store.chunks), process.count)
    missing = [chunk for chunk in mine if not store.has(chunk)]
    progress(sum(len(store.chunks[chunk]) for chunk in mine if chunk not in set(missing)))
    if not plan.source.parallel:
        workers = 2  # One computes, the other prepares the next batch.
    with _one_core_a_batch(workers or process.cores) as pool:
        _fill(store, missing, plan, pool, workers or process.cores, progress)
    process.wait()
    return store


def _fill(
    store: FeatureStore,
    chunks: list[int],
    plan: ExtractionPlan,
    pool: ThreadPoolExecutor,
    workers: int,
    progress: Callable[[int], None],
) -> None:
    """Compute chunks and write each when its last batch is there."""
    size = plan.settings.batch_size
    batches = [
        (chunk, rows[at : at + size])
        for chunk in chunks
        for rows in (store.chunks[chunk],)
        for at in range(0, len(rows), size)
    ]
    done: list[list[np.ndarray]] = []
    results = _in_order(pool, lambda batch: _features(plan, batch[1]), batches, 2 * workers)
    for (chunk, rows), features in zip(batches, results, strict=True):
        done.append(features)
        progress(len(rows))
        if rows.stop == store.chunks[chunk].stop:
            store.write(chunk, (np.concatenate(parts) for parts in zip(*done, strict=True)))
            done = []


def _features(plan: ExtractionPlan, rows: range) -> list[np.ndarray]:
    inputs = _inputs(plan.data, rows, plan.source.preprocessing)
    return [_reduced(values, plan.settings) for values in plan.source(inputs)]


def _inputs(
    data: Dataset | ImageFiles, rows: range, preprocessing: Preprocessing | None
) -> np.ndarray:
    if isinstance(data, Dataset):
        return prepare(data.images[rows.start : rows.stop], preprocessing)
    images, _ = next(iter(data.take(np.array(rows)).batches(len(rows))))
    return prepare(images, preprocessing)


def _reduced(values: np.ndarray, settings: Settings) -> np.ndarray:
    """Features (N, …) as they are stored."""
    if settings.pool != "none" and values.ndim > 2:
        places = values.reshape(*values.shape[:2], -1)
        values = places.mean(2) if settings.pool == "avg" else places.max(2)
    if settings.flatten:
        values = values.reshape(len(values), -1)
    return values.astype(settings.dtype, copy=False)


@contextmanager
def _one_core_a_batch(workers: int) -> Iterator[ThreadPoolExecutor]:
    """Threads that each compute on one core of their own."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with ThreadPoolExecutor(workers, initializer=torch.set_num_threads, initargs=(1,)) as pool:
            yield pool
    finally:
        torch.set_num_threads(before)


def _in_order(
    pool: ThreadPoolExecutor,
    function: Callable[[Any], _Result],
    items: Iterable[Any],
    ahead: int,
) -> Iterator[_Result]:
    """`map` in threads, at most so many items ahead of what is taken."""
    waiting: deque[Future[_Result]] = deque()
    try:
        for item in items:
            waiting.append(pool.submit(function, item))
            if len(waiting) > ahead:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        for future in waiting:
            future.cancel()
