"""Which images and classes a command gets: of a dataset, beside a training, for an `.onnx` file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper

from torchlift.cli import quantize as quantize_file
from torchlift.cli.data_options import ALL_DATA, DataOptions, given_options
from torchlift.cli.errors import UsageError
from torchlift.cli.quantize import quantize
from torchlift.converters import onnx as onnx_package
from torchlift.converters.inference.metadata import Metadata
from torchlift.converters.onnx import onnx_file
from torchlift.transfer import data as data_package
from torchlift.transfer.data import Dataset
from torchlift.transfer.errors import DataError

PIXELS = np.zeros((4, 1, 2, 2), np.uint8)


def test_names_of_test_data_are_its_own_unless_it_has_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`--class-names` renames the data, and only fills in what other data lacks."""
    names = tmp_path / "names.txt"
    names.write_text("b\na\n", encoding="utf-8")
    asked: list[dict[str, Any]] = []
    monkeypatch.setattr(
        data_package, "open_data", lambda source, **named: asked.append({"source": source, **named})
    )
    options = DataOptions(
        classes=["a"],
        class_names=str(names),
        split="val",
        limit=3,
        seed=5,
        first_label=2,
        image_size=(4, 6),
        on_error="skip",
    )
    options.open("d")
    options.open("t", as_test_data=True)
    ALL_DATA.open("d")
    first, test, plain = asked
    shared = {"classes": ["a"], "limit": 3, "first_label": 2, "size": (4, 6), "split": "val"}
    shared |= {"on_error": "skip", "seed": 5, "default_class_names": ["b", "a"]}
    assert first == {"source": "d", "class_names": ["b", "a"], **shared}
    assert test == {"source": "t", "class_names": None, **shared}
    assert (plain["class_names"], plain["default_class_names"]) == (None, None)


def graph(*sizes: list[Any]) -> Any:
    outputs = [
        helper.make_tensor_value_info(f"y{index}", TensorProto.FLOAT, size)
        for index, size in enumerate(sizes)
    ]
    return helper.make_model(helper.make_graph([], "g", [], outputs))


@pytest.mark.parametrize(
    ("sizes", "fits"),
    [
        ([["n", 3]], True),
        ([["n", 2]], False),
        # A convolution gives scores as (N, classes, 1, 1).
        ([["n", 3, 1, 1]], True),
        ([["n", 2, 1, 1]], False),
        ([["n"], ["n", 2]], False),
        # How many there are is not known before it runs.
        ([["n", "classes"]], True),
        ([["n"]], True),
        ([["n", 1]], True),
    ],
)
def test_classes_beyond_those_of_a_graph_are_refused(
    sizes: list[Any], fits: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = Dataset(PIXELS, np.array([0, 1, 2, 0]), notes=("a note",))
    monkeypatch.setattr(onnx_file, "read_network", lambda file: (graph(*sizes), Metadata()))
    monkeypatch.setattr(DataOptions, "open", lambda self, source: data)
    if fits:
        images, notes = ALL_DATA.open_for_onnx("d", "m.onnx")
        assert images.classes is not None
        assert images.classes.tolist() == [0, 1, 2, 0]
        assert notes[0] == "a note"
    else:
        with pytest.raises(DataError, match=r"^m\.onnx: "):
            ALL_DATA.open_for_onnx("d", "m.onnx")


def test_classes_are_matched_with_the_names_that_are_said_or_those_in_the_file(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    data = Dataset(PIXELS, np.array([0, 1, 1, 0]), ("a", "b"))
    kinds = [Metadata(labels=["b", "a"], output_kind=kind) for kind in (None, "features")]
    monkeypatch.setattr(onnx_file, "read_network", lambda file: (graph(["n", 2]), kinds[0]))
    monkeypatch.setattr(DataOptions, "open", lambda self, source: data)

    def found(options: DataOptions, labels: list[str] | None = None) -> Any:
        classes = options.open_for_onnx("d", "m.onnx", labels)[0].classes
        assert classes is not None
        return classes.tolist()

    assert found(ALL_DATA) == [1, 0, 0, 1]
    assert found(ALL_DATA, ["a", "b"]) == [0, 1, 1, 0]
    assert found(DataOptions(match_classes="position")) == [0, 1, 1, 0]
    kinds.pop(0)
    assert found(ALL_DATA) == [0, 1, 1, 0]


def test_what_was_given_is_what_differs_from_the_usual() -> None:
    assert given_options(ALL_DATA, ALL_DATA) == []
    assert given_options(DataOptions(limit=3, seed=1), ALL_DATA) == ["limit", "seed"]
    assert given_options(DataOptions(limit=3), DataOptions(limit=3)) == []


@pytest.mark.parametrize(
    ("model", "output", "options", "problem"),
    [
        ("m.onnx", "o.onnx", {"dynamic": True, "symmetric": True}, "--symmetric is about ranges"),
        ("m.onnx", "o.onnx", {"dynamic": True, "method": "entropy"}, "--method is about ranges"),
        ("m.t7", "o.onnx", {}, r"m\.t7: an \.onnx file is quantized"),
        ("m.onnx", "o", {}, r"\.onnx is written, not a folder"),
    ],
)
def test_what_cannot_be_quantized_is_said_before_the_data_is_read(
    model: str, output: str, options: dict[str, Any], problem: str
) -> None:
    with pytest.raises(UsageError, match=problem):
        quantize(model, output, data="none", **options)


@pytest.mark.parametrize("labelled", [True, False])
def test_the_result_of_a_quantization_compares_both_files(
    labelled: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    from types import SimpleNamespace

    from cli_support import shown

    data = Dataset(PIXELS, np.array([0, 1, 1, 0]))
    asked: list[dict[str, Any]] = []

    def run(*given: Any, **named: Any) -> Any:
        asked.append(named)
        return SimpleNamespace(
            file=Path("o.onnx"),
            bytes=(4000, 1000),
            before=0.75,
            after=0.5,
            agreement=0.875,
            labelled=labelled,
            layers=9,
            kept=("a", "b"),
            notes=["of the file"],
        )

    monkeypatch.setattr(onnx_package, "quantize", run)
    monkeypatch.setattr(
        quantize_file.DataOptions, "open_for_onnx", lambda *_: (data, ["of the data"])
    )
    result = quantize("m.onnx", "o.onnx", data="d", max_drop=0.25, keep=["a"], calibration=7)
    (named,) = asked
    assert named["classes"] is data.classes
    given = (named["max_drop"], named["keep"], named["calibration"], named["method"])
    assert given == (0.25, ["a"], 7, "minmax")
    assert result.data == {
        "model": "m.onnx",
        "files": ["o.onnx"],
        "bytes": 1000,
        "float_bytes": 4000,
        "accuracy": 0.5,
        "float_accuracy": 0.75,
        "agreement": 0.875,
        "truth": "labels" if labelled else "float_file",
        "count": 4,
        "layer_count": 9,
        "float_nodes": ["a", "b"],
        "notes": ["of the data", "of the file"],
    }
    lines = shown(result.view)
    assert lines[0] == "wrote o.onnx: 1,000 bytes, 0.25 of float"
    compared = "the labels" if labelled else "the predictions of the float file"
    assert lines[1].startswith("accuracy 0.5000, 0.7500 in float, on 4 images, ")
    assert lines[1].endswith(compared)
    assert lines[2:4] == [
        "87.50% of the predictions are the float file's",
        "2 of 9 layers stay in float: a, b",
    ]
