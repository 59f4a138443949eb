"""What a page is told of a network gives the image that `apply` writes: numbers, without a browser.

The page looks its numbers up and multiplies; here NumPy does the same with the card. What the
browser makes of the same cards is compared by the slow tests of `test_page_images`.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
from page_support import package
from PIL import Image
from test_page_images import NETWORKS, applied, mixing, network
from torch import from_numpy, nn

from torchlift.converters.images import Preprocessing
from torchlift.converters.images.image_to_image import ImageToImage
from torchlift.converters.onnx import OnnxError, export, write_page
from torchlift.converters.onnx.page import require_image_classifier
from torchlift.converters.onnx.page.image_card import (
    _gives_classes,
    _output_channels,
    _takes_image,
    _to_bytes,
    gives_image,
)
from torchlift.converters.onnx.page.runtime import find_runtime
from torchlift.converters.saved import SavedModel


def card_of(model: Path, folder: Path) -> dict[str, Any]:
    """Return the card of a model's page."""
    files = write_page(model, folder / "page", onnxruntime_web=package(folder / "ort"))
    html = files[0].read_text(encoding="utf-8")
    card: dict[str, Any] = json.loads(html.split('id="model">')[1].split("</script>")[0])
    return card


def looked_up(model: Path, card: dict[str, Any], image: Image.Image) -> np.ndarray:
    """Return the pixels (H, W, 3) that a page makes of an image, by what its card says alone."""
    pixels = np.asarray(image.convert("RGB" if card["order"] else "L"))
    planes = pixels[..., card["order"]] if card["order"] else pixels[..., None]
    height, width = planes.shape[:2]
    border, multiple = card["border"], card["multiple"]
    margins = [(border, border + -(side + 2 * border) % multiple) for side in (height, width)]
    planes = np.pad(planes, [*margins, (0, 0)], mode="edge")
    channels = range(planes.shape[2])
    levels = card["levels"]
    inputs = np.stack(
        [np.float32(levels[c])[planes[..., c]] if levels else planes[..., c] for c in channels]
    )
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    (output,) = session.run(None, {session.get_inputs()[0].name: inputs[None]})
    output = output.reshape(card["channels"], *output.shape[2:]) if output.ndim == 4 else output[0]
    if card["gives_classes"]:
        return np.array(card["palette"]).reshape(-1, 3)[output.argmax(0)]
    if output.ndim == 1:
        output = output.reshape(card["channels"], height, width)
    gain, offset = (np.reshape(card[name], (-1, 1, 1)) for name in ("gain", "offset"))
    made = np.rint((output * gain + offset).clip(0, 255)).astype(int)[card["out_order"]]
    made = made[:, : height * card["scale"], : width * card["scale"]] if card["scale"] else made
    return np.broadcast_to(made.transpose(1, 2, 0), (*made.shape[1:], 3))


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pixels = np.random.default_rng(0).integers(0, 256, (21, 30, 3), np.uint8)
    file = tmp_path_factory.mktemp("images") / "noise.png"
    Image.fromarray(pixels).save(file)
    return file


@pytest.mark.parametrize("name", [name for name in NETWORKS if name != "brightness"])
def test_a_card_gives_the_image_of_apply(name: str, image: Path, tmp_path: Path) -> None:
    model = network(tmp_path / "net.onnx", **NETWORKS[name])
    card = card_of(model, tmp_path)
    found = looked_up(model, card["image"], Image.open(image))
    # The steps are rounded in another order: to one level, at a few pixels of a thousand.
    off = np.abs(found - applied(model, image))
    assert off.max() <= (0 if card["image"]["gives_classes"] else 1)
    assert (off > 0).mean() < 0.01
    assert card["output_kind"] == ("a map of classes" if name == "classes" else "an image")


def test_a_map_may_have_as_many_classes_as_a_byte_can_tell_apart(tmp_path: Path) -> None:
    network(tmp_path / "net.onnx", mixing(256, 3), preprocessing=Preprocessing())
    card = card_of(tmp_path / "net.onnx", tmp_path)["image"]
    assert (card["gives_classes"], card["channels"], len(card["palette"])) == (True, 256, 768)


