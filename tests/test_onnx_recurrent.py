"""Recurrent layers become one operator: any number of steps and examples, and any state.

ONNX Runtime runs each file beside the module, whose numbers `test_modules_recurrence` and the
recorded layers compare with torch.nn and Torch7.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir
import onnxruntime
import pytest
import torch
from support import FIXTURES
from torch import nn

from torchlift.converters import convert, t7
from torchlift.converters import onnx as torchlift_onnx
from torchlift.converters.input_shapes import parse_inputs
from torchlift.converters.modules.packages.cudnn_rnn import RecurrentLayers
from torchlift.converters.modules.packages.seq_lstm import SeqGRU, SeqLSTM
from torchlift.converters.modules.packages.torch_rnn import VanillaRNN
from torchlift.converters.onnx.exporter.fp16 import to_half
from torchlift.converters.saved import SavedModel
from torchlift.converters.saved.pt2 import save_pt2

#: float32 in another order of summation.
TOLERANCE = 1e-5
#: Operators that loop.
LOOPS = {"LSTM", "GRU", "RNN", "Scan", "Loop"}


def random_weights(module: nn.Module) -> nn.Module:
    """Return a module with other weights than its constructor's, so that each gate counts."""
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(torch.randn_like(parameter) * 0.4)
    return module.eval()


def loops(file: Path) -> list[str]:
    graph = onnx.load(file).graph
    return [node.op_type for node in graph.node if node.op_type in LOOPS]


def run(session: onnxruntime.InferenceSession, *inputs: torch.Tensor) -> list[np.ndarray]:
    names = [value.name for value in session.get_inputs()]
    feeds = {name: value.numpy() for name, value in zip(names, inputs, strict=True)}
    return list(session.run(None, feeds))


def fast_if(names: Iterable[str], *fast: str) -> list[Any]:
    """Return the names; all but some are for the slow tests."""
    return [name if name in fast else pytest.param(name, marks=pytest.mark.slow) for name in names]


#: Name → the layer, its input, and the loops of the file.
LAYERS: dict[str, tuple[Callable[[], nn.Module], str, list[str]]] = {
    "SeqLSTM": (lambda: SeqLSTM(4, 5), "?xNx4", ["LSTM"]),
    "torch-rnn LSTM": (lambda: SeqLSTM(4, 5, batch_first=True), "?x4", ["LSTM"]),
    "SeqLSTMP": (lambda: SeqLSTM(4, 5, 3), "?xNx4", ["Scan"]),
    "SeqLSTM masked": (lambda: SeqLSTM(4, 5, mask_zero=True), "?xNx4", ["Scan"]),
    "SeqGRU": (lambda: SeqGRU(4, 5), "?xNx4", ["GRU"]),
    "SeqGRU masked": (lambda: SeqGRU(4, 5, mask_zero=True), "?xNx4", ["Scan"]),
    "VanillaRNN": (lambda: VanillaRNN(4, 5), "?x4", ["RNN"]),
    "cudnn LSTM": (lambda: RecurrentLayers("LSTM", 4, 5, 2, True), "?xNx4", ["LSTM"] * 4),
    "cudnn GRU": (lambda: RecurrentLayers("GRU", 4, 5, 1, True), "?xNx4", ["GRU"] * 2),
    "cudnn RNN": (lambda: RecurrentLayers("RNN_TANH", 4, 5, 2), "?xNx4", ["RNN"] * 2),
    "cudnn ReLU": (lambda: RecurrentLayers("RNN_RELU", 4, 5), "?xNx4", ["RNN"]),
    "cudnn batch first": (
        lambda: RecurrentLayers("LSTM", 4, 5, batch_first=True),
        "?x4",
        ["LSTM"],
    ),
    "cudnn skip": (lambda: RecurrentLayers("GRU", 4, 4, skip_input=True), "?xNx4", ["GRU"]),
}


