"""`check(locate=True)` reads weights that lie beside the file."""

from __future__ import annotations

import importlib
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from torchlift.converters.onnx import check, export


def test_nodes_are_compared_in_a_file_with_its_weights_beside_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    module = importlib.import_module("torchlift.converters.onnx.exporter.export")
    monkeypatch.setattr(module, "SINGLE_FILE_BYTES", 0)
    torch.manual_seed(0)
    # External data begins at 1 KB: a smaller tensor stays in the file.
    network = nn.Sequential(nn.Flatten(), nn.Linear(48, 32), nn.ReLU(), nn.Linear(32, 3)).eval()
    written = export(network, tmp_path / "network.onnx", input_shape=(3, 4, 4))
    assert [file.name for file in written.files] == ["network.onnx", "network.onnx.data"]
    report = check(network, tmp_path / "network.onnx", input_shape=(3, 4, 4), locate=True)
    assert report.passed, [*report.lines()]
    assert report.findings[-1].text.endswith("nodes compared, none diverges")

    data = tmp_path / "network.onnx.data"
    weights = np.frombuffer(data.read_bytes(), np.float32).copy()
    weights[: 48 * 32] *= 2
    data.write_bytes(weights.tobytes())
    report = check(network, tmp_path / "network.onnx", input_shape=(3, 4, 4), locate=True)
    assert report.findings[-1].text.startswith("the first node that diverges is")
