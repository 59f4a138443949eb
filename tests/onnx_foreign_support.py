"""`.onnx` files as other programs write them, of one small network."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import nn

FLOAT, INT64 = TensorProto.FLOAT, TensorProto.INT64
LABELS = ["cat", "dog", "bird"]


def network() -> nn.Sequential:
    """Return a network of 3×6×6 images and three classes, with a batch normalization."""
    torch.manual_seed(5)
    layers = nn.Sequential(
        *(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(64, 3)),
    )
    layers(torch.randn(32, 3, 6, 6))  # Statistics that are not 0 and 1.
    return layers.eval()


def torch_onnx(path: Path, module: nn.Module, batch: int | None = 2, **options: Any) -> Path:
    """Write a file by `torch.onnx.export`, the exporter of TorchScript."""
    parameter = next(module.parameters())
    inputs = torch.zeros((batch or 2, 3, 6, 6), dtype=parameter.dtype)
    axes = {} if batch else {"dynamic_axes": {"pixels": {0: "N"}}}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        names = {"input_names": ["pixels"], "dynamo": False}
        torch.onnx.export(module, (inputs,), path, **names, **axes, **options)
    return path


def write(
    path: Path,
    nodes: list[onnx.NodeProto],
    inputs: list[onnx.ValueInfoProto],
    outputs: list[onnx.ValueInfoProto],
    constants: dict[str, np.ndarray],
    opset: int = 18,
) -> Path:
    """Write a graph of given nodes."""
    stored = [numpy_helper.from_array(array, name) for name, array in constants.items()]
    graph = helper.make_graph(nodes, "graph", inputs, outputs, stored)
    opsets = [helper.make_opsetid("", opset), helper.make_opsetid("ai.onnx.ml", 3)]
    model = helper.make_model(graph, ir_version=8, opset_imports=opsets)
    onnx.checker.check_model(model)
    onnx.save(model, path)
    return path


def value(name: str, kind: int, *shape: str | int | None) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, kind, shape)


def channels_last(path: Path, module: nn.Sequential) -> Path:
    """Write the network as TensorFlow's converter does: images are N×H×W×C."""
    convolution, normalization, linear = module[0], module[1], module[4]
    constants = {
        "kernel": convolution.weight,
        "shift": convolution.bias,
        "gamma": normalization.weight,
        "beta": normalization.bias,
        "mean": normalization.running_mean,
        "variance": normalization.running_var,
        "dense": linear.weight.T.contiguous(),
        "offset": linear.bias,
    }
    node = helper.make_node
    nodes = [
        node("Transpose", ["image"], ["moved"], perm=[0, 3, 1, 2]),
        node("Conv", ["moved", "kernel", "shift"], ["maps"]),
        node("BatchNormalization", ["maps", "gamma", "beta", "mean", "variance"], ["normal"]),
        node("Relu", ["normal"], ["active"]),
        node("Flatten", ["active"], ["row"]),
        node("MatMul", ["row", "dense"], ["product"]),
        node("Add", ["product", "offset"], ["sum"]),
        node("Softmax", ["sum"], ["scores"]),
    ]
    arrays = {name: tensor.detach().numpy() for name, tensor in constants.items()}
    image = value("image", FLOAT, None, 6, 6, 3)
    return write(path, nodes, [image], [value("scores", FLOAT, None, 3)], arrays)


def scikit_learn(path: Path, weights: np.ndarray, bias: np.ndarray) -> Path:
    """Write what skl2onnx makes of a LogisticRegression with `zipmap=False`."""
    node = helper.make_node(
        "LinearClassifier",
        ["X"],
        ["label", "raw"],
        domain="ai.onnx.ml",
        coefficients=weights.ravel().tolist(),
        intercepts=bias.tolist(),
        classlabels_ints=list(range(len(bias))),
        multi_class=1,
        post_transform="LOGISTIC",
    )
    normalizer = helper.make_node(
        "Normalizer", ["raw"], ["probabilities"], domain="ai.onnx.ml", norm="L1"
    )
    outputs = [value("label", INT64, None), value("probabilities", FLOAT, None, len(bias))]
    inputs = [value("X", FLOAT, None, weights.shape[1])]
    return write(path, [node, normalizer], inputs, outputs, {})
