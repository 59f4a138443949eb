"""Any number of images through a classifier; a few batches are in memory at a time.

Threads decode and prepare the next images while the network runs: Pillow, numpy and ONNX
Runtime all let other threads work meanwhile.
"""

from __future__ import annotations

import os
from collections import defaultdict, deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import TypeVar

import numpy as np

from ..images.errors import ImageError, PreprocessingError
from ..images.files import local_path, read_image
from ..images.preprocessing import Preprocessing
from .classifier import Classifier, Prediction
from .predictors import prepare
from .threads import available_cpus

#: How many batches are prepared before the network asks for them.
_AHEAD = 2

Item = TypeVar("Item")
Made = TypeVar("Made")


@dataclass(frozen=True)
class FileResult:
    """What a classifier says of one file.

    Attributes:
        file: the image.
        predictions: the likeliest classes; empty when the file could not be used.
        problem: why it could not; empty when it could.
    """

    file: Path
    predictions: list[Prediction]
    problem: str = ""


def predict_files(
    classifier: Classifier,
    files: Iterable[str | os.PathLike[str]],
    top: int = 5,
    workers: int | None = None,
) -> Iterator[FileResult]:
    """Classify image files in their order; one that cannot be read does not stop the others.

    Args:
        classifier: as many files as its `batch_size` are run together.
        files: the images (see `find_images`).
        top: how many classes to name.
        workers: threads that decode; by default one for each processor of this process.

    Raises:
        InferenceError: when the model is no classifier, has no preprocessing, or takes another size.
    """
    read = partial(_read, preprocessing=classifier.preprocessing)
    with _Ahead(workers or available_cpus()) as ahead:
        prepared = ahead.map(read, files, _AHEAD * classifier.batch_size)
        while batch := list(islice(prepared, classifier.batch_size)):
            yield from _predict(batch, classifier, top)


def predict_array(
    classifier: Classifier, images: np.ndarray, top: int = 5
) -> Iterator[list[Prediction]]:
    """Classify an array in batches; one in a memory-mapped file is read as it is needed.

    Args:
        classifier: as many images as its `batch_size` are run together.
        images: (N, C, H, W): uint8 pixels, or inputs that are ready.
        top: how many classes to name.

    Raises:
        InferenceError: when the model is no classifier, has no preprocessing, or takes another size.
        PreprocessingError: when the images do not fit the preprocessing.
    """
    size = classifier.batch_size
    parts = (images[start : start + size] for start in range(0, len(images), size))
    with _Ahead(1) as ahead:
        for inputs in ahead.map(partial(prepare, preprocessing=classifier.preprocessing), parts):
            yield from classifier.predict_inputs(inputs, top)


class _Ahead:
    """Threads that make the next items of a stream; what is left when it ends is dropped.

    Args:
        workers: how many threads.
    """

    def __init__(self, workers: int) -> None:
        _keep_freed_memory()
        self._pool = ThreadPoolExecutor(workers, "torchlift-decode")

    def __enter__(self) -> _Ahead:
        return self

    def __exit__(self, *error: object) -> None:
        self._pool.shutdown(cancel_futures=True)

    def map(
        self, make: Callable[[Item], Made], items: Iterable[Item], ahead: int = _AHEAD
    ) -> Iterator[Made]:
        """`make` of each item, in order; at most `ahead` are made before they are asked for."""
        waiting: deque[Future[Made]] = deque()
        for item in items:
            waiting.append(self._pool.submit(make, item))
            if len(waiting) > ahead:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


def _keep_freed_memory() -> None:
    """Let the memory of one image serve for the next.

    glibc gives memory back to the system beyond twice the largest block that was ever freed, and
    every image would have to get its pages anew, which takes as long as decoding. Freeing a
    block of this size once, which is never touched, sets that limit to 32 MB.
    """
    np.empty(2**24, np.uint8)


@dataclass(frozen=True)
class _Read:
    """A file with its input (1, C, H, W), or with what is wrong with it."""

    file: Path
    inputs: np.ndarray | None
    problem: str = ""


def _read(file: str | os.PathLike[str], preprocessing: Preprocessing | None) -> _Read:
    path = Path(file)
    try:
        path = local_path(file)
        return _Read(path, prepare([read_image(path)], preprocessing))
    except ImageError as error:
        return _Read(path, None, str(error))
    except PreprocessingError as error:
        return _Read(path, None, f"{path}: {error}")


def _predict(batch: list[_Read], classifier: Classifier, top: int) -> Iterator[FileResult]:
    """The results of a batch, in its order; inputs of one shape are run together."""
    ready = {place: item.inputs for place, item in enumerate(batch) if item.inputs is not None}
    shapes: dict[tuple[int, ...], list[int]] = defaultdict(list)
    for place, inputs in ready.items():
        shapes[inputs.shape].append(place)
    named: dict[int, list[Prediction]] = {}
    for places in shapes.values():
        together = np.concatenate([ready[place] for place in places])
        named.update(zip(places, classifier.predict_inputs(together, top), strict=True))
    for place, item in enumerate(batch):
        yield FileResult(item.file, named.get(place, []), item.problem)
