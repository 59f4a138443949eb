"""OpenCV 4's importer of Torch7 networks: `cv2.dnn.readNetFromTorch` with a `cv2.dnn.Net`.

The network computes in float32 by PyTorch; its layers have OpenCV's names (`opencv_layers`).
"""

from __future__ import annotations

import os
import time
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from .. import t7
from ..inference.torch_module import inference_copy
from ..modules.conversion import Conversion
from ..modules.errors import ConversionError
from ..modules.find import convert_model
from .opencv_layers import OpencvLayer, opencv_layers

#: `cv2.dnn.DNN_TARGET_CUDA` and `DNN_TARGET_CUDA_FP16`.
_CUDA_TARGETS = (6, 7)


@dataclass(frozen=True)
class Layer:
    """A layer, as `Net.getLayer` returns it.

    Attributes:
        name: Its name, such as `l1_Convolution`.
        type: Its type in OpenCV, such as `Convolution`.
        blobs: Its weights, float32.
    """

    name: str
    type: str
    blobs: list[np.ndarray] = field(default_factory=list)


def readNetFromTorch(  # noqa: N802 - OpenCV's name
    model: str | os.PathLike[str],
    isBinary: bool = True,  # noqa: N803 - OpenCV's name
    evaluate: bool = True,
) -> Net:
    """Read a Torch7 network as `cv2.dnn.readNetFromTorch` of OpenCV 4 does.

    Args:
        model: The `.t7` file.
        isBinary: Whether the file is binary; both kinds are recognized, so that it may be wrong.
        evaluate: Whether batch normalization uses its running statistics; else, as in OpenCV,
            where its file has it in training mode, the statistics of each image.

    Raises:
        T7Error: If the file cannot be read.
        ConversionError: If it holds no network, or one that cannot be converted.

    Example:
        >>> import tempfile
        >>> from pathlib import Path
        >>> path = Path(tempfile.mkdtemp()) / "net.t7"
        >>> t7.save(t7.LuaObject("nn.Tanh"), path)
        >>> net = readNetFromTorch(path)
        >>> net.setInput(np.zeros((1, 3, 2, 2), np.float32))
        >>> net.forward().shape, net.getLayerNames()
        ((1, 3, 2, 2), ('l1_TanH',))
    """
    conversion = convert_model(t7.load(model, writable=False), None, model)
    return Net(conversion, evaluate=evaluate)


def readTorchBlob(  # noqa: N802 - OpenCV's name
    filename: str | os.PathLike[str],
    isBinary: bool = True,  # noqa: N803 - OpenCV's name
) -> np.ndarray:
    """Read a Torch7 tensor as `cv2.dnn.readTorchBlob` of OpenCV 4 does, in float32.

    Args:
        filename: The `.t7` file.
        isBinary: Whether the file is binary; both kinds are recognized.

    Raises:
        T7Error: If the file cannot be read, or does not hold one tensor.

    Example:
        >>> import tempfile
        >>> from pathlib import Path
        >>> path = Path(tempfile.mkdtemp()) / "mean.t7"
        >>> t7.save(np.ones((2, 3)), path)
        >>> readTorchBlob(path).dtype, readTorchBlob(path).shape
        (dtype('float32'), (2, 3))
    """
    value = t7.load(filename)
    if not isinstance(value, np.ndarray):
        kind = getattr(value, "class_name", type(value).__name__)
        raise t7.T7Error(f"a tensor was expected, not a {kind}", source=os.fspath(filename))
    return np.array(value, np.float32)


