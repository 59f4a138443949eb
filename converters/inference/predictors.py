"""One way to run a network, be it PyTorch's or an exported file: arrays in, scores out."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from ..images.preprocessing import Preprocessing
from .errors import InferenceError
from .metadata import Metadata
from .providers import open_session

#: NumPy's types for the inputs of a graph; one that takes pixels takes them as uint8.
_NUMBERS = {
    f"tensor({name})": np.dtype(kind)
    for name, kind in (("float", "f4"), ("double", "f8"), ("uint8", "u1"), ("int64", "i8"))
}


class Predictor(Protocol):
    """A network with what a person needs to use it.

    Attributes:
        labels: the names of the outputs, or None.
        preprocessing: what turns images into inputs, or None.
        output_kind: what the scores mean: `logits`, `log_probabilities`, `probabilities`, `features`.
        input_shape: (C, H, W) of one example, or None where it is open.
        provider: what it runs on.
        note: what is worth saying of that; empty for nothing.
    """

    labels: list[str] | None
    preprocessing: Preprocessing | None
    output_kind: str
    input_shape: tuple[int, int, int] | None
    provider: str
    note: str

    def __call__(self, inputs: np.ndarray) -> np.ndarray:
        """Scores (N, classes) of preprocessed inputs, float32 (N, C, H, W)."""
        ...


class OnnxPredictor:
    """An `.onnx` file in ONNX Runtime; its attributes are those of `Predictor`.

    Args:
        path: the file.
        provider: `auto`, `cpu` or `cuda` (see `open_session`).

    Raises:
        InferenceError: when the file is missing, cannot be loaded, or takes more than one input.
        ProviderError: when the provider was named and does not start.
    """

    def __init__(self, path: str | os.PathLike[str], provider: str = "auto") -> None:
        self._session = session = open_session(path, provider)
        self.provider, self.note = session.provider, session.note
        given, results = session.runtime.get_inputs(), session.runtime.get_outputs()
        if len(given) != 1 or len(results) != 1:
            raise InferenceError(
                f"{os.fspath(path)}: {len(given)} inputs and {len(results)} outputs, "
                "a classifier has one of each"
            )
        metadata = Metadata.from_props(session.runtime.get_modelmeta().custom_metadata_map)
        self.labels, self.preprocessing = metadata.labels, metadata.preprocessing
        self.output_kind = metadata.output_kind or "features"
        self._input, self._type = given[0].name, _NUMBERS[given[0].type]
        sizes = given[0].shape[1:]
        whole = len(sizes) == 3 and all(isinstance(size, int) for size in sizes)
        self.input_shape = (sizes[0], sizes[1], sizes[2]) if whole else None

    def __call__(self, inputs: np.ndarray) -> np.ndarray:
        """Scores (N, classes) of preprocessed inputs (N, C, H, W).

        Raises:
            InferenceError: when the inputs have another shape than the network takes.
        """
        _check_shape(inputs, self.input_shape)
        return self._session.run({self._input: as_numbers(inputs, self._type)})[0]


class TorchPredictor:
    """A network in PyTorch, in evaluation mode; its attributes are those of `Predictor`.

    Args:
        model: a `SavedModel` (see `open_model`); it is not changed.
        device: `auto` (CUDA where there is one), `cpu` or `cuda`.

    Raises:
        InferenceError: when CUDA was named and there is none.
    """

    def __init__(self, model: Any, device: str = "auto") -> None:
        # An exported classifier runs without waiting for torch.
        import torch

        from .torch_module import inference_copy

        if device == "cuda" and not torch.cuda.is_available():
            raise InferenceError("cuda does not start: PyTorch finds no GPU; run on the CPU")
        if device == "auto":
            device = "cuda" if torch.cuda.is_available() else "cpu"
        self._module = inference_copy(model.module).to(device)
        self.labels, self.preprocessing = model.labels, model.preprocessing
        self.output_kind, self.input_shape = model.output_kind, model.input_shape
        self.provider, self.note = f"PyTorch ({device})", ""

    def __call__(self, inputs: np.ndarray) -> np.ndarray:
        """Scores (N, classes) of preprocessed inputs (N, C, H, W).

        Raises:
            InferenceError: when the network does not take inputs of this shape.
        """
        from .torch_module import as_inputs, run

        _check_shape(inputs, self.input_shape)
        outputs = run(self._module, as_inputs(self._module, np.ascontiguousarray(inputs)))
        if len(outputs) != 1:
            raise InferenceError(
                f"the network gives {len(outputs)} outputs, a classifier gives one"
            )
        return outputs[0].cpu().numpy()


def open_predictor(
    path: str | os.PathLike[str], provider: str = "auto", **options: Any
) -> Predictor:
    """The network of an `.onnx` file, of a `.t7`, or of a saved model's folder, ready to run.

    Args:
        path: the model.
        provider: `auto`, `cpu` or `cuda`.
        options: what `open_model` takes (`labels`, `mean_std`, …), not for an `.onnx` file.

    Raises:
        TorchliftError: when the model cannot be opened (see `open_model`, `OnnxPredictor`).
    """
    given = {name: value for name, value in options.items() if value is not None}
    if Path(path).suffix.lower() == ".onnx":
        if given:
            raise InferenceError(f"{os.fspath(path)}: an .onnx file has its own {', '.join(given)}")
        return OnnxPredictor(path, provider)
    from ..saved import open_model

    return TorchPredictor(open_model(path, **given), provider)


def prepare(images: Any, preprocessing: Preprocessing | None) -> np.ndarray:
    """Inputs for a network: images through its preprocessing, other numbers as they are.

    Args:
        images: PIL images or uint8 pixels (see `Preprocessing`), or an array (N, …) of another
            type that is an input already.
        preprocessing: the network's.

    Raises:
        InferenceError: when images are given and the model has no preprocessing.
        PreprocessingError: when they do not fit the preprocessing.
    """
    if isinstance(images, np.ndarray) and images.dtype != np.uint8:
        return images
    if preprocessing is None:
        raise InferenceError(
            "the model says nothing of how images become inputs: convert it with its mean and "
            "std (--mean-std), or give inputs that are ready (floats)"
        )
    return preprocessing(images)


def as_numbers(inputs: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """Inputs in the number type that a graph takes.

    Raises:
        InferenceError: when a graph that takes pixels is given other numbers than 0 to 255.
    """
    if dtype == np.uint8 and inputs.dtype != np.uint8:
        pixels = np.clip(inputs, 0, 255).astype(np.uint8)
        if not np.array_equal(pixels, inputs):
            raise InferenceError(
                "the network takes pixels, whole numbers from 0 to 255: its preprocessing is in "
                "the graph"
            )
        return pixels
    return np.ascontiguousarray(inputs, dtype)


def probabilities(scores: np.ndarray, output_kind: str) -> np.ndarray:
    """Scores (N, classes) as probabilities.

    Args:
        scores: what the network gave.
        output_kind: what they mean (`Predictor.output_kind`).

    Raises:
        InferenceError: when they are no scores of classes.
    """
    if output_kind == "probabilities":
        _check_classes(scores, output_kind)
        return scores
    return np.exp(log_probabilities(scores, output_kind))


def log_probabilities(scores: np.ndarray, output_kind: str) -> np.ndarray:
    """Scores (N, classes) as logarithms of probabilities.

    Args:
        scores: what the network gave.
        output_kind: what they mean (`Predictor.output_kind`).

    Raises:
        InferenceError: when they are no scores of classes.
    """
    _check_classes(scores, output_kind)
    if output_kind == "log_probabilities":
        return scores
    if output_kind == "probabilities":
        return np.log(np.maximum(scores, np.finfo(scores.dtype).tiny))
    # Log-softmax; without its largest score a row cannot overflow.
    shifted = scores - scores.max(axis=1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))


def _check_classes(scores: np.ndarray, output_kind: str) -> None:
    if output_kind == "features" or scores.ndim != 2:
        shape = "×".join(map(str, scores.shape[1:]))
        raise InferenceError(f"not a classifier: it gives {output_kind} ({shape} an example)")


def _check_shape(inputs: np.ndarray, expected: Sequence[int] | None) -> None:
    if expected is not None and inputs.shape[1:] != tuple(expected):
        raise InferenceError(
            f"inputs of shape {'×'.join(map(str, inputs.shape[1:]))}, the network takes "
            f"{'×'.join(map(str, expected))}"
        )
