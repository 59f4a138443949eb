"""What computes features, be it PyTorch or ONNX Runtime: inputs in, one array a layer out.

Every batch is computed on one core, and several batches at once: that is as fast as several cores
on one batch, and the numbers do not depend on how many cores there are.
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

from ...converters.images.preprocessing import Preprocessing
from ...converters.inference.metadata import Metadata
from ...converters.inference.providers import open_session
from ...converters.inference.torch_module import as_inputs, inference_copy, run
from ...converters.onnx import OnnxError, export
from ...converters.saved import SavedModel
from ..layers import Tap, find_taps
from ..memory_format import to_channels_last
from .graph import cut, find_values
from .network import FeatureNetwork

#: What can compute features of a PyTorch network.
BACKENDS = ("torch", "onnxruntime")


class FeatureSource(Protocol):
    """A network that gives features; it may be called from several threads.

    Attributes:
        names: what the features of each layer are called.
        preprocessing: what turns images into inputs, or None.
        identity: all that decides which numbers come out, as JSON values.
        parallel: whether calls from several threads are computed at the same time.
    """

    names: list[str]
    preprocessing: Preprocessing | None
    identity: dict[str, Any]
    parallel: bool

    def __call__(self, inputs: np.ndarray) -> list[np.ndarray]:
        """Inputs (N, C, H, W) → the features of each layer, (N, …)."""
        ...


class TorchFeatures:
    """Features of a network in PyTorch; its attributes are those of `FeatureSource`.

    Args:
        model: the network; it is not changed.
        layers: the names of the layers (see `find_tap`).
        device: `auto` (CUDA where there is one), `cpu` or `cuda`.

    Raises:
        LayerError: when there is no such layer.
        OnnxError: when CUDA was named and there is none.
    """

    def __init__(self, model: SavedModel, layers: Sequence[str], device: str = "auto") -> None:
        if device == "cuda" and not torch.cuda.is_available():
            raise OnnxError("cuda does not start: PyTorch finds no GPU; run on the CPU")
        if device == "auto":
            device = "cuda" if torch.cuda.is_available() else "cpu"
        taps = find_taps(model.module, layers)
        self.names = [tap.name for tap in taps]
        self.preprocessing = model.preprocessing
        self.parallel = device == "cpu"
        self.identity = {
            **_identity(model.module, taps),
            "backend": f"torch {torch.__version__} ({device})",
        }
        self._network = FeatureNetwork(model.module.to(device), taps)
        self._copies = threading.local()

    def __call__(self, inputs: np.ndarray) -> list[np.ndarray]:
        """Inputs (N, C, H, W) → the features of each layer, (N, …).

        Raises:
            LayerError: when a layer has no features (see `FeatureNetwork`).
            OnnxError: when the network does not take inputs of this shape.
        """
        # The copies share their weights; hooks are each one's own.
        if not hasattr(self._copies, "network"):
            self._copies.network = inference_copy(self._network)
        network = self._copies.network
        return [output.float().cpu().numpy() for output in run(network, as_inputs(network, inputs))]


class OnnxFeatures:
    """Features of a graph in ONNX Runtime; its attributes are those of `FeatureSource`.

    Args:
        file: an `.onnx` file whose outputs are the features.
        names: what they are called.
        preprocessing: what turns images into inputs, or None.
        identity: what decides the numbers, besides ONNX Runtime.
        provider: `auto`, `cpu` or `cuda`.

    Raises:
        OnnxError: when the file cannot be loaded.
        ProviderError: when the provider was named and does not start.
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
        self._input = self._session.get_inputs()[0].name

    def __call__(self, inputs: np.ndarray) -> list[np.ndarray]:
        """Inputs (N, C, H, W) → the features of each layer, (N, …).

        Raises:
            OnnxError: when the graph does not take inputs of this shape.
        """
        given = np.ascontiguousarray(inputs, np.float32)
        try:
            outputs = self._session.run(None, {self._input: given})
        except Exception as error:  # ONNX Runtime's errors share no other base class.
            reason = str(error).splitlines()[0]
            raise OnnxError(f"inputs of shape {inputs.shape} do not fit: {reason}") from error
        return [np.asarray(output, np.float32) for output in outputs]


def features_of(
    model: SavedModel,
    layers: Sequence[str],
    example: np.ndarray,
    backend: str = "torch",
    provider: str = "auto",
) -> FeatureSource:
    """What computes the features of a network, with its layers checked.

    Args:
        model: the network; for `torch` its weights are laid out anew in memory.
        layers: the names of the layers (see `find_tap`).
        example: inputs (2, C, H, W) as they will come.
        backend: one of `BACKENDS`; for `onnxruntime` the part that is needed is exported.
        provider: `auto`, `cpu` or `cuda`.

    Raises:
        LayerError: when there is no such layer, or it has no features.
        OnnxError: when the network does not take the example, or cannot be exported.
    """
    if backend not in BACKENDS:
        raise OnnxError(f"no backend {backend!r}: choose {' or '.join(BACKENDS)}")
    taps = find_taps(model.module, layers)
    whole = inference_copy(FeatureNetwork(model.module, taps, stop=False))
    run(whole, as_inputs(whole, example))
    if backend == "torch":
        to_channels_last(model.module, as_inputs(model.module, example))
        return TorchFeatures(model, layers, provider)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "features.onnx"
        export(whole, file, inputs=example)
        names, identity = [tap.name for tap in taps], _identity(model.module, taps)
        return OnnxFeatures(file, names, model.preprocessing, identity, provider)


def features_of_file(
    file: str | os.PathLike[str], layers: Sequence[str], provider: str = "auto"
) -> FeatureSource:
    """What computes the features of an `.onnx` file: of values of its graph, by their names.

    Args:
        file: an exported network with one input.
        layers: names of values, `penultimate` or `input` (see `find_values`).
        provider: `auto`, `cpu` or `cuda`.

    Raises:
        LayerError: when there is no such value.
        OnnxError: when the file cannot be loaded.
    """
    path = Path(file)
    if not path.is_file():
        raise OnnxError(f"{path}: no such file")
    model = onnx.load(path)
    names = list(dict.fromkeys(layers))
    values = find_values(model.graph, names)
    properties = {entry.key: entry.value for entry in model.metadata_props}
    identity = {"model": _file_digest(path), "layers": dict(zip(names, values, strict=True))}
    cut(model, values)
    with tempfile.TemporaryDirectory() as folder:
        part = Path(folder) / "features.onnx"
        onnx.save(model, part, save_as_external_data=model.ByteSize() >= 2**31)
        preprocessing = Metadata.from_props(properties).preprocessing
        return OnnxFeatures(part, names, preprocessing, identity, provider)


def _identity(network: nn.Module, taps: Iterable[Tap]) -> dict[str, Any]:
    return {"model": network_digest(network), "layers": {tap.name: str(tap) for tap in taps}}


def network_digest(network: nn.Module) -> str:
    """The SHA-256 of a network: its structure and the bytes of its parameters and buffers."""
    digest = hashlib.sha256(repr(network).encode())
    for name, tensor in network.state_dict().items():
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())
    return digest.hexdigest()


def _file_digest(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
