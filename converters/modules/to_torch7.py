"""The way back: PyTorch networks as the Torch7 objects that such layers come from.

For networks of the classes that both sides have. What a training in Torch7 needs is there too:
each parameter's gradient (zeros), and empty buffers, as `clearState` leaves them.
"""

from __future__ import annotations

from functools import singledispatch
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from ..t7 import LuaObject, LuaTable, TorchArray
from .errors import ConversionError
from .layers.container import Concat, ConcatTable
from .layers.shape import View
from .layers.table_arithmetic import CAddTable

#: A Torch7 class and the fields of its own, without those that every module has.
_Described = tuple[str, dict[str, Any]]

#: A flattening layer might drop a batch of one.
_BATCH = 2


def to_torch7(network: nn.Module, input_shape: tuple[int, ...]) -> LuaObject:
    """A network as an nn object of Torch7, which `t7.save` writes and Torch7 runs and trains.

    Numbers are float32; a layer that stands in several places stays shared.

    Args:
        network: of layers that Torch7 has too.
        input_shape: of one example, (C, H, W): the size of an `nn.View` follows from it.

    Raises:
        ConversionError: when Torch7 has no such layer, or not with these settings.
    """
    sizes = _flat_sizes(network, input_shape)
    made: dict[int, LuaObject] = {}

    def make(layer: nn.Module, path: str) -> LuaObject:
        if id(layer) not in made:
            try:
                class_name, fields = _describe(layer)
            except ConversionError as error:
                raise ConversionError(f"{path or 'the network'}: {error}") from None
            if isinstance(layer, nn.Flatten):
                fields = _view_fields([sizes[id(layer)]])
            if class_name in _CONTAINERS:
                children = [
                    make(child, f"{path}.{name}".removeprefix("."))
                    for name, child in layer._modules.items()
                    if child is not None
                ]
                fields["modules"] = LuaTable.from_list(children)
            made[id(layer)] = _object(class_name, layer.training, fields)
        return made[id(layer)]

    return make(network, "")


_CONTAINERS = ("nn.Sequential", "nn.Concat", "nn.ConcatTable")


@singledispatch
def _describe(layer: nn.Module) -> _Described:
    raise ConversionError(
        f"{type(layer).__name__} has no counterpart in Torch7 that is known here; convolutions, "
        "batch normalization, pooling, linear layers, dropout, tanh, ReLU and the like have one"
    )


@_describe.register
def _sequential(layer: nn.Sequential) -> _Described:
    return "nn.Sequential", {}


@_describe.register
def _concat(layer: Concat) -> _Described:
    return "nn.Concat", {"dimension": layer.dim + 1, "outputSize": _long_storage([])}


@_describe.register
def _concat_table(layer: ConcatTable) -> _Described:
    return "nn.ConcatTable", {}


@_describe.register
def _add(layer: CAddTable) -> _Described:
    return "nn.CAddTable", {"gradInput": LuaTable()}


@_describe.register
def _linear(layer: nn.Linear) -> _Described:
    return "nn.Linear", {**_parameters(layer), "addBuffer": _empty()}


@_describe.register
def _convolution(layer: nn.Conv2d) -> _Described:
    _require(layer.dilation == (1, 1), "a dilation", layer)
    _require(layer.groups == 1, "groups", layer)
    _require(layer.padding_mode == "zeros", "such a padding", layer)
    _require(not isinstance(layer.padding, str), "a padding without a number", layer)
    return "nn.SpatialConvolution", {
        **_parameters(layer),
        **_window(layer.kernel_size, layer.stride, layer.padding),
        "nInputPlane": layer.in_channels,
        "nOutputPlane": layer.out_channels,
        "finput": _empty(),
        "fgradInput": _empty(),
    }


@_describe.register
def _max_pooling(layer: nn.MaxPool2d) -> _Described:
    _require(_pair(layer.dilation) == (1, 1), "a dilation", layer)
    window = _window(layer.kernel_size, layer.stride, layer.padding)
    indices = np.empty(0, np.int64)
    return "nn.SpatialMaxPooling", {**window, "ceil_mode": layer.ceil_mode, "indices": indices}


@_describe.register
def _average_pooling(layer: nn.AvgPool2d) -> _Described:
    _require(layer.divisor_override is None, "a divisor of its own", layer)
    return "nn.SpatialAveragePooling", {
        **_window(layer.kernel_size, layer.stride, layer.padding),
        "ceil_mode": layer.ceil_mode,
        "count_include_pad": layer.count_include_pad,
        "divide": True,
    }


@_describe.register
def _batch_normalization(layer: _BatchNorm) -> _Described:
    _require(layer.momentum is not None, "a cumulative average", layer)
    if layer.running_mean is None or layer.running_var is None:
        raise ConversionError(f"{layer} keeps no statistics, which Torch7's class does")
    class_name = next(name for cls, name in _BATCH_NORMS.items() if isinstance(layer, cls))
    return class_name, {
        **(_parameters(layer) if layer.affine else {}),
        "running_mean": _numbers(layer.running_mean),
        "running_var": _numbers(layer.running_var),
        "eps": layer.eps,
        "momentum": layer.momentum,
        "affine": layer.affine,
        "save_mean": _empty(),
        "save_std": _empty(),
    }


