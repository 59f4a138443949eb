"""From scores to predictions: ties, labels, batches, dtypes and files, without a real network."""

from __future__ import annotations

import csv
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper
from PIL import Image
from support import FIXTURES
from torch import nn

from torchlift.converters.errors import LabelsError, NotFiniteError, WriteError
from torchlift.converters.images import Preprocessing, find_images
from torchlift.converters.inference import (
    Classifier,
    InferenceError,
    Metadata,
    OnnxPredictor,
    TorchPredictor,
    predict_array,
    predict_files,
    results,
)
from torchlift.converters.inference.classifier import Prediction, top_predictions
from torchlift.converters.inference.prepare import to_input_dtype
from torchlift.converters.inference.provider_options import engine_cache
from torchlift.converters.inference.results import as_json, jsonl_bytes, open_results
from torchlift.converters.inference.scores import log_probabilities, probabilities
from torchlift.converters.inference.torch_module import resize_batch
from torchlift.converters.saved import SavedModel


def classifier(labels: list[str] | None = None, batch_size: int = 32) -> Classifier:
    """Return a classifier whose scores are its inputs."""
    model = SavedModel(nn.Flatten(), "logits", None, labels, Preprocessing("RGB"))
    return Classifier(TorchPredictor(model, "cpu"), batch_size=batch_size)


def inputs(*rows: list[float]) -> np.ndarray:
    return np.array(rows, np.float32)[:, :, None, None]


def test_of_equal_probabilities_the_first_class_comes_first() -> None:
    (row,) = classifier().predict_inputs(inputs([1, 3, 3, 1, 3]), top=4)
    assert [prediction.index for prediction in row] == [1, 2, 4, 0]
    # NumPy's usual order sorts so few numbers stably, but not these.
    (row,) = classifier().predict_inputs(inputs([0, 1] * 100), top=200)
    assert [prediction.index for prediction in row] == [*range(1, 200, 2), *range(0, 200, 2)]


def test_as_many_classes_as_asked_for_or_as_there_are() -> None:
    for top, expected in ((1, 1), (3, 3), (9, 3)):
        (row,) = classifier().predict_inputs(inputs([1, 2, 3]), top=top)
        assert len(row) == expected


def test_labels_of_another_model_are_an_error() -> None:
    for labels in (["a", "b"], ["a", "b", "c", "d"]):
        with pytest.raises(LabelsError, match=f"{len(labels)} class names for 3 outputs"):
            classifier(labels).predict_inputs(inputs([1, 2, 3]))
        with pytest.raises(LabelsError, match=f"{len(labels)} class names for 3 outputs"):
            top_predictions(np.ones((1, 3)) / 3, labels, top=1)


def test_each_row_has_its_own_largest_score() -> None:
    """A score far below that of another image must not underflow to equal probabilities."""
    scores = np.array([[1e4, 0.0], [1.0, 0.0]], np.float32)
    expected = torch.from_numpy(scores).double().log_softmax(1).numpy()
    np.testing.assert_allclose(log_probabilities(scores, "logits"), expected, rtol=1e-6)
    # The logarithm of a probability of 0 is finite, and far below that of any other.
    logs = log_probabilities(np.array([[1.0, 0.0, 1e-30]], np.float32), "probabilities")
    assert np.isfinite(logs).all()
    assert logs[0, 2] == pytest.approx(math.log(1e-30), rel=1e-6)
    assert logs[0, 1] < -87


@pytest.mark.parametrize(
    ("kind", "scores", "fits"),
    [
        ("probabilities", [-0.005, 1.005], True),
        ("probabilities", [-0.02, 1.0], False),
        ("probabilities", [0.0, 1.02], False),
        ("log_probabilities", [0.005, -9.0], True),
        ("log_probabilities", [0.02, -9.0], False),
        ("logits", [-99.0, 99.0], True),
    ],
)
def test_scores_are_what_they_are_said_to_be_but_for_rounding(
    kind: str, scores: list[float], fits: bool
) -> None:
    rows = np.array([scores], np.float32)
    if fits:
        assert log_probabilities(rows, kind).shape == (1, 2)
    else:
        with pytest.raises(InferenceError, match="the outputs are no"):
            log_probabilities(rows, kind)


