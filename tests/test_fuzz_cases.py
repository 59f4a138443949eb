"""Single cases of rules where torchlift once differed from Torch7, written by Torch7 itself.

`fixtures/fuzz/NAME.t7` holds a module, an input and what Torch7 computed; some also hold gradients.
Each goes through the converted module, the saved model, its `model.py` and, where it can be
exported, ONNX Runtime.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
from support import FIXTURES, proof
from test_layers_onnx import LOSS, TRAINING
from torch import nn
from torch.utils import _pytree as pytree

from torchlift.converters import convert, t7
from torchlift.converters.modules import Conversion, convert_recorded
from torchlift.converters.onnx import OnnxError, export
from torchlift.converters.saved import SavedModel, load, save

FILES = sorted((FIXTURES / "fuzz").glob("*.t7"))
NAMES = [file.stem for file in FILES]

#: Torch7 computes these in single precision for doubles too, or adds 1e-7 to a distance.
SINGLE = {
    *("nn.Cosine", "nn.DontCast", "nn.Euclidean", "nn.LayerNormalization", "nn.Normalize"),
    *("nn.PairwiseDistance", "nn.SpatialContrastiveNormalization"),
    *("nn.SpatialDivisiveNormalization", "nn.SpatialGlimpse", "nn.SpatialReSampling"),
    *("nn.SpatialSubtractiveNormalization", "nn.SpatialUpSamplingBilinear", "nn.UpSampling"),
    *("nn.WeightedEuclidean",),
}

ANY_BATCH_SIZE = "the recorded case is not exported, because exports take any batch size"


def case_of(name: str) -> t7.LuaTable:
    table: t7.LuaTable = t7.load(FIXTURES / "fuzz" / f"{name}.t7")
    return table


def tolerance(conversion: Conversion, case: t7.LuaTable) -> float:
    """Return the largest error, relative to the largest value: 1e-5, or 1e-9 for doubles."""
    tensors = pytree.tree_leaves(t7.to_torch([case["input"], case["output"]]))
    floats = {x.dtype for x in tensors if isinstance(x, torch.Tensor) and x.is_floating_point()}
    if floats != {torch.float64}:
        return 1e-5
    classes = {layer.source.class_name for layer in conversion.layers}
    return 2e-6 if classes & SINGLE else 1e-9


def inputs_of(case: t7.LuaTable) -> Any:
    """Return the inputs as leaves of a graph; their strides are those of the file."""
    return pytree.tree_map(
        lambda x: (
            x.clone(memory_format=torch.preserve_format).requires_grad_(x.is_floating_point())
            if isinstance(x, torch.Tensor)
            else x
        ),
        t7.to_torch(case["input"]),
    )


def assert_close(actual: Any, expected: Any, error: float) -> None:
    """Compare nested tensors; shapes, NaN and infinity are equal."""
    actual, expected = pytree.tree_leaves(actual), pytree.tree_leaves(expected)
    assert len(actual) == len(expected)
    for ours, theirs in zip(actual, expected, strict=True):
        ours, theirs = (torch.as_tensor(x).detach().double() for x in (ours, theirs))
        ours = ours.reshape(theirs.shape) if theirs.dim() == 0 else ours
        scale = max(1.0, theirs[theirs.isfinite()].abs().max().item() if theirs.numel() else 0.0)
        torch.testing.assert_close(ours, theirs, rtol=0, atol=error * scale, equal_nan=True)


def run(module: nn.Module, case: t7.LuaTable, inputs: Any) -> Any:
    """Return the output, or the loss of a criterion."""
    if case.get("criterion"):
        return module(inputs, t7.to_torch(case.get("target")))
    return module(inputs)


@pytest.mark.parametrize("name", NAMES)
def test_output_and_gradients_are_torch7s(
    name: str, record_property: Callable[[str, object], None]
) -> None:
    case = case_of(name)
    conversion = convert_recorded(case["module"])
    inputs, error = inputs_of(case), tolerance(conversion, case)
    torch.manual_seed(0)
    output = run(conversion.module, case, inputs)
    assert_close(output, t7.to_torch(case["output"]), error)
    mode = "training" if conversion.module.training else "evaluation"
    mode = "evaluation" if case.get("criterion") else mode
    record_property("proved", proof(conversion, case["class"], mode))
    if case.get("criterion") or mode == "training":
        reason = LOSS if case.get("criterion") else TRAINING
        record_property("proved", proof(conversion, case["class"], "onnx", reason))
    if case.get("gradInput") is None:
        return
    leaves = [x for x in pytree.tree_leaves(inputs) if getattr(x, "requires_grad", False)]
    expected = [
        x
        for x in pytree.tree_leaves(t7.to_torch(case["gradInput"]))
        if isinstance(x, torch.Tensor) and x.is_floating_point()
    ]
    if not leaves or len(leaves) != len(expected):
        return  # An input of whole numbers: Torch7 gives it a gradient, PyTorch none.
    outputs = [x for x in pytree.tree_leaves(output) if x.requires_grad]
    weights: list[Any] = [torch.ones_like(x) for x in outputs]
    if case.get("gradOutput") is not None:
        weights = pytree.tree_leaves(t7.to_torch(case["gradOutput"]))
        weights = [w.reshape(x.shape).to(x) for w, x in zip(weights, outputs, strict=True)]
    gradients = torch.autograd.grad(outputs, leaves, weights, allow_unused=True)
    gradients = [
        torch.zeros_like(x) if g is None else g for x, g in zip(leaves, gradients, strict=True)
    ]
    assert_close(
        [g.reshape(e.shape) for g, e in zip(gradients, expected, strict=True)], expected, 10 * error
    )
    if not list(conversion.module.parameters()):
        # The gradients of parameters are not compared here.
        record_property("proved", proof(conversion, case["class"], "gradients"))


MODULES = [
    name for name in NAMES if not case_of(name).get("criterion") and not name.startswith("nce_z")
]


@pytest.mark.parametrize("name", MODULES)
def test_the_saved_model_and_its_source_compute_it(name: str, tmp_path: Path) -> None:
    case = case_of(name)
    if case.get("mode") == "train":
        pytest.skip("a saved model is in evaluation mode")
    conversion = convert_recorded(case["module"])
    save(SavedModel(conversion.module, "features"), tmp_path / "model")
    spec = importlib.util.spec_from_file_location("model", tmp_path / "model" / "model.py")
    assert spec is not None
    assert spec.loader is not None
    source = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(source)
    inputs, expected = t7.to_torch(case["input"]), t7.to_torch(case["output"])
    for module in (load(tmp_path / "model").module, source.load()):
        assert_close(module(inputs), expected, tolerance(conversion, case))


@pytest.mark.slow
@pytest.mark.parametrize("name", MODULES)
def test_onnx_runtime_computes_it(
    name: str, tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    case = case_of(name)
    inputs, expected = t7.to_torch(case["input"]), t7.to_torch(case["output"])
    conversion = convert_recorded(case["module"])
    if case.get("mode") == "train":
        pytest.skip("an exported network is in evaluation mode")
    leaves = pytree.tree_leaves(inputs)
    are_tensors = all(isinstance(leaf, torch.Tensor) for leaf in leaves)
    if not are_tensors or len({leaf.shape[:1] for leaf in leaves}) != 1:
        pytest.skip("an exported network takes tensors with one batch size")
    inputs = pytree.tree_map(lambda x: x.float() if x.is_floating_point() else x, inputs)
    try:
        export(SavedModel(convert(case["module"]), "features"), tmp_path / "m.onnx", inputs=inputs)
    except OnnxError as error:
        record_property("proved", proof(conversion, case["class"], "onnx", ANY_BATCH_SIZE))
        pytest.skip(f"{ANY_BATCH_SIZE}: {error}")
    session = onnxruntime.InferenceSession(tmp_path / "m.onnx", providers=["CPUExecutionProvider"])
    names = [value.name for value in session.get_inputs()]
    arrays = [x.contiguous().numpy() for x in pytree.tree_leaves(inputs)]
    feed = dict(zip(names, arrays, strict=True))
    actual = [torch.from_numpy(np.asarray(array)) for array in session.run(None, feed)]
    # An exported network keeps a batch of one, which Torch7 may drop.
    wanted = pytree.tree_leaves(expected)
    shaped = [a.reshape(w.shape) for a, w in zip(actual, wanted, strict=True)]
    assert_close(shaped, wanted, 1e-5)
    record_property("proved", proof(conversion, case["class"], "onnx"))
