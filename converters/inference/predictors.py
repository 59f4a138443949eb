"""One way to run a network, in PyTorch or ONNX Runtime: arrays in, scores out."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np

from ..errors import NotFiniteError
from ..finite import require_finite
from ..images.errors import PreprocessingError
from ..images.image_to_image import ImageToImage
from ..images.normalization import Normalization
from ..images.preprocessing import Preprocessing
from ..labels import check_labels
from .errors import InferenceError, ProviderError
from .metadata import Metadata
from .not_finite import require_finite_scores
from .onnx_weights import first_not_finite_weight
from .prepare import Inputs, to_input_dtype
from .providers import Session, open_session

#: The input types of a graph that NumPy arrays are converted to.
INPUT_DTYPES: dict[str, np.dtype[Any]] = {
    "tensor(float)": np.dtype(np.float32),
    "tensor(double)": np.dtype(np.float64),
    "tensor(float16)": np.dtype(np.float16),
    "tensor(uint8)": np.dtype(np.uint8),
    "tensor(int32)": np.dtype(np.int32),
    "tensor(int64)": np.dtype(np.int64),
}


#: What of an `.onnx` file's preprocessing may be said again.
_SAID = ("mean", "std", "color", "value_range")


@runtime_checkable
class Predictor(Protocol):
    """A network with its labels and preprocessing, ready to run.

    Attributes:
        labels: Class names, in the order of the outputs, or None.
        preprocessing: How an image becomes an input, or None.
        output_kind: What the scores mean: `logits`, `log_probabilities`, `probabilities` or
            `features`.
        input_shape: (C, H, W) of one example, or None if the network leaves it open.
        provider: What runs the network, such as `CPUExecutionProvider` or `PyTorch (cuda)`.
        note: Why `auto` chose this provider; empty if there is nothing to say.
    """

    labels: list[str] | None
    preprocessing: Preprocessing | None
    output_kind: str
    input_shape: tuple[int, int, int] | None
    provider: str
    note: str

    def __call__(self, inputs: Inputs) -> np.ndarray:
        """Return the scores (N, classes) of preprocessed inputs, float32 (N, C, H, W).

        Inputs of several sizes are a list of arrays, which run one after the other.
        """
        ...


class OnnxPredictor:
    """An `.onnx` file in ONNX Runtime, with the attributes of a `Predictor`.

    Args:
        path: The file.
        provider: `auto`, `cpu`, `cuda` or `tensorrt` (see `open_session`).
        session: The file, if it is open already.

    Raises:
        InferenceError: If the file is missing, cannot be loaded, or is not a network of one input
            and one output.
        ProviderError: If the requested provider does not start.
        NotFiniteError: If a weight is not a number.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        provider: str = "auto",
        *,
        session: Session | None = None,
    ) -> None:
        self._path = Path(path)
        if place := first_not_finite_weight(self._path):
            # ONNX Runtime's ReLU and max-pooling turn a NaN into an ordinary number.
            raise NotFiniteError(f"{path} is damaged, or its training diverged: {place}")
        self._session = session = session or open_session(path, provider)
        self.provider, self.note = session.provider, session.note
        inputs, outputs = session.runtime.get_inputs(), session.runtime.get_outputs()
        if len(inputs) != 1 or len(outputs) != 1:
            raise InferenceError(
                f"{os.fspath(path)}: {len(inputs)} inputs and {len(outputs)} outputs, "
                "a classifier has one of each"
            )
        if inputs[0].type not in INPUT_DTYPES:
            raise InferenceError(f"{os.fspath(path)}: inputs of type {inputs[0].type}")
        if not outputs[0].type.startswith("tensor"):
            raise InferenceError(
                f"{os.fspath(path)}: outputs of type {outputs[0].type}, where a tensor was "
                "expected; scikit-learn's exporter writes one with zipmap=False"
            )
        self._takes_image = is_image(inputs[0].shape, inputs[0].type)
        size = inputs[0].shape[0] if inputs[0].shape else None
        self._batch = size if isinstance(size, int) else None
        shape = inputs[0].shape[1:]
        is_fixed = len(shape) == 3 and all(isinstance(size, int) for size in shape)
        self.input_shape = (shape[0], shape[1], shape[2]) if is_fixed else None
        try:
            metadata = Metadata.from_props(session.runtime.get_modelmeta().custom_metadata_map)
            metadata.check_fits(self.input_shape, _column_count(outputs[0].shape))
        except InferenceError as error:
            raise InferenceError(f"{os.fspath(path)}: {error}") from error
        self.metadata = metadata
        self.labels, self.preprocessing = metadata.labels, metadata.preprocessing
        self.image_to_image: ImageToImage | None = metadata.image_to_image
        self.output_kind = metadata.output_kind or "features"
        self._input_name, self._dtype = inputs[0].name, INPUT_DTYPES[inputs[0].type]

    def __call__(self, inputs: Inputs) -> np.ndarray:
        """Return the scores (N, classes) of preprocessed inputs (N, C, H, W).

        A graph that takes batches of one size gets them in pieces, the last one filled up. One that
        takes an image (`export --bake-resize`) gets the inputs, uint8 pixels, one by one.

        Raises:
            InferenceError: If the network does not accept inputs of this shape.
            NotFiniteError: If an input or a score is not a finite number.
        """
        if isinstance(inputs, list):
            return np.concatenate([self(batch) for batch in inputs])
        _check_inputs(inputs, self.input_shape, self._dtype)
        inputs = to_input_dtype(inputs, self._dtype)
        size = self._batch or len(inputs)
        scores = [self._run(inputs[i : i + size], size) for i in range(0, len(inputs), size)]
        joined = scores[0] if len(scores) == 1 else np.concatenate(scores)
        require_finite_scores(joined, self.output_kind, str(self._path))
        return joined.astype(np.float32) if joined.dtype == np.float16 else joined

    def _run(self, inputs: np.ndarray, size: int) -> np.ndarray:
        if self._takes_image:
            images = (np.ascontiguousarray(image.transpose(1, 2, 0)) for image in inputs)
            runs = [self._session.run({self._input_name: image})[0] for image in images]
            return np.concatenate(runs)
        missing = size - len(inputs)
        filled = np.concatenate([inputs, np.repeat(inputs[-1:], missing, 0)]) if missing else inputs
        return self._session.run({self._input_name: filled})[0][: len(inputs)]


