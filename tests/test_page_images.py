"""The page of a network that turns images into images; skipped without Chromium or the runtime.

What is protected: the browser writes the image that `apply` writes, to one gray level, from the
same file, for every way in which values go in and come out; and what a page cannot do is refused
before anything is written.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from browser import DESKTOP, PHONE, Visit, browser, serious_faults
from onnx import TensorProto, helper
from page_support import RUNTIME, opened, package
from PIL import Image
from support import FIXTURES

from torchlift.cli.main import main
from torchlift.converters.images import Preprocessing
from torchlift.converters.images.image_to_image import ImageToImage
from torchlift.converters.inference import ImageModel
from torchlift.converters.inference.metadata import Metadata
from torchlift.converters.inference.onnx_predictor import OnnxPredictor
from torchlift.converters.onnx import OnnxError, write_page

STYLE = FIXTURES / "projects" / "faststyle_none.t7"
FREE = ["height", "width"]


def network(
    file: Path,
    weight: np.ndarray,
    bias: float = 0,
    *,
    kind: str = "features",
    labels: list[str] | None = None,
    flat: bool = False,
    **steps: Any,
) -> Path:
    """Write a convolution (outputs, inputs, rows, columns) as `export` writes networks of images.

    Args:
        file: The file to write.
        weight: That of the convolution.
        bias: Of every output.
        kind: What the outputs are.
        labels: The classes' names.
        flat: Whether images are flattened, as those of some of waifu2x's networks.
        steps: Entries of the metadata, such as `preprocessing`.
    """
    outputs, inputs = weight.shape[:2]
    initializers = [
        onnx.numpy_helper.from_array(weight.astype(np.float32), "w"),
        onnx.numpy_helper.from_array(np.full(outputs, bias, np.float32), "b"),
    ]
    takes = helper.make_tensor_value_info("input", TensorProto.FLOAT, ["batch", inputs, *FREE])
    shape = ["batch", "n"] if flat else ["batch", outputs, "rows", "columns"]
    gives = helper.make_tensor_value_info("output", TensorProto.FLOAT, shape)
    nodes = [helper.make_node("Conv", ["input", "w", "b"], ["made" if flat else "output"])]
    if flat:
        nodes.append(helper.make_node("Flatten", ["made"], ["output"]))
    graph = helper.make_graph(nodes, "g", [takes], [gives], initializers)
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    metadata = Metadata(output_kind=kind, labels=labels, **steps)
    helper.set_model_props(made, metadata.to_props())
    onnx.save_model(made, file)
    return file


def mixing(outputs: int, inputs: int, size: int = 1) -> np.ndarray:
    """Return weights of a convolution whose outputs differ from each other."""
    weight = np.random.default_rng(3).normal(0, 0.1, (outputs, inputs, size, size))
    for channel in range(outputs):
        weight[channel, channel % inputs, size // 2, size // 2] += 0.9
    return weight


#: Networks by name: their weights and what stands in their metadata.
NETWORKS: dict[str, dict[str, Any]] = {
    "style": {
        "weight": mixing(3, 3, 3),
        "preprocessing": Preprocessing(
            "BGR", value_range=255, mean=(103.939, 116.779, 123.68), std=(1.0, 2.0, 3.0)
        ),
        "image_to_image": ImageToImage(255, None, (103.939, 116.779, 123.68), (1.0, 2.0, 3.0)),
    },
    "range": {
        "weight": mixing(3, 3),
        "preprocessing": Preprocessing(value_range=(-1, 1)),
        "image_to_image": ImageToImage((-0.5, 1), "BGR"),
    },
    "as_the_input": {"weight": mixing(3, 3), "preprocessing": Preprocessing()},
    "sketch": {
        "weight": mixing(1, 1),
        "preprocessing": Preprocessing("gray", mean=(0.9,), std=(0.6,)),
        "bias": 0.7,
        "image_to_image": ImageToImage(1, "gray", multiple=8, scale=1),
    },
    "wider": {
        "weight": mixing(3, 3, 5),
        "preprocessing": Preprocessing(),
        "image_to_image": ImageToImage(1, "RGB", border=2, scale=1),
    },
    "flat": {
        "weight": mixing(3, 3, 5),
        "flat": True,
        "preprocessing": Preprocessing(),
        "image_to_image": ImageToImage(1, "RGB", border=2, scale=1),
    },
    "brightness": {
        "weight": mixing(1, 1),
        "bias": -0.2,
        "preprocessing": Preprocessing("gray"),
        "image_to_image": ImageToImage(1, "gray", scale=1, keeps_color=True),
    },
    "classes": {
        "weight": mixing(4, 3),
        "labels": ["road", "sky", "</script>", "tree"],
        "kind": "logits",
        "preprocessing": Preprocessing(),
    },
}


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Three images, color, gray and palette, as PNG."""
    folder = tmp_path_factory.mktemp("images")
    rng = np.random.default_rng(0)
    for number, mode in enumerate(("RGB", "L", "P")):
        smooth = Image.fromarray(rng.integers(0, 256, (6, 6, 3), np.uint8))
        image = smooth.resize((61 + number, 43), Image.Resampling.BICUBIC)
        image.convert(mode).save(folder / f"{number}.png")
    return sorted(folder.iterdir())


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    if not RUNTIME.is_dir():
        pytest.skip("onnxruntime-web is not installed (npm install onnxruntime-web)")
    with browser() as driver:
        yield driver


