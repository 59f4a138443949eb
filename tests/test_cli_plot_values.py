"""The values and titles of plots, by hand: what `plot --json` says of an array."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from cli_support import DATA, shown
from matplotlib.figure import Figure

from torchlift.cli import plot as plot_file
from torchlift.cli import plotting
from torchlift.cli.data_options import ALL_DATA, DataOptions
from torchlift.cli.errors import UsageError
from torchlift.cli.model_options import FILE_DEFAULTS, ModelOptions
from torchlift.cli.plot import plot
from torchlift.cli.plot_options import PlotOptions, PlotRequest, PlotResult, _title
from torchlift.cli.plotting import (
    _image_shape,
    _statistics,
    draw_confusion,
    draw_feature_maps,
    draw_samples,
    draw_sizes,
    draw_units,
)
from torchlift.converters.errors import TorchliftError, WriteError
from torchlift.transfer import evaluation
from torchlift.transfer.data import Dataset
from torchlift.transfer.data.augmentation import Augmentation
from torchlift.transfer.evaluation import Evaluation
from torchlift.transfer.plots import activations, feature_maps, photographs, sizes, weights


def request(*sources: str, limit: int | None = None, **options: Any) -> PlotRequest:
    data_options = replace(ALL_DATA, limit=limit)
    return PlotRequest(sources, PlotOptions(**options), FILE_DEFAULTS, data_options, Augmentation())


def test_the_title_of_a_source_is_its_name_and_that_of_a_run_its_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("runs/first-1.5/model/config.json", "runs/first-1.5/metrics.csv", "a.b.t7"):
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).touch()
    for source, title in (
        ("runs/first-1.5/model", "first-1.5"),
        ("runs/first-1.5/metrics.csv", "first-1.5"),
        ("runs/first-1.5", "first-1.5"),
        ("runs/first-1.5/", "first-1.5"),
        ("a.b.t7", "a.b"),
        ("torchvision:alexnet", "alexnet"),
        ("python:nets.small:make", "make"),
        (".", tmp_path.name),
    ):
        assert _title(source) == title
    assert request("a.b.t7", "torchvision:alexnet").titles == ["a.b", "alexnet"]
    assert request("x", "y", titles=["one", "two"]).titles == ["one", "two"]
    with pytest.raises(UsageError, match="1 --titles for 2 sources: give one for each"):
        _ = request("x", "y", titles=["one"]).titles


def test_a_panel_of_filters_is_named_by_their_number_and_size(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Six kernels that read three channels of 5×4."""
    titles: list[str] = []

    def draw(request: Any, dims: int, panel: Any) -> None:
        panel("net", None, "2", np.zeros((6, 3, 5, 4)))

    monkeypatch.setattr(plotting, "_draw_weights", draw)
    monkeypatch.setattr(weights, "filter_panel", lambda title, array: titles.append(title))
    plotting.draw_filters(request("net.t7"))
    assert titles == ["net, layer 2: 6 of 3×5×4"]


def test_statistics_are_those_of_all_values() -> None:
    found = _statistics(np.array([[0.0, 1.0, 0.0], [4.0, -3.0, 4.0]], np.float32))
    assert found == {
        "shape": [2, 3],
        "lowest": -3.0,
        "highest": 4.0,
        "average": 1.0,
        "deviation": pytest.approx(np.sqrt((1 + 0 + 1 + 9 + 16 + 9) / 6)),
        "zeros": pytest.approx(2 / 6),
    }


def test_a_shape_may_leave_out_a_single_channel() -> None:
    assert _image_shape(None) is None
    assert _image_shape((5, 7)) == (1, 5, 7)
    assert _image_shape((3, 5, 7)) == (3, 5, 7)
    for shape in ((5,), (1, 3, 5, 7)):
        with pytest.raises(UsageError, match="--shape"):
            _image_shape(shape)


