"""Exported graphs in the plainest form that says the same: what other runtimes ask of them.

What is protected: nodes that runtimes have code of their own for, weights under their parameters'
names, a last softmax in single precision. The outputs are PyTorch's.
"""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx.reference import ReferenceEvaluator
from torch import nn

from torchlift.converters.input_shapes import parse_inputs
from torchlift.converters.modules.layers.activation import Abs, Sqrt
from torchlift.converters.modules.layers.local_normalization import LocalResponseNorm
from torchlift.converters.modules.layers.subsampling import FeatureLPPool
from torchlift.converters.onnx import check, export
from torchlift.converters.onnx.exporter.tracing import EXPORTER
from torchlift.converters.onnx.onnx_file import read_file


def exported(module: nn.Module, path: Path, shape: tuple[int, ...], **options: Any) -> Any:
    """Return the graph of a module, after it was checked."""
    details = {"input_shape": shape, "output_kind": "features", **options}
    fp16 = details.pop("fp16", False)
    export(module.eval(), path, fp16=fp16, **details)
    report = check(module, path, **details)
    assert report.passed, "\n".join(report.lines())
    return onnx.load(path).graph


@pytest.mark.parametrize(
    ("size", "alpha", "beta", "k"),
    [(4, 1e-2, 0.75, 2), (5, 1e-2, 0.75, 2), (3, 1, 0.75, 0.01), (1, 1, 0.5, 1)],
)
def test_local_response_normalization_is_one_node(
    tmp_path: Path, size: int, alpha: float, beta: float, k: float
) -> None:
    """Of an odd size above 1; ONNX Runtime refuses others, and loses digits at 1."""
    module = LocalResponseNorm(size, alpha, beta, k)
    graph = exported(module, tmp_path / "f.onnx", (8, 3, 4))
    operators = [node.op_type for node in graph.node]
    assert operators == ["LRN"] if size in (3, 5) else "LRN" not in operators


def test_factors_with_an_axis_are_numbers(tmp_path: Path) -> None:
    class Written(nn.Module):
        """Local response normalization as its authors wrote it out."""

        def forward(self, input: torch.Tensor) -> torch.Tensor:
            squares = nn.functional.pad(input.pow(2).unsqueeze(1), (0, 0, 0, 0, 1, 1))
            mean = nn.functional.avg_pool3d(squares, (3, 1, 1), stride=1).squeeze(1)
            return input / (mean * torch.tensor([2.0]) + 1.0).pow(0.75)

    assert [node.op_type for node in exported(Written(), tmp_path / "f.onnx", (8, 3, 4)).node] == [
        "LRN"
    ]


def test_guards_of_gradients_are_left_out(tmp_path: Path) -> None:
    """A graph has no gradients; without the guards ncnn and others read it."""
    module = nn.Sequential(Abs(), FeatureLPPool(2, 2, 2.0, batch_mode=True), Sqrt())
    graph = exported(module, tmp_path / "f.onnx", (8, 3, 4))
    operators = {node.op_type for node in graph.node}
    assert not operators & {"Where", "Equal", "Not", "GreaterOrEqual", "Less"}
    assert {"Abs", "Sqrt"} <= operators


def test_transposed_weights_keep_their_names(tmp_path: Path) -> None:
    module = nn.TransformerEncoderLayer(8, 2, 16, dropout=0, batch_first=True)
    for parameter in module.parameters():
        nn.init.normal_(parameter, std=0.3)
    graph = exported(module, tmp_path / "f.onnx", (5, 8))
    stored = {tensor.name for tensor in graph.initializer}
    assert {name for name, _ in module.named_parameters()} <= stored
    counts = Counter(node.op_type for node in graph.node)
    assert not {"Shape", "Slice"} & set(counts)
    by_name = {tensor.name: tensor for tensor in graph.initializer}
    actual = onnx.numpy_helper.to_array(by_name["linear1.weight"])
    assert np.array_equal(actual, module.linear1.weight.detach().numpy().T)


@pytest.mark.parametrize(("last", "kind"), [(nn.Softmax, "probabilities"), (nn.LogSoftmax, "log")])
def test_a_last_softmax_of_fp16_computes_in_float32(
    tmp_path: Path, last: type[nn.Module], kind: str
) -> None:
    """Old ONNX Runtimes have none in float16, and the reference evaluator gave -inf."""
    torch.manual_seed(0)
    linear = nn.Linear(12, 4)
    nn.init.normal_(linear.weight, std=4)
    module = nn.Sequential(nn.Flatten(), linear, last(1))
    output_kind = "log_probabilities" if kind == "log" else kind
    options = {"output_kind": output_kind, "fp16": True}
    graph = exported(module, tmp_path / "f.onnx", (3, 2, 2), **options)
    assert graph.node[-1].op_type == last.__name__
    assert [node.op_type for node in graph.node].count("Cast") == 2
    images = torch.randn(8, 3, 2, 2, generator=torch.Generator().manual_seed(0))
    expected = module(images).detach().numpy()
    (actual,) = ReferenceEvaluator(str(tmp_path / "f.onnx")).run(None, {"input": images.numpy()})
    # Logits of up to 64 in float16 are up to 0.03 off.
    np.testing.assert_allclose(actual, expected, atol=0.1)


def test_a_file_says_what_it_is(tmp_path: Path) -> None:
    module = nn.Sequential(nn.Flatten(), nn.Linear(12, 2))
    export(module, tmp_path / "f.onnx", input_shape=(3, 2, 2), labels=["cat", "dog"])
    model = onnx.load(tmp_path / "f.onnx")
    assert model.doc_string == "input batch×3×2×2 → logits batch×2, 2 classes"
    assert (model.model_version, model.producer_name) == (1, "torchlift")
    said = {prop.key: json.loads(prop.value) for prop in model.metadata_props}
    assert (said["inputs"], said["precision"], said["exporter"]) == ("3x2x2", "fp32", EXPORTER)


def test_a_file_of_several_inputs_says_what_they_are(tmp_path: Path) -> None:
    """`check` and `sample` cannot tell a table from several inputs by the graph alone."""

    class Nested(nn.Module):
        def forward(self, input: list[Any]) -> torch.Tensor:
            first, (second, third) = input
            return first + second + third

    export(Nested(), tmp_path / "f.onnx", input_shape="5,[5,5]")
    metadata = read_file(tmp_path / "f.onnx")[1]
    assert metadata.inputs == str(parse_inputs("5,[5,5]"))


class Windows(nn.Module):
    """What torch says in several nodes, and ONNX in one."""

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        quarters = [input[:, i::2, j::2] for j in (0, 1) for i in (0, 1)]
        pair = torch.cat(quarters[:2], 1)
        joined = torch.cat([pair, torch.cat([quarters[2], quarters[3] + 1], 1)], 1)
        count = joined.shape[0]
        windows = joined.reshape(count, 1, 8, 1, 3, 2).permute(0, 1, 3, 2, 4, 5)
        return windows.reshape(count, 24, 2) * pair.abs().sum()


def test_joined_nodes(tmp_path: Path) -> None:
    """A slice of two axes, a join of joins, and a transpose that moves axes of length 1."""
    graph = exported(Windows(), tmp_path / "f.onnx", (2, 6, 4))
    counts = Counter(node.op_type for node in graph.node)
    # Another node takes `pair`, which stays.
    assert (counts["Slice"], counts["Concat"], counts["Transpose"]) == (4, 2, 0)
    assert counts["Reshape"] == 1
