"""What the exporter computes ahead of the first run, and what it leaves to the graph."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from torch import nn

from torchlift.converters.input_shapes import InputShapeError, interface_names
from torchlift.converters.onnx import export
from torchlift.converters.onnx.checker.graph_checks import unfolded_nodes
from torchlift.converters.onnx.exporter.export import as_saved_model
from torchlift.converters.onnx.exporter.optimizer import is_large
from torchlift.converters.onnx.exporter.outputs import output_name


@pytest.mark.parametrize(
    ("operator", "inputs", "large"),
    [
        ("Add", [[2**20], [2**20]], False),
        ("ConstantOfShape", [[2**16]], False),
        ("ConstantOfShape", [[2**8, 2**8 + 1]], True),
        ("Tile", [[1, 2, 3, 4], [2**14]], False),
        ("Tile", [[1, 2, 3, 4], [2**14 + 1]], True),
        ("Expand", [[1], [2**16]], False),
        ("Expand", [[1], [2, 2**15 + 1]], True),
        ("Range", [0, 2**16, 1], False),
        ("Range", [0, 2**16 + 1, 1], True),
        ("Range", [2**16 + 1, 0, -1], True),
        ("Range", [0, 2**17, 4], False),
        ("Range", [0, 1, 0], True),
    ],
)
def test_at_most_65536_numbers_are_made_of_constants(
    operator: str, inputs: list, large: bool
) -> None:
    assert is_large(operator, [np.array(value) for value in inputs]) == large


def test_what_depends_on_an_unknown_input_is_not_computed_ahead() -> None:
    assert is_large("Expand", [np.array([1]), None])
    assert not is_large("Add", [None, None])


class Expanding(nn.Module):
    """A constant that is expanded to a million numbers, which a file need not contain."""

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        return input.flatten(1).sum(1, keepdim=True) + torch.full((2**20,), 0.5).sum()


def test_a_large_constant_is_not_stored(tmp_path: Path) -> None:
    export(Expanding(), tmp_path / "e.onnx", input_shape=(1, 2, 2), output_kind="features")
    assert (tmp_path / "e.onnx").stat().st_size < 2**16


@pytest.mark.parametrize(
    ("layer", "operator"),
    [
        (nn.Conv2d(4, 6, 3, bias=False), "Conv"),
        (nn.ConvTranspose2d(4, 6, 3, groups=2), "ConvTranspose"),
        (nn.Sequential(nn.Flatten(), nn.Linear(4 * 25, 6)), "Gemm"),
    ],
    ids=["conv", "transposed", "linear"],
)
def test_a_normalization_behind_a_layer_costs_nothing(
    layer: nn.Module, operator: str, tmp_path: Path
) -> None:
    norm = nn.BatchNorm1d(6) if operator == "Gemm" else nn.BatchNorm2d(6)
    network = nn.Sequential(layer, norm, nn.ReLU(), nn.Flatten())
    export(network, tmp_path / "n.onnx", input_shape=(4, 5, 5), output_kind="features")
    model = onnx.load(tmp_path / "n.onnx")
    operators = [node.op_type for node in model.graph.node]
    assert operator in operators
    assert "BatchNormalization" not in operators
    assert unfolded_nodes(model) == []
    assert model.ir_version == 8
    names = [value.name for value in (*model.graph.input, *model.graph.output)]
    assert names == ["input", "output"]
    # No weight is stored twice, or without need.
    stored = [tensor.name for tensor in model.graph.initializer]
    used = {name for node in model.graph.node for name in node.input}
    assert set(stored) <= used


def test_equal_layers_share_what_they_store_and_compute(tmp_path: Path) -> None:
    """Twice the same function of the input is computed once."""

    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear = nn.Linear(4, 3)

        def forward(self, input: torch.Tensor) -> torch.Tensor:
            flat = input.flatten(1)
            return self.linear(flat) * self.linear(flat).relu()

    export(Twice(), tmp_path / "t.onnx", input_shape=(1, 2, 2), output_kind="features")
    operators = [node.op_type for node in onnx.load(tmp_path / "t.onnx").graph.node]
    assert operators.count("Gemm") == 1


def test_names_of_inputs_and_outputs() -> None:
    assert interface_names("input", 1) == ["input"]
    assert interface_names("input", 3) == ["input_1", "input_2", "input_3"]
    kinds = ("logits", "log_probabilities", "probabilities", "features")
    assert [output_name(kind) for kind in kinds] == [*kinds[:3], "output"]


def test_details_that_are_not_given_are_the_models() -> None:
    model = as_saved_model(nn.Linear(2, 2), input_shape=(1, 1, 2), labels=["a", "b"])
    assert as_saved_model(model) == model
    again = as_saved_model(model, output_kind="features")
    assert (again.input_shape, again.labels, again.output_kind) == (
        (1, 1, 2),
        ["a", "b"],
        "features",
    )
    assert str(as_saved_model(model, input_shape=(2,)).input_shapes) == "2"
    with pytest.raises(InputShapeError, match="2x-1"):
        as_saved_model(model, input_shape="2x-1")


class Attention(nn.Module):
    """Attention behind a normalization, with the batch in front, as in a vision transformer."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(16)
        self.attention = nn.MultiheadAttention(16, 2, batch_first=True)

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        values = self.norm(input)
        return self.attention(values, values, values, need_weights=False)[0]


def test_no_normalization_is_transposed_before_a_product(tmp_path: Path) -> None:
    """In float16 ONNX Runtime crashes on it (seen from 1.23 to 1.32), not only here."""
    network, inputs = Attention().eval(), torch.randn(3, 5, 16)
    export(network, tmp_path / "half.onnx", inputs=inputs, fp16=True)
    graph = onnx.load(tmp_path / "half.onnx").graph
    operators = {output: node.op_type for node in graph.node for output in node.output}
    products = [node for node in graph.node if node.op_type == "MatMul"]
    weights = {tensor.name for tensor in graph.initializer}
    by_weights = [node for node in products if node.input[1] in weights]
    assert by_weights
    assert "Transpose" not in {operators.get(node.input[0]) for node in by_weights}
    session = onnxruntime.InferenceSession(tmp_path / "half.onnx")
    (outputs,) = session.run(None, {session.get_inputs()[0].name: inputs.numpy()})
    with torch.no_grad():
        torch.testing.assert_close(torch.from_numpy(outputs), network(inputs), rtol=1e-2, atol=1e-3)
