"""What `torchlift predict` shows of a network that gives features: a vector for each image."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from rich.console import Group

from ..converters.errors import TorchliftError
from .progress import progress
from .result import CommandResult, table
from .terminal import printable

if TYPE_CHECKING:
    from ..converters.inference import Predictor

#: Images that are compared with each other.
_PAIR = 2

#: How many numbers of a vector people see.
_SHOWN = 4


def gives_features(predictor: Predictor) -> bool:
    """Return whether a model says that its outputs are features; somebody else's says nothing."""
    metadata = getattr(predictor, "metadata", None)
    return predictor.output_kind == "features" and (metadata is None or bool(metadata.output_kind))


def predict_vectors(model: str, predictor: Predictor, inputs: list[str]) -> CommandResult:
    """Return the vector of each image, and for two images the cosine of the angle between them.

    Raises:
        TorchliftError: when the network gives no vector for each image.
    """
    from ..converters.images import find_images, local_path

    results: list[dict[str, Any]] = []
    places = map(local_path, inputs)
    # What is not there is said of each by itself.
    files = [one for path in places for one in (find_images([path]) if path.exists() else [path])]
    with progress(len(files)) as advance:
        for file in files:
            results.append(_result(predictor, file))
            advance(1)
    vectors = [np.array(result["vector"]) for result in results if result["problem"] is None]
    cosine = _cosine(vectors[0], vectors[1]) if len(vectors) == len(results) == _PAIR else None
    view = table("input", "vector")
    for result in results:
        view.add_row(result["input"], _shown(result["vector"]))
    lines = [] if cosine is None else [f"cosine {cosine:.6f}"]
    data = {"model": model, "provider": predictor.provider, "results": results, "cosine": cosine}
    return CommandResult(data, Group(view, *lines), len(vectors) == len(results))


def _result(predictor: Predictor, file: Path) -> dict[str, Any]:
    """Return what is said of one image."""
    from ..converters.images import ImageError, read_image
    from ..converters.inference import InferenceError
    from ..converters.inference.prepare import prepare

    try:
        image = read_image(file)
    except ImageError as error:
        problem = " ".join(str(error).split())
        print(f"torchlift: {printable(problem)}", file=sys.stderr)
        return {"input": str(file), "vector": [], "problem": problem}
    try:
        outputs = predictor(prepare([image], predictor.preprocessing))
        if outputs.ndim != 2:
            shape = "×".join(map(str, outputs.shape[1:]))
            raise InferenceError(f"not a classifier: the outputs are features of shape {shape}")
    except TorchliftError as error:
        raise type(error)(f"{file}: {error}") from None
    return {"input": str(file), "vector": outputs[0].astype(float).tolist(), "problem": None}


def _cosine(first: np.ndarray, second: np.ndarray) -> float | None:
    """Return the cosine of the angle between two vectors; None where one is zero."""
    length = float(np.linalg.norm(first) * np.linalg.norm(second))
    return float(first @ second) / length if length else None


def _shown(vector: list[float]) -> str:
    numbers = ", ".join(f"{number:.4g}" for number in vector[:_SHOWN])
    return f"{numbers}, … ({len(vector)})" if len(vector) > _SHOWN else numbers