@pytest.mark.parametrize("name", NETWORKS)
def test_a_card_has_the_steps_that_the_file_says(name: str, tmp_path: Path) -> None:
    network(tmp_path / "net.onnx", **NETWORKS[name])
    said, card = NETWORKS[name], card_of(tmp_path / "net.onnx", tmp_path)["image"]
    steps = said.get("image_to_image") or ImageToImage(1)
    channels, is_gray = said["weight"].shape[0], said["weight"].shape[1] == 1
    assert (card["takes_image"], card["channels"]) == (False, channels)
    assert (card["border"], card["keeps_color"]) == (steps.border, steps.keeps_color)
    assert card["multiple"] == steps.multiple
    assert card["gives_classes"] is (name == "classes")
    assert len(card["palette"]) == (3 * channels if name == "classes" else 0)
    assert ("gain" in card) is (name != "classes")
    is_bgr = said["preprocessing"].color == "BGR"
    assert card["order"] == ([] if is_gray else [2, 1, 0] if is_bgr else [0, 1, 2])
    assert np.shape(card["levels"]) == (1 if is_gray else 3, 256)


def test_a_gray_network_with_its_preprocessing_inside_takes_a_color_image(tmp_path: Path) -> None:
    """The graph makes it gray itself, so that it gets all three channels as bytes."""
    layer = nn.Conv2d(1, 1, 1)
    own = Preprocessing("gray", resize="none", value_range=255)
    model = SavedModel(layer.eval(), "features", (1, 8, 8), preprocessing=own)
    export(model, tmp_path / "net.onnx", bake_resize=True, any_size=True)
    card = card_of(tmp_path / "net.onnx", tmp_path)["image"]
    assert (card["takes_image"], card["order"], card["levels"]) == (True, [0, 1, 2], None)


def test_the_color_of_an_output_is_that_of_the_network_inside_a_graph(
    image: Path, tmp_path: Path
) -> None:
    """The graph takes RGB bytes, and the network inside it gives BGR as it takes it."""
    layer = nn.Conv2d(3, 3, 1)
    layer.weight.data, layer.bias.data = from_numpy(mixing(3, 3)).float(), layer.bias.data * 0
    own = Preprocessing("BGR", value_range=255, mean=(103.9, 116.8, 123.7))
    output = ImageToImage(255, None, (103.9, 116.8, 123.7))
    model = SavedModel(layer.eval(), "features", preprocessing=own, image_to_image=output)
    file = tmp_path / "net.onnx"
    export(model, file, input_shape="3x?x?", bake_preprocessing=True)
    card = card_of(file, tmp_path)["image"]
    assert (card["levels"], card["order"], card["out_order"]) == (None, [0, 1, 2], [2, 1, 0])
    off = np.abs(looked_up(file, card, Image.open(image)) - applied(file, image))
    assert off.max() <= 1


def test_a_card_names_the_file_its_check_and_how_it_runs(tmp_path: Path) -> None:
    model = network(tmp_path / "sketch.onnx", **NETWORKS["sketch"])
    report = {"passed": True, "profile": "fp32-cpu", "error": 1e-7, "agreeing": None, "count": None}
    (tmp_path / "sketch.check.json").write_text(json.dumps(report), encoding="utf-8")
    card = card_of(model, tmp_path)
    content = model.read_bytes()
    assert card["sha256"] == hashlib.sha256(content).hexdigest()
    assert (card["bytes"], card["file"], card["model"]) == (len(content), "sketch.onnx", "sketch")
    assert (card["check"], card["output_kind"]) == (report, "an image")
    assert (card["image"]["multiple"], card["image"]["scale"]) == (8, 1)


def test_weights_in_a_second_file_are_too_large_for_a_page(tmp_path: Path) -> None:
    model = network(tmp_path / "net.onnx", **NETWORKS["sketch"])
    (tmp_path / "net.onnx.data").write_bytes(b"")
    with pytest.raises(OnnxError, match="too large for a browser"):
        write_page(model, tmp_path / "page", onnxruntime_web=package(tmp_path / "ort"))
    assert not (tmp_path / "page").exists()


@pytest.mark.parametrize(
    ("shapes", "said", "gives"),
    [
        ([["batch", 3, "height", "width"]], None, True),
        ([["batch", 3, 8, 8]], None, True),
        # Scores of classes by a convolution, and rows of numbers.
        ([["batch", 10, 1, 1]], None, False),
        ([["batch", 10]], None, False),
        ([["batch", "n"]], {"scale": 1}, True),
        ([["batch", 3, 8, 8], ["batch", 3, 8, 8]], None, False),
    ],
)
def test_a_file_gives_an_image_by_its_shape_or_by_what_it_says(
    shapes: list[list[Any]], said: Any, gives: bool
) -> None:
    outputs = [{"name": "output", "shape": shape} for shape in shapes]
    assert gives_image({"outputs": outputs, "image_to_image": said}) is gives


