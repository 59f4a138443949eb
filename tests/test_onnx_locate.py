"""Locating the first node that differs reads weights that lie beside the file."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from torchlift.converters.onnx import export
from torchlift.converters.onnx.checker import divergence
from torchlift.converters.onnx.checker.check_inputs import CheckInputs
from torchlift.converters.onnx.checker.pair import ExportPair
from torchlift.converters.onnx.checker.report import Finding
from torchlift.converters.onnx.exporter.tracing import translate
from torchlift.converters.saved import SavedModel


@pytest.fixture(autouse=True)
def translated_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Translate the model once: that takes as long as everything else together."""
    programs: list[torch.onnx.ONNXProgram] = []

    def translate_once(*arguments: Any) -> torch.onnx.ONNXProgram:
        if not programs:
            programs.append(translate(*arguments))
        return programs[0]

    monkeypatch.setattr(divergence, "translate", translate_once)


def located(model: SavedModel, path: Path) -> Finding:
    """Return what `check(locate=True)` finds, without the other parts of a check."""
    pair = ExportPair.open(model, path)
    return divergence.check_nodes(pair, CheckInputs(pair, None, seed=0), tolerance=1e-4)


def test_nodes_are_compared_in_a_file_with_its_weights_beside_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    module = importlib.import_module("torchlift.converters.onnx.exporter.export")
    monkeypatch.setattr(module, "SINGLE_FILE_BYTES", 0)
    torch.manual_seed(0)
    # External data begins at 1 KB: a smaller tensor stays in the file.
    network = nn.Sequential(nn.Flatten(), nn.Linear(48, 32), nn.ReLU(), nn.Linear(32, 3)).eval()
    model = SavedModel(network, "logits", (3, 4, 4))
    written = export(model, tmp_path / "network.onnx")
    assert [file.name for file in written.files] == ["network.onnx", "network.onnx.data"]
    found = located(model, tmp_path / "network.onnx")
    assert found.passed
    assert found.text == "4 nodes compared, none diverges"

    data = tmp_path / "network.onnx.data"
    weights = np.frombuffer(data.read_bytes(), np.float32).copy()
    weights[: 48 * 32] *= 2
    data.write_bytes(weights.tobytes())
    found = located(model, tmp_path / "network.onnx")
    assert not found.passed
    assert found.text.startswith("the first node that diverges is node_linear (Gemm), layer 1:")
