"""Writes `docs/gallery.md`: what converted networks of published projects do.

Every command is run, and its text or its image is shown. The checkpoints are those of
`project_support`, which Torch7 wrote with the projects' own Lua; without the shared folder only the
smaller ones are there, and the rows of the others stay as they are.

python tests/gallery_page.py            # writes the page and its images
python tests/gallery_page.py --check    # exits 1 if the page is stale
"""

from __future__ import annotations

import argparse
import contextlib
import io
import shlex
import shutil
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image
from project_support import folders
from support import FIXTURES

from torchlift.cli.main import main as torchlift

PAGE = Path(__file__).resolve().parent.parent / "docs" / "gallery.md"
IMAGES = PAGE.with_name("gallery")

_HEADER = "| project | what it is | command | result | what is proved |"

#: How many characters of a text are shown.
_SHOWN = 120


@dataclass(frozen=True)
class Exhibit:
    """One row of the page.

    Attributes:
        name: The checkpoint, without `.t7`.
        project: Its project.
        what: What it is.
        words: The command, in which {} stands for the checkpoint; an image is written to out.png.
        proof: What is compared with Torch7, and where.
    """

    name: str
    project: str
    what: str
    words: str
    proof: str


EXHIBITS = [
    Exhibit(
        "charrnn_lstm",
        "char-rnn",
        "a model of characters, trained on made-up sentences",
        'sample {} --prime "The " --length 80 --temperature 0',
        "Lua's characters, and its loss to 1e-5, from the `.t7` and its `.onnx` (`test_text`)",
    ),
    Exhibit(
        "torchrnn_lstm",
        "torch-rnn",
        "a model of characters, trained on made-up sentences",
        'sample {} --prime "The wind was " --length 80 --temperature 0',
        "Lua's characters, and its loss to 1e-5, from the `.t7` and its `.onnx` (`test_text`)",
    ),
    Exhibit(
        "rnn_lm_lstm",
        "Element-Research/rnn",
        "a model of words, trained on made-up sentences",
        'sample {} --prime "the" --length 12 --temperature 0',
        "every step's log-probabilities (`test_projects`)",
    ),
    Exhibit(
        "faststyle_none",
        "fast-neural-style",
        "a style network with random weights",
        "apply {} shapes.png out.png",
        "Lua's image to a gray level, from the `.t7` and its `.onnx` (`test_apply`)",
    ),
    Exhibit(
        "catgenerator",
        "cat-generator",
        "a generator of images, with random weights",
        "sample {} --at G --grid 2x6 --noise uniform -o out.png",
        "the images of recorded noise (`test_projects`)",
    ),
]

_INTRODUCTION = """# Gallery

What converted networks do, written by `python tests/gallery_page.py`. The checkpoints are small,
and Torch7 wrote them with the projects' own Lua for these tests; those that were not trained show
that images go in and come out, not what such a network can do. `shapes.png` is
[an image of ours](gallery/shapes.png).
"""

_OTHERS = f"""
## Files of others

Published checkpoints are not part of this repository, so that nothing of them is shown here. What
was done with them:

| project | files | what is proved |
|---|---|---|
| char-rnn, torch-rnn and forks | real checkpoints | losses to 1e-5 and the most probable text, \
{"against values computed apart (`test_text`)"} |
| texture_nets | the eight networks in `supplementary` | their layers do not fit each other: \
{"`apply` names the normalization of 8 channels that gets 16, and writes nothing (`test_apply`)"} |
"""


def shapes() -> Image.Image:
    """Return an image of our own: a disk, a square and stripes."""
    y, x = np.mgrid[:72, :96]
    pixels = np.stack([60 + 2 * y, 90 + x, 200 - y], 2).astype(np.uint8)
    pixels[(x - 30) ** 2 + (y - 34) ** 2 < 400] = (230, 70, 50)
    pixels[40:64, 58:86] = (250, 210, 60)
    pixels[(x + y) % 24 < 3] = (30, 40, 70)
    return Image.fromarray(pixels)


def checkpoint(name: str) -> Path | None:
    """Return the file of a checkpoint; None where it is not at hand."""
    files = (folder / f"{name}.t7" for folder in folders())
    return next((file for file in files if file.exists()), None)


def row(exhibit: Exhibit, file: Path, folder: Path) -> str:
    """Run the command of a row in a folder, and return the row; its image is kept there."""
    shapes().save(folder / "shapes.png")
    words = shlex.split(exhibit.words.replace("{}", str(file)))
    output = io.StringIO()
    errors = io.StringIO()
    with (
        contextlib.chdir(folder),
        contextlib.redirect_stdout(output),
        contextlib.redirect_stderr(errors),
    ):
        code = torchlift(words)
    if code:
        raise RuntimeError(f"torchlift {shlex.join(words)}: {errors.getvalue()}")
    made = folder / "out.png"
    if made.exists():
        made.rename(folder / f"{exhibit.name}.png")
        result = f"![{exhibit.what}](gallery/{exhibit.name}.png)"
    else:
        text = " ".join(output.getvalue().split()).replace("|", r"\|")
        result = f"*{text[:_SHOWN]}{'…' if len(text) > _SHOWN else ''}*"
    shown = f"fixtures/projects/{exhibit.name}.t7"
    command = exhibit.words.replace("{}", shown if file.parent.parent == FIXTURES else file.name)
    return (
        f"| {exhibit.project} | {exhibit.what} | `torchlift {command}` | {result} | "
        f"{exhibit.proof} |"
    )


def rows(folder: Path) -> dict[str, str]:
    """Return the rows whose checkpoints are here, by name; their images are in the folder."""
    found = {one: checkpoint(one.name) for one in EXHIBITS}
    return {one.name: row(one, file, folder) for one, file in found.items() if file is not None}


def page(new: dict[str, str]) -> str:
    """Return the page; rows that could not be made anew stay as they are."""
    old = PAGE.read_text(encoding="utf-8").splitlines() if PAGE.exists() else []
    lines = []
    for one in EXHIBITS:
        kept = (line for line in old if f"{one.name}.t7" in line)
        lines += [new[one.name]] if one.name in new else [*kept][:1]
    table = "\n".join([_HEADER, "|---|---|---|---|---|", *lines])
    return f"{_INTRODUCTION}\n{table}\n{_OTHERS}"


def main() -> int:
    """Write or check the page."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--check", action="store_true", help="do not write; exit 1 if it is stale")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        text = page(rows(Path(name)))
        if options.check:
            return int(text != PAGE.read_text(encoding="utf-8"))
        IMAGES.mkdir(exist_ok=True)
        (Path(name) / "shapes.png").unlink()
        for image in Path(name).glob("*.png"):
            shutil.copy(image, IMAGES)
        shapes().save(IMAGES / "shapes.png")
    PAGE.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
