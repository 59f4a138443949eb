"""Checkpoints that Torch7 wrote with the Lua of published projects compute what Torch7 computed.

Each record is a module in such a file, an input and the output of Torch7 (see `project_support`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from project_support import Record, records
from support import FIXTURES, proof, relative_error
from test_layers_onnx import leaves, run_in_onnx
from torch import nn

from torchlift.converters import t7
from torchlift.converters.modules.find import load_conversion
from torchlift.converters.modules.packages.whole_sequences import one_sequence

RECORDS = list(records())
FORWARD = [record for record in RECORDS if record.is_forward]
#: What this project has of them in evaluation mode: these are shown in `docs/coverage.md`.
COVERED = [
    record
    for record in FORWARD
    if record.file.parent.parent == FIXTURES and record.values["mode"] == "eval"
]
STREAMS = [record for record in RECORDS if record.values.get("kind") in ("stream", "steps")]

#: Records that a converted module does not give, and why.
NOT_GIVEN = {
    "xnornet_alexnet-2": "the weights as they are stored, which the project never runs",
}
#: Steps that are calls of the project's own code, with several modules in turn.
SEVERAL_MODULES = {"fairseq_fconv_fast-3"}
#: float32 in another order of summation, relative to the largest output or 1.
TOLERANCE = 1e-5


def tensors(value: Any) -> Any:
    """Return nested tables of arrays as lists of tensors."""
    if isinstance(value, t7.LuaTable):
        return [tensors(item) for item in value.to_list()]
    return torch.as_tensor(t7.to_torch(value))


def assert_close(actual: Any, expected: Any) -> None:
    if isinstance(expected, list):
        assert len(actual) == len(expected)
        for ours, theirs in zip(actual, expected, strict=True):
            assert_close(ours, theirs)
        return
    assert actual.shape == expected.shape
    largest = max(1.0, float(expected.abs().max()))
    assert float((actual.double() - expected.double()).abs().max()) <= TOLERANCE * largest


def converted(record: Record) -> nn.Module:
    module = load_conversion(record.file, record.path).module
    module.train(record.values["mode"] == "train")
    if record.name == "fairseq_fconv_fast-1":  # "in training mode without dropout"
        for layer in module.modules():
            if isinstance(layer, nn.Dropout):
                layer.eval()
    return module


def run(module: nn.Module, input: Any) -> Any:
    with torch.no_grad():
        return module(input)


@pytest.mark.parametrize("record", FORWARD, ids=lambda record: record.name)
def test_the_output_is_that_of_torch7(
    record: Record, record_property: Callable[[str, object], None]
) -> None:
    if record.name in NOT_GIVEN:
        pytest.skip(NOT_GIVEN[record.name])
    output, expected = run(converted(record), tensors(record.values["input"])), record.values
    expected = tensors(expected["output"])
    if record.name == "neuraltalk2-4":
        # All captions have ended: Torch7 stops, and the other steps are zeros.
        assert not output[len(expected) :].any()
        output = output[: len(expected)]
    assert_close(output, expected)
    if record in COVERED:
        conversion = load_conversion(record.file, record.path)
        recorded = proof(conversion, record.values["class"], "evaluation", "")
        record_property("proved", recorded)


@pytest.mark.slow
@pytest.mark.parametrize("record", COVERED, ids=lambda record: record.name)
def test_onnx_runtime_computes_the_output_of_torch7(
    record: Record, record_property: Callable[[str, object], None]
) -> None:
    """Relative to the largest output, 1e-4: see `test_layers_onnx`."""
    conversion = load_conversion(record.file, record.path)
    outputs = run_in_onnx(conversion.module.eval(), tensors(record.values["input"]))
    expected = leaves(tensors(record.values["output"]))
    record_property("proved", proof(conversion, record.values["class"], "onnx"))
    for output, expected_output in zip(outputs, expected, strict=True):
        assert relative_error(output, expected_output) < 1e-4


@pytest.mark.parametrize("record", STREAMS, ids=lambda record: record.name)
def test_a_sequence_in_pieces_is_that_of_torch7(record: Record) -> None:
    """Pieces given one after the other continue; here they are one sequence."""
    if record.name in SEVERAL_MODULES:
        pytest.skip("steps of several modules, called by the project's own code")
    pieces, expected = tensors(record.values["input"]), tensors(record.values["output"])
    module = converted(record)
    if record.values["kind"] == "stream":
        time = 1 if record.name.startswith("torchrnn") else 0
        outputs = run(module, torch.cat(pieces, time))
        flat = [step for piece in expected for step in piece] if time == 0 else expected
        assert_close(outputs if time == 0 else list(outputs.split([4, 3], 1)), flat)
        return
    with one_sequence(module):
        for number, (step, output) in enumerate(zip(pieces, expected, strict=True), 1):
            assert_close(run(module, step), output)
            if number == 3:  # `shiftState(2, 1)` exchanges the rows of the batch.
                layer: Any = module
                layer.step_state = [state.flip(0) for state in layer.step_state]


def test_a_binary_network_says_so() -> None:
    for record in FORWARD:
        if record.name == "xnornet_alexnet-1":
            notes = [note.text for note in load_conversion(record.file).notes]
            assert any("6 convolutions are binary" in text for text in notes)


def test_a_layer_of_several_objects_ends_where_it_ends() -> None:
    """`nn.ModelParallelTable` writes its modules one by one; what follows it is not lost."""
    (file,) = {r.file for r in RECORDS if r.file.name == "multipathnet_parallel.t7"}
    layer = t7.load(file)
    assert len(layer["modules"]) > 1
    both = t7.loads(t7.dumps(t7.LuaTable({"model": layer, "after": 3.0})))
    assert both["after"] == 3
    assert t7.dumps(both["model"]) == t7.dumps(layer)
    assert t7.dumps(layer) == file.read_bytes()
