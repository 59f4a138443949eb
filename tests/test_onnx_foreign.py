"""`.onnx` files of other programs: predicted, quantized and annotated with what the user says.

The truth is the network in PyTorch, with its inputs prepared here.
"""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import helper
from onnx_foreign_support import (
    FLOAT,
    LABELS,
    channels_last,
    network,
    scikit_learn,
    torch_onnx,
    value,
    write,
)
from PIL import Image
from torch import nn

from torchlift.cli.main import main
from torchlift.converters.errors import LabelsError, TorchliftError, WriteError
from torchlift.converters.inference import InferenceError, OnnxPredictor, open_predictor
from torchlift.converters.inference.onnx_overrides import OnnxOverrides
from torchlift.converters.onnx import Classifier, OnnxError, annotate, describe_file, quantize

PIXELS = np.random.default_rng(3).integers(0, 256, (5, 3, 6, 6), np.uint8)
SAID = {"labels": LABELS, "mean": [0.5], "std": [0.25]}


def probabilities(module: nn.Module, order: int = 1) -> np.ndarray:
    """Return what the network must give for PIXELS, its inputs normalized by mean and std."""
    inputs = (torch.from_numpy(PIXELS[:, ::order].copy()).float() / 255 - 0.5) / 0.25
    with torch.no_grad():
        return module(inputs).softmax(1).numpy()


@pytest.mark.parametrize("batch", [None, 1, 2])
def test_a_file_of_torch_onnx_is_used_with_what_is_said(tmp_path: Path, batch: int | None) -> None:
    """A batch that the exporter has fixed does not matter: five images are run in pieces."""
    module = network()
    path = torch_onnx(tmp_path / "f.onnx", module, batch)
    predictor = open_predictor(path, "cpu", **SAID)
    assert predictor.note.startswith("the outputs are taken for logits: the graph ends in Gemm; ")
    classifier = Classifier(predictor)
    actual = classifier.probabilities(PIXELS)
    np.testing.assert_allclose(actual, probabilities(module), atol=1e-6)
    assert classifier.predict(PIXELS[:1])[0][0].label == LABELS[actual[0].argmax()]
    bgr = Classifier(open_predictor(path, "cpu", color="BGR", **SAID))
    np.testing.assert_allclose(bgr.probabilities(PIXELS), probabilities(module, -1), atol=1e-6)


def test_images_with_channels_last_and_half_precision(tmp_path: Path) -> None:
    module = network()
    path = channels_last(tmp_path / "f.onnx", module)
    predictor = open_predictor(path, "cpu", **SAID)
    assert (predictor.input_shape, predictor.output_kind) == ((3, 6, 6), "probabilities")
    actual = Classifier(predictor).probabilities(PIXELS)
    np.testing.assert_allclose(actual, probabilities(module), atol=1e-6)
    half = torch_onnx(tmp_path / "half.onnx", network().half())
    actual = Classifier(open_predictor(half, "cpu", **SAID)).probabilities(PIXELS)
    np.testing.assert_allclose(actual, probabilities(module), atol=5e-3)  # Float16 has 11 bits.


def test_a_classifier_of_scikit_learn(tmp_path: Path) -> None:
    """Of its two outputs the probabilities are taken; a gray image becomes a row of numbers."""
    rng = np.random.default_rng(0)
    weights, bias = rng.standard_normal((3, 36)) / 6, rng.standard_normal(3)
    path = scikit_learn(tmp_path / "f.onnx", weights, bias)
    predictor = open_predictor(path, "cpu", labels=LABELS, value_range=1)
    assert "the scores are the output probabilities, of label, probabilities" in predictor.note
    assert predictor.output_kind == "probabilities"
    gray = PIXELS[:, :1]
    single = 1 / (1 + np.exp(-(gray.reshape(5, 36) / 255 @ weights.T + bias)))
    expected = single / single.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(Classifier(predictor).probabilities(gray), expected, atol=1e-6)