class TorchPredictor:
    """A PyTorch network in evaluation mode, with the attributes of a `Predictor`.

    Its copy of the network is `module`.

    Args:
        model: A `SavedModel` (see `open_model`); it is not changed.
        device: `auto` (CUDA if PyTorch finds a GPU), `cpu` or `cuda`.

    Raises:
        ProviderError: If the requested device does not start.
        NotFiniteError: If a parameter of the network is not a finite number.

    Example:
        >>> from torch import nn
        >>> from torchlift.converters.saved import SavedModel
        >>> predictor = TorchPredictor(SavedModel(nn.Flatten(), "logits", (3, 1, 1)), "cpu")
        >>> predictor(np.ones((2, 3, 1, 1), np.float32)).shape
        (2, 3)
    """

    def __init__(self, model: Any, device: str = "auto") -> None:
        # Running an exported classifier must not wait for torch to be imported.
        import torch

        from ..modules.finite import require_finite_parameters
        from .torch_module import inference_copy

        require_finite_parameters(model.module)
        if device == "tensorrt":
            raise ProviderError("tensorrt is for .onnx files; PyTorch runs on auto, cpu or cuda")
        if device not in ("auto", "cpu") and not device.startswith("cuda"):
            raise ProviderError(f"no provider {device!r}: choose auto, cpu or cuda")
        if device.startswith("cuda") and not torch.cuda.is_available():
            raise ProviderError(
                f"{device} does not start: PyTorch finds no GPU; provider='cpu' runs on the CPU"
            )
        if device == "auto":
            device = "cuda" if torch.cuda.is_available() else "cpu"
        try:
            self.module = inference_copy(model.module, device=device)
        except RuntimeError as error:
            reason = str(error).splitlines()[0]
            raise ProviderError(f"PyTorch cannot run the model on {device}: {reason}") from error
        self.labels, self.preprocessing = model.labels, model.preprocessing
        self.image_to_image: ImageToImage | None = model.image_to_image
        self.output_kind, self.input_shape = model.output_kind, model.input_shape
        self.provider, self.note = f"PyTorch ({device})", ""

    def __call__(self, inputs: Inputs) -> np.ndarray:
        """Return the scores (N, classes) of preprocessed inputs (N, C, H, W).

        Raises:
            InferenceError: If the network does not accept inputs of this shape.
            NotFiniteError: If an input or a score is not a finite number.
        """
        from .torch_module import as_inputs, run

        if isinstance(inputs, list):
            return np.concatenate([self(batch) for batch in inputs])
        if inputs.dtype == np.uint8:
            inputs = inputs.astype(np.float32)
        _check_inputs(inputs, self.input_shape, np.dtype(np.float32))
        outputs = run(self.module, as_inputs(self.module, np.ascontiguousarray(inputs)))
        if len(outputs) != 1:
            raise InferenceError(f"the network has {len(outputs)} outputs, a classifier has one")
        scores: np.ndarray = outputs[0].cpu().numpy()
        require_finite_scores(scores, self.output_kind, "the model")
        if self.labels is not None and scores.ndim > 1:
            check_labels(self.labels, scores.shape[1])
        return scores


