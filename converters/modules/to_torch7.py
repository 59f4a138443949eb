"""Conversion of PyTorch networks to Torch7 objects.

It supports the layers that exist in both. The objects can be trained in Torch7: each parameter has
a gradient (zeros), and buffers are empty, as after `clearState`.
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

#: A Torch7 class and its own fields, without those that every module has.
_Description = tuple[str, dict[str, Any]]

#: With a batch of one a flattening layer might drop the batch.
_BATCH_SIZE = 2


def to_torch7(network: nn.Module, input_shape: tuple[int, ...]) -> LuaObject:
    """Convert a PyTorch network to an nn object, which `t7.save` writes for Torch7.

    Values are float32. A layer that occurs several times stays shared.

    Args:
        network: A network of layers that Torch7 has too.
        input_shape: Shape of one example, (C, H, W), which determines the size of an `nn.View`.

    Raises:
        ConversionError: Torch7 lacks a layer or one of its arguments.

    Example:
        >>> to_torch7(nn.Sequential(nn.Linear(4, 2), nn.Tanh()), (4,)).class_name
        'nn.Sequential'
    """
    flat_sizes = _flat_sizes(network, input_shape)
    objects: dict[int, LuaObject] = {}

    def to_object(layer: nn.Module, path: str) -> LuaObject:
        if id(layer) not in objects:
            try:
                class_name, fields = _describe(layer)
            except ConversionError as error:
                raise ConversionError(f"{path or 'the network'}: {error}") from None
            if isinstance(layer, nn.Flatten):
                fields = _view_fields([flat_sizes[id(layer)]])
            if class_name in _CONTAINERS:
                children = [
                    to_object(child, f"{path}.{name}".removeprefix("."))
                    for name, child in layer._modules.items()
                    if child is not None
                ]
                fields["modules"] = LuaTable.from_list(children)
            objects[id(layer)] = _object(class_name, layer.training, fields)
        return objects[id(layer)]

    return to_object(network, "")


_CONTAINERS = ("nn.Sequential", "nn.Concat", "nn.ConcatTable")


@singledispatch
def _describe(layer: nn.Module) -> _Description:
    """Return the Torch7 class and the fields of a layer."""
    supported = sorted(cls.__name__.strip("_") for cls in _describe.registry if cls is not object)
    raise ConversionError(
        f"{type(layer).__name__} has no Torch7 counterpart here; supported are "
        + ", ".join(supported)
    )


@_describe.register
def _sequential(layer: nn.Sequential) -> _Description:
    return "nn.Sequential", {}


@_describe.register
def _concat(layer: Concat) -> _Description:
    return "nn.Concat", {"dimension": layer.dim + 1, "outputSize": _long_storage([])}


@_describe.register
def _concat_table(layer: ConcatTable) -> _Description:
    return "nn.ConcatTable", {}


@_describe.register
def _add(layer: CAddTable) -> _Description:
    return "nn.CAddTable", {"gradInput": LuaTable()}


@_describe.register
def _linear(layer: nn.Linear) -> _Description:
    return "nn.Linear", {**_parameters(layer), "addBuffer": _empty()}


@_describe.register
def _convolution(layer: nn.Conv2d) -> _Description:
    _require(layer.dilation == (1, 1), "a dilation", layer)
    _require(layer.groups == 1, "groups", layer)
    _require(layer.padding_mode == "zeros", "a padding_mode other than zeros", layer)
    _require(not isinstance(layer.padding, str), "a padding that is not a number", layer)
    return "nn.SpatialConvolution", {
        **_parameters(layer),
        **_window(layer.kernel_size, layer.stride, layer.padding),
        "nInputPlane": layer.in_channels,
        "nOutputPlane": layer.out_channels,
        "finput": _empty(),
        "fgradInput": _empty(),
    }


@_describe.register
def _max_pooling(layer: nn.MaxPool2d) -> _Description:
    _require(_pair(layer.dilation) == (1, 1), "a dilation", layer)
    window = _window(layer.kernel_size, layer.stride, layer.padding)
    indices = np.empty(0, np.int64)
    return "nn.SpatialMaxPooling", {**window, "ceil_mode": layer.ceil_mode, "indices": indices}


@_describe.register
def _average_pooling(layer: nn.AvgPool2d) -> _Description:
    _require(layer.divisor_override is None, "a divisor_override", layer)
    return "nn.SpatialAveragePooling", {
        **_window(layer.kernel_size, layer.stride, layer.padding),
        "ceil_mode": layer.ceil_mode,
        "count_include_pad": layer.count_include_pad,
        "divide": True,
    }


@_describe.register
def _batch_normalization(layer: _BatchNorm) -> _Description:
    _require(layer.momentum is not None, "momentum=None", layer)
    if layer.running_mean is None or layer.running_var is None:
        raise ConversionError(f"{layer} has no running statistics; Torch7's class needs them")
    class_name = next(name for cls, name in _BATCH_NORMS.items() if isinstance(layer, cls))
    return class_name, {
        **(_parameters(layer) if layer.affine else {}),
        "running_mean": _float_tensor(layer.running_mean),
        "running_var": _float_tensor(layer.running_var),
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
def _relu(layer: nn.ReLU) -> _Description:
    return "nn.ReLU", {"threshold": 0, "val": 0, "inplace": layer.inplace}


@_describe.register
def _threshold(layer: nn.Threshold) -> _Description:
    fields = {"threshold": layer.threshold, "val": layer.value, "inplace": layer.inplace}
    return "nn.Threshold", fields


@_describe.register
def _dropout(layer: nn.Dropout) -> _Description:
    return "nn.Dropout", {
        "p": layer.p,
        "v2": True,
        "stochastic_inference": False,
        "inplace": layer.inplace,
        "noise": _empty(),
    }


@_describe.register
def _flatten(layer: nn.Flatten) -> _Description:
    _require((layer.start_dim, layer.end_dim) == (1, -1), "other dimensions to flatten", layer)
    return "nn.View", {}


@_describe.register
def _view(layer: View) -> _Description:
    _require(-1 not in layer.size, "a size of -1", layer)
    return "nn.View", _view_fields(layer.size)


@_describe.register
def _tanh(layer: nn.Tanh) -> _Description:
    return "nn.Tanh", {}


@_describe.register
def _sigmoid(layer: nn.Sigmoid) -> _Description:
    return "nn.Sigmoid", {}


@_describe.register
def _log_softmax(layer: nn.LogSoftmax) -> _Description:
    return "nn.LogSoftMax", {}


@_describe.register
def _softmax(layer: nn.Softmax) -> _Description:
    return "nn.SoftMax", {}


@_describe.register
def _identity(layer: nn.Identity) -> _Description:
    return "nn.Identity", {}


def _require(supported: bool, argument: str, layer: nn.Module) -> None:
    """Raise an error if an argument of a layer is not supported."""
    if not supported:
        raise ConversionError(f"{layer} has {argument}, which Torch7's class does not support")


def _object(class_name: str, training: bool, fields: dict[str, Any]) -> LuaObject:
    """Return an object with its own fields and those that every module has."""
    common = {"_type": "torch.FloatTensor", "output": _empty(), "gradInput": _empty()}
    # Version 1 of batch normalization has running_std instead of running_var.
    version = 2 if class_name.endswith("BatchNormalization") else 1
    return LuaObject(class_name, LuaTable({**common, "train": training, **fields}), version)


def _parameters(layer: Any) -> dict[str, torch.Tensor]:
    """Return the fields of weight and bias and of their gradients."""
    fields: dict[str, torch.Tensor] = {}
    for name, gradient in (("weight", "gradWeight"), ("bias", "gradBias")):
        tensor = getattr(layer, name)
        if tensor is not None:
            fields |= {name: _float_tensor(tensor), gradient: torch.zeros(tensor.shape)}
    return fields


def _window(kernel: Any, stride: Any, padding: Any) -> dict[str, int]:
    """Return the fields for the sizes of a window."""
    (k_h, k_w), (d_h, d_w), (pad_h, pad_w) = map(_pair, (kernel, stride, padding))
    return {"kW": k_w, "kH": k_h, "dW": d_w, "dH": d_h, "padW": pad_w, "padH": pad_h}


def _view_fields(size: list[int]) -> dict[str, Any]:
    """Return the fields of an nn.View."""
    return {"size": _long_storage(size), "numElements": int(np.prod(size))}


def _flat_sizes(network: nn.Module, input_shape: tuple[int, ...]) -> dict[int, int]:
    """Return the size of each nn.Flatten's output for one example, by the layer's id."""
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
            network(torch.zeros(_BATCH_SIZE, *input_shape))
    for handle in handles:
        handle.remove()
    return sizes


def _float_tensor(tensor: torch.Tensor) -> torch.Tensor:
    """Return a tensor as float32 on the CPU, sharing its memory if possible."""
    return tensor.detach().float().cpu()


def _empty() -> np.ndarray:
    """Return an empty FloatTensor, as `clearState` leaves buffers."""
    return np.empty(0, np.float32)


def _long_storage(values: list[int]) -> TorchArray:
    storage = np.array(values, np.int64).view(TorchArray)
    storage.torch_class = "torch.LongStorage"
    return storage


def _pair(value: Any) -> tuple[int, int]:
    return (value, value) if isinstance(value, int) else tuple(value)
