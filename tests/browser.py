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

#: What is wrong with the layout, a sentence each; it runs in the page.
_LAYOUT_PROBLEMS = """
() => {
  const problems = [];
  const width = document.documentElement.clientWidth;
  if (document.documentElement.scrollWidth > width)
    problems.push(`the page is ${document.documentElement.scrollWidth} wide, the screen ${width}`);
  const name = (e) => `<${e.tagName.toLowerCase()}> ${(e.textContent || e.alt || '').trim().slice(0, 40)}`;
  const scrolls = (e) => ['auto', 'scroll'].includes(getComputedStyle(e).overflowX);
  for (const e of document.querySelectorAll('body *')) {
    const box = e.getBoundingClientRect();
    if (!box.width || !box.height) continue;
    if ((box.left < -0.5 || box.right > width + 0.5) && !e.closest('.wide, pre'))
      problems.push(`${name(e)} reaches from ${box.left} to ${box.right}`);
    if (e.scrollWidth > e.clientWidth + 1 && e.clientWidth && !scrolls(e) && getComputedStyle(e).display !== 'inline')
      problems.push(`${name(e)} holds more than it shows`);
  }
  // Neighbours that stand in the flow of the page follow one another.
  for (const parent of document.querySelectorAll('body, header, main, section, figure, .text, ol, dl, tr')) {
    const boxes = [...parent.children].map((e) => [e, e.getBoundingClientRect()])
      .filter(([, b]) => b.width && b.height);
    boxes.forEach(([a, p], i) => boxes.slice(i + 1).forEach(([b, q]) => {
      const across = Math.min(p.right, q.right) - Math.max(p.left, q.left);
      const down = Math.min(p.bottom, q.bottom) - Math.max(p.top, q.top);
      if (across > 1 && down > 1) problems.push(`${name(a)} lies over ${name(b)}`);
    }));
  }
  return problems;
}
"""

_PICTURES = """
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

    def pictures(self) -> list[dict[str, Any]]:
        """Each picture's `alt`, whether it `loaded`, its `width`, and its shape's distortion."""
        return list(self.page.evaluate(_PICTURES))

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
    page = started.new_page(
        viewport={"width": size[0], "height": size[1]}, reduced_motion="reduce"
    )
    made = Visit(page)
    page.on("console", lambda message: made.complaints.append(message.text))
    page.on("pageerror", lambda error: made.complaints.append(str(error)))
    page.on("request", lambda request: made.requests.append(request.url))
    page.goto(file.resolve().as_uri())
    made.requests = [url for url in made.requests if not url.startswith(("file:", "data:"))]
    yield made
    page.close()
