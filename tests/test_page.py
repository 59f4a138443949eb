"""The page that needs no server, in a real Chromium; skipped without one or onnxruntime-web.

What is protected: the browser gives the numbers of the command line for the same pixels, asks
nobody but the host of the page, works without a network once it is loaded, on a phone and with the
keyboard.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest
from browser import DESKTOP, PHONE, Visit, browser, serious_faults
from onnx import TensorProto, helper, save_model
from page_support import RUNTIME, opened, package
from PIL import Image
from support import FIXTURES, ROOT

from torchlift import __version__
from torchlift.cli.main import main
from torchlift.converters.errors import WriteError
from torchlift.converters.onnx import Classifier, OnnxError, write_page

DIGITS = FIXTURES / "digits"
EXPORT = [
    f"--labels={DIGITS / 'digits_classes.t7'}",
    f"--mean-std={DIGITS / 'digits_meanStd.t7'}",
    "--bake-resize",
]

_RESULTS = """
() => [...document.querySelectorAll("article")].map((article) => [
  article.querySelector("h3").textContent,
  [...article.querySelectorAll("li")].map((line) => [
    line.querySelector(".name span").textContent, Number(line.dataset.index),
    Number(line.dataset.probability)])])
"""


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("model") / "digits.onnx"
    assert main(["export", str(DIGITS / "digits-lenet5-bn.t7"), str(path), *EXPORT]) == 0
    return path


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """50 images of any size, color, gray and palette, as PNG."""
    folder = tmp_path_factory.mktemp("images")
    rng = np.random.default_rng(0)
    for number in range(50):
        height, width = (int(size) for size in rng.integers(5, 90, 2))
        smooth = Image.fromarray(rng.integers(0, 256, (6, 6, 3), np.uint8))
        image = smooth.resize((width, height), Image.Resampling.BICUBIC)
        image.convert(("RGB", "L", "P")[number % 3]).save(folder / f"{number:02}.png")
    return sorted(folder.iterdir())


@pytest.fixture(scope="module")
def page(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    if not RUNTIME.is_dir():
        pytest.skip("onnxruntime-web is not installed (npm install onnxruntime-web)")
    folder = tmp_path_factory.mktemp("host") / "page"
    write_page(model, folder, onnxruntime_web=RUNTIME)
    return folder


@pytest.fixture(scope="module")
def chromium(page: Path) -> Iterator[Any]:
    with browser() as driver:
        yield driver


def choose(visit: Visit, files: list[Path]) -> list[tuple[str, list[Any]]]:
    """Choose files, wait for all results and return name and predictions of each."""
    visit.page.set_input_files("#file", files)
    visit.page.wait_for_function(
        "(count) => document.querySelectorAll('article ol:not(:empty)').length === count",
        arg=len(files),
        timeout=120_000,
    )
    return [(name, lines) for name, lines in visit.page.evaluate(_RESULTS)]


@pytest.mark.slow
def test_png_gives_the_numbers_of_the_command_line_without_a_network(
    chromium: Any, page: Path, model: Path, images: list[Path]
) -> None:
    expected = Classifier(model).predict(list(images), top=5)
    with opened(chromium, page, DESKTOP) as (visit, context):
        context.set_offline(True)
        for (name, found), wanted, file in zip(
            choose(visit, images), expected, images, strict=True
        ):
            assert name == file.name
            assert [line[:2] for line in found] == [[one.label, one.index] for one in wanted]
            for line, one in zip(found, wanted, strict=True):
                # Another order of sums, on the same pixels.
                assert abs(line[2] - one.probability) < 1e-5
        with visit.page.expect_download() as download:
            visit.page.click("#csv")
        rows = Path(download.value.path()).read_text(encoding="utf-8").splitlines()
        assert rows[0] == "file,rank,label,index,probability"
        assert len(rows) == 1 + 5 * len(images)
        assert rows[1].startswith(f"00.png,1,{expected[0][0].label},{expected[0][0].index},0.")
        assert visit.messages == []


@pytest.mark.slow
def test_jpeg_gives_the_same_class_and_a_large_photograph_is_taken(
    chromium: Any, page: Path, model: Path, tmp_path: Path
) -> None:
    """Browsers decode JPEG a little differently; how much is printed."""
    rng = np.random.default_rng(2)
    files = []
    for number in range(50):
        smooth = Image.fromarray(rng.integers(0, 256, (6, 6, 3), np.uint8))
        size = (4000, 3000) if number == 49 else tuple(int(one) for one in rng.integers(40, 400, 2))
        files.append(tmp_path / f"{number:02}.jpg")
        smooth.resize(size, Image.Resampling.BICUBIC).save(files[-1], quality=90)
    expected = Classifier(model).predict(list(files), top=10)
    with opened(chromium, page, DESKTOP) as (visit, _):
        found = choose(visit, files)
        told = visit.page.inner_text("article:last-child p")
    largest = 0.0
    for (name, lines), wanted in zip(found, expected, strict=True):
        probabilities = {one.index: one.probability for one in wanted}
        largest = max(largest, *(abs(line[2] - probabilities[line[1]]) for line in lines))
        if wanted[0].probability - wanted[1].probability > 0.02:
            assert lines[0][1] == wanted[0].index, name
    print(f"largest difference of a probability {largest:.2g}; 4000×3000: {told}")
    assert largest < 0.02


@pytest.mark.slow
@pytest.mark.parametrize("size", [PHONE, DESKTOP], ids=["phone", "desktop"])
def test_nothing_overlaps_and_the_card_is_the_file_s(
    size: tuple[int, int], chromium: Any, page: Path, images: list[Path]
) -> None:
    with opened(chromium, page, size) as (visit, _):
        assert visit.layout_problems() == []
        choose(visit, images[:3])
        visit.page.click("summary")
        assert visit.layout_problems() == []
        text = visit.page.inner_text("main")
        for shown in (
            "gray",
            "pil-bilinear",
            "digits-lenet5-bn.t7",
            "seven",
            "digits.onnx",
            "wasm",
        ):
            assert shown in text
        reached = set()
        for _ in range(8):
            visit.page.keyboard.press("Tab")
            reached.add(visit.page.evaluate("document.activeElement.textContent.trim()"))
        assert {"Choose files", "Use the camera", "Save as CSV", "Clear", "Labels"} <= reached


@pytest.mark.slow
def test_axe_finds_no_serious_fault(chromium: Any, page: Path, images: list[Path]) -> None:
    with opened(chromium, page, PHONE) as (visit, _):
        choose(visit, images[:2])
        visit.page.click("summary")
        assert serious_faults(visit.page) == []


@pytest.mark.slow
def test_a_turned_photograph_and_what_is_no_image(
    chromium: Any, page: Path, model: Path, tmp_path: Path
) -> None:
    rng = np.random.default_rng(1)
    pixels = Image.fromarray(rng.integers(0, 256, (8, 8, 3), np.uint8))
    exif = Image.Exif()
    exif[0x0112] = 6
    pixels.resize((120, 80)).save(tmp_path / "turned.png", exif=exif)
    (tmp_path / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\nno more")
    (wanted,) = Classifier(model).predict([tmp_path / "turned.png"], top=5)
    with opened(chromium, page, PHONE) as (visit, _):
        ((_, found),) = choose(visit, [tmp_path / "turned.png"])
        assert [line[:2] for line in found] == [[one.label, one.index] for one in wanted]
        assert max(abs(a[2] - b.probability) for a, b in zip(found, wanted, strict=True)) < 1e-5
        visit.page.set_input_files("#file", tmp_path / "broken.png")
        visit.page.wait_for_selector(".problem >> text=no image that this browser can read")


def test_the_page_is_its_files_and_nothing_of_another_place(model: Path, tmp_path: Path) -> None:
    files = write_page(model, tmp_path / "page", onnxruntime_web=package(tmp_path / "ort"))
    assert {file.name for file in files} == {file.name for file in (tmp_path / "page").iterdir()}
    assert (tmp_path / "page" / "digits.onnx").read_bytes() == model.read_bytes()
    for file in files:
        if file.suffix in (".html", ".js", ".css"):
            text = file.read_text(encoding="utf-8").replace("http://www.w3.org/2000/svg", "")
            assert "http://" not in text
            assert "https://" not in text
    html = files[0].read_text(encoding="utf-8")
    assert "default-src 'none'" in html
    card = json.loads(html.split('id="model">')[1].split("</script>")[0])
    assert (card["labels"][0], card["onnxruntime_web"], card["has_webgpu"]) == (
        "zero",
        "9.9.9",
        False,
    )
    said = ("output_kind", "arithmetic", "image", "image_to_image", "check", "torchlift_version")
    kind = "log_probabilities"
    assert [card[name] for name in said] == [kind, "fp32", None, None, None, __version__]
    assert card["source"]["file"] == "digits-lenet5-bn.t7"
    # What turns an image into an input of the network, and not of the graph.
    assert card["preprocessing"]["size"] == [32, 32]
    # The page comes first, and the rest in order.
    assert files[0].name == "index.html"
    assert files[1:] == sorted(files[1:])
    for name in ("page.js", "transform.js", "style.css"):
        source = ROOT / "converters" / "onnx" / "page" / name
        assert (tmp_path / "page" / name).read_bytes() == source.read_bytes()
    assert (tmp_path / "page" / "ort.wasm.min.mjs").read_text() == "ort.wasm.min.mjs"


def test_labels_of_other_people_end_no_element(tmp_path: Path) -> None:
    label = "</script><script>alert(1)</script>"
    input = helper.make_tensor_value_info("image", TensorProto.UINT8, ["h", "w", 3])
    output = helper.make_tensor_value_info("logits", TensorProto.FLOAT, [1, 1])
    node = helper.make_node("Constant", [], ["logits"], value_floats=[0.0])
    made = helper.make_model(helper.make_graph([node], "g", [input], [output]))
    helper.set_model_props(
        made,
        {
            "labels": json.dumps([label]),
            "output_kind": '"logits"',
            "torchlift_version": '"0.2.0"',
        },
    )
    save_model(made, tmp_path / "m.onnx")
    files = write_page(tmp_path / "m.onnx", tmp_path / "p", onnxruntime_web=package(tmp_path / "o"))
    html = files[0].read_text(encoding="utf-8")
    assert html.count("<script") == 2
    assert json.loads(html.split('id="model">')[1].split("</script>")[0])["labels"] == [label]


def test_a_page_replaces_only_a_page(model: Path, tmp_path: Path) -> None:
    ort = package(tmp_path / "ort")
    write_page(model, tmp_path / "page", onnxruntime_web=ort)
    with pytest.raises(WriteError, match="already exists"):
        write_page(model, tmp_path / "page", onnxruntime_web=ort)
    write_page(model, tmp_path / "page", onnxruntime_web=ort, overwrite=True)
    (tmp_path / "page" / "notes.txt").write_text("mine")
    with pytest.raises(WriteError, match=r"notes\.txt"):
        write_page(model, tmp_path / "page", onnxruntime_web=ort, overwrite=True)
    assert (tmp_path / "page" / "notes.txt").exists()
    # Of another name, the model that was there goes with the page.
    (tmp_path / "page" / "notes.txt").unlink()
    other = tmp_path / "other.onnx"
    other.write_bytes(model.read_bytes())
    write_page(other, tmp_path / "page", onnxruntime_web=ort, overwrite=True)
    assert [file.name for file in (tmp_path / "page").glob("*.onnx")] == ["other.onnx"]


def test_a_page_of_somebody_else_is_not_replaced(model: Path, tmp_path: Path) -> None:
    """It has an `index.html` too, and nothing that a page of ours has not."""
    ort = package(tmp_path / "ort")
    mine = tmp_path / "mine"
    mine.mkdir()
    for files in (["style.css"], ["index.html", "style.css"]):
        for name in files:
            (mine / name).write_bytes(b"caf\xe9 torchlift page")
        with pytest.raises(WriteError, match="is not a page that torchlift wrote and is not repl"):
            write_page(model, mine, onnxruntime_web=ort, overwrite=True)
    assert sorted(file.name for file in mine.iterdir()) == ["index.html", "style.css"]


def test_the_json_document_names_the_files(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    capsys.readouterr()
    ort = package(tmp_path / "ort")
    words = ["page", str(model), str(tmp_path / "p"), f"--onnxruntime-web={ort}", "--json"]
    assert main(words) == 0
    document = json.loads(capsys.readouterr().out)
    schema = json.loads((ROOT / "docs" / "schemas" / "page.json").read_text(encoding="utf-8"))
    jsonschema.validate(document, schema)
    assert document["bytes"] == sum(Path(file).stat().st_size for file in document["files"])


def test_what_a_page_cannot_show_is_said_and_nothing_written(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    plain = FIXTURES / "0.1.0" / "model.onnx"
    with pytest.raises(OnnxError, match=r"torchlift export \S+ model-page\.onnx --bake-resize"):
        write_page(plain, tmp_path / "page")
    assert main(["page", str(model), "page"]) == 1
    assert "npm install onnxruntime-web@" in capsys.readouterr().err
    assert main(["page", str(model), "page", "--onnxruntime-web", "missing"]) == 1
    assert main(["page", "m.t7", "page"]) == 2
    assert main(["page", str(model), "page.zip"]) == 2
    assert not list(tmp_path.iterdir())
    package(tmp_path / "node_modules" / "onnxruntime-web")
    (tmp_path / "below").mkdir()
    monkeypatch.chdir(tmp_path / "below")
    assert main(["page", str(model), "page"]) == 0
    assert (tmp_path / "below" / "page" / "ort.wasm.min.mjs").is_file()
