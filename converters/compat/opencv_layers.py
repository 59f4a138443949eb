"""The layers that OpenCV 4 makes of a Torch7 network, with its names: `l1_Convolution`, ….

OpenCV numbers layers while it walks through the file, and makes one or several layers of a module.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..t7 import LuaObject, LuaTable

_PREFIXES = ("nn.", "cunn.", "cudnn.", "fbcunn.")

#: A class's name without its package → OpenCV's type, where that is another name.
_TYPES = {
    "SpatialConvolution": "Convolution",
    "SpatialConvolutionMM": "Convolution",
    "SpatialDilatedConvolution": "Convolution",
    "SpatialFullConvolution": "Deconvolution",
    "SpatialMaxPooling": "Pooling",
    "SpatialAveragePooling": "Pooling",
    "Linear": "InnerProduct",
    "View": "Reshape",
    "Tanh": "TanH",
    "SpatialBatchNormalization": "BatchNorm",
    "BatchNormalization": "BatchNorm",
    "InstanceNormalization": "BatchNorm",
    "TotalVariation": "Identity",
    "SpatialZeroPadding": "Padding",
    "SpatialReflectionPadding": "Padding",
    "SoftMax": "Softmax",
    "LogSoftMax": "Softmax",
    "SpatialCrossMapLRN": "LRN",
    "Square": "Power",
    "Sqrt": "Power",
    "MulConstant": "Power",
    "ShaveImage": "Slice",
    "SpatialUpSamplingNearest": "Resize",
}
_CONTAINERS = ("Sequential", "Parallel", "Concat", "ConcatTable", "DepthConcat", "Inception")


@dataclass
class OpencvLayer:
    """A layer of OpenCV's.

    Attributes:
        name: Its name, such as `l1_Convolution`.
        type: Its type, such as `Convolution`.
        source: The Torch7 object that it is made of.
        is_step: Whether its output is not the object's, which further layers complete.
        follows_step: Whether the layer before it normalized its input.
        is_connected: Whether another layer takes its output.
    """

    name: str
    type: str
    source: LuaObject
    is_step: bool = False
    follows_step: bool = False
    is_connected: bool = False

    def blobs(self) -> list[np.ndarray]:
        """Return the layer's weights in float32, in OpenCV's order; vectors are matrices."""
        if self.is_step:
            return []
        fields = self.source.fields
        arrays = [fields.get("weight"), fields.get("bias")]
        if self.type == "BatchNorm":
            arrays = [*_statistics(self.source, self.follows_step), *arrays]
        blobs = [np.array(a, np.float32) for a in arrays if isinstance(a, np.ndarray) and a.size]
        is_row = self.type == "InnerProduct"
        blobs = [b.reshape((1, -1) if is_row else (-1, 1)) if b.ndim == 1 else b for b in blobs]
        if self.type == "Convolution" and blobs and blobs[0].ndim == 2 and "kH" in fields:
            kernel = int(fields["kH"]), int(fields["kW"])
            blobs[0] = blobs[0].reshape(len(blobs[0]), -1, *kernel)
        return blobs


def _statistics(source: LuaObject, of_image: bool) -> list[Any]:
    """Return mean and variance of a BatchNorm: 0 and 1 where a step before it normalizes."""
    mean, variance = source.get("running_mean"), source.get("running_var")
    if variance is None and isinstance(source.get("running_std"), np.ndarray):
        # What version 1 of the class stored is 1 / sqrt(variance + eps).
        variance = np.asarray(source["running_std"]) ** -2.0 - float(source.get("eps", 0))
    if of_image:
        like = mean if isinstance(mean, np.ndarray) else np.zeros(int(source.get("nOutput", 0)))
        shape = like.shape if isinstance(mean, np.ndarray) else (1, like.size)
        return [np.zeros(shape), np.ones(shape)]
    return [mean, variance]


def normalizes_images(source: LuaObject, *, evaluate: bool) -> bool:
    """Return whether OpenCV normalizes each image by itself, in a step of its own.

    Args:
        source: A layer's object.
        evaluate: What `readNetFromTorch` was told.
    """
    kind = source.class_name.partition(".")[2]
    in_training = kind == "SpatialBatchNormalization" and source.get("train") is True
    return kind == "InstanceNormalization" or (in_training and not evaluate)


def opencv_layers(network: Any, *, evaluate: bool = True) -> list[OpencvLayer]:
    """Return the layers that OpenCV 4 makes of a network, in its order.

    Args:
        network: The network's object.
        evaluate: What `readNetFromTorch` was told.

    Example:
        >>> modules = LuaTable.from_list([LuaObject("nn.Linear"), LuaObject("cudnn.ReLU")])
        >>> network = LuaObject("nn.Sequential", LuaTable({"modules": modules}))
        >>> [layer.name for layer in opencv_layers(network)]
        ['l1_InnerProduct', 'l2_ReLU']
    """
    importer = _Importer(evaluate)
    inputs: list[OpencvLayer] = []
    for module in _modules(network, set()):
        inputs = importer.add(module, inputs)
    return importer.layers


@dataclass
class _Module:
    """A module as OpenCV reads it: its object, and the modules that stand in it."""

    source: LuaObject
    name: str
    children: list[_Module] = field(default_factory=list)


def _modules(value: Any, seen: set[int]) -> list[_Module]:
    """Return the modules in a value in the order in which OpenCV reads them from the file."""
    if isinstance(value, (LuaTable, LuaObject)):
        if id(value) in seen:
            return []
        seen.add(id(value))
    if isinstance(value, LuaTable):
        return [
            module for pair in value.items() for item in pair for module in _modules(item, seen)
        ]
    if not isinstance(value, LuaObject):
        return []
    inside: list[_Module] = []
    for key, item in value.fields.items():
        found = _modules(item, seen)
        # A module that is a field of its own, such as an activation to copy, is left out.
        inside += [] if isinstance(key, str) and isinstance(item, LuaObject) else found
    prefix = next(filter(value.class_name.startswith, _PREFIXES), "")
    name = value.class_name.removeprefix(prefix)
    if name == "SpatialLPPooling":
        return inside
    if name in (*_CONTAINERS, "JoinTable"):
        return [_Module(value, name, inside)]
    return [*inside, _Module(value, name)]


@dataclass
class _Importer:
    """The network while OpenCV builds it.

    Attributes:
        evaluate: What `readNetFromTorch` was told.
        layers: The layers so far.
        count: The number in the last layer's name; some numbers have no layer.
        open_tables: How many outputs each open ConcatTable has.
    """

    evaluate: bool
    layers: list[OpencvLayer] = field(default_factory=list)
    count: int = 0
    open_tables: list[int] = field(default_factory=list)

    def new(
        self,
        label: str,
        kind: str,
        source: LuaObject,
        inputs: Iterable[OpencvLayer],
        *,
        is_step: bool = False,
    ) -> list[OpencvLayer]:
        """Add a layer and return it as the input of the next one."""
        self.count += 1
        for layer in inputs:
            layer.is_connected = True
        self.layers.append(OpencvLayer(f"l{self.count}_{label}", kind, source, is_step))
        return self.layers[-1:]

    def add(self, module: _Module, inputs: list[OpencvLayer]) -> list[OpencvLayer]:
        """Add the layers of a module and return its output: a layer, or none for the input."""
        name, source = module.name, module.source
        if name in ("Sequential", "Inception"):
            for child in module.children:
                inputs = self.add(child, inputs)
            return inputs
        if name == "ConcatTable":
            self.count += 1
            output = inputs
            for child in module.children:
                output = self.add(child, inputs)
            self.open_tables.append(len(module.children))
            return output
        if name in ("Concat", "DepthConcat"):
            branches = [each for child in module.children for each in self.add(child, inputs)]
            self.count += name == "Concat"
            return self.new("torchMerge", "Concat", source, branches)
        if name == "Parallel":
            split = self.new("torchSplit", "Slice", source, inputs, is_step=True)
            part = self.new("torchReshape", "Reshape", source, split, is_step=True)
            branches = [each for child in module.children for each in self.add(child, part)]
            return self.new("torchMerge", "Concat", source, branches)
        if name in ("JoinTable", "CAddTable"):
            label, kind = ("Merge", "Concat") if name == "JoinTable" else ("CAddTable", "Eltwise")
            return self.new(f"torch{label}", kind, source, self._table())
        if name == "SpatialMaxUnpooling":
            return self.new("torchMaxUnpooling", "MaxUnpool", source, inputs)
        normalizes = normalizes_images(source, evaluate=self.evaluate)
        if normalizes:
            inputs = self.new("MVN", "MVN", source, inputs, is_step=True)
        kind = _type(name, source)
        output = self.new(kind, kind, source, inputs)
        output[0].follows_step = normalizes
        return output

    def _table(self) -> list[OpencvLayer]:
        """Return the layers that a layer with a table as its input takes."""
        if not self.open_tables:
            return []
        count = self.open_tables.pop()
        return [layer for layer in self.layers if not layer.is_connected][-count:]


def _type(name: str, source: LuaObject) -> str:
    """Return OpenCV's type of a module that becomes one layer."""
    if name in ("Dropout", "SpatialDropout"):
        return "Identity" if source.get("v2") is True else "Power"
    if name == "PReLU":
        return "ChannelsPReLU" if source.get("nOutputPlane") else "ReLU"
    return _TYPES.get(name, name)