@pytest.mark.parametrize(
    ("channels", "labels", "kind", "gives"),
    [
        (1, None, "probabilities", False),
        (1, ["road"], "features", False),
        (3, None, "features", False),
        (3, ["a", "b", "c"], "features", True),
        (3, ["a", "b"], "features", False),
        (3, None, "probabilities", True),
        (3, None, "log_probabilities", True),
        (2, None, "features", True),
        (4, None, "logits", True),
    ],
)
def test_channels_are_classes_where_names_scores_or_their_number_tell(
    channels: int, labels: list[str] | None, kind: str, gives: bool
) -> None:
    assert _gives_classes(channels, {"labels": labels, "output_kind": kind}) is gives


@pytest.mark.parametrize(
    ("loads", "there", "found"),
    [
        ("asyncify", ["asyncify", "jsep"], "asyncify"),
        ("jsep", ["asyncify", "jsep"], "jsep"),
        ("jsep", ["asyncify"], ""),
        ("jsep", [], ""),
    ],
)
def test_the_files_for_a_gpu_are_those_that_its_script_loads(
    loads: str, there: list[str], found: str, tmp_path: Path
) -> None:
    dist = package(tmp_path / "ort") / "dist"
    script = f"import './ort-wasm-simd-threaded.{loads}.mjs'"
    (dist / "ort.webgpu.min.mjs").write_text(script, encoding="utf-8")
    for kind in there:
        for suffix in ("mjs", "wasm"):
            (dist / f"ort-wasm-simd-threaded.{kind}.{suffix}").write_text("")
    runtime = find_runtime(tmp_path / "ort")
    assert runtime.has_webgpu == bool(found)
    names = [file.name for file in runtime.files[3:]]
    stem = f"ort-wasm-simd-threaded.{found}"
    assert names == (["ort.webgpu.min.mjs", f"{stem}.mjs", f"{stem}.wasm"] if found else [])
    (dist / "ort-wasm-simd-threaded.wasm").unlink()
    with pytest.raises(OnnxError, match=r"ort-wasm-simd-threaded\.wasm is missing: npm install"):
        find_runtime(tmp_path / "ort")


@pytest.mark.parametrize("suffix", ["mjs", "wasm"])
def test_half_of_the_files_for_a_gpu_are_none(suffix: str, tmp_path: Path) -> None:
    dist = package(tmp_path / "ort") / "dist"
    (dist / "ort.webgpu.min.mjs").write_text("'./ort-wasm-simd-threaded.jsep.mjs'")
    (dist / f"ort-wasm-simd-threaded.jsep.{suffix}").write_text("")
    runtime = find_runtime(tmp_path / "ort")
    assert (runtime.has_webgpu, len(runtime.files)) == (False, 3)


def test_the_package_is_found_above_the_nearest_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = tmp_path / "a" / "b" / "c"
    here.mkdir(parents=True)
    monkeypatch.chdir(here)
    for folder in (tmp_path, tmp_path / "a", here):
        package(folder / "node_modules" / "onnxruntime-web")
        assert find_runtime().folder == folder / "node_modules" / "onnxruntime-web"
    # A folder that is given is the only one that is looked at.
    with pytest.raises(OnnxError, match="was not found in missing: npm install"):
        find_runtime("missing")
    file = here / "node_modules" / "onnxruntime-web" / "package.json"
    for content in ('{"name": "another", "version": "9.9.9"}', '{"name": "onnxruntime-web"}', "{"):
        file.write_text(content)
        with pytest.raises(OnnxError, match="this is another package: npm install"):
            find_runtime()


def described(shape: list[Any], dtype: str = "float32", outputs: Any = None) -> dict[str, Any]:
    """Return what `describe_file` would say of a file with one input."""
    given = outputs or [{"shape": ["batch", 3, "h", "w"]}]
    return {
        "inputs": [{"shape": shape, "dtype": dtype}],
        "outputs": given,
        "output_kind": "logits",
        "source": None,
    }


ANY_SIZE = Preprocessing(resize="none")


@pytest.mark.parametrize(
    ("shape", "dtype", "takes"),
    [
        (["h", "w", 3], "uint8", True),
        (["batch", 3, "h", "w"], "float32", False),
        (["batch", 3, "h", "w"], "uint8", False),
        (["batch", 1, "h", "w"], "float32", "its input is not batch × channels × height × width"),
        (["batch", 3, "n"], "float32", "its input is not batch × channels × height × width"),
        (["batch", 3, "h", "w"], "float16", "its input is float16; a page gives uint8 or float32"),
        (["batch", 3, 32, "w"], "float32", "it takes images of one size"),
    ],
)
def test_a_page_gives_images_of_any_size_in_the_order_that_it_has(
    shape: list[Any], dtype: str, takes: bool | str
) -> None:
    if isinstance(takes, str):
        with pytest.raises(OnnxError, match=takes):
            _takes_image(Path("m.onnx"), described(shape, dtype), ANY_SIZE)
    else:
        assert _takes_image(Path("m.onnx"), described(shape, dtype), ANY_SIZE) is takes


