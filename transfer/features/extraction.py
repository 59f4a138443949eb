"""From images to features on disk: planned first, then computed chunk by chunk."""

from __future__ import annotations

import math
import os
import threading
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor, wait
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

_Batch = TypeVar("_Batch")


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
        progress: Called with the number of examples that were done, or found done: by the threads
            that compute, one at a time.
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
    store.check_splits(plan.data.splits)
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
    done: dict[int, list[np.ndarray]] = {}
    lock = threading.Lock()

    def compute(rows: range) -> None:
        features = _features(extractor, data, settings, rows)
        with lock:
            done[rows.start] = features
            progress(len(rows))

    _run_in_workers(extractor, workers, compute, batches)
    return _joined(done)


def _fill(
    store: FeatureStore,
    chunks: list[int],
    plan: ExtractionPlan,
    workers: int | None,
    progress: Callable[[int], None],
) -> None:
    """Compute chunks; whoever computes the last batch of one writes it, while others go on."""
    size = plan.settings.batch_size
    batches = [
        (chunk, rows[at : at + size])
        for chunk in chunks
        for rows in (store.chunks[chunk],)
        for at in range(0, len(rows), size)
    ]
    left = Counter(chunk for chunk, _ in batches)
    done: defaultdict[int, dict[int, list[np.ndarray]]] = defaultdict(dict)
    lock = threading.Lock()

    with store.writer() as write:

        def compute(batch: tuple[int, range]) -> None:
            chunk, rows = batch
            features = _features(plan.extractor, plan.data, plan.settings, rows)
            with lock:
                done[chunk][rows.start] = features
                left[chunk] -= 1
                whole = None if left[chunk] else done.pop(chunk)
                progress(len(rows))
            if whole is not None:
                write(chunk, _joined(whole))

        _run_in_workers(plan.extractor, workers, compute, batches)


def _joined(parts: dict[int, list[np.ndarray]]) -> list[np.ndarray]:
    """Join the features of batches, by their first examples, to one array (n, …) per layer."""
    in_order = [parts[start] for start in sorted(parts)]
    return [np.concatenate(arrays) for arrays in zip(*in_order, strict=True)]


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


def _run_in_workers(
    extractor: FeatureExtractor,
    workers: int | None,
    compute: Callable[[_Batch], None],
    batches: Iterable[_Batch],
) -> None:
    """Compute batches in threads in which torch uses one core each; each takes the next one.

    Handing the results over to one thread, in order, took 4 % of a small network's time.

    Raises:
        BaseException: That of the first batch that fails, when those that began are done.
    """
    # Without parallel calls one computes, the other prepares the next batch.
    count = (workers or available_cpus()) if extractor.parallel else 2
    numbered, lock = enumerate(batches), threading.Lock()
    failures: dict[int, BaseException] = {}

    def work() -> None:
        torch.set_num_threads(1)
        while not failures:
            with lock:
                number, batch = next(numbered, (-1, None))
            if batch is None:
                return
            try:
                compute(batch)
            except BaseException as error:
                failures[number] = error

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with ThreadPoolExecutor(count) as pool:
            try:
                wait([pool.submit(work) for _ in range(count)])
            except BaseException as error:  # Such as an interrupt from the keyboard.
                failures[-1] = error
    finally:
        torch.set_num_threads(before)
    if failures:
        raise failures[min(failures)]
