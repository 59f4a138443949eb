"""Conversion of PyTorch networks to Torch7 objects.

A converted network becomes the object that it was converted from (see `torch7_source`); of networks
made in PyTorch, the layers that exist in both are supported. The objects can be trained in Torch7:
each parameter has a gradient (zeros), and buffers are empty, as after `clearState`.
"""

from __future__ import annotations

from functools import cached_property, singledispatch
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from ..t7 import LuaObject, LuaTable, TorchArray
from .errors import ConversionError
from .layers.container import Concat, ConcatTable, ParallelTable
from .layers.shape import View
from .layers.table_arithmetic import CAddTable
from .meta_device import on_meta_device
from .torch7_skeleton import skeleton
from .torch7_source import materialize, source_of, submodule_path

#: A Torch7 class and its own fields, without those that every module has.
_ClassAndFields = tuple[str, dict[str, Any]]

#: With a batch of one a flattening layer might drop the batch.
_BATCH_SIZE = 2


def to_torch7(network: nn.Module, input_shape: tuple[int, ...] | None = None) -> LuaObject:
    """Convert a PyTorch network to an nn object, which `t7.save` writes for Torch7.

    A network that was converted from a Torch7 object becomes that object again, with its present
    values; layers that were replaced since then are described by their PyTorch modules. Buffers are
    empty and gradients are zeros. A layer that occurs several times stays shared.

    Args:
        network: A network that was converted from Torch7, or one of layers that Torch7 has too.
        input_shape: Shape of one example, (C, H, W), which determines the size of an `nn.View`; it
            is needed for a `torch.nn.Flatten`.

    Raises:
        ConversionError: Torch7 lacks a layer or one of its arguments.

    Example:
        >>> to_torch7(nn.Sequential(nn.Linear(4, 2), nn.Tanh())).class_name
        'nn.Sequential'
    """
    if source_of(network) is None:
        return _Description(network, input_shape).object(network, "")
    return materialize(torch7_skeleton(network, input_shape), network.state_dict())


def torch7_skeleton(network: nn.Module, input_shape: tuple[int, ...] | None = None) -> LuaObject:
    """Return the skeleton of the object of a network with a `torch7_source` (see `skeleton`)."""
    return skeleton(network, _Description(network, input_shape).object)


class _Description:
    """Describes layers of a network as Torch7 objects; a layer that occurs twice is one object.

    Args:
        network: The network.
        input_shape: As for `to_torch7`.
    """

    def __init__(self, network: nn.Module, input_shape: tuple[int, ...] | None) -> None:
        self._network = network
        self._input_shape = input_shape
        tensors = (p for p in network.parameters() if p.is_floating_point())
        self._dtype = next((p.dtype for p in tensors), torch.float32)
        self._objects: dict[int, LuaObject] = {}

    def object(self, layer: nn.Module, path: str) -> LuaObject:
        """Return the object of a layer.

        Raises:
            ConversionError: Torch7 lacks the layer or one of its arguments.
        """
        if id(layer) not in self._objects:
            try:
                class_name, fields = _describe(layer)
                if isinstance(layer, nn.Flatten):
                    fields = _view_fields([self._flat_sizes[id(layer)]])
            except ConversionError as error:
                raise ConversionError(f"{path or 'the network'}: {error}") from None
            if class_name in _CONTAINERS:
                children = [
                    self.object(child, submodule_path(path, name))
                    for name, child in layer._modules.items()
                    if child is not None
                ]
                fields["modules"] = LuaTable.from_list(children)
            self._objects[id(layer)] = _object(class_name, layer.training, fields, self._dtype)
        return self._objects[id(layer)]

    @cached_property
    def _flat_sizes(self) -> dict[int, int]:
        if self._input_shape is None:
            raise ConversionError(
                "the size of the nn.View for a Flatten is not known: pass input_shape=(C, H, W)"
            )
        return _flat_sizes(self._network, self._input_shape, self._dtype)


_CONTAINERS = ("nn.Sequential", "nn.Concat", "nn.ConcatTable", "nn.ParallelTable")
#: Classes whose constructors make a table of `output` or `gradInput`.
_TABLES = {
    "nn.ConcatTable": ("output",),
    "nn.ParallelTable": ("output", "gradInput"),
    "nn.CAddTable": ("gradInput",),
}


@singledispatch
def _describe(layer: nn.Module) -> _ClassAndFields:
    """Return the Torch7 class and the fields of a layer."""
    supported = sorted(cls.__name__.strip("_") for cls in _describe.registry if cls is not object)
    raise ConversionError(
        f"{type(layer).__name__} has no Torch7 counterpart here; supported are "
        + ", ".join(supported)
    )


@_describe.register
def _sequential(layer: nn.Sequential) -> _ClassAndFields:
    return "nn.Sequential", {}


@_describe.register
def _concat(layer: Concat) -> _ClassAndFields:
    return "nn.Concat", {"dimension": layer.dim + 1, "outputSize": _long_storage([])}