_BATCH_NORMS = {
    nn.BatchNorm1d: "nn.BatchNormalization",
    nn.BatchNorm2d: "nn.SpatialBatchNormalization",
    nn.BatchNorm3d: "nn.VolumetricBatchNormalization",
}


@_describe.register
def _relu(layer: nn.ReLU) -> _Described:
    return "nn.ReLU", {"threshold": 0, "val": 0, "inplace": layer.inplace}


@_describe.register
def _threshold(layer: nn.Threshold) -> _Described:
    settings = {"threshold": layer.threshold, "val": layer.value, "inplace": layer.inplace}
    return "nn.Threshold", settings


@_describe.register
def _dropout(layer: nn.Dropout) -> _Described:
    settings = {"p": layer.p, "v2": True, "stochastic_inference": False, "inplace": layer.inplace}
    return "nn.Dropout", {**settings, "noise": _empty()}


@_describe.register
def _flatten(layer: nn.Flatten) -> _Described:
    _require((layer.start_dim, layer.end_dim) == (1, -1), "a flattening of some dimensions", layer)
    return "nn.View", {}


@_describe.register
def _view(layer: View) -> _Described:
    _require(-1 not in layer.size, "a view of a size that is left open", layer)
    return "nn.View", _view_fields(layer.size)


@_describe.register
def _tanh(layer: nn.Tanh) -> _Described:
    return "nn.Tanh", {}


@_describe.register
def _sigmoid(layer: nn.Sigmoid) -> _Described:
    return "nn.Sigmoid", {}


@_describe.register
def _log_softmax(layer: nn.LogSoftmax) -> _Described:
    return "nn.LogSoftMax", {}


@_describe.register
def _softmax(layer: nn.Softmax) -> _Described:
    return "nn.SoftMax", {}


@_describe.register
def _identity(layer: nn.Identity) -> _Described:
    return "nn.Identity", {}


def _require(fits: bool, setting: str, layer: nn.Module) -> None:
    if not fits:
        raise ConversionError(f"{layer} has {setting}, which Torch7's class has not")


def _object(class_name: str, training: bool, fields: dict[str, Any]) -> LuaObject:
    """An object with the fields that every module has, and its own."""
    usual = {"_type": "torch.FloatTensor", "output": _empty(), "gradInput": _empty()}
    made = LuaObject(class_name, LuaTable({**usual, "train": training, **fields}))
    if class_name.endswith("BatchNormalization"):
        made.version = 2  # the one that keeps running_var and not running_std
    return made


def _parameters(layer: Any) -> dict[str, torch.Tensor]:
    """Weight and bias with their gradients."""
    fields: dict[str, torch.Tensor] = {}
    for name, gradient in (("weight", "gradWeight"), ("bias", "gradBias")):
        tensor = getattr(layer, name)
        if tensor is not None:
            fields |= {name: _numbers(tensor), gradient: torch.zeros(tensor.shape)}
    return fields


def _window(kernel: Any, stride: Any, padding: Any) -> dict[str, int]:
    """The sizes of a window, as Torch7 names them."""
    (k_h, k_w), (d_h, d_w), (pad_h, pad_w) = map(_pair, (kernel, stride, padding))
    return {"kW": k_w, "kH": k_h, "dW": d_w, "dH": d_h, "padW": pad_w, "padH": pad_h}


def _view_fields(size: list[int]) -> dict[str, Any]:
    return {"size": _long_storage(size), "numElements": int(np.prod(size))}


def _flat_sizes(network: nn.Module, input_shape: tuple[int, ...]) -> dict[int, int]:
    """What each flattening layer of a network makes of an example: so many numbers."""
    sizes: dict[int, int] = {}
    handles = [
        layer.register_forward_hook(
            lambda layer, _inputs, output: sizes.update({id(layer): output.shape[1]})
        )
        for layer in network.modules()
        if isinstance(layer, nn.Flatten)
    ]
    if handles:
        with torch.no_grad():
            network(torch.zeros(_BATCH, *input_shape))
    for handle in handles:
        handle.remove()
    return sizes


def _numbers(tensor: torch.Tensor) -> torch.Tensor:
    """A FloatTensor, sharing its memory where it can."""
    return tensor.detach().float().cpu()


def _empty() -> np.ndarray:
    return np.empty(0, np.float32)


def _long_storage(numbers: list[int]) -> TorchArray:
    storage = np.array(numbers, np.int64).view(TorchArray)
    storage.torch_class = "torch.LongStorage"
    return storage


def _pair(value: Any) -> tuple[int, int]:
    return (value, value) if isinstance(value, int) else tuple(value)
