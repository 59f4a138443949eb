"""One way to run a network, in PyTorch or ONNX Runtime: arrays in, scores out."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np

from ..errors import first_line
from ..images.image_to_image import ImageToImage
from ..images.preprocessing import Preprocessing
from ..labels import check_labels
from .errors import InferenceError, ProviderError
from .input_checks import check_inputs
from .not_finite import require_finite_scores
from .onnx_overrides import OnnxOverrides
from .onnx_predictor import OnnxPredictor
from .prepare import Inputs
from .provider_options import parse_provider

#: Arguments that an `.onnx` file has no use for, and those that only it has.
_OF_OTHER_MODELS = ("weights", "at", "input")
_OF_ONNX = ("output_kind", "output_name")


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


def torch_device(provider: str) -> str:
    """Return the device of PyTorch for a provider: `auto`, `cpu`, `cuda` or `cuda:1`.

    Raises:
        ProviderError: If it is one of ONNX Runtime's alone, or does not start.
    """
    import torch

    choice = parse_provider(provider)
    if choice.name in ("tensorrt", "openvino"):
        raise ProviderError(f"{choice.name} is for .onnx files; PyTorch runs on auto, cpu or cuda")
    if choice.name == "cuda" and not torch.cuda.is_available():
        raise ProviderError(
            f"{provider} does not start: PyTorch finds no GPU; provider='cpu' runs on the CPU"
        )
    if choice.memory:
        raise ProviderError(f"{provider}: a limit of memory is for .onnx files")
    if choice.name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    return provider


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

        from ..modules.finite import require_finite_parameters
        from .torch_module import inference_copy

        require_finite_parameters(model.module)
        device = torch_device(device)
        try:
            self.module = inference_copy(model.module, device=device)
        except RuntimeError as error:
            reason = first_line(error)
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
        check_inputs(inputs, self.input_shape, np.dtype(np.float32))
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
        options: Arguments of `open_model` (`labels`, `mean_std`, …). For an `.onnx` file those of
            `OnnxOverrides.of`: they say what the file does not; of what it says, only the same
            values are accepted.

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
        if refused := [name for name in _OF_OTHER_MODELS if name in options]:
            names = ", ".join(f"{name}=…" for name in refused)
            raise InferenceError(f"{os.fspath(path)}: {names} is not for an .onnx file")
        return OnnxPredictor(path, provider, said=OnnxOverrides.of(**options))
    if refused := [name for name in _OF_ONNX if name in options]:
        raise InferenceError(f"{os.fspath(path)}: {refused[0]}=… is for an .onnx file")
    from ..saved import open_model

    return TorchPredictor(open_model(path, **options), provider)
