"""The options of every command that opens a model: what agrees, and what each kind takes."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from torchlift.cli import model_options as file
from torchlift.cli.errors import UsageError
from torchlift.cli.model_options import (
    AS_THE_INPUT,
    ModelOptions,
    OutputOptions,
    PreprocessingOptions,
    ScoreOptions,
)
from torchlift.converters import inference, modules, saved
from torchlift.converters.errors import TorchliftError
from torchlift.converters.images.errors import PreprocessingError
from torchlift.converters.images.image_to_image import SaidOutput
from torchlift.converters.input_shapes import parse_inputs
from torchlift.converters.modules import selfcheck
from torchlift.transfer import network_by_name


@pytest.mark.parametrize(
    ("shape", "size", "agrees"),
    [
        ("3x224x320", (224, 320), True),
        ("3x224x320", (320, 224), False),
        ("224x320x3", (224, 320), False),
        ("3x224x320,3x224x320", (224, 320), False),
    ],
)
def test_an_input_and_its_size_agree_or_one_is_left_out(
    shape: str, size: tuple[int, int], agrees: bool
) -> None:
    given = {"input": parse_inputs(shape), "input_size": size}
    if agrees:
        assert ModelOptions(**given).input_size == size  # type: ignore[arg-type]
        return
    with pytest.raises(TorchliftError, match=f"input_size={size[0]}x{size[1]} do not agree"):
        ModelOptions(**given)  # type: ignore[arg-type]


@pytest.mark.parametrize("given", [{"mean": [0.5]}, {"std": [0.5]}, {"mean": [0.5], "std": [1.0]}])
def test_mean_and_std_are_said_once(given: dict[str, Any]) -> None:
    with pytest.raises(TorchliftError, match="--mean-std holds mean and std: leave out") as refused:
        ModelOptions(mean_std="m.t7", **given)
    assert isinstance(refused.value, UsageError)
    assert ModelOptions(mean_std="m.t7", color="gray").mean_std == "m.t7"


def test_what_was_given_is_what_differs_from_nothing() -> None:
    options = PreprocessingOptions(std=[0.5], mean=[0.0], value_range=[-1, 1])
    assert options.given() == {"mean": [0.0], "std": [0.5], "value_range": [-1, 1]}
    assert PreprocessingOptions().given() == {}
    assert ScoreOptions(output_name="y").given_output() == {"output_name": "y"}


@pytest.mark.parametrize(("exists", "keeps"), [(True, True), (True, False), (False, True)])
def test_a_file_keeps_its_numbers_where_they_are_written_again(
    exists: bool, keeps: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Any] = []
    monkeypatch.setattr(
        network_by_name, "load_network", lambda *given, **named: asked.append((given, named))
    )
    file = tmp_path / "m.t7"
    if exists:
        file.touch()
    options = ModelOptions(weights="w", download=True, at="a", labels="l", resize="pil-bicubic")
    options.model(str(file), keeps)
    ((given, named),) = asked
    assert given == (str(file), "w")
    assert ("dtype" in named) == (exists and keeps)
    said = {"at": "a", "labels": "l", "resize": "pil-bicubic", "download": True}
    assert {name: named[name] for name in said} == said


@pytest.mark.parametrize("name", ["m.onnx", "M.ONNX", "m.pt2"])
def test_a_graph_is_no_model_to_convert(name: str) -> None:
    with pytest.raises(TorchliftError, match="is an exported graph: name the model"):
        ModelOptions().model(name)


def test_options_of_graphs_and_of_weights_are_for_these(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(TorchliftError, match=r"download=True is not for an \.onnx file"):
        ModelOptions(download=True).predictor("m.onnx", "cpu")
    with pytest.raises(TorchliftError, match=r"output_name=… is for an \.onnx file"):
        ModelOptions().predictor("m.t7", "cpu", ScoreOptions(output_name="y"))
    asked: list[Any] = []
    monkeypatch.setattr(
        inference, "open_predictor", lambda *given, **named: asked.append((given, named))
    )
    options = ModelOptions(labels="l", weights="w", mean=[0.5])
    options.predictor("m.onnx", "cuda:1", ScoreOptions("logits", "y"))
    ((given, named),) = asked
    assert given == ("m.onnx", "cuda:1")
    said = {"labels": "l", "weights": "w", "mean": [0.5], "output_kind": "logits"}
    assert {name: named[name] for name in (*said, "output_name")} == {**said, "output_name": "y"}


@pytest.mark.parametrize(
    ("kind", "given", "note"),
    [
        # A library's network is described by all of its notes, a file only by what was typed.
        ("library", {}, "one; two"),
        ("file", {}, ""),
        ("file", {"color": "gray"}, "two"),
        ("file", {"resize": "pil-bicubic"}, "two"),
        ("file", {"mean_std": "m.t7"}, "two"),
        ("folder", {}, ""),
    ],
)
def test_what_options_have_decided_is_noted(
    kind: str, given: dict[str, Any], note: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = tmp_path / "m"
    if kind == "file":
        place.touch()
    monkeypatch.setattr(saved, "is_saved_model", lambda path: kind == "folder")
    monkeypatch.setattr(ModelOptions, "model", lambda *_: SimpleNamespace(notes=["one", "two"]))
    monkeypatch.setattr(
        inference, "TorchPredictor", lambda *given: SimpleNamespace(note="", given=given)
    )
    predictor: Any = ModelOptions(**given).predictor(str(place), "cuda")
    assert (predictor.note, predictor.given[1]) == (note, "cuda")


def test_a_saved_model_is_not_told_that_its_outputs_are_something_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Any] = []

    def require(said: SaidOutput, *known: Any) -> None:
        asked.append(known)
        raise PreprocessingError("it says another range")

    monkeypatch.setattr(SaidOutput, "require_same", require)
    monkeypatch.setattr(SaidOutput, "over", lambda said, *known: ("new", *known))
    options = OutputOptions(output_range=[-1, 1])
    model: Any = SimpleNamespace(image_to_image="old", preprocessing="pre")
    with pytest.raises(PreprocessingError, match="m: it says another range"):
        options.set_on(model, str(tmp_path / "m") if (tmp_path / "m").mkdir() is None else "")
    assert (asked, model.image_to_image) == ([("old", "pre")], "old")
    (tmp_path / "m.t7").touch()
    options.set_on(model, str(tmp_path / "m.t7"))
    assert model.image_to_image == ("new", "old", "pre")
    model.image_to_image = "old"
    AS_THE_INPUT.set_on(model, str(tmp_path / "m"))
    assert model.image_to_image == "old"


@pytest.mark.parametrize(
    "options",
    [
        OutputOptions(output_color="RGB"),
        OutputOptions(output_mean=True),
        # A network that takes no images has no mean to undo.
        OutputOptions(output_range=[-1, 1], output_mean=True),
    ],
)
def test_of_a_generator_the_range_of_its_images_must_be_said(options: OutputOptions) -> None:
    model: Any = SimpleNamespace(image_to_image=None, preprocessing=None)
    with pytest.raises(PreprocessingError, match=r"m\.t7: what values the network takes is"):
        options.set_on(model, "m.t7")
    OutputOptions(output_range=[-1, 1], output_color="BGR").set_on(model, "m.t7")
    made = model.image_to_image
    assert (made.limits, made.color) == ((-1, 1), "BGR")


def test_the_model_at_a_path_is_compared_once_its_classes_are_known(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    steps: list[Any] = []

    def load(*given: Any) -> str:
        steps.append(("load", *given))
        return "conversion"

    monkeypatch.setattr(file, "run_plugin", lambda plugin: steps.append(("run", plugin)))
    monkeypatch.setattr(modules, "load_conversion", load)
    monkeypatch.setattr(
        selfcheck, "self_check", lambda *given, **named: steps.append(("check", *given, named))
    )
    ModelOptions(at="protos.cnn", plugin="p.py").self_check("m.t7", 0.25)
    assert steps == [
        ("run", "p.py"),
        ("load", "m.t7", "protos.cnn"),
        ("check", "conversion", {"tolerance": 0.25}),
    ]