@_describe.register
def _concat_table(layer: ConcatTable) -> _ClassAndFields:
    return "nn.ConcatTable", {}


@_describe.register
def _add(layer: CAddTable) -> _ClassAndFields:
    return "nn.CAddTable", {"inplace": False}


@_describe.register
def _parallel_table(layer: ParallelTable) -> _ClassAndFields:
    return "nn.ParallelTable", {}


@_describe.register
def _linear(layer: nn.Linear) -> _ClassAndFields:
    return "nn.Linear", {**_parameters(layer), "addBuffer": _EMPTY}


@_describe.register
def _convolution(layer: nn.Conv2d) -> _ClassAndFields:
    _require(layer.dilation == (1, 1), "a dilation", layer)
    _require(layer.groups == 1, "groups", layer)
    _require(layer.padding_mode == "zeros", "a padding_mode other than zeros", layer)
    _require(not isinstance(layer.padding, str), "a padding that is not a number", layer)
    return "nn.SpatialConvolution", {
        **_parameters(layer),
        **_window(layer.kernel_size, layer.stride, layer.padding),
        "nInputPlane": layer.in_channels,
        "nOutputPlane": layer.out_channels,
        "finput": _EMPTY,
        "fgradInput": _EMPTY,
    }


@_describe.register
def _max_pooling(layer: nn.MaxPool2d) -> _ClassAndFields:
    _require(_pair(layer.dilation) == (1, 1), "a dilation", layer)
    _require_windows_inside(layer)
    window = _window(layer.kernel_size, layer.stride, layer.padding)
    indices = np.empty(0, np.int64)
    return "nn.SpatialMaxPooling", {**window, "ceil_mode": layer.ceil_mode, "indices": indices}


@_describe.register
def _average_pooling(layer: nn.AvgPool2d) -> _ClassAndFields:
    _require(layer.divisor_override is None, "a divisor_override", layer)
    _require_windows_inside(layer)
    return "nn.SpatialAveragePooling", {
        **_window(layer.kernel_size, layer.stride, layer.padding),
        "ceil_mode": layer.ceil_mode,
        "count_include_pad": layer.count_include_pad,
        "divide": True,
    }


def _require_windows_inside(layer: nn.MaxPool2d | nn.AvgPool2d) -> None:
    """Refuse a layer whose last window Torch7 may place outside the image, where PyTorch drops it.

    Torch7 drops such a window only where there is padding (THNN's SpatialMaxPooling.c).
    """
    kernels, strides = _pair(layer.kernel_size), _pair(layer.stride)
    apart = any(stride > kernel for kernel, stride in zip(kernels, strides, strict=True))
    outside = layer.ceil_mode and apart and _pair(layer.padding) == (0, 0)
    _require(not outside, "ceil_mode and a stride above the kernel", layer)


@_describe.register
def _batch_normalization(layer: _BatchNorm) -> _ClassAndFields:
    _require(layer.momentum is not None, "momentum=None", layer)
    if layer.running_mean is None or layer.running_var is None:
        raise ConversionError(f"{layer} has no running statistics; Torch7's class needs them")
    class_name = next(name for cls, name in _BATCH_NORMS.items() if isinstance(layer, cls))
    return class_name, {
        **(_parameters(layer) if layer.affine else {}),
        "running_mean": layer.running_mean,
        "running_var": layer.running_var,
        "eps": layer.eps,
        "momentum": layer.momentum,
        "affine": layer.affine,
        "save_mean": _EMPTY,
        "save_std": _EMPTY,
    }


_BATCH_NORMS = {
    nn.BatchNorm1d: "nn.BatchNormalization",
    nn.BatchNorm2d: "nn.SpatialBatchNormalization",
    nn.BatchNorm3d: "nn.VolumetricBatchNormalization",
}


@_describe.register
def _relu(layer: nn.ReLU) -> _ClassAndFields:
    return "nn.ReLU", {"threshold": 0, "val": 0, "inplace": layer.inplace}


@_describe.register
def _threshold(layer: nn.Threshold) -> _ClassAndFields:
    fields = {"threshold": layer.threshold, "val": layer.value, "inplace": layer.inplace}
    return "nn.Threshold", fields


@_describe.register
def _dropout(layer: nn.Dropout) -> _ClassAndFields:
    return "nn.Dropout", {
        "p": layer.p,
        "v2": True,
        "stochastic_inference": False,
        "inplace": layer.inplace,
        "noise": _EMPTY,
    }


@_describe.register
def _flatten(layer: nn.Flatten) -> _ClassAndFields:
    _require((layer.start_dim, layer.end_dim) == (1, -1), "other dimensions to flatten", layer)
    return "nn.View", {}


@_describe.register
def _view(layer: View) -> _ClassAndFields:
    _require(-1 not in layer.size, "a size of -1", layer)
    return "nn.View", _view_fields(layer.size, layer.num_input_dims)


