"""The command `check`: which images are compared, which sizes are taken, and what it says.

What is protected: that a check is of what was asked for, and a refusal comes before the work.
"""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from torchlift.cli.check import _check_activations, _examples, _take_sizes, check, verdict
from torchlift.cli.data_options import DataOptions
from torchlift.cli.errors import UsageError
from torchlift.cli.model_options import FILE_DEFAULTS, ModelOptions
from torchlift.converters import onnx
from torchlift.converters.errors import TorchliftError, WriteError
from torchlift.converters.input_shapes import parse_inputs
from torchlift.converters.modules.selfcheck import LayerCheck, SelfCheck
from torchlift.converters.onnx.checker import pair as pair_file
from torchlift.converters.saved import overrides
from torchlift.transfer.data import Dataset


@pytest.mark.parametrize(
    ("count", "taken"),
    [
        # Evenly spread, with the first and the last: data is often sorted by class.
        (3, [0, 4, 9]),
        (2, [0, 9]),
        (1, [0]),
        (9, [0, 1, 2, 3, 4, 5, 6, 7, 9]),
        (10, list(range(10))),
        (11, list(range(10))),
        (None, list(range(10))),
    ],
)
def test_so_many_examples_are_spread_evenly(count: int | None, taken: list[int]) -> None:
    pixels = np.arange(10, dtype=np.uint8).reshape(10, 1, 1, 1)
    images, classes = _examples(Dataset(pixels, np.arange(10) * 2), count)
    assert images.ravel().tolist() == taken
    assert classes.tolist() == [2 * index for index in taken]


def test_a_report_that_cannot_be_written_is_said_before_the_model_is_opened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any) -> None:
        raise AssertionError("the model is opened")

    monkeypatch.setattr(ModelOptions, "model", fail)
    (tmp_path / "m.check.txt").write_text("my notes", encoding="utf-8")
    with pytest.raises(WriteError, match=r"m\.check\.txt"):
        check("m.t7", str(tmp_path / "m.onnx"), report=True)
    with pytest.raises(AssertionError):
        check("m.t7", str(tmp_path / "m.onnx"))


