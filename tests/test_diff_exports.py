"""`diff` of a small network and its export: what counts, and which file is the first."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from saved_support import tiny

from torchlift.converters.comparing.differences import differences
from torchlift.converters.comparing.entries import entries_of_graph, floating
from torchlift.converters.comparing.files import compare_files
from torchlift.converters.images import Preprocessing
from torchlift.converters.onnx import annotate, export
from torchlift.converters.onnx.onnx_file import read_file
from torchlift.converters.saved import save
from torchlift.converters.t7 import LuaTable
from torchlift.converters.t7 import save as save_t7

LABELS = ["a", "b", "c"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A saved model, its export, and one with other labels and a bias that is larger by 1."""
    folder = tmp_path_factory.mktemp("exports")
    model = tiny(labels=LABELS)
    save(model, folder / "model")
    export(model, folder / "same.onnx")
    annotate(folder / "same.onnx", folder / "other.onnx", labels=["a", "b", "z"])
    graph = onnx.load(folder / "other.onnx")
    (bias,) = (each for each in graph.graph.initializer if each.name == "3.bias")
    bias.CopyFrom(onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(bias) + 1, bias.name))
    onnx.save(graph, folder / "other.onnx")
    return folder


def test_a_model_differs_from_an_export_in_the_order_of_the_files(folder: Path) -> None:
    assert not compare_files(folder / "model", folder / "same.onnx").differences
    found = compare_files(folder / "model", folder / "other.onnx")
    assert [each.path for each in found.differences] == ["labels", "3.bias"]
    assert found.differences[0].text == '["a", "b", "c"] | ["a", "b", "z"]'
    assert found.differences[1].largest == pytest.approx(1, abs=1e-6)
    turned = compare_files(folder / "other.onnx", folder / "model")
    assert turned.differences[0].text == '["a", "b", "z"] | ["a", "b", "c"]'
    assert turned.compared == found.compared > 10


@pytest.mark.parametrize("option", ["bake_resize", "bake_preprocessing"])
def test_a_model_is_exported_as_the_file_was(option: str, tmp_path: Path) -> None:
    model = tiny(preprocessing=Preprocessing("gray", (8, 8), mean=(0.5,), std=(0.25,)))
    save(model, tmp_path / "model")
    export(model, tmp_path / "baked.onnx", **{option: True})
    assert not compare_files(tmp_path / "model", tmp_path / "baked.onnx").differences


def test_kept_columns_are_those_of_the_file(folder: Path, tmp_path: Path) -> None:
    export(tiny(labels=LABELS), tmp_path / "two.onnx", columns=(2, 3))
    assert not compare_files(folder / "model", tmp_path / "two.onnx").differences


def test_who_wrote_a_file_is_no_difference(folder: Path) -> None:
    """What its graph says too is none either; every other entry of the metadata is one."""
    graph, metadata = read_file(folder / "same.onnx")
    first = entries_of_graph(graph, metadata)
    other = replace(
        metadata,
        exporter="torch 1.0",
        torchlift_version="0.1.0",
        source={"file": "a.t7", "sha256": "0"},
        inputs="3x4x4",
    )
    assert not differences(first, entries_of_graph(graph, other))
    for name, value, kind in (
        ("labels", ["x", "y", "z"], "setting"),
        ("output_kind", "probabilities", "setting"),
        ("precision", "fp16", "setting"),
        ("depends_on_batch", True, "missing"),
        ("kept_columns", [1, 2], "missing"),
    ):
        (found,) = differences(first, entries_of_graph(graph, replace(metadata, **{name: value})))
        assert (found.path, found.kind) == (name, kind)


def test_precision_is_a_difference_of_files_and_not_of_numbers() -> None:
    """A half that is stored as one is equal to the same number in double precision."""
    half, double = np.array([0.5], np.float16), np.array([0.5])
    (found,) = differences({"w": half}, {"w": double})
    assert (found.kind, found.text) == ("dtype", "float16 | float64, with equal values")
    assert not differences(floating({"w": half}), floating({"w": double}))
    kept = floating({"n": np.array([1], np.int64), "s": "text"})
    assert (kept["n"].dtype, kept["s"]) == (np.int64, "text")  # type: ignore[union-attr]


def test_weights_that_half_precision_holds_exactly_are_equal(tmp_path: Path) -> None:
    model = tiny()
    for parameter in model.module.parameters():
        parameter.data = parameter.data.half().float()
    save(model, tmp_path / "model")
    export(model, tmp_path / "half.onnx", fp16=True)
    found = compare_files(tmp_path / "model", tmp_path / "half.onnx").differences
    assert "3.bias" not in {each.path for each in found}
    assert "precision" in {each.path for each in found}


def test_a_number_is_equal_as_an_int_and_as_a_float() -> None:
    assert not differences({"epoch": 3}, {"epoch": 3.0})
    (found,) = differences({"flag": True}, {"flag": 1})
    assert found.kind == "setting"


def test_values_at_a_path_alone_are_compared(tmp_path: Path) -> None:
    for name, epoch in (("a", 3), ("b", 4)):
        table = LuaTable({"opt": LuaTable({"lr": 0.1}), "epoch": epoch, "w": np.ones(2)})
        save_t7(table, tmp_path / f"{name}.t7")
    whole = compare_files(tmp_path / "a.t7", tmp_path / "b.t7")
    assert [each.path for each in whole.differences] == ["epoch"]
    part = compare_files(tmp_path / "a.t7", tmp_path / "b.t7", at="opt")
    assert (part.differences, part.compared) == ([], 1)
