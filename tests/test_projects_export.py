"""Networks of published projects, exported with `--at` and `--input`, are those of Torch7.

ONNX Runtime gives what Torch7 gave at every recorded batch and size, and `check` passes.
Recurrent networks are in `test_projects_export_recurrent`.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
from project_support import Record, records

from torchlift.cli.main import main
from torchlift.converters import t7

pytestmark = pytest.mark.slow

#: `--input` of each network: the file's name, and the path of the module in it.
NETWORKS: dict[tuple[str, str], str] = {
    ("catgenerator", "G"): "20",
    ("catgenerator", "D"): "3x32x32",
    ("crepe", ""): "258x69",
    ("deepmask", "model.maskBranch"): "18",
    ("deepmask", "model.scoreBranch"): "18",
    ("deepmask", "model.trunk"): "3x64x64",
    ("deepmask", "model.trunk.modules[5]"): "6x?x?",
    ("deepmask_inference", "model.maskBranch"): "18x?x?",
    ("deepmask_inference", "model.scoreBranch"): "18x?x?",
    ("deepmask_inference", "model.trunk"): "3x?x?",
    ("dqn", "best_model"): "4x84x84",
    ("dqn", "model"): "4x84x84",
    ("dqn", "model.modules[3]"): "6x?x?",
    ("eyescream", "D"): "3x16x16,3x16x16",
    ("eyescream", "E"): "10",
    ("eyescream", "G"): "1x16x16,3x16x16",
    ("fairseq_fconv", "module"): "[t:int64,t:int64],[s:int64,s:int64]",
    ("fairseq_layers", "addmul"): "3,3",
    ("fairseq_layers", "grad"): "3",
    ("fairseq_layers", "seq"): "1x3,7x3",
    ("fairseq_layers", "tbc"): "?xNx4",
    ("fairseq_layers", "tbc0"): "?xNx4",
    ("fairseq_layers", "weightnorm"): "?xNx4",
    ("fairseq_layers", "zip"): "[3,3],4",
    ("faststyle_batch", "model"): "3x?x?",
    ("faststyle_instance", "model"): "3x?x?",
    ("faststyle_none", "model"): "3x?x?",
    ("multipathnet_parallel", ""): "4",
    ("neuraltalk2", "protos.cnn"): "3x32x32",
    ("neuraltalk2_expander", "expander"): "5",
    ("shakeshake_batch", ""): "3x32x32",
    ("shakeshake_image", ""): "3x32x32",
    ("shakeshake_table", ""): "4x6x6",
    ("shakeshake_table", "modules[2]"): "4x2x2,4x2x2,4x2x2",
    ("sharpmask", "model"): "3x64x64",
    ("sharpmask", "model.maskBranchDM"): "18",
    ("sharpmask", "model.neths[2]"): "16x?x?",
    ("sharpmask", "model.refs[1]"): "24x2x2,16x2x2",
    ("sharpmask", "model.scoreBranch"): "18",
    ("sharpmask", "model.trunk"): "3x64x64",
    ("visdial_layers", "future"): "3x3",
    ("visdial_layers", "replace"): "6",
    ("visdial_layers", "softmax"): "n,n:uint8",
    ("visdial_layers", "time"): "?xN:int64,4",
    ("xnornet_alexnet", ""): "3x99x99",
}
#: Records of one example without a batch, which an exported file does not take, and of weights
#: that the project does not run.
LEFT_OUT = {"crepe-3", "dqn-3", "xnornet_alexnet-2"}
#: float32 in another order of summation, relative to the largest output or 1.
TOLERANCE = 1e-5


def networks() -> Iterator[list[Record]]:
    """Yield the records of each network."""

    def network(record: Record) -> tuple[str, str]:
        return record.file.stem, record.path

    forward = [record for record in records() if record.is_forward]
    for key, found in groupby(sorted(forward, key=network), network):
        if key in NETWORKS:
            yield list(found)


def leaves(value: Any) -> list[np.ndarray]:
    """Return the arrays of nested tables, depth first."""
    if isinstance(value, t7.LuaTable):
        return [leaf for item in value.to_list() for leaf in leaves(item)]
    return [np.asarray(value)]


@pytest.mark.parametrize(
    "found", list(networks()), ids=lambda found: f"{found[0].file.stem}-{found[0].path}"
)
def test_the_exported_network_is_that_of_torch7(
    found: list[Record], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file, path = found[0].file, found[0].path
    options = ["--input", NETWORKS[file.stem, path], *(["--at", path] if path else [])]
    target = str(tmp_path / "net.onnx")
    assert main(["export", str(file), target, *options]) == 0, capsys.readouterr().err
    session = onnxruntime.InferenceSession(target, providers=["CPUExecutionProvider"])
    kinds = {"tensor(float)": np.float32, "tensor(int64)": np.int64, "tensor(uint8)": np.uint8}
    for record in found:
        if record.name in LEFT_OUT or record.values["mode"] != "eval":
            continue
        arrays = leaves(record.values["input"])
        feeds = {
            value.name: array.astype(kinds[value.type])
            for value, array in zip(session.get_inputs(), arrays, strict=True)
        }
        for actual, expected in zip(
            session.run(None, feeds), leaves(record.values["output"]), strict=True
        ):
            assert actual.shape == expected.shape
            largest = max(1.0, float(np.abs(expected).max()))
            assert np.abs(actual - expected).max() <= TOLERANCE * largest, record.name
    assert main(["check", str(file), target, *options[2:]]) == 0, capsys.readouterr().out