@pytest.mark.parametrize("name", fast_if(LAYERS, "SeqLSTM", "SeqLSTMP", "SeqGRU", "VanillaRNN"))
def test_a_layer_is_one_operator_for_any_number_of_steps(name: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    build, shape, expected = LAYERS[name]
    module, file = random_weights(build()), tmp_path / "layer.onnx"
    torchlift_onnx.export(module, file, input_shape=shape)
    assert loops(file) == expected
    session = onnxruntime.InferenceSession(file)
    for steps in (1, 2, 7, 50):
        for batch in (1, 3):
            sizes = (steps, batch, 4) if "N" in shape else (batch, steps, 4)
            x = torch.randn(sizes)
            x.select(0 if "N" in shape else 1, 0)[:1] = 0  # a masked step
            with torch.no_grad():
                reference = module(x).numpy()
            (actual,) = run(session, x)
            assert actual.shape == reference.shape
            assert abs(actual - reference).max() < TOLERANCE
    assert torchlift_onnx.check(module, file).passed


#: Layers of rnn that take a table of steps → the loops of their file.
STEPS = {
    "rnn_Sequencer_FastLSTM": ["LSTM"],
    "rnn_Sequencer_LSTM": ["LSTM"],
    "rnn_Sequencer_GRU": ["GRU"],
    "rnn_Sequencer_MuFuRu": ["Scan"],
    "rnn_Sequencer_Linear": [],
    "rnn_Recurrent": ["Scan"],
    "rnn_Recursor": ["LSTM"],
    "rnn_BiSequencer": ["LSTM", "LSTM", "Scan"],
}


def layer_of_rnn(name: str) -> tuple[nn.Module, list[torch.Tensor]]:
    """Return a recorded layer, and the steps that Torch7 gave it."""
    cases = t7.load(FIXTURES / "layers" / "packages.t7").values()
    case = next(case for case in cases if case["name"] == name)
    steps: Any = t7.to_torch(case["input"])
    return convert(case["module"]).float().eval(), [step.float() for step in steps]


@pytest.mark.parametrize("name", fast_if(STEPS, "rnn_Sequencer_LSTM"))
def test_a_table_of_steps_is_one_operator(name: str, tmp_path: Path) -> None:
    module, steps = layer_of_rnn(name)
    file, features = tmp_path / "layer.onnx", steps[0].shape[1]
    shape = f"[{','.join([str(features)] * len(steps))}]"
    torchlift_onnx.export(module, file, input_shape=shape)
    assert sorted(loops(file)) == STEPS[name]
    session = onnxruntime.InferenceSession(file)
    for batch in (1, 3):
        given = [torch.randn(batch, features) for _ in steps]
        with torch.no_grad():
            expected = module(given)
        for ours, theirs in zip(run(session, *given), expected, strict=True):
            assert abs(ours - theirs.numpy()).max() < TOLERANCE
    assert torchlift_onnx.check(module, file).passed


@pytest.mark.slow
@pytest.mark.parametrize("name", ["rnn_Sequencer_LSTM", "rnn_Sequencer_MuFuRu", "rnn_Recurrent"])
def test_a_sequencer_of_one_tensor_takes_any_number_of_steps(name: str, tmp_path: Path) -> None:
    module, given = layer_of_rnn(name)
    file, features = tmp_path / "layer.onnx", given[0].shape[1]
    torchlift_onnx.export(module, file, input_shape=f"?xNx{features}")
    session = onnxruntime.InferenceSession(file)
    for steps in (1, 2, 7):
        x = torch.randn(steps, 3, features)
        with torch.no_grad():
            assert abs(run(session, x)[0] - module(x).numpy()).max() < TOLERANCE


@pytest.mark.parametrize(
    "kind", fast_if(["SeqLSTM", "SeqGRU", "cudnn", "VanillaRNN"], "SeqLSTM", "VanillaRNN")
)
def test_remembered_states_are_inputs_and_outputs(kind: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    build: dict[str, Callable[[], nn.Module]] = {
        "SeqLSTM": lambda: SeqLSTM(4, 5, batch_first=True, remember=True),
        "SeqGRU": lambda: SeqGRU(4, 5, batch_first=True, remember=True),
        "cudnn": lambda: RecurrentLayers("LSTM", 4, 5, 2, batch_first=True, remember=True),
        "VanillaRNN": lambda: VanillaRNN(4, 5, remember=True),
    }
    count = {"SeqLSTM": 2, "SeqGRU": 1, "cudnn": 4, "VanillaRNN": 1}[kind]
    module, file = random_weights(build[kind]()), tmp_path / "layer.onnx"
    exported = torchlift_onnx.export(module, file, input_shape="?x4")
    numbers = range(1, count + 1)
    session = onnxruntime.InferenceSession(file)
    inputs = [value.name for value in session.get_inputs()]
    assert inputs == ["input", *(f"state_{number}" for number in numbers)]
    assert exported.outputs == ["output", *(f"new_state_{number}" for number in numbers)]
    x, zero = torch.randn(3, 7, 4), torch.zeros(3, 5)
    first, *states = run(session, x[:, :2], *[zero] * count)
    second, *_ = run(session, x[:, 2:], *map(torch.as_tensor, states))
    with torch.no_grad():
        expected = module(x).numpy()
    assert abs(np.concatenate([first, second], 1) - expected).max() < TOLERANCE
    assert torchlift_onnx.check(module, file).passed


@pytest.mark.slow
@pytest.mark.parametrize("name", ["SeqLSTM", "SeqGRU masked", "cudnn LSTM"])
def test_a_pt2_takes_any_number_of_steps(name: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    build, shape, _ = LAYERS[name]
    module = random_weights(build())
    model = SavedModel(module, "features")
    model.set_inputs(parse_inputs(shape))
    program = torch.export.load(save_pt2(model, tmp_path / "layer.pt2")).module()
    for steps in (2, 7, 50):
        x = torch.randn(steps, 3, 4)
        with torch.no_grad():
            assert float((program(x) - module(x)).abs().max()) < TOLERANCE


@pytest.mark.slow
@pytest.mark.parametrize("name", ["SeqLSTM", "SeqLSTMP", "SeqGRU masked"])
def test_half_precision_leaves_the_loops_in_single(name: str, tmp_path: Path) -> None:
    """Their weights are rounded with the others; the file passes `check`."""
    torch.manual_seed(0)
    build, shape, expected = LAYERS[name]
    module = nn.Sequential(random_weights(build()), nn.Flatten(2)).eval()
    file = tmp_path / "layer.onnx"
    torchlift_onnx.export(module, file, input_shape=shape, fp16=True)
    assert loops(file) == expected
    assert torchlift_onnx.check(module, file).passed


@pytest.mark.parametrize(("operator", "gates"), [("LSTM", 4), ("GRU", 3), ("RNN", 1)])
def test_recurrent_layers_of_fp16_compute_in_float32(operator: str, gates: int) -> None:
    """ONNX Runtime has no others on a CPU, and rounding would add up from step to step."""
    arrays = {
        "W": np.ones((1, 2 * gates, 3), np.float32),
        "R": np.ones((1, 2 * gates, 2), np.float32),
        "factor": np.full(2, 0.5, np.float32),
    }
    nodes = [
        onnx.helper.make_node(operator, ["x", "W", "R"], ["states"], "layer", hidden_size=2),
        onnx.helper.make_node("Mul", ["states", "factor"], ["y"], "mul"),
    ]
    value = onnx.helper.make_tensor_value_info
    graph = onnx.helper.make_graph(
        *(nodes, "g", [value("x", 1, ["steps", "batch", 3])]),
        *([value("y", 1, ["steps", 1, "batch", 2])],),
        [onnx.numpy_helper.from_array(array, name) for name, array in arrays.items()],
    )
    # As in an exported graph: the conversion infers no shape.
    graph.value_info.append(value("states", 1, ["steps", 1, "batch", 2]))
    opset = onnx.helper.make_opsetid("", 18)
    model = onnx.helper.make_model(graph, opset_imports=[opset], ir_version=8)
    half = onnx_ir.to_proto(to_half(onnx_ir.from_proto(model)))
    kinds = {tensor.name: tensor.data_type for tensor in half.graph.initializer}
    assert (kinds["W"], kinds["R"], kinds["factor"]) == (1, 1, onnx.TensorProto.FLOAT16)
    session = onnxruntime.InferenceSession(half.SerializeToString())
    inputs = np.ones((4, 2, 3), np.float32)
    expected = onnxruntime.InferenceSession(model.SerializeToString()).run(None, {"x": inputs})[0]
    assert np.abs(session.run(None, {"x": inputs})[0] - expected).max() < 1e-3
