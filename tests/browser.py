"""A headless Chromium for the tests of report pages, and checks of a page's layout."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from support import ROOT

#: The names of the browser's program on different systems.
_PROGRAMS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")

#: No sandbox, because the tests run as root in containers; no network traffic of the browser.
_FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]

PHONE, DESKTOP = (390, 844), (1280, 900)

#: A script for the page that returns its layout problems.
_LAYOUT_PROBLEMS = (Path(__file__).parent / "layout_problems.js").read_text(encoding="utf-8")

_IMAGES = """
() => [...document.images].map((image) => ({
  alt: image.alt,
  loaded: image.complete && image.naturalWidth > 0 && image.naturalHeight > 0,
  width: image.getBoundingClientRect().width,
  ratio: image.getBoundingClientRect().width / image.getBoundingClientRect().height
    / (image.naturalWidth / image.naturalHeight),
}))
"""


@dataclass
class Visit:
    """A page that is open in the browser.

    Attributes:
        page: Playwright's page.
        messages: Messages of the console and errors of scripts.
        requests: The addresses that the page requested from a network.
    """

    page: Any
    messages: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)

    def layout_problems(self) -> list[str]:
        """Describe every element that overflows the screen, is clipped, or overlaps another."""
        return list(self.page.evaluate(_LAYOUT_PROBLEMS))

    def images(self) -> list[dict[str, Any]]:
        """Return `alt`, `loaded`, `width` and the aspect `ratio` (shown/natural) of each image."""
        return list(self.page.evaluate(_IMAGES))

    def follow(self, link: str) -> None:
        """Click a link within the page and wait until its target is on the screen."""
        self.page.click(f'a[href="{link}"] >> nth=0')
        self.page.wait_for_function(
            """(id) => {
              const box = document.getElementById(id).getBoundingClientRect();
              return box.top > -1 && box.top < innerHeight && box.height > 0;
            }""",
            arg=link.removeprefix("#"),
        )


def find_browser() -> str | None:
    """Return the program of an installed Chromium that playwright can drive; None without one."""
    if find_spec("playwright") is None:
        return None
    return next(filter(None, map(shutil.which, _PROGRAMS)), None)


@contextmanager
def launched() -> Iterator[Any]:
    """Start a headless Chromium, which `find_browser` has found."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as driver:
        chromium = driver.chromium.launch(executable_path=find_browser(), args=_FLAGS)
        yield chromium
        chromium.close()


@contextmanager
def browser() -> Iterator[Any]:
    """Start a headless Chromium; skip the test if none is installed."""
    if find_browser() is None:
        pytest.skip("no Chromium is installed, or no playwright")
    with launched() as chromium:
        yield chromium


@contextmanager
def visit(chromium: Any, file: Path, size: tuple[int, int]) -> Iterator[Visit]:
    """Open a file at a screen size (width, height)."""
    page = chromium.new_page(
        viewport={"width": size[0], "height": size[1]}, reduced_motion="reduce"
    )
    opened = Visit(page)
    page.on("console", lambda message: opened.messages.append(message.text))
    page.on("pageerror", lambda error: opened.messages.append(str(error)))
    page.on("request", lambda request: opened.requests.append(request.url))
    page.goto(file.resolve().as_uri())
    opened.requests = [url for url in opened.requests if not url.startswith(("file:", "data:"))]
    yield opened
    page.close()


def check_page(chromium: Any, report: Path, size: tuple[int, int]) -> None:
    """Check what holds for every report at any screen size.

    Nothing overflows the screen, is clipped or covered. Every image loads and keeps its aspect
    ratio. Every link has a target. The console is empty, and there is no network request.
    """
    with visit(chromium, report, size) as opened:
        problems = opened.layout_problems()
        assert not problems, "; ".join(problems)
        for image in opened.images():
            assert image["loaded"], image
            assert image["width"] > 40, image
            assert abs(image["ratio"] - 1) < 0.02, image
            assert image["alt"], image
        links = opened.page.eval_on_selector_all(
            "a", "(all) => all.map((a) => a.getAttribute('href'))"
        )
        assert any(link.startswith("#command-") for link in links)
        assert all(len(link) > 1 for link in links)
        for link in dict.fromkeys(links):
            opened.follow(link)
        assert opened.messages == []
        assert opened.requests == []


#: The npm package axe-core, where it is installed.
AXE = Path(os.environ.get("TORCHLIFT_AXE", ROOT / "node_modules" / "axe-core")) / "axe.min.js"

_SERIOUS = """
async () => (await axe.run()).violations
  .filter(({ impact }) => impact === "serious" || impact === "critical")
  .map(({ id, nodes }) => `${id}: ${nodes.map(({ html }) => html).join(" ")}`)
"""


def serious_faults(page: Any) -> list[str]:
    """Return what axe-core finds that keeps people from using a page; skip without axe-core."""
    if not AXE.is_file():
        pytest.skip("axe-core is not installed (npm install axe-core)")
    # Through the debugger's protocol, since the page itself takes no script of others.
    page.evaluate(AXE.read_text(encoding="utf-8"))
    return list(page.evaluate(_SERIOUS))
