"""What the scripts of the page make of an image and of a network's outputs, in node.

The browser and the network are stand-ins: the network gives what `apply` got for the same image.
Chromium runs the same scripts in `test_page.py` and `test_page_images.py`. Skipped without node.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from page_scripts_support import IMAGE_CARD, needs_node, scripts, told
from PIL import Image
from test_page_images import NETWORKS, network

from torchlift.converters.images.image_to_image import ImageToImage
from torchlift.converters.inference import ImageModel
from torchlift.converters.inference.onnx_predictor import OnnxPredictor
from torchlift.converters.onnx import describe_file
from torchlift.converters.onnx.page.image_card import image_card

pytestmark = needs_node


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return scripts(tmp_path_factory.mktemp("page"))


TRANSFORM = """
import { transform } from "./transform.js";
class Tensor {
  constructor(type, data, dims) { Object.assign(this, { type, data, dims }); }
}
found = [];
for (const { card, image, output } of given) {
  const taken = [];
  const session = {
    inputNames: ["input"], outputNames: ["output"],
    async run(feeds) {
      taken.push(...Object.entries(feeds));
      return { output: { dims: output.dims, data: output.data.map((one) => one ?? NaN) } };
    },
  };
  const pixels = { ...image, rgba: Uint8ClampedArray.from(image.rgba) };
  try {
    const made = await transform({ Tensor }, session, pixels, card);
    const [[name, { type, data, dims }]] = taken;
    found.push({ ...made, rgba: [...made.rgba], input: { name, type, data: [...data], dims } });
  } catch (error) {
    found.push({ error: error.message });
  }
}
"""


def sent(pixels: np.ndarray, card: dict[str, Any], output: np.ndarray) -> dict[str, Any]:
    """Return an image (H, W, 3) as the browser decodes it, and what the network gives for it."""
    rgba = np.concatenate([pixels, np.full((*pixels.shape[:2], 1), 255, np.uint8)], 2)
    values = [float(one) if np.isfinite(one) else None for one in output.ravel()]
    return {
        "card": card,
        "image": {"height": len(pixels), "width": len(pixels[0]), "rgba": rgba.ravel().tolist()},
        "output": {"dims": list(output.shape), "data": values},
    }


def test_the_page_gives_networks_what_apply_does_and_writes_the_same_image(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """To the last bit on the way in, and to a gray level on the way out."""
    image = np.random.default_rng(0).integers(0, 256, (11, 7, 3), np.uint8)
    asked: list[Any] = []
    run = OnnxPredictor.__call__

    def recorded(self: OnnxPredictor, inputs: Any) -> np.ndarray:
        outputs = run(self, inputs)
        asked.append((inputs, outputs))
        return outputs

    wider = NETWORKS["wider"] | {"image_to_image": ImageToImage(1, border=3, multiple=8, scale=1)}
    networks = NETWORKS | {"wider, and a multiple": wider}
    given, made = [], []
    for name, parts in networks.items():
        model = network(tmp_path / f"{name}.onnx", **parts)
        card = image_card(model, describe_file(model))
        with monkeypatch.context() as patched:
            patched.setattr(OnnxPredictor, "__call__", recorded)
            made.append(ImageModel(OnnxPredictor(model, "cpu"), fixed=True)(Image.fromarray(image)))
        given.append(sent(image, card, asked[-1][1]))
    results = told(folder, TRANSFORM, given)
    for name, result, (inputs, _), expected in zip(networks, results, asked, made, strict=True):
        assert result["input"]["name"] == "input"
        assert (result["input"]["type"], result["input"]["dims"]) == ("float32", [*inputs.shape])
        assert np.array_equal(np.float32(result["input"]["data"]), inputs.ravel()), name
        size = (result["height"], result["width"], 4)
        pixels = np.array(result["rgba"]).reshape(size)
        colors = np.asarray(expected.convert("RGB")).astype(int)
        assert colors.shape == (*size[:2], 3), name
        assert np.abs(pixels[..., :3] - colors).max() <= (0 if name == "classes" else 1), name
        assert (pixels[..., 3] == 255).all()
        if name == "classes":
            counts = np.bincount(np.asarray(expected).ravel(), minlength=4)
            assert result["counts"] == counts.tolist()
        else:
            assert result["counts"] is None


def test_a_graph_takes_the_bytes_of_an_image_in_its_own_order(folder: Path) -> None:
    image = np.arange(24, dtype=np.uint8).reshape(2, 4, 3)
    output = np.zeros((1, 3, 2, 4), np.float32)
    gray = IMAGE_CARD | {"order": []}
    whole = IMAGE_CARD | {"takes_image": True}
    bgr = IMAGE_CARD | {"order": [2, 1, 0]}
    cards = [sent(image, card, output) for card in (bgr, whole, gray)]
    planes, pixels, luma = (one["input"] for one in told(folder, TRANSFORM, cards))
    assert (planes["type"], planes["dims"]) == ("uint8", [1, 3, 2, 4])
    assert planes["data"] == image.transpose(2, 0, 1)[::-1].ravel().tolist()
    assert (pixels["dims"], pixels["data"]) == ([2, 4, 3], image.ravel().tolist())
    assert luma["dims"] == [1, 1, 2, 4]
    image = np.random.default_rng(0).integers(0, 256, (60, 70, 3), np.uint8)
    (luma,) = told(folder, TRANSFORM, [sent(image, gray, np.zeros((1, 3, 60, 70)))])
    expected = np.asarray(Image.fromarray(image).convert("L"))
    assert luma["input"]["data"] == expected.ravel().tolist()


def test_an_output_is_scaled_clipped_and_rounded_to_the_even_number(folder: Path) -> None:
    """2.5 and 3.5 become 2 and 4; what is outside becomes black or white."""
    image = np.zeros((1, 2, 3), np.uint8)
    output = np.array([[[2.5, 3.5]], [[-7, 300]], [[10, 0]]])[None]
    card = IMAGE_CARD | {"out_order": [2, 0, 1], "gain": [1, 1, 2], "offset": [0, 0, 5]}
    gray = IMAGE_CARD | {"channels": 1, "out_order": [0], "gain": [10], "offset": [1]}
    large = IMAGE_CARD | {"scale": 2}
    first, second, third = told(
        folder,
        TRANSFORM,
        [
            sent(image, card, output),
            sent(image, gray, np.array([[[[2, 3]]]])),
            sent(image, large, np.arange(3 * 3 * 5).reshape(1, 3, 3, 5)),
        ],
    )
    assert first["rgba"] == [25, 2, 0, 255, 5, 4, 255, 255]
    assert second["rgba"] == [21, 21, 21, 255, 31, 31, 31, 255]
    # Of 3×5 pixels the 2×4 of the enlarged image are kept.
    assert (third["height"], third["width"]) == (2, 4)
    assert third["rgba"][::4] == [0, 1, 2, 3, 5, 6, 7, 8]
    assert third["rgba"][1:5:4] == [15]


def test_of_equal_scores_the_first_class_is_shown_as_by_apply(folder: Path) -> None:
    image = np.zeros((1, 3, 3), np.uint8)
    scores = np.array([[[1, 0, 2]], [[1, 3, 2]]], np.float32)[None]
    card = IMAGE_CARD | {"channels": 2, "gives_classes": True, "palette": [9, 8, 7, 1, 2, 3]}
    (found,) = told(folder, TRANSFORM, [sent(image, card, scores)])
    assert found["counts"] == [2, 1]
    assert found["rgba"] == [9, 8, 7, 255, 1, 2, 3, 255, 9, 8, 7, 255]


@pytest.mark.parametrize(
    ("changes", "output", "problem"),
    [
        ({"scale": 2}, np.zeros((1, 3, 3, 4)), "it gives 3×4 pixels, fewer than the 4×4 of the"),
        ({"scale": 2}, np.zeros((1, 3, 4, 3)), "it gives 4×3 pixels, fewer than the 4×4 of the"),
        ({"scale": 2}, np.zeros((1, 3 * 13)), "its output of 39 is no image"),
        ({}, np.full((1, 3, 2, 2), np.nan), "a value of its output is not a number"),
    ],
)
def test_what_is_no_image_is_said(
    changes: dict[str, Any], output: np.ndarray, problem: str, folder: Path
) -> None:
    image = np.zeros((2, 2, 3), np.uint8)
    (found,) = told(folder, TRANSFORM, [sent(image, IMAGE_CARD | changes, output)])
    assert found["error"].startswith(problem)


CLASSES = """
const results = await import("./class_results.js");
results.start(given.card);
found = { hidden: $("csv").hidden, shown: [] };
for (const [name, scores] of given.images) {
  const list = document.createElement("ol");
  const answer = { scores: scores.map((one) => one ?? NaN) };
  const said = results.show({ name, list }, answer, given.card);
  found.shown.push([said, list.children.map((line) => [line.text, { ...line.dataset }])]);
}
await $("csv").fire("click");
found.csv = await urls.get(clicked[0].href).text();
found.file = clicked[0].download;
found.revoked = [...revoked];
results.clear();
await $("csv").fire("click");
found.empty = await urls.get(clicked[1].href).text();
"""


def test_scores_become_the_five_most_probable_classes_and_a_table(folder: Path) -> None:
    labels = ["a", 'b "x", y', "c", "d", "e", "f"]
    card = {"model": "m", "labels": labels, "output_kind": "logits"}
    scores = [1000.0, 1001, 999, 1001, 0, 0]
    found = told(folder, CLASSES, {"card": card, "images": [["an, image.png", scores]]})
    powers = np.exp(np.array(scores) - 1001)
    expected = powers / powers.sum()
    ((said, lines),) = found["shown"]
    # Of equal probabilities the first class comes first.
    assert [int(line["index"]) for _, line in lines] == [1, 3, 0, 2, 4]
    np.testing.assert_allclose(
        [line["probability"] for _, line in lines], expected[[1, 3, 0, 2, 4]], rtol=1e-12
    )
    assert said == f'b "x", y, {100 * expected[1]:.1f} %'
    assert lines[2][0] == f"a {100 * expected[0]:.1f} %"
    header, first, second, *_ = found["csv"].split("\r\n")
    assert header == "file,rank,label,index,probability"
    assert first.startswith('"an, image.png",1,"b ""x"", y",1,0.')
    assert second.startswith('"an, image.png",2,d,3,0.')
    assert (found["file"], found["hidden"], found["revoked"]) == ("m.csv", False, ["blob:0"])
    assert found["csv"].count("\r\n") == 6
    assert found["empty"] == "file,rank,label,index,probability\r\n"


@pytest.mark.parametrize(
    ("kind", "scores"),
    [("probabilities", [0.25, 0.75]), ("log_probabilities", np.log([0.25, 0.75]).tolist())],
)
def test_probabilities_stay_and_logarithms_are_undone(
    kind: str, scores: list[float], folder: Path
) -> None:
    """Without labels classes count from 1, as in Torch7; what is no number comes last."""
    card = {"model": "m", "labels": None, "output_kind": kind}
    images = [["x.png", scores], ["y.png", [None, scores[0]]]]
    found = told(folder, CLASSES, {"card": card, "images": images})
    (said, lines), (_, damaged) = found["shown"]
    assert said == "2, 75.0 %"
    assert [line["probability"] for _, line in lines] == pytest.approx([0.75, 0.25])
    assert [text for text, _ in damaged] == ["2 25.0 %", "1 not a number"]
    assert found["csv"].split("\r\n")[4] == "y.png,2,1,0,"


IMAGES = """
const results = await import("./image_results.js");
const [article, list, status, preview] = ["article", "ol", "p", "img"].map(document.createElement);
const result = { name: "a.b.jpg", article, list, status, preview };
const answer = { png: "the file", made: { width: 5, height: 4 }, counts: given.counts };
const said = results.show(result, answer, given.card);
const [{ children: [both, caption] }] = article.children;
const slider = caption.children[1];
const seen = [both.style["--seen"]];
slider.value = 30;
await slider.fire("input");
seen.push(both.style["--seen"]);
await both.fire("pointerdown", { clientX: 150 });
seen.push(both.style["--seen"]);
await both.fire("pointermove", { clientX: 250, buttons: 0 });
seen.push(both.style["--seen"]);
await both.fire("pointermove", { clientX: 200, buttons: 1 });
seen.push(both.style["--seen"]);
const swatches = list.children.map((line) => line.children[0].children[0].children[0]);
found = {
  said, seen, colors: swatches.map((one) => one.style.backgroundColor),
  link: [status.next.download, urls.get(status.next.href)],
  alts: both.children.map((one) => one.alt),
  sizes: [both.children[0].width, both.children[0].height],
  lines: list.children.map((line) => [line.text, line.dataset.index, line.dataset.count]),
};
"""


def test_an_image_is_shown_beside_the_one_before_with_its_classes(folder: Path) -> None:
    palette = [*range(9)]
    card = {"model": "net", "labels": ["x", "y", "z"], "image": {"palette": palette}}
    found = told(folder, IMAGES, {"card": card, "counts": [5, 0, 15]})
    assert found["said"] == "5×4"
    # By the slider, by pointing at a quarter of it, and by moving while a button is pressed.
    assert found["seen"] == ["50%", "30%", "25%", "25%", "50%"]
    assert found["link"] == ["a.b-net.png", "the file"]
    assert (found["alts"], found["sizes"]) == (["a.b.jpg, after", "a.b.jpg, before"], [5, 4])
    assert found["lines"] == [["z 75.0 %", 2, 15], ["x 25.0 %", 0, 5]]
    assert found["colors"] == ["rgb(6,7,8)", "rgb(0,1,2)"]
    found = told(folder, IMAGES, {"card": card | {"labels": None}, "counts": [0, 1, 0]})
    assert found["lines"] == [["1 100.0 %", 1, 1]]
    assert told(folder, IMAGES, {"card": card, "counts": None})["lines"] == []