def test_one_of_several_outputs_is_chosen(tmp_path: Path) -> None:
    node = helper.make_node
    nodes = [
        node("GlobalAveragePool", ["x"], ["main"]),
        node("GlobalMaxPool", ["x"], ["auxiliary"]),
    ]
    outputs = [value(name, FLOAT, "N", 3, 1, 1) for name in ("main", "auxiliary")]
    path = write(tmp_path / "f.onnx", nodes, [value("x", FLOAT, "N", 3, 6, 6)], outputs, {})
    with pytest.raises(InferenceError, match=r"2 outputs \(main, auxiliary\).*output_name"):
        open_predictor(path, "cpu")
    with pytest.raises(InferenceError, match="no output other: it has main, auxiliary"):
        open_predictor(path, "cpu", output_name="other")
    annotate(path, tmp_path / "said.onnx", output_name="auxiliary", **SAID)
    for said in ({"output_name": "main", **SAID}, {}):
        file = path if said else tmp_path / "said.onnx"
        actual = open_predictor(file, "cpu", **said)(PIXELS.astype(np.float32))
        pooled = PIXELS.mean((2, 3)) if said else PIXELS.max((2, 3))
        np.testing.assert_allclose(actual, pooled, atol=1e-4)  # Bytes in float32.
    # Also where nothing can be said beside the file.
    actual = OnnxPredictor(tmp_path / "said.onnx", "cpu")(PIXELS.astype(np.float32))
    np.testing.assert_allclose(actual, pooled, atol=1e-4)


def graph_bytes(path: Path) -> bytes:
    """Return the graph of a file as it stands in it."""
    content, model = path.read_bytes(), onnx.load(path)
    graph = model.graph.SerializeToString(deterministic=True)
    return graph if graph in content else content[:0]


def test_annotating_keeps_the_graph_and_replaces_what_is_given(tmp_path: Path) -> None:
    """A file that was annotated needs no options; what is not given again stays."""
    module = network()
    path = torch_onnx(tmp_path / "f.onnx", module)
    model = onnx.load(path)
    onnx.helper.set_model_props(model, {"author": "me", "source": "elsewhere"})
    onnx.save(model, path)
    found = annotate(path, tmp_path / "a.onnx", **SAID)
    assert found.metadata.output_kind == "logits"
    assert found.notes[0].startswith("the outputs are taken for logits: the graph ends in Gemm")
    assert graph_bytes(path) == graph_bytes(tmp_path / "a.onnx") != b""
    props = {prop.key: prop.value for prop in onnx.load(tmp_path / "a.onnx").metadata_props}
    assert props["author"] == "me"
    assert "source" not in props
    np.testing.assert_allclose(
        Classifier(tmp_path / "a.onnx", "cpu").probabilities(PIXELS),
        probabilities(module),
        atol=1e-6,
    )
    annotate(tmp_path / "a.onnx", tmp_path / "b.onnx", color="BGR", std=0.5)
    described = describe_file(tmp_path / "b.onnx")
    preprocessing = described["preprocessing"]
    assert described["labels"] == LABELS
    assert (preprocessing["mean"], preprocessing["std"]) == ((0.5,), (0.5,))
    assert (preprocessing["color"], preprocessing["value_range"]) == ("BGR", 1)


def test_what_does_not_fit_is_an_error(tmp_path: Path) -> None:
    path = torch_onnx(tmp_path / "f.onnx", network())
    annotate(path, tmp_path / "a.onnx", **SAID)
    for file, said, message in (
        (path, {"labels": LABELS[:2]}, "2 class names for 3 outputs"),
        (path, {"color": "gray", **SAID}, "color=gray has 1 channels, but the network takes 3"),
        (path, {"input_size": (5, 5), **SAID}, "but the graph takes 6×6"),
        (path, {"mean": 0, "std": 1}, "give value_range=1"),
        (tmp_path / "a.onnx", {"mean": [0.4], "std": [0.25]}, "mean=0.4 is not the model's own"),
        (tmp_path / "a.onnx", {"labels": LABELS[::-1]}, "labels=… is not the file's own"),
        (tmp_path / "a.onnx", {"output_kind": "features"}, "is not the file's own: logits"),
        (path, {"weights": "w.pth"}, "weights=… is not for an .onnx file"),
    ):
        with pytest.raises(TorchliftError, match=message):
            open_predictor(file, "cpu", **said)
    with pytest.raises(LabelsError, match="2 class names"):
        annotate(path, tmp_path / "b.onnx", labels=LABELS[:2])
    with pytest.raises(OnnxError, match="nothing to say"):
        annotate(path, tmp_path / "b.onnx")
    with pytest.raises(WriteError, match="overwrite"):
        annotate(path, path, **SAID)
    annotate(path, path, overwrite=True, **SAID)
    assert describe_file(path)["labels"] == LABELS
    assert sorted(file.name for file in tmp_path.iterdir()) == ["a.onnx", "f.onnx"]