@pytest.mark.parametrize("is_baked", [True, False])
@pytest.mark.parametrize("fits", [True, False])
def test_inferred_sizes_are_those_of_the_file_unless_its_graph_takes_pixels(
    is_baked: bool, fits: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A graph with preprocessing in it takes images of another size than the network."""
    opened: Any = SimpleNamespace(name="opened")
    metadata = SimpleNamespace(baked_preprocessing=object() if is_baked else None)
    pair = SimpleNamespace(metadata=metadata, shapes="3x9x9")
    asked: list[Any] = []

    def apply(*given: Any, **named: Any) -> None:
        from torchlift.converters.saved.errors import SavedModelError

        asked.append((*given, named))
        if not fits:
            raise SavedModelError("other sizes are known")

    monkeypatch.setattr(pair_file.ExportPair, "open", lambda *given: pair)
    monkeypatch.setattr(overrides, "apply_overrides", apply)
    _take_sizes(opened, "m.t7", "m.onnx")
    assert asked == ([] if is_baked else [(opened, "m.t7", {"input": "3x9x9"})])


@pytest.mark.parametrize(
    ("name", "options", "taken"),
    [
        ("m.t7", {}, True),
        ("m.t7", {"input": parse_inputs("3x9x9")}, False),
        ("m.t7", {"input_size": (9, 9)}, False),
        # A saved model and a library's network know their sizes.
        (".", {}, False),
        ("torchvision:resnet18", {}, False),
    ],
)
def test_sizes_are_taken_of_the_file_where_nobody_says_them(
    name: str,
    options: dict[str, Any],
    taken: bool,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "m.t7").touch()
    asked: list[Any] = []

    def compare(*_: Any, **__: Any) -> None:
        raise TorchliftError("enough")

    monkeypatch.setattr("torchlift.cli.check._take_sizes", lambda *given: asked.append(given))
    monkeypatch.setattr(ModelOptions, "model", lambda *_: SimpleNamespace(labels=None))
    monkeypatch.setattr(onnx, "check", compare)
    with pytest.raises(TorchliftError, match="enough"):
        check(name, "m.onnx", model_options=ModelOptions(**options))
    assert [given[1:] for given in asked] == ([(name, "m.onnx")] if taken else [])


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"examples": 3}, "examples=… is for the images of data=…"),
        ({"runtime_python": "python"}, "--runtime-python is for --runtime"),
        ({"onnxruntime_web": "web"}, "--onnxruntime-web is for --runtime web"),
        ({"onnxruntime_web": "web", "runtime": ["opencv"]}, "--onnxruntime-web is for"),
        ({"precision": "bf16"}, "--precision is for --provider openvino, not cpu"),
        ({"precision": "f32", "runtime": ["opencv"]}, "--precision is for --provider openvino"),
    ],
)
def test_options_without_effect_are_refused(options: dict[str, Any], problem: str) -> None:
    with pytest.raises(UsageError, match=problem):
        check("m.t7", "m.onnx", **options)


@pytest.mark.parametrize(
    "options",
    [
        {"data": "d.t7"},
        {"examples": 3},
        {"profile": "fp16"},
        {"output_name": "y"},
        {"runtime": ["opencv"]},
        {"locate": True},
        {"report": True},
    ],
)
def test_options_of_a_file_need_the_file(options: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match=r"name the \.onnx file too"):
        check("m.t7", **options)


@pytest.mark.parametrize(
    ("options", "provider", "runtimes"),
    [
        ({}, "cpu", []),
        ({"provider": "openvino", "precision": "bf16"}, "openvino:bf16", []),
        ({"runtime": ["openvino", "opencv"]}, "cpu", [("openvino", ""), ("opencv", "")]),
        # The runtime is meant, and the provider where it is the same program.
        (
            {"runtime": ["openvino", "opencv"], "precision": "f32"},
            "cpu",
            [("openvino", "f32"), ("opencv", "")],
        ),
        (
            {"runtime": ["openvino"], "provider": "openvino", "precision": "f32"},
            "openvino:f32",
            [("openvino", "f32")],
        ),
    ],
)
def test_a_precision_is_that_of_openvino_wherever_it_runs(
    options: dict[str, Any],
    provider: str,
    runtimes: list[Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from torchlift.converters.onnx.runtimes.installed import InstalledRuntime

    found: list[Any] = []

    def run(*given: Any, **named: Any) -> None:
        found.append((named["provider"], [(one.name, one.precision) for one in named["runtimes"]]))
        raise TorchliftError("enough")

    monkeypatch.setattr(
        onnx, "find_runtimes", lambda names, *_: [InstalledRuntime(name, ()) for name in names]
    )
    monkeypatch.setattr(onnx, "check", run)
    monkeypatch.setattr(ModelOptions, "model", lambda *_: SimpleNamespace(labels=None))
    with pytest.raises(TorchliftError, match="enough"):
        check("m", "m.onnx", **options)
    assert found == [(provider, runtimes)]


def layer(status: Any, error: float | None = None) -> LayerCheck:
    return LayerCheck(f"modules[{status}]", "nn.Linear", status, error)


def test_a_verdict_says_what_was_compared_and_what_could_not_be() -> None:
    equal, unchecked, differs = layer("equal", 2e-7), layer("unchecked"), layer("differs", 0.5)
    for layers, text in (
        (
            [equal, layer("equal", 3e-6), unchecked],
            "2 of 3 layers compute what Torch7 computed (largest error 3.0e-06, 1e-04 allowed), "
            "1 could not be checked",
        ),
        (
            [equal],
            "1 of 1 layers compute what Torch7 computed (largest error 2.0e-07, 1e-04 allowed)",
        ),
        ([equal, differs], "modules[differs] (nn.Linear) is the first layer that differs"),
        (
            [unchecked],
            "the file keeps no activations to compare with: it was cleared before it was saved",
        ),
    ):
        assert verdict(SelfCheck(layers, 1e-4)) == text


@pytest.mark.parametrize(
    ("status", "passed"), [("equal", True), ("unchecked", True), ("differs", False)]
)
def test_a_layer_that_differs_fails_the_check(
    status: str, passed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Any] = []

    def compare(options: ModelOptions, path: str, tolerance: float) -> SelfCheck:
        asked.append((path, tolerance))
        return SelfCheck([layer("equal", 0.0), layer(status, 0.1)], tolerance)

    monkeypatch.setattr(ModelOptions, "self_check", compare)
    result = _check_activations("m.t7", FILE_DEFAULTS, 0.25)
    assert asked == [("m.t7", 0.25)]
    assert (result.passed, result.data["passed"]) == (passed, passed)
    for given, limit in ((None, 1e-4), (0.0, 0.0), (0.5, 0.5)):
        asked.clear()
        check("m.t7", tolerance=given)
        assert asked == [("m.t7", limit)]


def test_images_are_matched_with_the_labels_of_the_model_and_their_notes_are_said(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[Any] = []
    images = Dataset(np.zeros((3, 1, 2, 2), np.uint8), np.array([0, 1, 0]))

    def open_images(self: Any, *given: Any) -> Any:
        asked.append(given)
        return images, ["of the data"]

    monkeypatch.setattr(DataOptions, "open_for_onnx", open_images)
    monkeypatch.setattr(ModelOptions, "model", lambda *_: SimpleNamespace(labels=["a", "b"]))
    found = SimpleNamespace(lines=lambda: ["a line"], to_json=lambda: {"x": 1}, passed=False)
    monkeypatch.setattr("torchlift.converters.onnx.check", lambda *given, **named: found)
    result = check("no-file", "f.onnx", data="d.npz")
    assert asked == [("d.npz", "f.onnx", ["a", "b"])]
    assert result.view == "a line\nnote: of the data"
    assert result.data == {"model": "no-file", "x": 1, "notes": ["of the data"]}
    assert not result.passed
