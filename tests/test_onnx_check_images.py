"""The pixels of a file that takes images, beside those of its model's preprocessing.

What the file gives is made up: what is tested is what a check says of it. Half a step, a step or a
NaN is put where it must be noticed.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from torch import nn

from torchlift.converters.images import Preprocessing
from torchlift.converters.inference import InferenceError
from torchlift.converters.inference.metadata import Metadata
from torchlift.converters.onnx.checker import image_file
from torchlift.converters.onnx.checker.image_file import check_images, network_of
from torchlift.converters.onnx.checker.pair import ExportPair
from torchlift.converters.onnx.exporter.bake_resize import IMAGE
from torchlift.converters.saved import SavedModel

OWN = Preprocessing("BGR", resize="none", value_range=255, mean=(10, 20, 30), std=(2, 4, 8))
#: How far a step of one in 0 to 255 moves an input.
STEP = 1 / np.reshape([2, 4, 8], (1, 3, 1, 1))
SIZES = [(4, 5), (20, 25), (3, 50)]
Change = Callable[[np.ndarray], np.ndarray]


def images(sizes: list[tuple[int, int]]) -> list[np.ndarray]:
    generator = np.random.default_rng(0)
    return [generator.integers(0, 256, (*size, 3), np.uint8) for size in sizes]


def told(
    monkeypatch: pytest.MonkeyPatch,
    pixels: Change = lambda inputs: inputs,
    outputs: Change = lambda scores: scores,
    preprocessing: Preprocessing | None = OWN,
    module: nn.Module | None = None,
    precision: str = "fp32",
    sizes: list[tuple[int, int]] = SIZES,
    baked: Preprocessing | None = None,
    of_network: Change = lambda scores: scores,
) -> Any:
    """Return what is found of a file: its changed pixels and outputs, of so many images."""
    opened: list[str] = []

    def scores_of(inputs: np.ndarray) -> np.ndarray:
        return of_network(np.stack([inputs.mean((1, 2, 3)), inputs.max((1, 2, 3))], 1))

    def whole(feeds: dict[str, np.ndarray]) -> list[np.ndarray]:
        image = feeds[IMAGE]  # (H, W, 3), RGB: what the model's preprocessing makes of it.
        inputs = (image[..., ::-1].astype(float) - [10, 20, 30]) / [2, 4, 8]
        actual = pixels(inputs.transpose(2, 0, 1)[None])
        return [scores_of(actual), outputs(scores_of(actual)), actual]

    def behind(feeds: dict[str, np.ndarray]) -> list[np.ndarray]:
        return [scores_of(feeds["input"])] * 2

    def open_session(path: Path, provider: str) -> Any:
        opened.append(provider)
        return SimpleNamespace(run=whole if len(opened) == 1 else behind)

    monkeypatch.setattr(image_file, "open_session", open_session)
    monkeypatch.setattr(image_file, "odd_images", lambda *_: images(sizes))
    folders: list[Path] = []

    def with_pixels(_: object, folder: Path) -> Path:
        folders.append(folder)
        return folder / "pixels.onnx"

    monkeypatch.setattr(image_file, "_with_pixels", with_pixels)
    metadata = SimpleNamespace(baked_preprocessing=baked, precision=precision)
    pair: Any = SimpleNamespace(
        model=SimpleNamespace(preprocessing=preprocessing),
        metadata=metadata,
        module=module or nn.Identity(),
        onnx_model=None,
        path=Path("network.onnx"),
    )
    found = check_images(pair, pair, None, "openvino")
    assert opened in (["openvino"] * 2, [])
    assert not any(folder.exists() for folder in folders)
    return found


def test_the_pixels_of_the_model_pass_and_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    found = told(monkeypatch)
    assert found.passed, found.text
    assert found.text.startswith(
        "100.0000% of the pixels of 3 images, 3×50 to 20×25, are those of the model's "
        "preprocessing; the others are off by at most "
    )


@pytest.mark.parametrize(
    ("count", "passes"),
    # Of 3·(20 + 500 + 150) = 2010 pixels two may be others.
    [(2, True), (3, False)],
)
def test_a_thousandth_of_the_pixels_may_be_off_by_one(
    count: int, passes: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    def change(inputs: np.ndarray) -> np.ndarray:
        if inputs.shape[2] == 20:
            inputs[0, 1, 0, :count] += 1 / 4
        return inputs

    monkeypatch.setattr(image_file, "_OUTPUTS", 1e9)
    found = told(monkeypatch, change)
    assert found.passed is passes, found.text
    assert found.text.startswith(f"{1 - count / 2010:.4%} of the pixels")
    assert found.text.endswith("off by at most 1 of 255")


def test_exactly_a_thousandth_of_the_pixels_may_be_off(monkeypatch: pytest.MonkeyPatch) -> None:
    """3 of 3,000."""

    def change(inputs: np.ndarray) -> np.ndarray:
        inputs[0, 1, 0, :3] += 1 / 4
        return inputs

    monkeypatch.setattr(image_file, "_OUTPUTS", 1e9)
    assert told(monkeypatch, change, sizes=[(10, 100)]).passed
    assert not told(monkeypatch, change, sizes=[(10, 99)]).passed


@pytest.mark.parametrize(
    ("off", "passes", "share"),
    [(0.015, True, "100.0000%"), (0.03, False, "0.0000%"), (1.015, True, ""), (1.03, False, "")],
)
def test_less_than_a_fiftieth_of_a_step_is_no_difference(
    off: float, passes: bool, share: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the steps of each channel: of all pixels, or of one beside the step that it may be off."""

    def change(inputs: np.ndarray) -> np.ndarray:
        if share:
            return inputs + off * STEP
        if inputs.shape[2] == 20:
            inputs[0, 2, -1, -1] += off / 8
        return inputs

    monkeypatch.setattr(image_file, "_OUTPUTS", 1e9)
    found = told(monkeypatch, change)
    assert found.passed is passes, found.text
    assert found.text.startswith(share)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_pixel_that_is_no_number_fails_however_few_there_are(
    value: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    def change(inputs: np.ndarray) -> np.ndarray:
        if inputs.shape[2] == 20:
            inputs[0, 0, 3, 4] = value
        return inputs

    assert not told(monkeypatch, change).passed


def test_an_image_of_another_size_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    found = told(monkeypatch, lambda inputs: inputs[..., 1:] if inputs.shape[2] == 20 else inputs)
    assert not found.passed
    assert found.text == ("an image of 20×25 becomes (1, 3, 20, 24), (1, 3, 20, 25) was expected")


@pytest.mark.parametrize(
    ("factor", "passes"), [(1, True), (1 + 0.9e-3, True), (1 + 2e-3, False), (np.nan, False)]
)
def test_the_whole_file_gives_the_outputs_of_its_network(
    factor: float, passes: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """To a thousandth of the largest; where it is more, rounding must explain it."""
    monkeypatch.setattr(image_file, "allowed_rounding", lambda *_: [])
    found = told(monkeypatch, outputs=lambda scores: scores * [1, factor])
    assert found.passed is passes, found.text
    assert ("the outputs are not those of the network" in found.text) is not passes


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize(("other", "passes"), [(1, True), (2, False)])
def test_what_is_no_number_in_the_network_either_hides_no_other_output(
    value: float, other: float, passes: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(image_file, "allowed_rounding", lambda *_: [])
    found = told(
        monkeypatch,
        outputs=lambda scores: scores * [1, other],
        of_network=lambda scores: np.where([True, False], value, scores),
    )
    assert found.passed is passes, found.text


@pytest.mark.parametrize(
    ("precision", "asked"), [("fp32", "fp32-cpu"), ("int8", "fp32-cpu"), ("fp16", "fp16")]
)
def test_rounding_of_outputs_is_that_of_the_files_arithmetic(
    precision: str, asked: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    profiles: set[str] = set()

    def rounding(module: nn.Module, inputs: np.ndarray, profile: str) -> list[float]:
        profiles.add(profile)
        assert inputs.shape[:2] == (1, 3)
        return [0.0, 1e9]  # The first output is as it should be.

    monkeypatch.setattr(image_file, "allowed_rounding", rounding)
    assert told(monkeypatch, outputs=lambda scores: scores * 2, precision=precision).passed
    assert profiles == {asked}


def test_images_that_preprocessing_refuses_are_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    crop = Preprocessing("BGR", crop=(4, 4), resize="none", value_range=255, mean=(10, 20, 30),
                         std=(2, 4, 8))  # fmt: skip
    found = told(monkeypatch, preprocessing=crop, sizes=[(3, 9), (4, 4), (2, 2), (4, 4)])
    assert "of 2 images, 4×4 to 4×4" in found.text
    found = told(monkeypatch, preprocessing=crop, sizes=[(3, 9)])
    assert (found.passed, found.text) == (False, "the preprocessing takes none of the images")
    # That of the model counts; where it has none the file is compared with what it says itself.
    assert told(monkeypatch, baked=Preprocessing("RGB")).passed
    assert told(monkeypatch, preprocessing=None, baked=OWN).passed
    assert not told(monkeypatch, preprocessing=Preprocessing("RGB", mean=(9,)), baked=OWN).passed
    found = told(monkeypatch, preprocessing=None)
    assert found.text == "the model has no preprocessing to compare with"
    assert not found.passed


@pytest.mark.parametrize("takes", [True, False])
def test_images_that_only_the_file_refuses_are_a_fault(
    takes: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(inputs: np.ndarray) -> np.ndarray:
        if inputs.shape[2] == 3:
            raise InferenceError("too small\nfor a window")
        return inputs

    window = nn.MaxPool2d(2 if takes else 4, 1)
    found = told(monkeypatch, refuse, module=window)
    assert found.passed is not takes
    if takes:
        assert found.text == "too small"
    else:
        assert "of 2 images, 4×5 to 20×25" in found.text


def baked() -> onnx.ModelProto:
    """Return a graph with preprocessing in front of it, and two large weights."""
    value = helper.make_tensor_value_info
    nodes = [
        helper.make_node("Mul", ["image", "baked_scale"], ["normalized_input"], "baked_mul"),
        helper.make_node("Mul", ["normalized_input", "normalized_input"], ["square"], "square"),
        helper.make_node("Mul", ["square", "weight"], ["y"], "mul"),
    ]
    constants = {"baked_scale": np.ones(1, np.float32), "weight": np.ones(500, np.float32)}
    graph = helper.make_graph(
        nodes,
        "g",
        [value("image", TensorProto.FLOAT, ["height", "width", 3])],
        [value("y", TensorProto.FLOAT, [1, 500])],
        [numpy_helper.from_array(array, name) for name, array in constants.items()],
        value_info=[
            value("square", TensorProto.FLOAT, [1, 500]),
            value("normalized_input", TensorProto.FLOAT, [1, 500]),
        ],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)


def test_the_network_behind_the_preprocessing_is_an_ordinary_file(tmp_path: Path) -> None:
    outside, inside = Preprocessing(resize="none", value_range=255), OWN
    metadata = Metadata(preprocessing=outside, baked_preprocessing=inside)
    model = SavedModel(nn.Identity(), "features")
    made = baked()
    plain = ExportPair(model, model.module, tmp_path / "f.onnx", made, Metadata())
    with network_of(plain) as network:
        assert network is plain
    made.graph.input[0].type.tensor_type.elem_type = TensorProto.UINT8
    pair = ExportPair(model, model.module, tmp_path / "f.onnx", made, metadata)
    before = made.SerializeToString()
    with network_of(pair) as network:
        assert made.SerializeToString() == before
        graph = network.onnx_model.graph
        assert [node.name for node in graph.node] == ["square", "mul"]
        assert [list(node.input) for node in graph.node] == [["input"] * 2, ["square", "weight"]]
        assert [tensor.name for tensor in graph.initializer] == ["weight"]
        assert numpy_helper.to_array(graph.initializer[0]).tolist() == [1] * 500
        sizes = [
            [axis.dim_param or axis.dim_value for axis in value.type.tensor_type.shape.dim]
            for value in (*graph.input, *graph.output)
        ]
        assert sizes == [["batch", 500], ["batch", 500]]
        assert [value.name for value in graph.input] == ["input"]
        # Weights that are large lie beside it: a message of protobuf holds 2 GB.
        assert sorted(file.name for file in network.path.parent.iterdir()) == [
            "network.data",
            "network.onnx",
        ]
        assert network.metadata.preprocessing == inside
        assert network.metadata.baked_preprocessing is None
        assert not network.takes_image
    assert not network.path.parent.exists()


def test_the_pixels_of_a_file_are_its_last_output(tmp_path: Path) -> None:
    made = baked()
    path = image_file._with_pixels(made, tmp_path)
    stored = onnx.load(path)
    assert [value.name for value in stored.graph.output] == ["y", "normalized_input"]
    assert stored.graph.output[1].type.tensor_type.elem_type == TensorProto.FLOAT
    assert [value.name for value in made.graph.output] == ["y"]
