"""From images to features on disk: planned first, then computed chunk by chunk."""

from __future__ import annotations

import math
import os
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass
from typing import Any, TypeVar

import numpy as np
import torch

from ... import __version__
from ...converters.errors import NotFiniteError
from ...converters.finite import first_not_finite, require_finite
from ...converters.images.preprocessing import Preprocessing
from ...converters.inference import prepare
from ...converters.inference.processes import ALONE, Process
from ...converters.inference.threads import available_cpus
from ..data import Dataset, ImageFiles, fingerprint
from .extractors import FeatureExtractor
from .manifest import FORMAT_VERSION
from .model_source import ModelSource
from .settings import AS_THEY_ARE, Settings
from .store import FeatureStore, create_store, open_store

_Result = TypeVar("_Result")


@dataclass(frozen=True)
class ExtractionPlan:
    """What will be computed.

    Attributes:
        extractor: The network.
        data: The images.
        settings: How features are computed and stored.
        manifest: What the store will say about itself.
    """

    extractor: FeatureExtractor
    data: Dataset | ImageFiles
    settings: Settings
    manifest: dict[str, Any]

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Each layer's name → the shape of all its features, (N, …)."""
        return {name: (len(self.data), *each) for name, each in self.manifest["features"].items()}

    @property
    def bytes(self) -> int:
        """The size of the features on disk."""
        width = np.dtype(self.settings.dtype).itemsize
        return sum(math.prod(shape) for shape in self.shapes.values()) * width


def example_of(data: Dataset | ImageFiles, preprocessing: Preprocessing | None) -> np.ndarray:
    """Return the first two images of a dataset as inputs (2, C, H, W); a single image twice."""
    first = _inputs(data, range(min(2, len(data))), preprocessing)
    return first if len(first) == 2 else np.concatenate([first, first])


def feature_shapes(
    extractor: FeatureExtractor, example: np.ndarray, settings: Settings
) -> dict[str, list[int]]:
    """Return each layer's name → the shape of an image's features.

    Args:
        extractor: The network.
        example: Inputs (2, C, H, W), which are run.
        settings: How features are computed and stored.
    """
    outputs = zip(extractor.names, extractor(example), strict=True)
    return {name: list(_reduce(values, settings).shape[1:]) for name, values in outputs}


def plan_extraction(
    extractor: FeatureExtractor,
    data: Dataset | ImageFiles,
    settings: Settings = AS_THEY_ARE,
    source: ModelSource | None = None,
) -> ExtractionPlan:
    """Plan an extraction; two examples are run to know the shapes.

    Args:
        extractor: The network.
        data: The images.
        settings: How features are computed and stored.
        source: Where the network is, for those who build on its features later.

    Raises:
        TorchliftError: If the images do not fit the network.

    Example:
        >>> import numpy as np
        >>> from pathlib import Path
        >>> from tempfile import mkdtemp
        >>> from torch import nn
        >>> from torchlift.converters.saved import SavedModel
        >>> from torchlift.transfer.data import Dataset
        >>> from torchlift.transfer.features.extraction import extract, plan_extraction
        >>> from torchlift.transfer.features.extractors import TorchExtractor
        >>> network = nn.Sequential(nn.Flatten(), nn.Linear(12, 5), nn.ReLU(), nn.Linear(5, 2))
        >>> extractor = TorchExtractor(SavedModel(network, "logits"), ["penultimate"], "cpu")
        >>> data = Dataset(np.zeros((10, 3, 2, 2), np.float32), np.arange(10) % 2)
        >>> plan = plan_extraction(extractor, data)
        >>> plan.shapes, plan.bytes
        ({'penultimate': (10, 5)}, 200)
        >>> store = extract(plan, Path(mkdtemp()) / "features")
        >>> store.read("penultimate").images.shape
        (10, 5)
    """
    preprocessing = extractor.preprocessing
    example = example_of(data, preprocessing)
    shapes = feature_shapes(extractor, example, settings)
    if _holds_inputs(data):
        preprocessing = None
    manifest = {
        "format_version": FORMAT_VERSION,
        "torchlift": __version__,
        **extractor.identity,
        "preprocessing": None if preprocessing is None else preprocessing.to_json(),
        "features": shapes,
        **asdict(settings),
        "data": {
            "fingerprint": fingerprint(data),
            "count": len(data),
            "classes": None if data.names is None else list(data.names),
        },
    }
    if source is not None:
        manifest["source"] = {**asdict(source), "input_shape": list(example.shape[1:])}
    return ExtractionPlan(extractor, data, settings, manifest)