def test_only_the_units_of_the_last_linear_layer_have_the_names_of_the_classes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    layers = {"0": np.ones((3, 4)), "conv": np.ones((2, 1, 3, 3)), "1": np.ones((2, 4))}
    weights = SimpleNamespace(
        layers={**layers, "bias": np.ones(2)},
        labels=["cat", "dog"],
        input_shape=None,
        notes=["a note"],
        of=lambda layer, rank: (layer, layers[layer]),
    )
    labels: list[Any] = []

    def panel(title: str, array: Any, shape: Any, names: Any) -> Any:
        labels.append((title, shape, names))
        return SimpleNamespace(title=title), "2 of 3" if names else ""

    monkeypatch.setattr(plotting, "_weights", lambda source, options: weights)
    monkeypatch.setattr("torchlift.transfer.plots.weights.unit_panel", panel)
    drawn: list[Any] = []
    monkeypatch.setattr(
        "torchlift.transfer.plots.mosaic.draw_panels", lambda *given: drawn.append(given)
    )
    for scale in ("together", "each"):
        asked = request("net", layers=["0", "1"], shape=(2, 2), scale=scale)
        result = draw_units(asked)
    assert labels[:2] == [
        ("net, layer 0: 3 of 1×2×2", (1, 2, 2), None),
        ("net, layer 1: 2 of 1×2×2", (1, 2, 2), ["cat", "dog"]),
    ]
    # Layers stand below each other, sources of one layer beside each other.
    assert [len(groups) for groups, _ in drawn] == [2, 2]
    assert [together for _, together in drawn] == [True, False]
    assert list(result.notes) == ["a note", "net, layer 1: 2 of 1×2×2: 2 of 3 are shown"]
    assert list(result.arrays) == ["net/0", "net/1"]


@pytest.mark.parametrize(("limit", "count"), [(None, 12), (3, 3), (30, 30)])
def test_a_dozen_samples_are_drawn_unless_another_number_is_asked_for(
    limit: int | None, count: int
) -> None:
    result = draw_samples(request(DATA, limit=limit))
    assert len(result.data["samples"]) == count
    assert result.data["samples"][0]["predictions"] == []


@pytest.mark.parametrize(
    ("kind", "options", "problem"),
    [
        ("samples", {"plot_options": PlotOptions(augmented=True)}, "--augmented needs to know how"),
        ("samples", {"augmentation": Augmentation(flip=True)}, "--flip changes nothing without"),
        (
            "samples",
            {
                "plot_options": PlotOptions(augmented=True, model="m"),
                "augmentation": Augmentation(flip=True),
            },
            "--augmented and --model exclude each other",
        ),
        ("samples", {"augmentation": Augmentation(mixup=0.5)}, "--mixup, which is for train and"),
        ("curves", {"plot_options": PlotOptions(index=1)}, "--index, which is for feature-maps;"),
    ],
)
def test_options_that_would_change_nothing_are_refused(
    kind: Any, options: dict[str, Any], problem: str, tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match=problem):
        plot(kind, ["data"], output=str(tmp_path / "a" / "x.png"), **options)
    assert not (tmp_path / "a").exists()


def test_both_files_are_looked_at_before_the_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target, arrays = tmp_path / "x.png", tmp_path / "x.npz"
    arrays.touch()
    from torchlift.converters.errors import WriteError

    options = PlotOptions(arrays=str(arrays))
    with pytest.raises(WriteError, match=r"x\.npz already exists"):
        plot("filters", ["none.t7"], output=str(target), plot_options=options)
    target.touch()
    arrays.unlink()
    with pytest.raises(WriteError, match=r"x\.png already exists"):
        plot("filters", ["none.t7"], output=str(target), plot_options=options)