def made(visit: Visit, files: list[Path]) -> list[np.ndarray]:
    """Choose files and return the pixels of the images that the page's links save, (H, W, 3)."""
    visit.page.set_input_files("#file", files)
    visit.page.wait_for_function(
        "(count) => document.querySelectorAll('article a[download]').length === count",
        arg=len(files),
        timeout=30_000,
    )
    result = []
    for link in visit.page.query_selector_all("article a[download]"):
        with visit.page.expect_download() as download:
            link.click()
        with Image.open(download.value.path()) as image:
            result.append(np.asarray(image.convert("RGB")).astype(int))
    return result


def applied(model: Path, file: Path) -> np.ndarray:
    """Return the pixels that `apply` writes, (H, W, 3)."""
    image = ImageModel(OnnxPredictor(model, "cpu"), fixed=True)(Image.open(file))
    return np.asarray(image.convert("RGB")).astype(int)


@pytest.mark.slow
@pytest.mark.parametrize("name", [*NETWORKS, "faststyle_none", "baked"])
def test_the_saved_image_is_that_of_apply_without_a_network(
    name: str, chromium: Any, images: list[Path], tmp_path: Path
) -> None:
    model = tmp_path / "model.onnx"
    if name in NETWORKS:
        network(model, **NETWORKS[name])
    else:
        options = ["--bake-resize", "--input=3x64x64"] if name == "baked" else ["--input=3x?x?"]
        assert main(["export", str(STYLE), str(model), *options, "--resize=pil-bilinear"]) == 0
    write_page(model, tmp_path / "page", onnxruntime_web=RUNTIME)
    with opened(chromium, tmp_path / "page", DESKTOP) as (visit, context):
        context.set_offline(True)
        found = made(visit, images)
        legend = visit.page.eval_on_selector_all(
            "article:first-child li", "(all) => all.map((one) => Number(one.dataset.count))"
        )
        assert visit.messages == []
    for pixels, file in zip(found, images, strict=True):
        expected = applied(model, file)
        assert pixels.shape == expected.shape
        # Halves may be rounded the other way by another order of sums.
        assert np.abs(pixels - expected).max() <= 1
    assert np.std(found[0]) > 5
    assert bool(legend) == (name == "classes")
    if legend:
        assert sum(legend) == found[0].shape[0] * found[0].shape[1]


