"""`/predict`: from the bytes of images to the document of `predict --json`."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Sequence
from concurrent.futures import Executor
from typing import Any

import numpy as np

from ...converters.errors import TorchliftError
from ...converters.images.decode import read_header, read_image
from ...converters.images.errors import ImageError, PreprocessingError
from ...converters.inference.classifier import top_predictions
from ...converters.inference.not_finite import require_finite_scores
from ...converters.inference.prepare import prepare, to_input_dtype
from ...converters.inference.results import as_json, document, plain_name
from ...converters.inference.scores import probabilities
from .batching import Ticket
from .errors import RequestError
from .images import SentImage
from .model import ServedModel
from .models import Loaded


async def classify(
    loaded: Loaded,
    images: Sequence[SentImage],
    top: int,
    ticket: Ticket,
    max_pixels: int,
    decoders: Executor,
) -> dict[str, Any]:
    """Return what `predict --json` prints for these images.

    Args:
        loaded: The model.
        images: The images.
        top: How many classes are listed.
        ticket: The request's place in the queue.
        max_pixels: The largest image.
        decoders: Threads that decode and prepare images.

    Raises:
        RequestError: If the model is no classifier, or an image cannot be read.
    """
    model = loaded.model
    if model.predictor is None:
        raise RequestError(400, f"model {model.name!r} is no classifier: {model.not_a_classifier}")
    if model.predictor.output_kind == "features":
        raise RequestError(400, f"model {model.name!r} is no classifier: it gives features")
    if model.preprocessing is None and not model.takes_image:
        raise RequestError(
            400, f"model {model.name!r} has no preprocessing: it reads tensors, not images"
        )
    loop = asyncio.get_running_loop()
    work = [
        loop.run_in_executor(decoders, _input_of, image, index, model, max_pixels)
        for index, image in enumerate(images)
    ]
    try:
        inputs = await asyncio.gather(*work)
    finally:
        # What has not begun to be decoded when one fails, or the time is over, is not decoded.
        for one in work:
            one.cancel()
    scores = await _scores(loaded, inputs, ticket)
    results = [
        as_json(None if image.name is None else plain_name(image.name), predictions)
        for image, predictions in zip(images, _predictions(model, scores, top), strict=True)
    ]
    return document(model.name, model.provider, results)


def _input_of(image: SentImage, index: int, model: ServedModel, max_pixels: int) -> np.ndarray:
    """Return the input of a model for an image: (1, C, H, W), or its pixels (H, W, 3)."""
    name = f"images[{index}]" + (f" ({image.name})" if image.name else "")
    try:
        height, width = read_header(image.data, name).size
        if height * width > max_pixels:
            raise RequestError(
                413, f"{name}: {width}×{height} pixels, at most {max_pixels:,} are read"
            )
        pixels = read_image(image.data, name)
        if model.takes_image:
            return np.asarray(pixels.convert("RGB"))
        return to_input_dtype(prepare([pixels], model.preprocessing), model.inputs[0].dtype)
    except ImageError as error:
        too_large = "pixels: at most" in str(error)
        raise RequestError(413 if too_large else 422, str(error)) from None
    except PreprocessingError as error:
        raise RequestError(422, f"{name}: {error}") from None


async def _scores(loaded: Loaded, inputs: Sequence[np.ndarray], ticket: Ticket) -> list[np.ndarray]:
    """Return the scores of each input (1, classes); inputs of one shape run together."""
    model = loaded.model
    groups: dict[Any, list[int]] = defaultdict(list)
    for index, array in enumerate(inputs):
        groups[array.shape if model.may_batch else index].append(index)
    name = model.inputs[0].name
    batches = [
        inputs[indices[0]]
        if len(indices) == 1
        else np.concatenate([inputs[index] for index in indices])
        for indices in groups.values()
    ]
    try:
        outputs = await asyncio.gather(
            *(loaded.batcher.submit({name: batch}, ticket) for batch in batches)
        )
    except TorchliftError:
        shapes = sorted({batch.shape[1:] for batch in batches})
        raise RequestError(422, f"the model does not run on images of {shapes}") from None
    scores: list[np.ndarray] = [np.empty(0)] * len(inputs)
    for indices, (output, *_) in zip(groups.values(), outputs, strict=True):
        rows = output.reshape(1, -1) if model.takes_image else output
        for place, index in enumerate(indices):
            scores[index] = rows[place : place + 1]
    return scores


def _predictions(model: ServedModel, scores: Sequence[np.ndarray], top: int) -> list[Any]:
    kind = model.metadata.output_kind or "logits"
    found = []
    for row in scores:
        try:
            require_finite_scores(row, kind, f"model {model.name!r}")
            row = row.astype(np.float32) if row.dtype == np.float16 else row
            found += top_predictions(probabilities(row, kind), model.metadata.labels, top)
        except TorchliftError as error:
            raise RequestError(422, str(error)) from None
    return found
