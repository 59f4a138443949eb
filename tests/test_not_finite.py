"""Numbers that are not numbers: no command and no call makes an answer of them.

What is protected: a model, data or a result with NaN or infinity in it is one sentence with the
first place and exit code 1, in every command that computes with it; commands that only look say it
in a note; and programs that read JSON never see NaN.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper
from support import FIXTURES
from torch import nn

from torchlift.cli.main import main
from torchlift.converters import t7
from torchlift.converters.errors import NotFiniteError
from torchlift.converters.finite import first_not_finite, require_finite, spelled
from torchlift.converters.inference import Classifier, TorchPredictor
from torchlift.converters.inference.onnx_weights import first_not_finite_weight
from torchlift.converters.modules.finite import first_not_finite_parameter
from torchlift.converters.onnx import export
from torchlift.converters.saved import SavedModel, load, save

DATA = str(FIXTURES / "digits" / "digits-test.t7")
#: Where the damaged weight is; the exporter folds the normalization but keeps the name.
PLACE = r"0\.weight\[0, 0, 1, 2\] is nan \(1 of 150 numbers are NaN or infinite\)"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A network of which one weight is NaN, in each format, and data with one NaN."""
    folder = tmp_path_factory.mktemp("weights")
    model = load(FIXTURES / "0.1.0" / "model")
    export(model, folder / "whole.onnx")
    save(model, folder / "whole")
    graph = onnx.load(folder / "whole.onnx")
    tensor = next(each for each in graph.graph.initializer if each.name == "0.weight")
    values = numpy_helper.to_array(tensor).copy()
    values[0, 0, 1, 2] = np.nan
    tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))
    onnx.save(graph, folder / "m.onnx")
    next(model.module.parameters()).data[0, 0, 1, 2] = torch.nan
    save(model, folder / "m")
    pixels = np.zeros((4, 1, 32, 32), np.float32)
    pixels[2, 0, 3, 4] = np.inf
    np.savez(folder / "images.npz", x=pixels, y=[0, 1, 0, 1])
    np.savez(folder / "labels.npz", x=np.zeros((4, 1, 32, 32), np.uint8), y=[0, 1, np.nan, 1])
    weights = torch.full((2, 4), 1.0)
    weights[1, 3] = torch.inf
    linear = {"weight": weights, "bias": weights[:, 0].clone(), "gradInput": torch.zeros(0)}
    t7.save(t7.LuaObject("nn.Linear", t7.LuaTable(linear)), folder / "m.t7")
    t7.save(t7.LuaTable({"mean": torch.nan, "std": 1.0}), folder / "mean.t7")
    return folder


def run(line: str, folder: Path) -> int:
    return main([word.replace("{}", str(folder)).replace("DATA", DATA) for word in line.split()])


