"""Makes the pictures of the site, which the repository does not hold: `make docs`.

Plots are drawn by the commands of the pages, the rest is photographed in Chromium. Where there is
no Chromium, or not what a page needs, a sentence says which pictures the site is without.

python tests/docs_pictures.py build/pictures
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import chdir, contextmanager
from pathlib import Path
from typing import Any

from browser import DESKTOP, find_browser, launched
from page_support import RUNTIME, opened
from support import FIXTURES

from torchlift.cli.main import main as torchlift

_DIGITS = "fixtures/digits/digits"
_MODEL, _SCALE = f"{_DIGITS}-lenet5.t7", ["--mean-std", f"{_DIGITS}_meanStd.t7"]
_TEST = f"{_DIGITS}-test.t7"
_PLOTS = ("filters", "curves", "samples", "confusion", "feature-maps", "sizes")


def plots(target: Path) -> None:
    """Draw what docs/plots.md describes, of a network before and after its training."""
    names = ["--class-names", f"{_DIGITS}_classes.t7"]
    data = [f"{_DIGITS}-train.t7", "--test-data", _TEST, *names, "--tracker", "none"]
    run("train", "convnet", *data, "--epochs", "0", "--output", "before")
    run("train", "convnet", *data, "--epochs", "6", "--lr", "0.05", "--output", "after")
    image = ["--image", _TEST, "--index", "7", "--layers", "get(1),get(2),get(4),get(5)"]
    words = {
        "filters": ["before/model", "after/model"],
        "curves": ["after"],
        "samples": [_TEST, "--model", "after/model", "--limit", "12", *names],
        "confusion": ["after"],
        "feature-maps": [_MODEL, *_SCALE, *image],
        "sizes": [_MODEL],
    }
    for name in _PLOTS:
        run("plot", name, *words[name], "--output", str(target / f"plot-{name}.png"))


def report(target: Path) -> None:
    """Photograph the report of a lab."""
    run("lab", "lenet-pytorch", "--limit", "600", "--epochs", "3")
    with tab() as page:
        page.goto(Path("labs/lenet-pytorch/report.html").resolve().as_uri())
        page.screenshot(path=target / "report.png")


def served_page(target: Path) -> None:
    """Photograph the server's page with an answer."""
    from serve_support import digits_model, serving  # Skips a test that imports it without fastapi.

    with serving(digits_model(Path.cwd())) as server, tab() as page:
        page.goto(f"http://127.0.0.1:{server.port}/")
        page.set_input_files("#file", write_digits(1))
        page.wait_for_selector("#result:not([hidden])")
        page.screenshot(path=target / "serve.png")


def page_without_a_server(target: Path) -> None:
    """Photograph the page of `torchlift page` with answers."""
    labels = ["--labels", f"{_DIGITS}_classes.t7"]
    run("export", f"{_DIGITS}-lenet5-bn.t7", "digits.onnx", *_SCALE, *labels, "--bake-resize")
    run("page", "digits.onnx", "page", "--onnxruntime-web", str(RUNTIME))
    with launched() as chromium, opened(chromium, Path("page").resolve(), DESKTOP) as (visit, _):
        visit.page.set_input_files("#file", write_digits(3))
        visit.page.wait_for_function(
            "() => document.querySelectorAll('article ol:not(:empty)').length === 3"
        )
        visit.page.screenshot(path=target / "page.png")


#: What makes pictures, which ones, and what it needs beside the commands.
PICTURES: list[tuple[Callable[[Path], None], list[str], str]] = [
    (plots, [f"plot-{name}" for name in _PLOTS], ""),
    (report, ["report"], "Chromium"),
    (served_page, ["serve"], "Chromium"),
    (page_without_a_server, ["page"], "Chromium and onnxruntime-web"),
]


def run(*words: str) -> None:
    """Run a command in this process."""
    if torchlift(list(words)):
        raise SystemExit(f"torchlift {' '.join(words)} failed")


def write_digits(count: int) -> list[str]:
    """Write images of digits into the current folder, and return their names."""
    from serve_support import digit_images

    names = [f"{number}.png" for number in range(count)]
    for name, image in zip(names, digit_images(count), strict=True):
        Path(name).write_bytes(image)
    return names


@contextmanager
def tab() -> Iterator[Any]:
    """Open a page of Chromium."""
    width, height = DESKTOP
    with launched() as chromium:
        yield chromium.new_page(viewport={"width": width, "height": height})


def main(target: Path) -> None:
    """Make all pictures that can be made here."""
    target.mkdir(parents=True, exist_ok=True)
    for old in target.glob("*.png"):
        old.unlink()
    present = {"": True, "Chromium": find_browser() is not None}
    present["Chromium and onnxruntime-web"] = present["Chromium"] and RUNTIME.is_dir()
    for make, names, needed in PICTURES:
        if not present[needed]:
            print(f"the site is without {', '.join(names)}, which takes {needed}")
            continue
        with tempfile.TemporaryDirectory() as folder, chdir(folder):
            Path("fixtures").symlink_to(FIXTURES)
            make(target)


if __name__ == "__main__":
    main(Path(sys.argv[1]).resolve())