def open_predictor(
    path: str | os.PathLike[str], provider: str = "auto", **options: Any
) -> Predictor:
    """Open an `.onnx` file, a `.t7` file or the folder of a saved model, ready to run.

    Args:
        path: The model.
        provider: `auto`, `cpu` or `cuda`.
        options: Arguments of `open_model` (`labels`, `mean_std`, …). An `.onnx` file has its own:
            of `mean`, `std`, `color` and `value_range` only the same values are accepted.

    Raises:
        TorchliftError: If the model cannot be opened (see `open_model` and `OnnxPredictor`).

    Example:
        >>> from tempfile import mkdtemp
        >>> from torch import nn
        >>> from torchlift.converters.onnx import export
        >>> path = f"{mkdtemp()}/linear.onnx"
        >>> network = nn.Sequential(nn.Flatten(), nn.Linear(3, 2))
        >>> exported = export(network, path, input_shape=(3, 1, 1))
        >>> predictor = open_predictor(path, "cpu")
        >>> predictor.output_kind, predictor.input_shape, predictor.provider
        ('logits', (3, 1, 1), 'CPUExecutionProvider')
        >>> predictor(np.zeros((5, 3, 1, 1), np.float32)).shape
        (5, 2)
    """
    options = {name: value for name, value in options.items() if value is not None}
    if Path(path).suffix.lower() == ".onnx":
        said = {name: options.pop(name) for name in list(options) if name in _SAID}
        if options:
            names = ", ".join(f"{name}=…" for name in options)
            raise InferenceError(
                f"{os.fspath(path)}: an .onnx file is used as it was exported, without {names}: "
                "export the model again with these"
            )
        predictor = OnnxPredictor(path, provider)
        if said:
            try:
                predictor.metadata.require_normalization(Normalization.of(**said))
            except PreprocessingError as error:
                raise InferenceError(f"{os.fspath(path)}: {error}") from None
        return predictor
    from ..saved import open_model

    return TorchPredictor(open_model(path, **options), provider)


def _column_count(shape: Sequence[Any]) -> int | None:
    """Return how many columns an output (N, columns, …) has, or None if the graph leaves it open.

    Example:
        >>> _column_count(["batch", 10]), _column_count(["batch", "classes"])
        (10, None)
    """
    return shape[1] if len(shape) > 1 and isinstance(shape[1], int) else None


def is_image(shape: Sequence[Any], dtype: str) -> bool:
    """Return whether an input is one image of any size: uint8 (height, width, channels).

    Args:
        shape: As ONNX Runtime gives it: free axes are no integers.
        dtype: As ONNX Runtime writes it.

    Example:
        >>> is_image(["height", "width", 3], "tensor(uint8)")
        True
    """
    free = [not isinstance(axis, int) for axis in shape]
    return dtype == "tensor(uint8)" and len(shape) == 3 and free[:2] == [True, True]


def _check_inputs(inputs: np.ndarray, expected: Sequence[int] | None, dtype: np.dtype[Any]) -> None:
    """Check the shape and the numbers of inputs, before they are converted to a dtype."""
    if inputs.dtype.kind not in "biuf":
        raise InferenceError(f"inputs are of type {inputs.dtype}; real numbers were expected")
    if expected is not None and inputs.shape[1:] != tuple(expected):
        raise InferenceError(
            f"inputs of shape {'×'.join(map(str, inputs.shape[1:]))}, the network takes "
            f"{'×'.join(map(str, expected))}"
        )
    require_finite(inputs, "inputs")
    if dtype.kind == "f" and inputs.dtype.itemsize > dtype.itemsize and inputs.size:
        largest = max(float(inputs.max()), -float(inputs.min()))
        if largest > float(np.finfo(dtype).max):
            raise InferenceError(f"inputs reach {largest:.4g}, which is beyond {dtype}")