@_describe.register
def _tanh(layer: nn.Tanh) -> _ClassAndFields:
    return "nn.Tanh", {}


@_describe.register
def _sigmoid(layer: nn.Sigmoid) -> _ClassAndFields:
    return "nn.Sigmoid", {}


@_describe.register
def _log_softmax(layer: nn.LogSoftmax) -> _ClassAndFields:
    _require_class_axis(layer)
    return "nn.LogSoftMax", {}


@_describe.register
def _softmax(layer: nn.Softmax) -> _ClassAndFields:
    _require_class_axis(layer)
    return "nn.SoftMax", {}


@_describe.register
def _identity(layer: nn.Identity) -> _ClassAndFields:
    return "nn.Identity", {}


def _require_class_axis(layer: nn.Softmax | nn.LogSoftmax) -> None:
    """Refuse a layer over another axis than the classes of (N, C) or (N, C, H, W)."""
    _require(layer.dim in (None, 1, -1), f"dim={layer.dim}", layer)


def _require(supported: bool, argument: str, layer: nn.Module) -> None:
    """Raise an error if an argument of a layer is not supported."""
    if not supported:
        raise ConversionError(f"{layer} has {argument}, which Torch7's class does not support")


def _object(
    class_name: str, training: bool, fields: dict[str, Any], dtype: torch.dtype
) -> LuaObject:
    """Return an object with its own fields and those that every module has, of one dtype."""
    tables = _TABLES.get(class_name, ())
    common = {
        "_type": "torch.DoubleTensor" if dtype == torch.float64 else "torch.FloatTensor",
        **{name: LuaTable() if name in tables else _EMPTY for name in ("output", "gradInput")},
    }
    fields = {name: _of_dtype(value, dtype) for name, value in {**common, **fields}.items()}
    # Version 1 of batch normalization has running_std instead of running_var.
    version = 2 if class_name.endswith("BatchNormalization") else 1
    return LuaObject(class_name, LuaTable({**fields, "train": training}), version)


def _of_dtype(value: Any, dtype: torch.dtype) -> Any:
    """Return a floating-point tensor in float64 if that is the dtype, else in float32."""
    wanted = torch.float64 if dtype == torch.float64 else torch.float32
    if isinstance(value, torch.Tensor):
        return value.detach().cpu().to(wanted)
    return (
        np.empty(0, np.float64 if wanted == torch.float64 else np.float32)
        if (value is _EMPTY)
        else value
    )


def _parameters(layer: Any) -> dict[str, torch.Tensor]:
    """Return the fields of weight and bias and of their gradients."""
    fields: dict[str, torch.Tensor] = {}
    for name, gradient in (("weight", "gradWeight"), ("bias", "gradBias")):
        tensor = getattr(layer, name)
        if tensor is not None:
            fields |= {name: tensor, gradient: torch.zeros_like(tensor)}
    return fields


def _window(kernel: Any, stride: Any, padding: Any) -> dict[str, int]:
    """Return the fields for the sizes of a window."""
    (k_h, k_w), (d_h, d_w), (pad_h, pad_w) = map(_pair, (kernel, stride, padding))
    return {"kW": k_w, "kH": k_h, "dW": d_w, "dH": d_h, "padW": pad_w, "padH": pad_h}


def _view_fields(size: list[int], num_input_dims: int | None = None) -> dict[str, Any]:
    """Return the fields of an nn.View; one that has no batch has no `numInputDims`."""
    fields = {"size": _long_storage(size), "numElements": int(np.prod(size))}
    return fields if num_input_dims is None else {**fields, "numInputDims": num_input_dims}


def _flat_sizes(
    network: nn.Module, input_shape: tuple[int, ...], dtype: torch.dtype
) -> dict[int, int]:
    """Return the size of each nn.Flatten's output for one example, by the layer's id.

    A copy without values runs: a batch would change the statistics of a network in training mode.
    """
    sizes: dict[int, int] = {}
    trial = on_meta_device(network)
    flattening = [(name, m) for name, m in network.named_modules() if isinstance(m, nn.Flatten)]
    for name, layer in flattening:
        trial.get_submodule(name).register_forward_hook(
            lambda _, _inputs, output, layer=layer: sizes.update({id(layer): output.shape[1]})
        )
    with torch.no_grad():
        trial(torch.zeros(_BATCH_SIZE, *input_shape, dtype=dtype, device="meta"))
    return sizes


#: An empty tensor of the network's dtype, as `clearState` leaves buffers.
_EMPTY = object()


def _long_storage(values: list[int]) -> TorchArray:
    storage = np.array(values, np.int64).view(TorchArray)
    storage.torch_class = "torch.LongStorage"
    return storage


def _pair(value: Any) -> tuple[int, int]:
    return (value, value) if isinstance(value, int) else tuple(value)