@pytest.mark.slow
@pytest.mark.parametrize("size", [PHONE, DESKTOP], ids=["phone", "desktop"])
def test_the_slider_shows_before_and_after(
    size: tuple[int, int], chromium: Any, images: list[Path], tmp_path: Path
) -> None:
    """By the keyboard and by pointing, on any screen, and nothing overlaps."""
    model = network(tmp_path / "classes.onnx", **NETWORKS["classes"])
    write_page(model, tmp_path / "page", onnxruntime_web=RUNTIME)
    with opened(chromium, tmp_path / "page", size) as (visit, _):
        made(visit, images[:2])
        assert visit.layout_problems() == []
        seen = "document.querySelector('.comparison').style.getPropertyValue('--seen')"
        assert visit.page.evaluate(seen) == "50%"
        visit.page.focus("input[type=range]")
        visit.page.keyboard.press("ArrowRight")
        assert visit.page.evaluate(seen) == "51%"
        box = visit.page.query_selector(".comparison").bounding_box()
        place = (box["x"] + box["width"] / 4, box["y"] + 9)
        visit.page.mouse.click(*place)
        assert visit.page.evaluate(seen) == "25%"
        # Left of the slider is the image before, right of it the map.
        clip = "getComputedStyle(document.querySelector('.comparison .before')).clipPath"
        assert "75%" in visit.page.evaluate(clip)
        text = visit.page.inner_text("main")
        for shown in ("tree", "sky", "</script>", "a map of classes", "61×43"):
            assert shown in text
        reached = set()
        for _ in range(12):
            visit.page.keyboard.press("Tab")
            reached.add(visit.page.evaluate("document.activeElement.textContent.trim()"))
        assert {"Save as PNG", "Clear", "Labels"} <= reached
        assert not visit.page.is_visible("#csv")
        visit.page.click("#clear")
        assert visit.page.query_selector("article") is None


@pytest.mark.slow
def test_axe_finds_no_serious_fault(chromium: Any, images: list[Path], tmp_path: Path) -> None:
    model = network(tmp_path / "classes.onnx", **NETWORKS["classes"])
    write_page(model, tmp_path / "page", onnxruntime_web=RUNTIME)
    with opened(chromium, tmp_path / "page", PHONE) as (visit, _):
        made(visit, images[:1])
        assert serious_faults(visit.page) == []


def test_what_a_page_cannot_do_is_refused(tmp_path: Path) -> None:
    gray, color = Preprocessing("gray"), Preprocessing()
    mask = ImageToImage(1, "RGB", multiple=4, scale=1, takes_mask=True)
    larger = ImageToImage(1, "gray", scale=2, keeps_color=True)
    sized = Preprocessing(size=(8, 8))
    for number, (weight, steps, problem) in enumerate(
        [
            (mixing(3, 4), {"preprocessing": color, "image_to_image": mask}, "of a mask"),
            (mixing(1, 1), {"preprocessing": gray, "image_to_image": larger}, "enlarges"),
            (mixing(3, 3), {"preprocessing": sized}, "--bake-resize"),
            (mixing(3, 3), {}, "annotate"),
            (mixing(257, 3), {"preprocessing": color}, "257 classes; a map has at most 256"),
            (
                mixing(1, 3),
                {"preprocessing": color, "image_to_image": ImageToImage(1, "RGB")},
                "1 channels, RGB has 3",
            ),
        ]
    ):
        file = network(tmp_path / f"{number}.onnx", weight, **steps)
        with pytest.raises(OnnxError, match=problem):
            write_page(file, tmp_path / "page", onnxruntime_web=package(tmp_path / f"ort{number}"))
        assert not (tmp_path / "page").exists()


def test_bytes_are_looked_up_as_preprocessing_makes_them(tmp_path: Path) -> None:
    """To the last bit of float32, in the order of the network's channels."""
    model = network(tmp_path / "style.onnx", **NETWORKS["style"])
    files = write_page(model, tmp_path / "page", onnxruntime_web=package(tmp_path / "ort"))
    html = files[0].read_text(encoding="utf-8")
    card = json.loads(html.split('id="model">')[1].split("</script>")[0])
    image = np.random.default_rng(1).integers(0, 256, (5, 4, 3), np.uint8)
    levels = np.array(card["image"]["levels"], np.float32)
    order = card["image"]["order"]
    found = [levels[channel][image[..., order[channel]]] for channel in range(3)]
    expected = NETWORKS["style"]["preprocessing"]([image])[0]
    assert np.array_equal(found, expected)
    assert card["output_kind"] == "an image"
