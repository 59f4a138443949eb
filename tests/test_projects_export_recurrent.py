"""Recurrent networks of published projects export by command and give what Torch7 recorded.

Each record's module is exported with `--at` and `--input`, run in ONNX Runtime on the record's
input, and compared by `check`. Records of one module with other batches share a file.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from project_support import Record, records
from test_projects import tensors
from torch.utils import _pytree as pytree

from torchlift.cli.main import main

#: Errors relative to the largest output, or to 1: float32 in another order of summation.
TOLERANCE = 1e-5

#: File and module → `--input`, and the operators that loop.
NETWORKS: dict[tuple[str, str], tuple[str, list[str]]] = {
    ("charrnn_lstm", "protos.rnn"): ("scalar:int64,32,32,32,32", []),
    ("torchrnn_lstm", "model"): ("?:int64", ["LSTM", "LSTM"]),
    ("rnn_lm_lstm", "model"): ("5xN:int64", ["LSTM"]),
    ("rnn_lm_gru", "model"): ("5xN:int64", ["GRU"]),
    ("rnn_lm_recurrence", "model"): ("5xN:int64", ["RNN"]),
    ("neuraltalk2", "protos.lm"): ("20,?xN:int64", ["Scan"]),
    ("neuraltalk2", "protos.lm.core"): ("20,24,24", []),
    ("neuralconvo", "encoder"): ("?xN:int64", ["Scan"]),
    ("neuralconvo", "decoder"): ("?xN:int64", ["Scan"] * 3),
    ("seq2seqattn", "[1][1]"): ("scalar:int64,20,20,20,20", []),
    ("seq2seqattn", "[1][2]"): ("scalar:int64,?x20,20,20,20,20,20", []),
    ("seq2seqattn", "[1][3]"): ("20", []),
    ("seq2seqattn_brnn_chars", "[1][1]"): ("8:int64,20,20,20,20", []),
    ("seq2seqattn_brnn_chars", "[1][2]"): ("scalar:int64,?x20,20,20,20,20,20", []),
    ("seq2seqattn_brnn_chars", "[1][4]"): ("8:int64,20,20,20,20", []),
    ("onmt_rnn", "models.encoder.modules[1]"): ("24,24,24,24,scalar:int64", []),
    ("onmt_rnn", "models.decoder.modules[1]"): ("24,24,24,24,scalar:int64,?x24,24", []),
    ("onmt_rnn", "models.bridge"): ("24,24,24,24", []),
    ("onmt_brnn_gru", "models.encoder.modules[1].modules[1]"): ("10,scalar:int64", []),
    ("onmt_brnn_gru", "models.decoder.modules[1]"): ("20,scalar:int64,?x20,20", []),
    ("onmt_features", "models.encoder.modules[1]"): (
        "20,20,[scalar:int64,[scalar:int64,scalar:int64]]",
        [],
    ),
    ("onmt_lm", "models.encoder.modules[1]"): ("24,24,24,24,scalar:int64", []),
}

#: Other numbers of steps than the file takes: it returns a table of the steps.
OTHER_STEPS = {"rnn_lm_lstm-2", "rnn_lm_gru-2", "rnn_lm_recurrence-2"}

RECORDS = [
    record
    for record in records()
    if record.is_forward
    and record.name not in OTHER_STEPS
    and (record.file.stem, record.path) in NETWORKS
]
STREAMS = [record for record in records() if record.values.get("kind") == "stream"]


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Record, str], Path]:
    """Return a function that exports a record's module once, by command, and checks the file."""
    files: dict[tuple[Path, str, str], Path] = {}

    def export(record: Record, shape: str) -> Path:
        key = record.file, record.path, shape
        if key not in files:
            file = tmp_path_factory.mktemp("onnx") / "network.onnx"
            options = ["--at", record.path, "--input", shape]
            assert main(["export", str(record.file), str(file), *options]) == 0
            assert main(["check", str(record.file), str(file), *options]) == 0
            files[key] = file
        return files[key]

    return export


def feeds(session: onnxruntime.InferenceSession, inputs: list[torch.Tensor]) -> dict[str, Any]:
    """Return a record's inputs as the file takes them, and zeros for the states behind them."""
    values = session.get_inputs()
    dtypes = {"tensor(int64)": np.int64, "tensor(float)": np.float32}
    given = {
        value.name: tensor.numpy().astype(dtypes[value.type])
        for value, tensor in zip(values, inputs, strict=False)
    }
    sizes = {
        name: array.shape[value.shape.index("batch")]
        for (name, array), value in zip(given.items(), values, strict=False)
    }
    (batch,) = set(sizes.values())
    for value in values[len(inputs) :]:
        assert value.name.startswith("state_")
        given[value.name] = np.zeros((batch, *value.shape[1:]), np.float32)
    return given


def assert_close(actual: list[np.ndarray], expected: list[torch.Tensor]) -> None:
    for ours, theirs in zip(actual, expected, strict=False):
        assert ours.shape == tuple(theirs.shape)
        largest = max(1.0, float(theirs.abs().max()))
        assert abs(ours - theirs.numpy()).max() <= TOLERANCE * largest


@pytest.mark.slow
@pytest.mark.parametrize("record", RECORDS, ids=lambda record: record.name)
def test_the_file_gives_what_torch7_recorded(record: Record, exported: Any) -> None:
    shape, loops = NETWORKS[record.file.stem, record.path]
    file = exported(record, shape)
    operators = [node.op_type for node in onnx.load(file).graph.node]
    assert [name for name in operators if name in ("LSTM", "GRU", "RNN", "Scan", "Loop")] == loops
    session = onnxruntime.InferenceSession(file)
    actual = session.run(None, feeds(session, pytree.tree_leaves(tensors(record.values["input"]))))
    expected = pytree.tree_leaves(tensors(record.values["output"]))
    if record.name == "neuraltalk2-4":  # Torch7 stops where all captions have ended.
        (output,) = actual
        assert not output[len(expected[0]) :].any()
        actual = [output[: len(expected[0])]]
    assert_close(actual, expected)


@pytest.mark.slow
@pytest.mark.parametrize("record", STREAMS, ids=lambda record: record.name)
def test_states_go_from_one_call_to_the_next(record: Record, exported: Any) -> None:
    """Pieces of a sequence, with the states between them, give what Torch7 remembered."""
    states: list[np.ndarray] = []
    pieces, outputs = tensors(record.values["input"]), tensors(record.values["output"])
    for piece, expected in zip(pieces, outputs, strict=True):
        by_step = record.name.startswith("rnn_lm")
        shape = f"{len(piece)}xN:int64" if by_step else "?:int64"
        session = onnxruntime.InferenceSession(exported(record, shape))
        given = feeds(session, [piece])
        given |= dict(zip(list(given)[1:], states, strict=False))
        actual = session.run(None, given)
        steps = pytree.tree_leaves(expected)
        assert_close(actual[: len(steps)], steps)
        states = list(actual[len(steps) :])
        assert states