@pytest.mark.parametrize("in_one", [True, False])
def test_weights_beside_the_file_are_copied_with_it(in_one: bool, tmp_path: Path) -> None:
    path = torch_onnx(tmp_path / "f.onnx", network())
    place: Any = {"location": "w.data"} if in_one else {"all_tensors_to_one_file": False}
    onnx.save(onnx.load(path), path, save_as_external_data=True, size_threshold=0, **place)
    beside = sorted(file.name for file in tmp_path.iterdir() if file != path)
    assert (beside == ["w.data"]) is in_one
    (tmp_path / "other").mkdir()
    annotate(path, tmp_path / "same.onnx", **SAID)
    written = annotate(path, tmp_path / "other" / "f.onnx", **SAID)
    assert [file.name for file in written.files] == ["f.onnx", *beside]
    np.testing.assert_allclose(
        Classifier(written.files[0], "cpu").probabilities(PIXELS),
        probabilities(network()),
        atol=1e-6,
    )


def test_weights_that_cannot_be_copied_leave_nothing_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The graph without its weights, or a part of them, would be no file of its own."""
    path = torch_onnx(tmp_path / "f.onnx", network())
    options: Any = {"save_as_external_data": True, "size_threshold": 0}
    onnx.save(onnx.load(path), path, location="w.data", **options)
    (tmp_path / "other").mkdir()

    def fill(_: Path, target: Path) -> None:
        target.write_bytes(b"a part")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("shutil.copyfile", fill)
    with pytest.raises(WriteError, match="No space left"):
        annotate(path, tmp_path / "other" / "f.onnx", **SAID)
    assert [*(tmp_path / "other").iterdir()] == []


def test_weights_beside_a_file_are_not_copied_over_others(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = torch_onnx(tmp_path / "f.onnx", network())
    options: Any = {"save_as_external_data": True, "size_threshold": 0}
    onnx.save(onnx.load(path), path, location="w.data", **options)
    assert annotate(path, tmp_path / "same.onnx", **SAID).files == [tmp_path / "same.onnx"]
    # One folder has several names.
    monkeypatch.chdir(tmp_path)
    assert annotate("f.onnx", tmp_path / "again.onnx", **SAID).files == [tmp_path / "again.onnx"]
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "w.data").write_text("mine")
    with pytest.raises(WriteError, match=r"w\.data"):
        annotate(path, tmp_path / "other" / "f.onnx", **SAID)
    assert [file.name for file in (tmp_path / "other").iterdir()] == ["w.data"]
    annotate(path, tmp_path / "other" / "f.onnx", overwrite=True, **SAID)
    weights = (tmp_path / "w.data").read_bytes()
    assert (tmp_path / "other" / "w.data").read_bytes() == weights
    (tmp_path / "third").mkdir()
    words = ["annotate", str(path), "-o", f"{tmp_path}/third/f.onnx", "--value-range", "1"]
    assert main([*words, "--json"]) == 0
    written = [tmp_path / "third" / name for name in ("f.onnx", "w.data")]
    document = json.loads(capsys.readouterr().out)
    assert document["files"] == [str(file) for file in written]
    assert document["bytes"] == sum(file.stat().st_size for file in written)
    (tmp_path / "inner").mkdir()
    onnx.save(onnx.load(path), tmp_path / "in.onnx", location="inner/w.data", **options)
    with pytest.raises(OnnxError, match=r"its weights are in inner/w\.data"):
        annotate(tmp_path / "in.onnx", tmp_path / "other" / "in.onnx", **SAID)


def test_a_foreign_file_is_quantized_with_what_is_said(tmp_path: Path) -> None:
    """Also one of an old opset, of a fixed batch, whose nodes have no names."""
    path = torch_onnx(tmp_path / "f.onnx", network(), opset_version=11)
    model = onnx.load(path)
    for node in model.graph.node:
        node.name = ""
    onnx.save(model, path)
    images = np.random.default_rng(1).integers(0, 256, (64, 3, 6, 6), np.uint8)
    quantized = quantize(
        path, tmp_path / "q.onnx", images, said=OnnxOverrides.of(**SAID), max_drop=1
    )
    assert quantized.layers == 2
    assert quantized.notes[0].startswith("the outputs are taken for logits: the graph ends in Gemm")
    assert describe_file(tmp_path / "q.onnx")["arithmetic"] == "int8"
    actual = Classifier(tmp_path / "q.onnx", "cpu").probabilities(PIXELS)
    np.testing.assert_allclose(actual, probabilities(network()), atol=0.1)  # Eight bits.


def test_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = str(torch_onnx(tmp_path / "f.onnx", network()))
    (tmp_path / "labels.txt").write_text("\n".join(LABELS), encoding="utf-8")
    said = ["--labels", f"{tmp_path}/labels.txt", "--mean", "0.5", "--std", "0.25"]
    out = f"{tmp_path}/a.onnx"
    assert main(["annotate", path, "-o", out]) == 2
    assert main(["annotate", path, "-o", path, *said]) == 1
    assert main(["annotate", path, "-o", out, *said]) == 0
    assert "the outputs are taken for logits: the graph ends in Gemm" in capsys.readouterr().out
    again = ["annotate", out, "-o", f"{tmp_path}/b.onnx", "--mean", "0.25", "--std", "0.25"]
    assert main([*again, "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["preprocessing"]["mean"] == [0.25]
    assert document["labels"] == LABELS
    assert document["bytes"] == (tmp_path / "b.onnx").stat().st_size
    assert document["files"] == [f"{tmp_path}/b.onnx"]
    documents = []
    for words in (["predict", path, "china", *said], ["predict", out, "china"]):
        assert main([*words, "--json"]) == 0
        documents.append(capsys.readouterr().out)
    assert documents[0].replace(path, out) == documents[1]
    assert main(["predict", path, "china"]) == 1
    assert "--mean" in capsys.readouterr().err


@pytest.mark.parametrize(
    "words",
    [
        ["apply", "two.onnx", "a.png", "b.png"],
        ["predict", "two.onnx", "a.png"],
        ["sample", "two.onnx", "--length", "3"],
        ["sample", "two.onnx", "--grid", "2x2", "-o", "b.png"],
    ],
)
def test_several_inputs_are_named(
    words: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    inputs = [value("left", FLOAT, "batch", 3, 6, 6), value("right", FLOAT, None, 3, 6, 6)]
    node = helper.make_node("Add", ["left", "right"], ["sum"])
    write(Path("two.onnx"), [node], inputs, [value("sum", FLOAT, "batch", 3, 6, 6)], {})
    Image.fromarray(PIXELS[0].transpose(1, 2, 0)).save("a.png")
    assert main(words) == 1
    said = capsys.readouterr().err
    assert said.startswith("torchlift: two.onnx")
    assert "left (batch×3×6×6) and right (?×3×6×6)" in said
    assert said.count("\n") == 1
    assert not Path("b.png").exists()


def test_nothing_is_left_of_annotating_that_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither the weights that were copied before, nor a part of the file."""
    path = torch_onnx(tmp_path / "f.onnx", network())
    options: Any = {"save_as_external_data": True, "size_threshold": 0, "location": "w.data"}
    onnx.save(onnx.load(path), path, **options)
    (tmp_path / "other").mkdir()

    def fail(*_: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(Path, "write_bytes", fail)
    with pytest.raises(ZeroDivisionError):
        annotate(path, tmp_path / "other" / "f.onnx", **SAID)
    assert not [*(tmp_path / "other").iterdir()]