@pytest.mark.parametrize("count", [1, 2, 3, 4, 5])
def test_every_image_of_an_array_is_classified(count: int) -> None:
    scores = inputs(*np.eye(5)[:count].tolist())
    found = list(predict_array(classifier(batch_size=2), scores, top=1))
    assert [row[0].index for row in found] == list(range(count))
    assert len(classifier(batch_size=2)(scores)) == count


def test_images_of_two_shapes_keep_their_predictions(tmp_path: Path) -> None:
    """Images of one shape run together: the results must go back to their files."""
    colors = {"1.png": (1, 1), "2.png": (2, 1), "3.png": (1, 1), "4.png": (2, 1)}
    for index, (name, size) in enumerate(colors.items()):
        # The brightest value is at another place in each image.
        pixels = np.zeros((*size, 3), np.uint8)
        pixels.reshape(-1)[index % 3] = 255
        Image.fromarray(pixels).save(tmp_path / name)
    found = {one.file.name: one for one in predict_files(classifier(), find_images([tmp_path]))}
    for index, (name, size) in enumerate(colors.items()):
        # The output of a channel-first image: its channel, times the number of pixels.
        assert found[name].predictions[0].index == index % 3 * size[0] * size[1]
        assert len(found[name].predictions) == min(3 * size[0] * size[1], 5)


@pytest.mark.parametrize("kind", ["probabilities", "log_probabilities"])
def test_what_half_precision_rounds_beyond_a_probability_is_one(kind: str) -> None:
    """By up to a hundredth, on both sides; more is something else."""
    near, far = ([[1.009, -0.009]], [[1.02, -0.02]])
    if kind == "log_probabilities":
        near, far = [[0.009, -9.0]], [[0.02, -9.0]]
    assert probabilities(np.array(near), kind).shape == (1, 2)
    with pytest.raises(InferenceError, match="they reach from"):
        probabilities(np.array(far), kind)


def test_images_of_several_sizes_are_fed_one_array_after_the_other() -> None:
    predictor = OnnxPredictor(FIXTURES / "0.1.0" / "model.onnx", "cpu")
    arrays = [np.full((count, 1, 32, 32), count, np.float32) for count in (1, 3)]
    for given in (arrays, arrays[1]):
        fed = predictor.feeds(given)
        assert [one["input"].shape[0] for one in fed] == ([1, 3] if given is arrays else [3])


def test_an_image_that_cannot_be_cropped_is_named_and_stops_no_other(tmp_path: Path) -> None:
    for name, side in (("large.png", 6), ("small.png", 3)):
        Image.new("RGB", (side, side)).save(tmp_path / name)
    own = Preprocessing("RGB", resize="none", crop=(5, 5))
    model = Classifier(TorchPredictor(SavedModel(nn.Flatten(), "logits", preprocessing=own), "cpu"))
    large, small = predict_files(model, find_images([tmp_path]))
    assert (len(large.predictions), large.problem) == (5, "")
    assert (small.file, small.predictions) == (tmp_path / "small.png", [])
    assert small.problem.startswith(f"{tmp_path / 'small.png'}: ")


def test_a_graph_for_pixels_takes_whole_numbers_only() -> None:
    pixels = np.array([[0.0, 255.0, 7.0]])
    converted = to_input_dtype(pixels, np.dtype(np.uint8))
    assert (converted.dtype, converted.tolist()) == (np.uint8, [[0, 255, 7]])
    for wrong in (0.5, -1.0, 256.0):
        with pytest.raises(InferenceError, match="whole numbers from 0 to 255"):
            to_input_dtype(np.array([[wrong, 255.0, 7.0]]), np.dtype(np.uint8))


def test_a_batch_is_filled_by_repeating_it_from_the_start() -> None:
    batch = torch.arange(3)[:, None]
    assert resize_batch(batch, 7).flatten().tolist() == [0, 1, 2, 0, 1, 2, 0]
    assert resize_batch(batch, 2).flatten().tolist() == [0, 1]