class Net:
    """A network with the methods of `cv2.dnn.Net` that programs call.

    Args:
        conversion: The converted network.
        evaluate: See `readNetFromTorch`.
    """

    def __init__(self, conversion: Conversion, *, evaluate: bool = True) -> None:
        self._layers = opencv_layers(conversion.layers[-1].source, evaluate=evaluate)
        names = {id(part): name for name, part in conversion.module.named_modules()}
        self._paths = {
            id(layer.source): names[id(layer.module)]
            for layer in conversion.layers
            if id(layer.module) in names
        }
        self._module = inference_copy(conversion.module, torch.float32)
        if not evaluate:
            for layer in self._layers:
                self._normalize_images(layer)
        self._device = torch.device("cpu")
        self._input: torch.Tensor | None = None
        self._ticks = 0

    def _normalize_images(self, layer: OpencvLayer) -> None:
        """Have batch normalization take each image's statistics, if that is how OpenCV does it."""
        path = self._paths.get(id(layer.source)) if layer.follows_step else None
        norm = None if path is None else self._module.get_submodule(path)
        if isinstance(norm, nn.BatchNorm2d):
            instead = _ImageNormalization(norm)
            if path:
                self._module.set_submodule(path, instead)
            else:
                self._module = instead

    def setInput(  # noqa: N802
        self,
        blob: np.ndarray,
        name: str = "",
        scalefactor: float = 1.0,
        mean: Sequence[float] = (),
    ) -> None:
        """Set the input, such as what `cv2.dnn.blobFromImage` returned.

        Args:
            blob: (N, …) in any dtype; computed with in float32.
            name: Ignored: a Torch7 network has one input.
            scalefactor: Multiplies the values, after `mean` is subtracted.
            mean: One number a channel, subtracted from the values; fewer are filled up with 0.
        """
        values = torch.tensor(np.asarray(blob), dtype=torch.float32)
        if len(mean) and values.dim() > 1:
            channels = values.shape[1]
            numbers = [*map(float, mean), *[0.0] * channels][:channels]
            values -= torch.tensor(numbers).reshape(1, -1, *[1] * (values.dim() - 2))
        self._input = values * scalefactor

    def forward(self, outputName: str | Sequence[str] = "") -> Any:  # noqa: N803
        """Run the network.

        Args:
            outputName: The layer whose output is wanted, the last one by default; or several.

        Returns:
            (N, …) of float32; for several names a tuple of such arrays.

        Raises:
            ConversionError: If no input is set, or there is no such layer.
        """
        if isinstance(outputName, str):
            return self._run([outputName])[0]
        return self._run(list(outputName))

    def forwardAndRetrieve(  # noqa: N802
        self,
        outBlobNames: Sequence[str],  # noqa: N803
    ) -> tuple[list[np.ndarray], ...]:
        """Run the network; for each layer of a list of names, return the list of its outputs."""
        return tuple([output] for output in self._run(list(outBlobNames)))

    def _run(self, names: list[str]) -> tuple[np.ndarray, ...]:
        if self._input is None:
            raise ConversionError("no input is set: call setInput before forward")
        wanted = {name: self._layer(name) for name in names if name}
        start = time.perf_counter_ns()
        with self._recorded(list(wanted.values())) as outputs, torch.no_grad():
            last = self._module(self._input.to(self._device))
        self._ticks = time.perf_counter_ns() - start
        return tuple(_array(outputs[name] if name else last) for name in names)

    @contextmanager
    def _recorded(self, layers: list[OpencvLayer]) -> Iterator[dict[str, Any]]:
        """Record what layers put out in the forward passes inside the context."""
        modules = dict(self._module.named_modules())
        outputs: dict[str, Any] = {}
        handles = []
        for layer in layers:
            path = self._paths.get(id(layer.source))
            if path is None or layer.is_step:
                raise ConversionError(
                    f"layer {layer.name} is a step inside a layer of Torch7's, whose output alone "
                    "is not computed: ask for the layer after it"
                )
            record = partial(_record, outputs, layer.name)
            handles.append(modules[path].register_forward_hook(record))
        try:
            yield outputs
        finally:
            for handle in handles:
                handle.remove()

    def _layer(self, key: str | int) -> OpencvLayer:
        """Return a layer by its name, or its number from 1.

        Raises:
            ConversionError: If there is no such layer.
        """
        for number, layer in enumerate(self._layers, 1):
            if key in (number, layer.name):
                return layer
        raise ConversionError(f"there is no layer {key!r}: getLayerNames lists them")

    def getLayerNames(self) -> tuple[str, ...]:  # noqa: N802
        """Return the names of all layers, in OpenCV's order."""
        return tuple(layer.name for layer in self._layers)

    def getLayerId(self, layer: str) -> int:  # noqa: N802
        """Return the number of a layer, from 1; -1 if there is none of this name."""
        names = self.getLayerNames()
        return names.index(layer) + 1 if layer in names else -1

    def getLayer(self, layerId: str | int) -> Layer:  # noqa: N802, N803
        """Return a layer by its name or number.

        Raises:
            ConversionError: If there is no such layer.
        """
        found = self._layer(layerId)
        return Layer(found.name, found.type, found.blobs())

    def getParam(self, layer: str | int, numParam: int = 0) -> np.ndarray:  # noqa: N802, N803
        """Return one of the weights of a layer: 0 the weight, 1 the bias.

        Raises:
            ConversionError: If there is no such layer.
        """
        return self._layer(layer).blobs()[numParam]

    def getLayerTypes(self) -> tuple[str, ...]:  # noqa: N802
        """Return the types of the layers, sorted."""
        return tuple(sorted({layer.type for layer in self._layers} | {"__NetInputLayer__"}))

    def getLayersCount(self, layerType: str) -> int:  # noqa: N802, N803
        """Return how many layers have a type."""
        return sum(layer.type == layerType for layer in self._layers)

    def getUnconnectedOutLayers(self) -> tuple[int, ...]:  # noqa: N802
        """Return the numbers of the layers whose outputs no other layer takes."""
        return tuple(
            number for number, layer in enumerate(self._layers, 1) if not layer.is_connected
        )

    def getUnconnectedOutLayersNames(self) -> tuple[str, ...]:  # noqa: N802
        """Return the names of the layers whose outputs no other layer takes."""
        return tuple(layer.name for layer in self._layers if not layer.is_connected)

    def empty(self) -> bool:
        """Return whether there is no layer."""
        return not self._layers

    def setPreferableBackend(self, backendId: int) -> None:  # noqa: N802, N803
        """Do nothing: PyTorch computes, wherever `setPreferableTarget` says."""

    def setPreferableTarget(self, targetId: int) -> None:  # noqa: N802, N803
        """Choose the CPU or, for `DNN_TARGET_CUDA`, a GPU; without one the CPU, with a warning."""
        device = "cuda" if targetId in _CUDA_TARGETS else "cpu"
        if device == "cuda" and not torch.cuda.is_available():
            warnings.warn("PyTorch finds no GPU: the CPU computes", stacklevel=2)
            device = "cpu"
        self._device = torch.device(device)
        self._module.to(self._device)

    def enableFusion(self, fusion: bool) -> None:  # noqa: N802
        """Do nothing: no layers are fused."""

    def enableWinograd(self, useWinograd: bool) -> None:  # noqa: N802, N803
        """Do nothing: PyTorch chooses its algorithms."""

    def getPerfProfile(self) -> tuple[int, np.ndarray]:  # noqa: N802
        """Return the ticks of the last forward pass, of a nanosecond each; no times of layers."""
        return self._ticks, np.zeros((0, 1))


class _ImageNormalization(nn.Module):
    """Batch normalization with the statistics of each image."""

    def __init__(self, norm: nn.BatchNorm2d) -> None:
        super().__init__()
        self.norm = norm

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """Map (N, C, H, W) to the same shape."""
        weight, bias, eps = self.norm.weight, self.norm.bias, self.norm.eps
        return functional.instance_norm(input, weight=weight, bias=bias, eps=eps)


def _record(outputs: dict[str, Any], name: str, module: nn.Module, inputs: Any, out: Any) -> None:
    # A copy: the next layer may write into it.
    outputs[name] = out.clone() if isinstance(out, torch.Tensor) else out


def _array(output: Any) -> np.ndarray:
    """Return an output as an array; of a table its last entry, which OpenCV's last layer gives."""
    while isinstance(output, (list, tuple)):
        output = output[-1]
    result: np.ndarray = output.float().cpu().numpy()
    return result