@pytest.mark.parametrize(
    "line",
    [
        "predict {}/m.onnx DATA",
        "predict {}/m DATA",
        "evaluate {}/m.onnx DATA --limit 20",
        "evaluate {}/m DATA --limit 20",
        "export {}/m {}/new.onnx",
        "convert {}/m {}/new.onnx",
        "finetune {}/m DATA --epochs 1 --output {}/run",
        "finetune {}/m DATA --head probe --epochs 1 --output {}/run",
        "finetune {}/m DATA --head keep --epochs 1 --output {}/run",
        "extract {}/m DATA {}/features --limit 20",
        "extract {}/m DATA {}/features --limit 20 --backend onnxruntime",
        "quantize {}/m.onnx {}/int8.onnx --data DATA --limit 20",
        "quantize {}/m.onnx {}/int8.onnx --data DATA --limit 20 --dynamic",
        "plot confusion {}/m --data DATA --limit 20 --output {}/plot.png",
        "plot samples DATA --model {}/m.onnx --limit 3 --output {}/plot.png",
        "plot filters {}/m --output {}/plot.png",
        "plot feature-maps {}/m --image DATA --output {}/plot.png",
    ],
)
def test_a_damaged_weight_is_one_sentence_with_its_place(
    line: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = {path.name for path in folder.iterdir()}
    assert run(f"{line} --json", folder) == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    assert re.search(PLACE, captured.err)
    assert len(captured.err.strip().splitlines()) == 1
    assert {path.name for path in folder.iterdir()} == before


def test_check_fails_for_a_damaged_file(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("check {}/whole {}/m.onnx", folder) == 1
    assert "NaN in 0.weight" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("line", "place"),
    [
        ("inspect {}/m", PLACE),
        ("inspect {}/m.onnx", PLACE),
        ("inspect {}/m.t7", r"weight\[1, 3\] is inf"),
        ("cat {}/m.t7 weight", r"weight\[1, 3\] is inf \(1 of 8 numbers are NaN or infinite\)"),
        ("convert {}/m.t7 {}/new", r"not all parameters are numbers: weight\[1, 3\] is inf"),
    ],
)
def test_commands_that_only_look_say_it_in_a_note(
    line: str, place: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(f"{line} --json", folder) == 0
    document = json.loads(capsys.readouterr().out, parse_constant=pytest.fail)
    assert any(re.search(place, note) for note in document["notes"])


@pytest.mark.parametrize("output", ["w.npy", "w.t7"])
def test_a_value_that_is_saved_is_looked_at_too(
    output: str, tmp_path: Path, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(f"cat {{}}/m.t7 weight -o {tmp_path / output} --json", folder) == 0
    (note,) = json.loads(capsys.readouterr().out)["notes"]
    assert note == "weight[1, 3] is inf (1 of 8 numbers are NaN or infinite)"


@pytest.mark.parametrize(
    "line", ["evaluate {}/whole", "train softmax", "finetune {}/whole", "predict {}/whole"]
)
@pytest.mark.parametrize(
    ("data", "place"),
    [
        ("images.npz", r"images\.npz: images\[2, 0, 3, 4\] is inf"),
        ("labels.npz", r"labels\.npz: labels\[2\] is nan"),
    ],
)
def test_data_with_nan_is_refused_by_its_place(
    line: str, data: str, place: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(f"{line} {{}}/{data}", folder) == 1
    assert re.search(place, capsys.readouterr().err)


def test_a_mean_that_is_not_a_number_is_refused(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("convert {}/m.t7 {}/never --mean-std {}/mean.t7", folder) == 1
    assert "mean" in capsys.readouterr().err
    assert not (folder / "never").exists()


class Overflow(nn.Module):
    """Has finite weights, and infinite outputs for inputs above 1."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return (x.flatten(1) * 1e38) * 10


def test_a_result_that_is_not_a_number_stops_a_program() -> None:
    classifier = Classifier(TorchPredictor(SavedModel(Overflow(), "logits", (2, 1, 1)), "cpu"))
    inputs = np.zeros((3, 2, 1, 1), np.float32)
    assert len(classifier.predict_inputs(inputs)) == 3
    inputs[1, 1] = 2
    with pytest.raises(
        NotFiniteError, match=r"outputs of 1 of 3 examples .* output\[1, 1\] is inf"
    ):
        classifier.predict_inputs(inputs)
    inputs[1, 1] = np.nan
    with pytest.raises(NotFiniteError, match=r"inputs\[1, 1, 0, 0\] is nan"):
        classifier.predict_inputs(inputs)
    # A logit of -infinity is a probability of 0, as masks make it.
    inputs[1, 1] = -2
    assert classifier.predict_inputs(inputs)[1][1].probability == 0


def test_features_that_do_not_fit_their_dtype_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    save(SavedModel(nn.Sequential(nn.Flatten()), "features", (1, 1, 1)), tmp_path / "flat")
    np.savez(tmp_path / "data.npz", x=np.full((2, 1, 1, 1), 1e5, np.float32) + 0.5, y=[0, 1])
    line = "extract {}/flat {}/data.npz {}/features --layers 0"
    assert run(f"{line} --dtype float16", tmp_path) == 1
    assert "too large for float16" in capsys.readouterr().err
    assert run(f"{line} --overwrite", tmp_path) == 0


def test_buffers_may_be_infinite_on_purpose_but_statistics_may_not() -> None:
    network = nn.Sequential(nn.BatchNorm2d(2))
    network.register_buffer("mask", torch.tensor([0.0, -torch.inf]))
    assert first_not_finite_parameter(network) == ""
    network.mask = torch.tensor([-torch.inf, torch.nan])
    assert first_not_finite_parameter(network).startswith("mask[1] is nan (1 of 2")
    network.mask = torch.zeros(2)
    statistics: Any = network[0].running_var
    statistics[1] = torch.inf
    assert first_not_finite_parameter(network).startswith("0.running_var[1] is inf (1 of 2")
    assert first_not_finite(np.float32(np.nan)) == "is nan (1 of 1 numbers are NaN or infinite)"


@pytest.mark.parametrize(
    ("values", "place"),
    [
        (np.array([1 + 2j, complex(0, np.nan)]), "[1] is nanj (1 of 2"),
        (np.array([[0.0, -np.inf], [np.nan, 1.0]], np.float16), "[0, 1] is -inf (2 of 4"),
        # Expanded: one number in memory is five here.
        (np.broadcast_to(np.float32([0, np.nan, 1]), (5, 3)), "[0, 1] is nan (5 of 15"),
        (np.broadcast_to(np.float32([[0], [np.inf]]), (2, 4)), "[1, 0] is inf (4 of 8"),
        (np.array([2**40, -1]), ""),
        (np.array([True, False]), ""),
        (np.zeros(0), ""),
        (np.float32([np.finfo(np.float32).max, -0.0]), ""),
    ],
)
def test_the_first_number_that_is_none_is_named_and_all_are_counted(
    values: np.ndarray, place: str
) -> None:
    found = first_not_finite(values)
    assert found == (f"{place} numbers are NaN or infinite)" if place else "")


def test_numbers_are_looked_at_up_to_the_end_of_a_long_array() -> None:
    values = np.zeros(2**21 + 3, np.float32)
    assert first_not_finite(values) == ""
    values[[-1, 2**20 + 1]] = np.nan
    assert first_not_finite(values) == (
        "[1048577] is nan (2 of 2,097,155 numbers are NaN or infinite)"
    )


@pytest.mark.parametrize("form", ["raw", "typed", "external"])
def test_weights_of_an_onnx_file_are_found_without_the_package_onnx(
    form: str, folder: Path, tmp_path: Path
) -> None:
    """The package onnx writes the constants in each of the three forms."""
    assert first_not_finite_weight(folder / "whole.onnx") == ""
    graph, file = onnx.load(folder / "m.onnx"), tmp_path / "m.onnx"
    if form == "typed":
        for tensor in graph.graph.initializer:
            values = numpy_helper.to_array(tensor)
            if values.dtype == np.float32:
                shape = list(values.shape)
                tensor.CopyFrom(onnx.helper.make_tensor(tensor.name, 1, shape, values.ravel()))
    external = {"save_as_external_data": form == "external", "size_threshold": 0}
    onnx.save(graph, file, location="weights", **external)
    assert re.fullmatch(PLACE, first_not_finite_weight(file))
    (tmp_path / "empty.onnx").touch()
    assert first_not_finite_weight(tmp_path / "empty.onnx") == ""


@pytest.mark.parametrize(
    ("numbers", "place"),
    [
        ([np.inf, 1.0, np.nan], "w[2] is nan (1 of 3 numbers are NaN or infinite)"),
        ([-np.inf, np.inf, 0.0], ""),
    ],
)
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_infinite_constants_of_a_graph_are_no_damage(
    dtype: Any, numbers: list[float], place: str, tmp_path: Path
) -> None:
    """A mask of attention has some; a NaN behind one is the place that is named."""
    values = numpy_helper.from_array(np.array(numbers, dtype), "w")
    graph = onnx.helper.make_graph([], "constants", [], [], [values])
    onnx.save(onnx.helper.make_model(graph), tmp_path / "m.onnx")
    assert first_not_finite_weight(tmp_path / "m.onnx") == place


def test_the_sizes_of_a_constant_may_be_packed_in_one_field(tmp_path: Path) -> None:
    """As newer writers of protobuf do: 200 × 1 × 2 numbers, the last one but two unknown."""
    values = np.zeros(400, "<f4")
    values[397] = np.nan
    raw = values.tobytes()
    tensor = b"\x0a\x04\xc8\x01\x01\x02" + b"\x10\x01" + b"\x42\x01w" + b"\x4a\xc0\x0c" + raw
    assert len(raw) == 0x640

    def field(number: int, content: bytes) -> bytes:
        size = len(content)
        return bytes([number << 3 | 2, size & 127 | 128, size >> 7]) + content

    (tmp_path / "m.onnx").write_bytes(field(7, field(5, tensor)))
    found = first_not_finite_weight(tmp_path / "m.onnx")
    assert found.startswith("w[198, 0, 1] is nan (1 of 400")


@pytest.mark.parametrize("says_length", [True, False])
@pytest.mark.parametrize(
    ("location", "place"), [("weights", "b[1] is nan (1 of 2"), ("../weights", "")]
)
def test_each_constant_in_a_file_beside_is_read_from_its_own_place(
    location: str, place: str, says_length: bool, tmp_path: Path
) -> None:
    """A file may not name one of another folder: it is left to who opens it."""
    (tmp_path / "inner").mkdir()
    tensors = [onnx.helper.make_tensor(name, 1, [2], bytes(8), raw=True) for name in "ab"]
    for number, tensor in enumerate(tensors):
        # Without a length it goes to the end of the file.
        length = None if number and not says_length else 8
        onnx.external_data_helper.set_external_data(tensor, location, 8 * number, length)
        tensor.ClearField("raw_data")
    values = np.array([0, 1, 2, np.nan], "<f4").tobytes()
    (tmp_path / "inner" / location).write_bytes(values)
    graph = onnx.helper.make_graph([], "constants", [], [], tensors)
    file = tmp_path / "inner" / "m.onnx"
    file.write_bytes(onnx.helper.make_model(graph).SerializeToString())
    found = first_not_finite_weight(file)
    assert found.startswith(place)
    assert bool(found) is bool(place)


def test_what_must_be_finite_is_called_by_its_name() -> None:
    require_finite(np.array([1.0, -1.0]), "the mean")
    with pytest.raises(NotFiniteError, match=r"^the mean\[1\] is nan \(1 of 2 numbers"):
        require_finite(np.array([1.0, np.nan]), "the mean")
    with pytest.raises(NotFiniteError, match=r"^the mean is -inf \(1 of 1 numbers"):
        require_finite(np.array(-np.inf), "the mean")


def test_json_has_names_for_numbers_that_are_none() -> None:
    values = [1, 2.5, True, None, "nan", [np.inf, [-np.inf, np.nan]]]
    assert spelled(values) == [1, 2.5, True, None, "nan", ["inf", ["-inf", "nan"]]]
    assert values[5][0] == np.inf  # type: ignore[index]  # what was given stays