def test_a_file_without_metadata_is_not_taken_for_a_classifier(tmp_path: Path) -> None:
    """What its outputs mean is not known: logits and probabilities look alike."""
    graph = helper.make_graph(
        [helper.make_node("Flatten", ["input"], ["output"])],
        "flatten",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, ["N", 3, 1, 1])],
        [helper.make_tensor_value_info("output", TensorProto.FLOAT, ["N", 3])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    onnx.save(model, tmp_path / "other.onnx")
    predictor = OnnxPredictor(tmp_path / "other.onnx", "cpu")
    assert predictor.output_kind == "features"
    with pytest.raises(InferenceError, match="not a classifier"):
        Classifier(predictor).predict_inputs(inputs([1, 2, 3]))
    with pytest.raises(InferenceError, match="the network takes 3×1×1"):
        predictor(np.zeros((2, 3, 2, 1), np.float32))


def test_metadata_of_a_later_version_are_refused() -> None:
    props = Metadata(labels=["a"]).to_props()
    assert Metadata.from_props(props).labels == ["a"]
    with pytest.raises(InferenceError, match="'format_version' is damaged"):
        Metadata.from_props({**props, "format_version": "99"})
    with pytest.raises(InferenceError, match="'labels' is damaged"):
        Metadata.from_props({**props, "labels": "[1]"})


def test_ranks_count_from_1_and_numbers_that_are_not_finite_are_null(tmp_path: Path) -> None:
    file = tmp_path / "results.csv"
    predictions = [Prediction(4, "e", 0.75), Prediction(0, "a", math.nan)]
    with open_results(file) as write:
        write("x.png", predictions)
        write("y.png", [], "damaged")
    with file.open(encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert [(row["rank"], row["label"], row["index"]) for row in rows] == [
        ("1", "e", "4"),
        ("2", "a", "0"),
        ("", "", ""),
    ]
    assert rows[2]["problem"] == "damaged"
    for number in (math.inf, -math.inf):
        (infinite,) = as_json("x.png", [Prediction(0, "a", number)])["predictions"]
        assert infinite["probability"] is None
    found = json.loads(json.dumps(as_json("x.png", predictions), allow_nan=False))
    assert [each["probability"] for each in found["predictions"]] == [0.75, None]


def test_results_so_far_stay_when_an_error_ends_a_command(tmp_path: Path) -> None:
    for written in (0, 1):
        file = tmp_path / f"{written}.csv"

        def fail(file: Path = file, written: int = written) -> None:
            with open_results(file) as write:
                for _ in range(written):
                    write("x.png", [Prediction(0, "a", 1.0)])
                raise RuntimeError

        with pytest.raises(RuntimeError):
            fail()
        assert not file.exists()
        # A file without results is of no use.
        assert file.with_name(f"{file.name}.partial").exists() == bool(written)


@pytest.mark.parametrize("resume", ["never", "auto"])
def test_a_file_that_is_there_is_kept_and_nothing_is_begun_beside_it(
    resume: Any, tmp_path: Path
) -> None:
    target = tmp_path / "r.csv"
    target.write_text("mine", encoding="utf-8")
    begun: list[Path] = []
    with (
        pytest.raises(WriteError, match="already exists"),
        results.open_results(target, resume=resume),
    ):
        begun += tmp_path.iterdir()
    assert not begun
    assert [path.name for path in tmp_path.iterdir()] == ["r.csv"]
    assert target.read_text(encoding="utf-8") == "mine"


def test_images_of_all_folders_come_in_the_order_of_their_paths(tmp_path: Path) -> None:
    names = ["a/2.png", "a/b/1.png", "b.png", "c/1.png", "d.png"]
    for name in reversed(names):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    assert [str(path.relative_to(tmp_path)) for path in find_images([tmp_path])] == names


def test_every_usual_suffix_of_an_image_is_taken_from_a_folder(tmp_path: Path) -> None:
    usual = ["bmp", "gif", "jfif", "jpe", "jpeg", "jpg", "pbm", "pgm", "png", "pnm", "ppm"]
    usual += ["tif", "tiff", "webp", "JPG"]
    for suffix in (*usual, "txt", "t7"):
        (tmp_path / f"{suffix}.{suffix}").touch()
    found = [path.name for path in find_images([tmp_path])]
    assert found == sorted(f"{suffix}.{suffix}" for suffix in usual)


def test_names_in_lines_of_json_are_text_that_people_can_read() -> None:
    line = jsonl_bytes("Straße 空.png", [Prediction(0, "é", 0.5)], "")
    assert line.startswith('{"input": "Straße 空.png", "predictions": [{"label": "é", '.encode())
    assert line.endswith(b'"problem": null}\n')


def test_columns_of_parquet_have_types_and_as_many_rows_as_were_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where the rows are more than are written at once, and a column has no number first."""
    parquet = pytest.importorskip("pyarrow.parquet")
    monkeypatch.setattr(results, "_ROWS", 2)
    with open_results(tmp_path / "r.parquet") as write:
        write("a.png", [], "broken")
        for name in ("b.png", "é.png"):
            write(name, [Prediction(7, "x", 0.75), Prediction(0, "y", 0.25)])
    table = parquet.read_table(tmp_path / "r.parquet")
    assert {field.name: str(field.type) for field in table.schema} == {
        "input": "string",
        "rank": "int32",
        "label": "string",
        "index": "int32",
        "probability": "float",
        "problem": "string",
    }
    assert table["input"].to_pylist() == ["a.png", "b.png", "b.png", "é.png", "é.png"]
    assert table["rank"].to_pylist() == [None, 1, 2, 1, 2]
    assert table["probability"].to_pylist() == [None, 0.75, 0.25, 0.75, 0.25]
    assert table["problem"].to_pylist() == ["broken", None, None, None, None]


@pytest.mark.parametrize(
    ("scores", "kind"), [(np.ones((1, 2)), "features"), (np.ones((1, 2, 2)), "logits")]
)
def test_features_and_maps_are_no_scores_of_classes(scores: np.ndarray, kind: str) -> None:
    for function in (probabilities, log_probabilities):
        with pytest.raises(InferenceError, match=f"not a classifier: the outputs are {kind} of"):
            function(scores, kind)


def test_a_network_of_pytorch_takes_its_own_shape_and_numbers_alone() -> None:
    """Flattened, an array of another shape might fit."""
    predictor = TorchPredictor(SavedModel(nn.Flatten(), "logits", (1, 2, 8)), "cpu")
    assert predictor(np.zeros((3, 1, 2, 8), np.float32)).shape == (3, 16)
    with pytest.raises(InferenceError, match="inputs of shape 1×4×4, the network takes 1×2×8"):
        predictor(np.zeros((3, 1, 4, 4), np.float32))
    with pytest.raises(Exception, match=r"^inputs\[.* is nan"):
        predictor(np.full((1, 1, 2, 8), np.nan, np.float32))


def test_a_network_of_pytorch_has_and_gives_numbers_alone() -> None:
    network = nn.Linear(2, 1, bias=False)
    network.weight.data.fill_(1e38)
    predictor = TorchPredictor(SavedModel(network, "logits"), "cpu")
    assert predictor(np.float32([[1, 1]])).item() == np.float32(2e38)
    with pytest.raises(NotFiniteError, match="outputs of 1 of 2 examples"):
        predictor(np.float32([[1, 1], [9, 9]]))
    network.weight.data[0, 1] = torch.inf
    with pytest.raises(NotFiniteError, match=r"weight\[0, 1\] is inf"):
        TorchPredictor(SavedModel(network, "logits"), "cpu")


def test_engines_of_a_file_are_known_by_16_digits_of_its_digest(tmp_path: Path) -> None:
    (tmp_path / "m.onnx").write_bytes(b"abc")
    # SHA-256 of "abc" (FIPS 180-2, appendix B.1).
    assert engine_cache(tmp_path / "m.onnx").name == "ba7816bf8f01cfea"


def test_a_document_says_the_model_who_ran_it_and_what_it_gave() -> None:
    given = [as_json("a.png", [])]
    said = {"model": "net", "provider": "cpu", "results": given}
    assert results.document("net", "cpu", given) == said
