"""A headless Chromium for the tests of pages, and what they measure in it."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

#: What the browser is called on the systems that have it.
_NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")

#: No sandbox, because tests run as root in containers; no traffic of its own.
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

#: Runs in the page and tells what is wrong with its layout.
_LAYOUT_PROBLEMS = (Path(__file__).parent / "layout_problems.js").read_text()

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
    """A page in the browser.

    Attributes:
        page: playwright's page.
        complaints: what the console and the scripts said.
        requests: what was asked of a network.
    """

    page: Any
    complaints: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)

    def layout_problems(self) -> list[str]:
        """What is wider than the screen, clipped, or lies over something else."""
        return list(self.page.evaluate(_LAYOUT_PROBLEMS))

    def images(self) -> list[dict[str, Any]]:
        """Each image's `alt`, whether it `loaded`, its `width`, and its shape's distortion."""
        return list(self.page.evaluate(_IMAGES))

    def follow(self, link: str) -> bool:
        """Whether the link with this address brings its target onto the screen."""
        self.page.click(f'a[href="{link}"] >> nth=0')
        self.page.wait_for_function(
            """(id) => {
              const box = document.getElementById(id).getBoundingClientRect();
              return box.top > -1 && box.top < innerHeight && box.height > 0;
            }""",
            arg=link.removeprefix("#"),
        )
        return True


@contextmanager
def browser() -> Iterator[Any]:
    """A headless Chromium; the test skips where none is installed."""
    playwright = pytest.importorskip("playwright.sync_api")
    program = next(filter(None, map(shutil.which, _NAMES)), None)
    if program is None:
        pytest.skip("no Chromium is installed")
    with playwright.sync_playwright() as driver:
        started = driver.chromium.launch(executable_path=program, args=_FLAGS)
        yield started
        started.close()


@contextmanager
def visit(started: Any, file: Path, size: tuple[int, int]) -> Iterator[Visit]:
    """Open a file at a screen size (width, height)."""
    page = started.new_page(viewport={"width": size[0], "height": size[1]}, reduced_motion="reduce")
    made = Visit(page)
    page.on("console", lambda message: made.complaints.append(message.text))
    page.on("pageerror", lambda error: made.complaints.append(str(error)))
    page.on("request", lambda request: made.requests.append(request.url))
    page.goto(file.resolve().as_uri())
    made.requests = [url for url in made.requests if not url.startswith(("file:", "data:"))]
    yield made
    page.close()


def check_page(started: Any, report: Path, size: tuple[int, int]) -> None:
    """What every report must keep to, at any screen size.

    Nothing is wider than the screen, clipped or covered; every image loads in its own shape;
    every link leads somewhere; the console is silent, and no network is asked for anything.
    """
    with visit(started, report, size) as seen:
        problems = seen.layout_problems()
        assert not problems, "; ".join(problems)
        for image in seen.images():
            assert image["loaded"], image
            assert image["width"] > 40, image
            assert abs(image["ratio"] - 1) < 0.02, image
            assert image["alt"], image
        links = seen.page.eval_on_selector_all(
            "a", "(all) => all.map((a) => a.getAttribute('href'))"
        )
        assert any(link.startswith("#command-") for link in links)
        assert all(len(link) > 1 for link in links)
        assert all(seen.follow(link) for link in dict.fromkeys(links))
        assert seen.complaints == []
        assert seen.requests == []
