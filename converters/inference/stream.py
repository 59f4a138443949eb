"""Classifying any number of images, with only a few batches in memory at a time.

Threads decode and preprocess the next images while the network runs: Pillow, NumPy and ONNX
Runtime release the GIL.
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

from ..images.decode import read_image
from ..images.errors import ImageError, PreprocessingError
from ..images.files import local_path
from ..images.preprocessing import Preprocessing
from .classifier import Classifier, Prediction
from .errors import InferenceError
from .image_inputs import require_count
from .prepare import prepare
from .threads import available_cpus

#: How many batches are prepared in advance.
_AHEAD = 2

Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclass(frozen=True)
class FileResult:
    """What a classifier predicts for one file.

    Attributes:
        file: The image.
        predictions: The most probable classes; empty if the file could not be read.
        problem: Why it could not be read; empty if it could.
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
    """Classify image files in order; a file that cannot be read does not stop the others.

    Args:
        classifier: Runs `batch_size` files together.
        files: The images (see `find_images`).
        top: How many classes to return for each image.
        workers: How many threads decode; by default one for each available processor.

    Raises:
        InferenceError: If the model is not a classifier, has no preprocessing, or takes images of
            another size; or if an argument is invalid.

    Example:
        >>> from tempfile import mkdtemp
        >>> from PIL import Image
        >>> from torch import nn
        >>> from torchlift.converters.inference import TorchPredictor
        >>> from torchlift.converters.saved import SavedModel
        >>> folder = Path(mkdtemp())
        >>> Image.new("RGB", (1, 1), "blue").save(folder / "blue.png")
        >>> _ = (folder / "broken.png").write_text("not an image", encoding="utf-8")
        >>> labels = ["red", "green", "blue"]
        >>> model = SavedModel(
        ...     nn.Flatten(), "logits", labels=labels, preprocessing=Preprocessing()
        ... )
        >>> classifier = Classifier(TorchPredictor(model, "cpu"))
        >>> for result in predict_files(classifier, sorted(folder.iterdir()), top=1):
        ...     print(result.file.name, [p.label for p in result.predictions], bool(result.problem))
        blue.png ['blue'] False
        broken.png [] True
    """
    if isinstance(files, (str, bytes, os.PathLike)):
        raise InferenceError(f"files={files!r}: a list of files was expected")
    require_count("top", top)
    read = partial(_read, preprocessing=classifier.preprocessing)
    threads = available_cpus() if workers is None else require_count("workers", workers)
    with _Prefetcher(threads) as prefetcher:
        inputs = prefetcher.map(read, files, _AHEAD * classifier.batch_size)
        while batch := list(islice(inputs, classifier.batch_size)):
            yield from _predict(batch, classifier, top)


def predict_array(
    classifier: Classifier, images: np.ndarray, top: int = 5
) -> Iterator[list[Prediction]]:
    """Classify an array in batches; a memory-mapped array is read as it is needed.

    Args:
        classifier: Runs `batch_size` images together.
        images: uint8 pixels or preprocessed inputs, (N, C, H, W).
        top: How many classes to return for each image.

    Raises:
        InferenceError: If the model is not a classifier, has no preprocessing, or takes images of
            another size.
        PreprocessingError: If the images do not fit the preprocessing.

    Example:
        >>> from torch import nn
        >>> from torchlift.converters.inference import TorchPredictor
        >>> from torchlift.converters.saved import SavedModel
        >>> classifier = Classifier(TorchPredictor(SavedModel(nn.Flatten(), "logits"), "cpu"))
        >>> inputs = np.eye(3, dtype=np.float32).reshape(3, 3, 1, 1)
        >>> [predictions[0].index for predictions in predict_array(classifier, inputs)]
        [0, 1, 2]
    """
    require_count("top", top)
    size = classifier.batch_size
    batches = (images[start : start + size] for start in range(0, len(images), size))
    to_inputs = partial(prepare, preprocessing=classifier.preprocessing)
    with _Prefetcher(1) as prefetcher:
        for inputs in prefetcher.map(to_inputs, batches):
            yield from classifier.predict_inputs(inputs, top)


class _Prefetcher:
    """Threads that compute the next items of a stream; leaving the block drops the rest.

    Args:
        workers: How many threads.
    """

    def __init__(self, workers: int) -> None:
        _keep_freed_memory()
        self._pool = ThreadPoolExecutor(workers, "torchlift-decode")

    def __enter__(self) -> _Prefetcher:
        return self

    def __exit__(self, *error: object) -> None:
        self._pool.shutdown(cancel_futures=True)

    def map(
        self, function: Callable[[Item], Result], items: Iterable[Item], ahead: int = _AHEAD
    ) -> Iterator[Result]:
        """Yield `function` of each item, in order, with at most `ahead` computed in advance."""
        futures: deque[Future[Result]] = deque()
        for item in items:
            futures.append(self._pool.submit(function, item))
            if len(futures) > ahead:
                yield futures.popleft().result()
        while futures:
            yield futures.popleft().result()


def _keep_freed_memory() -> None:
    """Let the memory of one image be reused for the next.

    glibc returns freed memory to the system above twice the size of the largest block that was
    ever freed. Each image would then fault in its pages anew, which takes as long as decoding it.
    Freeing one block of this size, which is never touched, raises that threshold to 32 MB.
    """
    np.empty(2**24, np.uint8)


@dataclass(frozen=True)
class _FileInput:
    """A file with its input (1, C, H, W), or with the reason why it has none."""

    file: Path
    inputs: np.ndarray | None
    problem: str = ""


def _read(file: str | os.PathLike[str], preprocessing: Preprocessing | None) -> _FileInput:
    path = Path(file)
    try:
        path = local_path(file)
        return _FileInput(path, prepare([read_image(path)], preprocessing))
    except ImageError as error:
        return _FileInput(path, None, str(error))
    except PreprocessingError as error:
        return _FileInput(path, None, f"{path}: {error}")


def _predict(batch: list[_FileInput], classifier: Classifier, top: int) -> Iterator[FileResult]:
    """Yield the results of a batch in order; inputs of the same shape run together."""
    inputs = {index: item.inputs for index, item in enumerate(batch) if item.inputs is not None}
    by_shape: dict[tuple[int, ...], list[int]] = defaultdict(list)
    for index, array in inputs.items():
        by_shape[array.shape].append(index)
    predictions: dict[int, list[Prediction]] = {}
    for indices in by_shape.values():
        joined = np.concatenate([inputs[index] for index in indices])
        predictions.update(zip(indices, classifier.predict_inputs(joined, top), strict=True))
    for index, item in enumerate(batch):
        yield FileResult(item.file, predictions.get(index, []), item.problem)