def extract(
    plan: ExtractionPlan,
    path: str | os.PathLike[str],
    *,
    process: Process = ALONE,
    workers: int | None = None,
    progress: Callable[[int], None] = lambda examples: None,
    overwrite: bool = False,
) -> FeatureStore:
    """Compute the features that a store lacks; the store is created if it does not exist.

    Extraction may be stopped at any time and resumed by any number of processes: process i mod n
    computes chunk i. The bytes are the same, since each batch holds the same examples.

    Args:
        plan: What to compute.
        path: The store's folder.
        process: This process among those that share the work.
        workers: The number of batches that are computed at once; by default one per core.
        progress: Called with the number of examples that were done, or found done.
        overwrite: Replace an existing store.

    Raises:
        StoreError: If the folder is something else, or holds features of another network, data or
            settings.
        WriteError: If the store cannot be written.
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
    own_chunks = range(process.rank, len(store.chunks), process.world_size)
    missing = [chunk for chunk in own_chunks if not store.has(chunk)]
    progress(sum(len(store.chunks[chunk]) for chunk in set(own_chunks) - set(missing)))
    _fill(store, missing, plan, workers, progress)
    process.wait()
    return store


def features_in_memory(
    extractor: FeatureExtractor,
    data: Dataset | ImageFiles,
    settings: Settings = AS_THEY_ARE,
    *,
    workers: int | None = None,
    progress: Callable[[int], None] = lambda examples: None,
) -> list[np.ndarray]:
    """Return the features of each layer, (N, …), with the values that `extract` stores.

    Args:
        extractor: The network.
        data: The images, at least one.
        settings: How features are computed.
        workers: As for `extract`.
        progress: As for `extract`.

    Raises:
        TorchliftError: If the images do not fit the network, or features are not finite.
    """
    size = settings.batch_size
    batches = [range(at, min(at + size, len(data))) for at in range(0, len(data), size)]
    done: list[list[np.ndarray]] = []
    with closing(_computed(extractor, data, settings, batches, workers)) as results:
        for rows, features in zip(batches, results, strict=True):
            done.append(features)
            progress(len(rows))
    return [np.concatenate(arrays) for arrays in zip(*done, strict=True)]


def _fill(
    store: FeatureStore,
    chunks: list[int],
    plan: ExtractionPlan,
    workers: int | None,
    progress: Callable[[int], None],
) -> None:
    """Compute chunks, and write each when its last batch is done, while the next are computed."""
    size = plan.settings.batch_size
    batches = [
        (chunk, rows[at : at + size])
        for chunk in chunks
        for rows in (store.chunks[chunk],)
        for at in range(0, len(rows), size)
    ]
    rows_of_batches = [rows for _, rows in batches]
    results = _computed(plan.extractor, plan.data, plan.settings, rows_of_batches, workers)

    def whole_chunks() -> Iterator[tuple[int, Iterable[np.ndarray]]]:
        done: list[list[np.ndarray]] = []
        for (chunk, rows), features in zip(batches, results, strict=True):
            done.append(features)
            progress(len(rows))
            if rows.stop == store.chunks[chunk].stop:
                yield chunk, [np.concatenate(arrays) for arrays in zip(*done, strict=True)]
                done = []

    with closing(results):
        store.write(whole_chunks())


def _computed(
    extractor: FeatureExtractor,
    data: Dataset | ImageFiles,
    settings: Settings,
    batches: list[range],
    workers: int | None,
) -> Generator[list[np.ndarray]]:
    """Yield the features of batches, in order; several are computed at once."""
    if not extractor.parallel:
        workers = 2  # One computes, the other prepares the next batch.
    count = workers or available_cpus()
    with _single_threaded_workers(count) as pool:
        yield from _map_in_order(
            pool, lambda rows: _features(extractor, data, settings, rows), batches, 4 * count
        )


def _features(
    extractor: FeatureExtractor, data: Dataset | ImageFiles, settings: Settings, rows: range
) -> list[np.ndarray]:
    inputs = _inputs(data, rows, extractor.preprocessing)
    if _holds_inputs(data):  # Pixels are finite, and stay so.
        require_finite(inputs, f"inputs of examples {rows.start} to {rows.stop - 1}, ")
    features = []
    for name, values in zip(extractor.names, extractor(inputs), strict=True):
        require_finite(values, f"layer {name}, examples {rows.start} to {rows.stop - 1}, ")
        features.append(_reduce(values, settings))
        is_new = settings.pool == "avg" or settings.dtype != values.dtype
        if is_new and (place := first_not_finite(features[-1])):
            raise NotFiniteError(
                f"layer {name}: a feature is too large for {settings.dtype} (examples "
                f"{rows.start} to {rows.stop - 1}, {place}); store them as dtype='float32'"
            )
    return features


def _holds_inputs(data: Dataset | ImageFiles) -> bool:
    """Return whether the images of a dataset are inputs of a network already."""
    return isinstance(data, Dataset) and data.images.dtype != np.uint8


def _inputs(
    data: Dataset | ImageFiles, rows: range, preprocessing: Preprocessing | None
) -> np.ndarray:
    if isinstance(data, Dataset):
        return prepare(data.images[rows.start : rows.stop], preprocessing)
    images, _ = next(iter(data.take(np.array(rows)).batches(len(rows))))
    return prepare(images, preprocessing)


def _reduce(values: np.ndarray, settings: Settings) -> np.ndarray:
    """Return features (N, …) as they are stored."""
    with np.errstate(over="ignore"):  # What is too large is refused, and where it is.
        if settings.pool != "none" and values.ndim > 2:
            maps = values.reshape(*values.shape[:2], -1)
            values = maps.mean(2) if settings.pool == "avg" else maps.max(2)
        if settings.flatten:
            values = values.reshape(len(values), -1)
        return values.astype(settings.dtype, copy=False)


@contextmanager
def _single_threaded_workers(workers: int) -> Iterator[ThreadPoolExecutor]:
    """Return a pool of threads in which torch uses one core each."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with ThreadPoolExecutor(workers, initializer=torch.set_num_threads, initargs=(1,)) as pool:
            yield pool
    finally:
        torch.set_num_threads(before)


def _map_in_order(
    pool: ThreadPoolExecutor,
    function: Callable[[Any], _Result],
    items: Iterable[Any],
    ahead: int,
) -> Iterator[_Result]:
    """Map in threads, at most this many items ahead of the results that are consumed."""
    waiting: deque[Future[_Result]] = deque()
    try:
        for item in items:
            waiting.append(pool.submit(function, item))
            while len(waiting) > ahead:
                # To be woken by each result would take 3 % of a small network's time.
                wait([waiting[ahead // 2]], timeout=0.1)
                while waiting and waiting[0].done():
                    yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        for future in waiting:
            future.cancel()
