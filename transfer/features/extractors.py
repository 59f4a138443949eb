"""Extractors compute features, in PyTorch or ONNX Runtime: inputs in, one array per layer out.

Each batch is computed on one core, and several batches at once: this is as fast as several cores
per batch, and the values do not depend on the number of cores.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
import threading
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import onnx
import onnxruntime
import torch
from torch import nn

from ...converters.errors import first_line
from ...converters.images.preprocessing import Preprocessing
from ...converters.inference import InferenceError
from ...converters.inference.predictors import torch_device
from ...converters.inference.providers import open_session
from ...converters.inference.torch_module import as_inputs, inference_copy, run
from ...converters.modules.finite import require_finite_parameters
from ...converters.onnx import export
from ...converters.onnx.onnx_file import read_file
from ...converters.saved import SavedModel
from ..find_layers import Tap, find_taps
from ..memory_format import to_channels_last
from .network import FeatureNetwork
from .onnx_graph import cut_graph, find_values

#: The backends that compute the features of a PyTorch network.
BACKENDS = ("torch", "onnxruntime")


class FeatureExtractor(Protocol):
    """A network that returns features; several threads may call it.

    Attributes:
        names: The name of each layer's features.
        preprocessing: What turns images into inputs, or None.
        identity: Everything that determines the values, as JSON values.
        parallel: Whether calls from several threads run at the same time.
    """

    names: list[str]
    preprocessing: Preprocessing | None
    identity: dict[str, Any]
    parallel: bool

    def __call__(self, inputs: np.ndarray) -> list[np.ndarray]:
        """Return the features of each layer, (N, …), for inputs (N, C, H, W)."""
        ...


class TorchExtractor:
    """A network in PyTorch; its attributes are those of `FeatureExtractor`.

    Args:
        model: The network; it is not changed.
        layers: The names of the layers (see `find_tap`).
        device: `auto` (CUDA if PyTorch finds a GPU), `cpu` or `cuda`.

    Raises:
        LayerError: If there is no such layer.
        ProviderError: If CUDA is requested and does not start.
        NotFiniteError: If a parameter of the network is not a finite number.

    Example:
        >>> import numpy as np
        >>> from torch import nn
        >>> from torchlift.converters.saved import SavedModel
        >>> from torchlift.transfer.features.extractors import TorchExtractor
        >>> network = nn.Sequential(nn.Flatten(), nn.Linear(12, 5), nn.ReLU(), nn.Linear(5, 2))
        >>> extractor = TorchExtractor(SavedModel(network, "logits"), ["penultimate", "1"], "cpu")
        >>> [array.shape for array in extractor(np.zeros((8, 3, 2, 2), np.float32))]
        [(8, 5), (8, 5)]
    """

    def __init__(self, model: SavedModel, layers: Sequence[str], device: str = "auto") -> None:
        device = torch_device(device)
        require_finite_parameters(model.module)
        taps = find_taps(model.module, layers)
        self.names = [tap.name for tap in taps]
        self.preprocessing = model.preprocessing
        self.parallel = device == "cpu"
        self.identity = {
            **_identity(model.module, taps),
            "backend": f"torch {torch.__version__} ({device})",
        }
        self._network = FeatureNetwork(inference_copy(model.module, device=device), taps)
        self._thread = threading.local()

    def __call__(self, inputs: np.ndarray) -> list[np.ndarray]:
        """Return the features of each layer, (N, …), for inputs (N, C, H, W).

        Raises:
            LayerError: If a layer has no features (see `FeatureNetwork`).
            InferenceError: If the network does not take inputs of this shape.
        """
        # Each thread has its own copy, since hooks are set during a call; the weights are shared.
        if not hasattr(self._thread, "network"):
            self._thread.network = inference_copy(self._network)
        network = self._thread.network
        return [output.float().cpu().numpy() for output in run(network, as_inputs(network, inputs))]


class OnnxExtractor:
    """A graph in ONNX Runtime; its attributes are those of `FeatureExtractor`.

    Args:
        file: An `.onnx` file whose outputs are the features.
        names: The name of each output's features.
        preprocessing: What turns images into inputs, or None.
        identity: What determines the values, apart from ONNX Runtime.
        provider: `auto`, `cpu` or `cuda`.

    Raises:
        InferenceError: If the file cannot be loaded.
        ProviderError: If the provider is requested and does not start.
    """

    def __init__(
        self,
        file: Path,
        names: Sequence[str],
        preprocessing: Preprocessing | None,
        identity: dict[str, Any],
        provider: str = "auto",
    ) -> None:
        session = open_session(file, provider, threads=1)
        self.names = list(names)
        self.preprocessing = preprocessing
        self.parallel = session.provider == "CPUExecutionProvider"
        self.identity = {
            **identity,
            "backend": f"onnxruntime {onnxruntime.__version__} ({session.provider})",
        }
        self._session = session.runtime
        self._input_name = self._session.get_inputs()[0].name

    def __call__(self, inputs: np.ndarray) -> list[np.ndarray]:
        """Return the features of each layer, (N, …), for inputs (N, C, H, W).

        Raises:
            InferenceError: If the graph does not take inputs of this shape.
        """
        values = np.ascontiguousarray(inputs, np.float32)
        try:
            outputs = self._session.run(None, {self._input_name: values})
        except Exception as error:  # ONNX Runtime's errors share no other base class.
            reason = first_line(error)
            raise InferenceError(f"inputs of shape {inputs.shape} do not fit: {reason}") from error
        return [np.asarray(output, np.float32) for output in outputs]


def build_extractor(
    model: SavedModel,
    layers: Sequence[str],
    example: np.ndarray,
    backend: str = "torch",
    provider: str = "auto",
) -> FeatureExtractor:
    """Return an extractor for layers of a PyTorch network, after checking that they have features.

    Args:
        model: The network; for `torch`, its weights get another memory format.
        layers: The names of the layers (see `find_tap`).
        example: Inputs (2, C, H, W) like those that will follow.
        backend: One of `BACKENDS`; for `onnxruntime`, the needed part of the network is exported.
        provider: `auto`, `cpu` or `cuda`.

    Raises:
        LayerError: If there is no such layer, or it has no features.
        InferenceError: If the network does not take the example.
        OnnxError: If the network cannot be exported.
    """
    if backend not in BACKENDS:
        raise InferenceError(f"backend={backend!r}: expected {' or '.join(BACKENDS)}")
    require_finite_parameters(model.module)
    taps = find_taps(model.module, layers)
    whole = inference_copy(FeatureNetwork(model.module, taps, stop=False))
    run(whole, as_inputs(whole, example))
    if backend == "torch":
        to_channels_last(model.module, as_inputs(model.module, example))
        return TorchExtractor(model, layers, provider)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "features.onnx"
        export(whole, file, inputs=example, output_kind="features")
        names, identity = [tap.name for tap in taps], _identity(model.module, taps)
        return OnnxExtractor(file, names, model.preprocessing, identity, provider)


def open_extractor(
    file: str | os.PathLike[str], layers: Sequence[str], provider: str = "auto"
) -> FeatureExtractor:
    """Return an extractor for values of the graph in an `.onnx` file.

    Args:
        file: An exported network with one input.
        layers: The names of values, `penultimate` or `input` (see `find_values`).
        provider: `auto`, `cpu` or `cuda`.

    Raises:
        LayerError: If there is no such value.
        OnnxError: If the file is missing or damaged.
        InferenceError: If ONNX Runtime cannot load it.
    """
    path = Path(file)
    model, metadata = read_file(path)
    names = list(dict.fromkeys(layers))
    values = find_values(model.graph, names)
    identity = {"model": _file_digest(path), "layers": dict(zip(names, values, strict=True))}
    cut_graph(model, values)
    with tempfile.TemporaryDirectory() as folder:
        cut_file = Path(folder) / "features.onnx"
        onnx.save(model, cut_file, save_as_external_data=model.ByteSize() >= 2**31)
        return OnnxExtractor(cut_file, names, metadata.preprocessing, identity, provider)


def _identity(network: nn.Module, taps: Iterable[Tap]) -> dict[str, Any]:
    return {"model": network_digest(network), "layers": {tap.name: str(tap) for tap in taps}}


def network_digest(network: nn.Module) -> str:
    """Return the SHA-256 of a network: its structure and its parameters and buffers."""
    digest = hashlib.sha256(repr(network).encode())
    for name, tensor in network.state_dict().items():
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())
    return digest.hexdigest()


def _file_digest(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
