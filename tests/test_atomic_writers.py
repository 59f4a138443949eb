"""Whatever writes a file or a folder writes it beside the target and renames it at the end.

`test_files` shows that `atomic_path` writes all or nothing; here each writer is shown to use it. It
is killed before its first rename: what was at the target is still there, byte for byte, and nothing
is beside it. A writer that opens the target itself ends without noticing the kill.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace
from typing import Any, BinaryIO

import numpy as np
import onnx
import onnx_ir
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from PIL import Image
from torch import nn

from torchlift.cli.apply import _apply_to
from torchlift.cli.demo import _save_first_image
from torchlift.cli.evaluate import _write
from torchlift.cli.main import main
from torchlift.cli.model_options import OutputOptions
from torchlift.cli.plot import _save_arrays
from torchlift.cli.sample_images import sample_images
from torchlift.converters import files, t7
from torchlift.converters.inference import TorchPredictor
from torchlift.converters.inference.metadata import Metadata
from torchlift.converters.onnx import (
    CheckReport,
    annotate,
    export,
    triton_version,
    write_check_report,
)
from torchlift.converters.onnx.checker.report import Finding
from torchlift.converters.saved import SavedModel, save
from torchlift.converters.saved.pt2 import save_pt2
from torchlift.transfer.data import Dataset, Splits
from torchlift.transfer.data.write_image_folder import write_image_folder
from torchlift.transfer.data.writing import write_npz
from torchlift.transfer.evaluation import outcomes, summarize, write_evaluation
from torchlift.transfer.features.files import write_features
from torchlift.transfer.features.store import create_store, open_store
from torchlift.transfer.network_description import write_weights
from torchlift.transfer.plots.figures import save_figure
from torchlift.transfer.reports import Page, write_lab_report
from torchlift.transfer.runs import RunSummary
from torchlift.transfer.sweep import Sweep
from torchlift.transfer.training.checkpoints import TrainingState, save_checkpoint
from torchlift.transfer.training.run_folder import RunFolder, open_run

#: Modules of the same names as the functions in them.
EXPORT = import_module("torchlift.converters.onnx.exporter.export")
QUANTIZE = import_module("torchlift.converters.onnx.quantizer.quantize")


class Killed(BaseException):
    """What nothing catches, as a kill."""


def onnx_model(number: int) -> onnx.ModelProto:
    values = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", 3])
        for name in ("input", "output")
    ]
    weight = numpy_helper.from_array(np.full((1, 3), number, np.float32), "weight")
    node = helper.make_node("Add", ["input", "weight"], ["output"])
    graph = helper.make_graph([node], "graph", values[:1], values[1:], [weight])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)


def export_onnx(folder: Path, number: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        # Tracing takes seconds, and is not what is tested.
        patch.setattr(EXPORT, "trace", lambda *_, **__: onnx_ir.from_proto(onnx_model(number)))
        export(nn.Identity(), folder / "model.onnx", inputs=torch.zeros(2, 3), overwrite=True)


def export_onnx_with_weights_beside(folder: Path, number: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(EXPORT, "SINGLE_FILE_BYTES", 0)
        export_onnx(folder, number)


def quantized_onnx(folder: Path, number: int) -> None:
    QUANTIZE._write(onnx_model(number), Metadata(), folder / "int8.onnx")


def check_report(folder: Path, number: int) -> None:
    findings = [Finding("finite", True, f"text {number}")]
    write_check_report(CheckReport(str(folder / "m.onnx"), "", "data", "fp16", 0.1, findings, []))


def torch7_file(folder: Path, number: int) -> None:
    t7.save({"number": number}, folder / "value.t7")


def linear(number: int) -> SavedModel:
    network = nn.Sequential(nn.Flatten(), nn.Linear(3, 2)).eval()
    return SavedModel(network, "logits", (3, 1, 1), notes=[f"note {number}"])


def saved_model(folder: Path, number: int) -> None:
    save(linear(number), folder / "model", overwrite=True)


def exported_program(folder: Path, number: int) -> None:
    def write(_: object, stream: BinaryIO, extra_files: dict[str, str]) -> None:
        stream.write(extra_files["config.json"].encode())

    with pytest.MonkeyPatch.context() as patch:
        # Tracing takes seconds here too.
        patch.setattr(torch.export, "export", lambda *_, **__: None)
        patch.setattr(torch.export, "save", write)
        save_pt2(linear(number), folder / "model.pt2", overwrite=True)


def figure(folder: Path, number: int) -> None:
    from matplotlib.figure import Figure

    drawn = Figure(figsize=(1, 1))
    drawn.text(0, 0, str(number))
    save_figure(drawn, folder / "figure.svg")


def evaluation(folder: Path, number: int) -> None:
    classes = np.array([0, number])
    write_evaluation(summarize(outcomes(np.eye(2), "logits", classes), ["a", "b"]), folder)


def splits(number: int) -> Splits[Dataset]:
    data = Dataset(np.full((4, 1, 2, 2), number, np.uint8), np.array([0, 1, 0, 1]), ("a", "b"))
    return Splits(data, data.take(np.arange(0)), data.take(np.arange(2)))


def dataset(folder: Path, number: int) -> None:
    write_npz(splits(number), folder / "data.npz")


ROW = {"epoch": 1.0, "train_loss": 0.5, "train_accuracy": 0.5, "val_accuracy": 0.5, "val_loss": 1.0}


def checkpoint(folder: Path, number: int) -> None:
    network = nn.Linear(2, 2)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1)
    history = [{**ROW, "epoch": float(epoch + 1)} for epoch in range(number + 1)]
    save_checkpoint(folder, TrainingState(network, optimizer, None, None, history, [1.0]))


def metrics(folder: Path, number: int) -> None:
    RunFolder(folder).write_metrics([ROW] * (number + 1), [1.0])


def range_test(folder: Path, number: int) -> None:
    facts = folder / "run.json"
    if not facts.exists():
        facts.write_text('{"torchlift": "0.2.0", "inputs": {}}', encoding="utf-8")
    RunFolder(folder).write_range_test([0.1, float(number)], [1.0, 2.0], 0.01)


def evaluation_of_a_run(folder: Path, number: int) -> None:
    RunFolder(folder).write_evaluation({"accuracy": number})


def run(folder: Path, number: int) -> None:
    """The first run is resumed, with other options that may change."""
    open_run(folder / "run", {"epochs": number}, {"data": "0"}, resume=True, overwrite=False)


def new_run(folder: Path, number: int) -> None:
    open_run(folder / f"run-{number}", {"epochs": 1}, {"data": "0"}, resume=False, overwrite=False)


MANIFEST = {
    "format_version": 2,
    "torchlift": "0.2.0",
    "model": "a digest",
    "features": {"a": (2,)},
    "layers": {"a": "Linear"},
    "backend": "torch",
    "preprocessing": None,
    "pool": "none",
    "flatten": False,
    "dtype": "float32",
    "batch_size": 4,
    "chunk": 4,
    "data": {"fingerprint": "a digest", "count": 6, "classes": ["x", "y"]},
}


def store(folder: Path, number: int) -> None:
    columns = {"labels": np.array([0, 1, 0, 1, 0, number])}
    create_store(folder / "features", MANIFEST, columns, overwrite=True)


def features(folder: Path, number: int) -> None:
    create_store(folder / "features", MANIFEST, {"labels": None})
    with open_store(folder / "features").writer() as write:
        for chunk in (0, 1):
            write(chunk, [np.full((4 - 2 * chunk, 2), number, np.float32)])


def feature_file(suffix: str) -> Callable[[Path, int], None]:
    def write(folder: Path, number: int) -> None:
        values = np.full((6, 2), number, np.float32)
        stub: Any = SimpleNamespace(layers={"a": (2,)}, count=6, read=lambda _: Dataset(values))
        write_features(stub, folder / f"features.{suffix}", suffix)

    return write


def report(folder: Path, number: int) -> None:
    write_lab_report(Page(f"Title {number}", "Introduction.", [], []), folder)


def sweep(folder: Path, number: int) -> None:
    stub: Any = SimpleNamespace(path=folder)
    Sweep._write(stub, "results.csv", f"{number}\n")


def tensor(folder: Path, number: int) -> None:
    source = folder.parent / f"tensor-{number}.t7"
    if not source.exists():
        t7.save({"a": np.full(3, number, np.float32)}, source)
    assert main(["cat", str(source), "a", "--output", str(folder / "a.npy"), "--overwrite"]) == 0


def values(folder: Path, number: int) -> None:
    source = folder.parent / f"values-{number}.t7"
    if not source.exists():
        t7.save({"a": np.full(3, number, np.float32)}, source)
    assert main(["dump", str(source), str(folder / "values.npz"), "--overwrite"]) == 0


def applied_image(folder: Path, number: int) -> None:
    source = folder.parent / "image.png"
    if not source.exists():
        Image.new("L", (2, 2)).save(source)
    made: Any = lambda image, mask: Image.new("L", (2, 2), number)  # noqa: E731 - a network
    _apply_to(made, source, folder / "out.png", None)


def sampled_images(folder: Path, number: int) -> None:
    """The images of a generator that gives its noise."""
    network = nn.ConvTranspose2d(1, 1, 1, bias=False)
    network.weight.data.fill_(number + 1)
    predictor = TorchPredictor(SavedModel(nn.Sequential(network), "features"), "cpu")
    options: dict[str, Any] = {"seed": 0, "noise": "normal", "provider": "cpu", "overwrite": True}
    options["model_options"] = SimpleNamespace(predictor=lambda model, provider: predictor)
    options["output_options"] = OutputOptions(output_range=[-9.0, 9.0])
    sample_images("net", str(folder / "out.png"), (2, 2), **options)


def annotated_onnx(folder: Path, number: int) -> None:
    source = folder.parent / "source.onnx"
    if not source.exists():
        onnx.save(onnx_model(1), source)
    labels = [f"{number}", "b", "c"]
    annotate(source, folder / "annotated.onnx", labels=labels, overwrite=True)


def triton_model(folder: Path, number: int) -> None:
    """The first version of a model, and a second one."""
    with triton_version(folder / "model" / f"{number + 1}") as file:
        onnx.save(onnx_model(number), file)


def image_folder(folder: Path, number: int) -> None:
    write_image_folder(splits(number).train, folder / f"images-{number}")


def weights(folder: Path, number: int) -> None:
    network = nn.Linear(2, 2)
    nn.init.constant_(network.weight, number)
    write_weights(network, folder)


def table_of_runs(folder: Path, number: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        found = [RunSummary(f"run-{number}", "failed", {"network": "softmax", "seed": 0})]
        patch.setattr("torchlift.transfer.runs.find_runs", lambda place: found)
        assert main(["runs", "none", "--output", str(folder / "runs.md"), "--overwrite"]) == 0


def arrays_of_a_plot(folder: Path, number: int) -> None:
    drawn: Any = SimpleNamespace(arrays={"a": np.full(2, number)})
    _save_arrays(str(folder / "arrays.npz"), drawn)


def results_of_a_model(folder: Path, number: int) -> None:
    """A folder, of which each file is written as a whole too."""

    def write(name: str, result: Any, place: Path, *_: Any) -> list[Path]:
        place.mkdir(exist_ok=True)
        (place / name).write_text(f"{result}", encoding="utf-8")
        return [place / name]

    with pytest.MonkeyPatch.context() as patch:
        writers = ("evaluation.write_evaluation", "plots.evaluation.save_evaluation_figures")
        for name in writers:
            patch.setattr(f"torchlift.transfer.{name}", partial(write, name))
        result: Any = number
        _write(result, splits(0).train, folder / "results")


def first_image_of_a_demo(folder: Path, number: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("torchlift.transfer.data.read_dataset", lambda file: splits(number).train)
        _save_first_image("digits", folder / "digit.png")


WRITERS: dict[str, Callable[[Path, int], None]] = {
    writer.__name__: writer
    for writer in (
        *(export_onnx, export_onnx_with_weights_beside, quantized_onnx, check_report),
        *(torch7_file, saved_model, exported_program, figure, evaluation, dataset, checkpoint),
        *(metrics, range_test, evaluation_of_a_run, run, new_run, store, features, report, sweep),
        *(tensor, values, applied_image, sampled_images, annotated_onnx, triton_model),
        *(image_folder, weights, table_of_runs, arrays_of_a_plot, results_of_a_model),
        first_image_of_a_demo,
    )
} | {f"features_{suffix}": feature_file(suffix) for suffix in ("t7", "npz")}


def contents(folder: Path) -> dict[str, bytes | None]:
    return {
        str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None
        for path in sorted(folder.rglob("*"))
    }


@pytest.mark.parametrize("name", WRITERS)
def test_a_kill_before_the_rename_leaves_what_was_there(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write, folder = WRITERS[name], tmp_path / "folder"
    folder.mkdir()
    for source in ("tensor", "values"):
        t7.save({"a": np.ones(3, np.float32)}, tmp_path / f"{source}-1.t7")
    write(folder, 0)
    before = contents(folder)

    def kill(source: Path, target: Path) -> None:
        assert source.exists()
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(files, "_exchange", kill)
        patch.setattr(Path, "rename", kill)
        patch.setattr(Path, "replace", kill)
        with pytest.raises(Killed):
            write(folder, 1)
    assert contents(folder) == before
    # Without the kill there is something else: the writer had something to write.
    write(folder, 1)
    assert contents(folder) != before