@pytest.mark.parametrize(
    ("shape", "channels"),
    [(["batch", 5, "h", "w"], 5), (["batch", "n"], 3), (["batch", "c", "h", "w"], None)],
)
def test_the_channels_of_an_output_are_known_or_those_of_the_input(
    shape: list[Any], channels: int | None
) -> None:
    description = described(["batch", 3, "h", "w"], outputs=[{"shape": shape}])
    if channels is None:
        with pytest.raises(OnnxError, match="leaves open how many channels its output has"):
            _output_channels(Path("m.onnx"), description, ANY_SIZE)
    else:
        assert _output_channels(Path("m.onnx"), description, ANY_SIZE) == channels


@pytest.mark.parametrize(
    ("output", "channels", "order", "gain", "offset"),
    [
        (ImageToImage(255), 3, [0, 1, 2], [1, 1, 1], [0, 0, 0]),
        (ImageToImage(1, "BGR"), 3, [2, 1, 0], [255] * 3, [0] * 3),
        # (x · std + mean - low) · 255 / (high - low), for each channel.
        (ImageToImage((-1, 1), "gray"), 1, [0], [127.5], [127.5]),
        (ImageToImage((-1, 1), mean=(0.5,), std=(2.0,)), 1, [0], [255], [191.25]),
        (
            ImageToImage((-2, 3), "RGB", mean=(0.0, 1.0, -1.0), std=(1.0, 2.0, 0.5)),
            3,
            [0, 1, 2],
            [51, 102, 25.5],
            [102, 153, 51],
        ),
    ],
)
def test_a_byte_of_an_output_is_a_product_and_a_sum(
    output: ImageToImage, channels: int, order: list[int], gain: list[float], offset: list[float]
) -> None:
    found = _to_bytes(Path("m.onnx"), output, channels, "RGB")
    assert found["out_order"] == order
    np.testing.assert_allclose(found["gain"], gain)
    np.testing.assert_allclose(found["offset"], offset)


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({}, ""),
        ({"inputs": [{"shape": ["h", "w", 1], "dtype": "uint8"}]}, "all of preprocessing in the"),
        ({"inputs": [{"shape": ["h", "w", 3], "dtype": "float32"}]}, "all of preprocessing in the"),
        ({"output_kind": "features"}, "not a classifier: a page shows the scores of classes"),
        ({"outputs": [{}, {}]}, "not a classifier: a page shows the scores of classes"),
    ],
)
def test_a_page_is_for_a_classifier_that_takes_pixels(change: dict[str, Any], problem: str) -> None:
    description = {**described(["h", "w", 3], "uint8"), **change}
    if problem:
        with pytest.raises(OnnxError, match=problem):
            require_image_classifier(Path("m.onnx"), description)
        description["source"] = {"file": "net.t7"}
        said = "torchlift export net.t7 m-page.onnx --bake-resize" if "pre" in problem else problem
        with pytest.raises(OnnxError, match=said):
            require_image_classifier(Path("m.onnx"), description)
    else:
        require_image_classifier(Path("m.onnx"), description)


def test_what_a_file_says_ends_no_element_and_tells_what_the_network_takes(tmp_path: Path) -> None:
    """Names of classes are anybody's; the card shows the preprocessing of the network itself."""
    labels = ["</script><script>alert(1)</script>", "<!--"]
    own = Preprocessing("BGR", value_range=255, mean=(103.9, 116.8, 123.7))
    model = SavedModel(nn.Conv2d(3, 2, 1).eval(), "features", labels=labels, preprocessing=own)
    export(model, tmp_path / "net.onnx", input_shape="3x?x?", bake_preprocessing=True)
    card = card_of(tmp_path / "net.onnx", tmp_path)
    assert card["labels"] == labels
    assert (card["preprocessing"]["color"], card["preprocessing"]["mean"]) == ("BGR", [*own.mean])
    html = (tmp_path / "page" / "index.html").read_text(encoding="utf-8")
    assert "alert(1)<" not in html
    assert "<!--" not in html.split('id="model">')[1]