@pytest.mark.parametrize(("split", "count"), [(None, 1), ("train", 3)])
def test_a_model_is_evaluated_on_the_test_split_unless_another_is_named(
    split: Any, count: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    splits = np.array(["train", "train", "test"])
    data = Dataset(np.zeros((3, 1, 2, 2), np.uint8), np.array([0, 1, 1]), splits=splits)
    asked: list[Any] = []

    def measure(predictor: Any, images: Any, match_classes: str) -> Evaluation:
        asked.append((predictor, len(images), match_classes))
        raise TorchliftError("enough")

    monkeypatch.setattr(DataOptions, "open", lambda self, source: data)
    monkeypatch.setattr(ModelOptions, "predictor", lambda self, *given: given)
    monkeypatch.setattr(evaluation, "evaluate", measure)
    options = replace(ALL_DATA, split=split, match_classes="position")
    asked_for = replace(request("m.t7", data="d"), data_options=options)
    with pytest.raises(TorchliftError, match="enough"):
        draw_confusion(asked_for)
    assert asked == [(("m.t7", "auto"), count, "position")]


@pytest.mark.parametrize(("limit", "count"), [(2, 2), (None, 12)])
def test_samples_are_matched_with_the_classes_of_the_model_as_asked(
    limit: int | None, count: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Any] = []

    def find(data: Any, predictor: Any, match_classes: str) -> Any:
        asked.append((len(data), predictor, match_classes))
        raise TorchliftError("enough")

    monkeypatch.setattr("torchlift.transfer.plots.predictions.samples_of", find)
    monkeypatch.setattr(ModelOptions, "predictor", lambda self, *given: given)
    options = replace(ALL_DATA, limit=limit, match_classes="position")
    with pytest.raises(TorchliftError, match="enough"):
        draw_samples(replace(request(DATA, model="m"), data_options=options))
    assert asked == [(count, ("m", "auto"), "position")]


@pytest.mark.parametrize(
    ("source", "options", "drawn"),
    [
        ("m.t7", FILE_DEFAULTS, "the file"),
        # An option says of which model: the others of the file do not count.
        ("m.t7", ModelOptions(at="protos.cnn"), "the network"),
        ("saved", FILE_DEFAULTS, "the network"),
        ("torchvision:resnet18", FILE_DEFAULTS, "the network"),
        ("m.ONNX", FILE_DEFAULTS, "the graph"),
    ],
)
def test_sizes_are_those_of_a_file_or_of_the_network_that_options_make_of_it(
    source: str,
    options: ModelOptions,
    drawn: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "m.t7").touch()
    (tmp_path / "m.ONNX").touch()
    (tmp_path / "saved").mkdir()
    named = {"sizes_in_t7": "the file", "sizes_in_network": "the network"}
    for name, what in {**named, "sizes_in_onnx": "the graph"}.items():
        layers = [
            SimpleNamespace(parameters=count, bytes=2 * count, to_json=lambda what=what: what)
            for count in (1000, 500)
        ]
        monkeypatch.setattr(sizes, name, lambda given, layers=layers: layers)
    monkeypatch.setattr(sizes, "draw_sizes", lambda layers, title: title)
    monkeypatch.setattr(ModelOptions, "model", lambda self, path: path)
    found = draw_sizes(replace(request(source, titles=["net"]), model_options=options))
    line = "net: 1,500 parameters, 3.0 kB"
    assert (found.figure, found.lines) == (line, [line])
    assert found.data == {"parameters": 1500, "bytes": 3000, "layers": [drawn, drawn]}


@pytest.mark.parametrize("scale", ["together", "each"])
def test_feature_maps_are_drawn_beside_the_image_that_made_them(
    scale: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = np.full((8, 9, 3), 7, np.float32)
    values = np.array([[[0.0, 2.0], [-1.0, 3.0]]], np.float32)
    maps = [SimpleNamespace(name="a/0", kind="ReLU", values=values, title="a line")]
    layers = SimpleNamespace(note="first convolution", run=lambda image: (seen, maps))
    asked: list[Any] = []

    def draw(*given: Any) -> str:
        asked.append(given)
        return "figure"

    monkeypatch.setattr(ModelOptions, "model", lambda *_: SimpleNamespace(notes=["of the model"]))
    monkeypatch.setattr(activations, "layers_of", lambda *given: layers)
    monkeypatch.setattr(feature_maps, "draw_feature_maps", draw)
    monkeypatch.setattr(photographs, "open_image", lambda *given: asked.append(given[:2]))
    found = draw_feature_maps(request("m.t7", image="i.png", index=4, scale=scale))
    assert asked == [("i.png", 4), (seen, maps, scale == "together")]
    assert found.arrays == {"image": seen, "a/0": values}
    assert (found.data["image"], found.data["input_shape"]) == ("i.png", [3, 8, 9])
    (told,) = found.data["layers"]
    assert (told["layer"], told["torch_class"], told["shape"]) == ("a/0", "ReLU", [1, 2, 2])
    assert (told["lowest"], told["highest"], told["zeros"]) == (-1, 3, 0.25)
    assert (found.lines, found.notes) == (["a line"], ["of the model", "first convolution"])
    with pytest.raises(UsageError, match="need an image: --image FILE"):
        draw_feature_maps(request("m.t7"))


def test_a_confusion_is_that_of_the_results_with_their_notes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    classes = [SimpleNamespace(label="cat"), SimpleNamespace(label="dog")]
    result = SimpleNamespace(
        classes=classes, accuracy=0.75, confusion=[[2, 1], [0, 1]], correct=3, count=4, notes=["n"]
    )
    monkeypatch.setattr(plotting, "_evaluation", lambda given: result)
    monkeypatch.setattr("torchlift.transfer.plots.evaluation.confusion_of", lambda given: given)
    found = draw_confusion(request("results"))
    assert found.figure is result
    assert found.data == {
        "accuracy": 0.75,
        "labels": ["cat", "dog"],
        "confusion": [[2, 1], [0, 1]],
    }
    assert (found.lines, found.notes) == (["accuracy 0.75 (3 of 4)"], ["n"])


@pytest.mark.parametrize("name", ["x.npz", "X.NPZ"])
def test_a_plot_says_each_note_once_and_names_both_files(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    values = {"a/0": np.arange(6, dtype=np.float32).reshape(2, 3), "b": np.array([1, 2])}
    figure = Figure()
    drawn = PlotResult(figure, {"layers": [7]}, ["a line"], ["one", "two", "one"], values)
    monkeypatch.setitem(plot_file._KINDS, "filters", (lambda request: drawn, ("arrays",)))
    target, arrays = tmp_path / "new" / "x.svg", tmp_path / name
    options = PlotOptions(arrays=str(arrays))
    result = plot("filters", ["m.t7"], output=str(target), plot_options=options)
    assert result.data == {
        "plot_kind": "filters",
        "files": [str(target), str(arrays)],
        "layers": [7],
        "notes": ["one", "two"],
    }
    assert shown(result.view) == [
        *("a line", "note: one", "note: two"),
        *(f"wrote {target}", f"wrote {arrays}"),
    ]
    assert target.read_text(encoding="utf-8").startswith("<?xml")
    with np.load(arrays) as stored:
        assert {key: stored[key].tolist() for key in stored} == {
            key: array.tolist() for key, array in values.items()
        }
    assert {path.name for path in tmp_path.iterdir()} == {"new", name}


def test_samples_have_their_ids_and_the_notes_of_the_data(monkeypatch: pytest.MonkeyPatch) -> None:
    pixels = np.arange(3 * 4, dtype=np.uint8).reshape(3, 1, 2, 2)
    data = Dataset(pixels, np.array([0, 1, 0]), ("a", "b"), notes=("of the data",))
    drawn: list[Any] = []
    monkeypatch.setattr("torchlift.transfer.plots.samples.draw_samples", drawn.append)
    monkeypatch.setattr(
        "torchlift.transfer.plots.augmented.with_augmented",
        lambda samples, how, seed: [(len(samples), how.flip, seed)],
    )
    for ids, names in ((np.array([7, 5, 9]), ["7", "5", "9"]), (None, ["0", "1", "2"])):
        monkeypatch.setattr(DataOptions, "open", lambda self, name, i=ids: replace(data, ids=i))
        result = draw_samples(request("d"))
        assert [one["image"] for one in result.data["samples"]] == names
        assert [one["label"] for one in result.data["samples"]] == ["a", "b", "a"]
        assert list(result.notes) == ["of the data"]
    # What is changed is drawn by the seed, and listed unchanged.
    changed = replace(
        request("d"),
        plot_options=PlotOptions(augmented=True),
        augmentation=Augmentation(flip=True),
        data_options=DataOptions(seed=5),
    )
    assert len(draw_samples(changed).data["samples"]) == 3
    assert drawn[-1] == [(3, True, 5)]


def test_arrays_are_whole_or_as_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "a.npz"
    drawn = PlotResult(Figure(), {}, arrays={"x": np.arange(3)})
    assert plot_file._save_arrays(str(file), drawn) == file
    before = file.read_bytes()

    def half(stream: Any, **arrays: Any) -> None:
        stream.write(b"half")
        raise OSError(28, "full")

    monkeypatch.setattr(np, "savez", half)
    with pytest.raises(WriteError, match="full"):
        plot_file._save_arrays(str(file), drawn)
    assert file.read_bytes() == before
    assert list(tmp_path.iterdir()) == [file]
