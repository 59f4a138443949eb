"""The page at `/` in a real Chromium; skipped where none is installed.

What is protected: the page shows what the command line prints, on a phone too, without a mouse, and
asks nobody but its own server.
"""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from browser import DESKTOP, PHONE, Visit, browser, serious_faults
from serve_support import Server, digit_images, digits_model, serving

from torchlift.cli.main import main

_RESULTS = """
() => [...document.querySelectorAll("#predictions li")].map((line) => [
  line.querySelector(".name span").textContent, Number(line.dataset.index),
  Number(line.dataset.probability), line.querySelector("progress").value])
"""


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    with browser() as driver:
        yield driver


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("page")
    digits_model(folder)
    for index, image in enumerate(digit_images(50)):
        (folder / f"{index:02}.png").write_bytes(image)
    (folder / "token").write_text("s3cret", encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def server(folder: Path, chromium: Any) -> Iterator[Server]:
    with serving(folder / "digits.onnx") as running:
        yield running


@contextmanager
def opened(chromium: Any, server: Server, size: tuple[int, int]) -> Iterator[Visit]:
    page = chromium.new_page(
        viewport={"width": size[0], "height": size[1]}, reduced_motion="reduce"
    )
    visit = Visit(page)
    page.on("console", lambda message: visit.messages.append(message.text))
    page.on("pageerror", lambda error: visit.messages.append(str(error)))
    page.on("request", lambda request: visit.requests.append(request.url))
    page.goto(f"http://127.0.0.1:{server.port}/")
    yield visit
    page.close()


def choose(visit: Visit, file: Path) -> list[list[Any]]:
    """Choose a file and return label, index, probability and bar of each line."""
    page = visit.page
    page.evaluate("() => { document.getElementById('result').hidden = true }")
    page.set_input_files("#file", file)
    page.wait_for_selector("#result:not([hidden])", timeout=30_000)
    return list(page.evaluate(_RESULTS))


@pytest.mark.slow
def test_top_5_are_those_of_the_command_line(chromium: Any, server: Server, folder: Path) -> None:
    files = sorted(folder.glob("*.png"))
    out = io.StringIO()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.stdout", out)
        words = [str(folder / "digits.onnx"), *map(str, files)]
        assert main(["predict", *words, "--json"]) == 0
    with opened(chromium, server, DESKTOP) as visit:
        visit.page.wait_for_selector("#app:not([hidden])")
        for file, result in zip(files, json.loads(out.getvalue())["results"], strict=True):
            found = choose(visit, file)
            for (label, index, probability, bar), expected in zip(
                found, result["predictions"], strict=True
            ):
                assert (label, index) == (expected["label"], expected["index"])
                assert abs(probability - expected["probability"]) < 1e-6
                assert abs(bar - probability) < 1e-6
        assert visit.messages == []


@pytest.mark.parametrize("size", [PHONE, DESKTOP], ids=["phone", "desktop"])
def test_nothing_overlaps_and_no_request_leaves(
    size: tuple[int, int], chromium: Any, server: Server, folder: Path
) -> None:
    with opened(chromium, server, size) as visit:
        visit.page.wait_for_selector("#app:not([hidden])")
        assert visit.layout_problems() == []
        choose(visit, folder / "00.png")
        visit.page.click("summary")
        assert visit.layout_problems() == []
        text = visit.page.inner_text("main")
        for shown in ("gray", "digits-lenet5-bn.t7", "curl --data-binary", "seven", "SHA-256"):
            assert shown in text
        assert visit.messages == []
        origin = f"http://127.0.0.1:{server.port}/"
        others = [url for url in visit.requests if not url.startswith((origin, "blob:", "data:"))]
        assert others == []


def test_everything_is_reached_with_the_keyboard(chromium: Any, server: Server) -> None:
    with opened(chromium, server, DESKTOP) as visit:
        visit.page.wait_for_selector("#app:not([hidden])")
        reached = []
        for _ in range(12):
            visit.page.keyboard.press("Tab")
            reached.append(
                visit.page.evaluate("document.activeElement.textContent.trim().slice(0, 12)")
            )
        for name in ("Choose a fil", "Use the came", "Labels", "Copy the cur", "Copy the Pyt"):
            assert name in reached
        unnamed = visit.page.evaluate(
            "[...document.querySelectorAll('button, input, select, video, img, progress')]"
            ".filter((e) => !(e.textContent.trim() || e.ariaLabel || e.alt || e.labels?.length))"
            ".map((e) => e.outerHTML)"
        )
        assert unnamed == []


@pytest.mark.slow
def test_axe_finds_no_serious_fault(chromium: Any, server: Server, folder: Path) -> None:
    with opened(chromium, server, PHONE) as visit:
        visit.page.wait_for_selector("#app:not([hidden])")
        choose(visit, folder / "00.png")
        visit.page.click("summary")
        assert serious_faults(visit.page) == []


def test_an_image_is_pasted_and_dropped(chromium: Any, server: Server, folder: Path) -> None:
    script = """([kind, bytes]) => {
      const file = new File([new Uint8Array(bytes)], "digit.png", { type: "image/png" });
      const data = new DataTransfer();
      data.items.add(file);
      const event = kind === "paste"
        ? new ClipboardEvent("paste", { clipboardData: data, bubbles: true })
        : new DragEvent("drop", { dataTransfer: data, bubbles: true, cancelable: true });
      document.body.dispatchEvent(event);
    }"""
    for what in ("paste", "drop"):
        with opened(chromium, server, DESKTOP) as visit:
            visit.page.wait_for_selector("#app:not([hidden])")
            visit.page.evaluate(script, [what, list((folder / "00.png").read_bytes())])
            visit.page.wait_for_selector("#result:not([hidden])", timeout=30_000)
            assert len(visit.page.evaluate(_RESULTS)) == 5


def test_what_is_no_image_is_said(chromium: Any, server: Server, folder: Path) -> None:
    (folder / "text.txt").write_text("no image", encoding="utf-8")
    with opened(chromium, server, PHONE) as visit:
        visit.page.wait_for_selector("#app:not([hidden])")
        visit.page.set_input_files("#file", folder / "text.txt")
        visit.page.wait_for_selector("#status:has-text('not an image')")


def test_nothing_of_the_model_shows_without_the_token(chromium: Any, folder: Path) -> None:
    with (
        serving(folder / "digits.onnx", "--token-file", folder / "token") as server,
        opened(chromium, server, PHONE) as visit,
    ):
        visit.page.wait_for_selector("#token-form:not([hidden])")
        assert "digits" not in visit.page.content()
        visit.page.fill("#token", "wrong")
        visit.page.keyboard.press("Enter")
        visit.page.wait_for_selector("#trouble:has-text('wrong')")
        visit.page.fill("#token", "s3cret")
        visit.page.keyboard.press("Enter")
        visit.page.wait_for_selector("#app:not([hidden])")
        assert len(choose(visit, folder / "00.png")) == 5
