"""Report pages in a real browser: a phone, a desk, and paper.

The page is one of everything that a lab may show, at its worst: long words, wide tables, large
pictures. Every lab's own page goes through the same in `test_labs.py`.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from browser import DESKTOP, PHONE, browser, check_page, visit
from PIL import Image

from torchlift.transfer.reports import (
    Figure,
    Page,
    Question,
    Section,
    Step,
    Table,
    Text,
    write_lab_report,
)

_LONG = "pneumonoultramicroscopicsilicovolcanoconiosis" * 3


@pytest.fixture(scope="module")
def started() -> Iterator[Any]:
    with browser() as program:
        yield program


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("report")
    Image.new("RGB", (3000, 600), "navy").save(folder / "wide.png", dpi=(150, 150))
    Image.new("RGB", (300, 6000), "teal").save(folder / "tall.png")
    (folder / "curve.svg").write_text(
        '<svg xmlns="http://www.w3.org/2000/svg" width="900pt" height="60pt">'
        '<rect width="900" height="60"/></svg>'
    )
    train = Step(("train", "lenet5", f"data/{_LONG}.t7", "--lr", "0.1"), {}, 12.3)
    plot = Step(("plot", "filters", "a run", "--output", "wide.png"), {}, 0.5)
    header = ["layer", *(f"a long name of column {index}" for index in range(12))]
    rows = [
        [f"features.{index}", *(index * 10**9 + other for other in range(12))]
        for index in range(60)
    ]
    words = "One sentence that goes on and on, so that its cell must be broken. " * 3
    page = Page(
        f"A report with a {_LONG} in its heading",
        "What it is, in *a line* that is somewhat longer than a phone is wide.",
        [
            Section(
                f"Tables of {_LONG}",
                [
                    Text(
                        f"A word: {_LONG}.\n\n- a list\n- of `{_LONG}`\n\n```\n{_LONG}\n```",
                        [train],
                    ),
                    Table("A wide table.", header, rows, [train, plot]),
                    Table("Words.", ["what", "why"], [["short", words], [_LONG, "short"]], [plot]),
                ],
            ),
            Section(
                "Pictures",
                [
                    Figure("Wide.", "a blue field", folder / "wide.png", [plot]),
                    Question(
                        f"What is {_LONG}?",
                        [
                            Figure("Tall.", "a green field", folder / "tall.png", [plot, train]),
                            Figure("Drawn.", "a black field", folder / "curve.svg", [plot]),
                            Table("Narrow.", ["n"], [[1], [2]], [plot]),
                        ],
                    ),
                ],
            ),
        ],
        [train, plot],
        {"torch": "2.9", "data": _LONG},
        [f"The digits stand in for {_LONG}."],
    )
    return write_lab_report(page, folder)[0]


@pytest.mark.parametrize("size", [PHONE, DESKTOP], ids=["phone", "desktop"])
def test_a_page_of_everything_fits_any_screen(
    started: Any, report: Path, size: tuple[int, int]
) -> None:
    check_page(started, report, size)


def test_a_wide_table_scrolls_by_itself(started: Any, report: Path) -> None:
    with visit(started, report, PHONE) as seen:
        hidden = "(e) => e.scrollWidth - e.clientWidth"
        assert seen.page.eval_on_selector(".wide", hidden) > 400
        # Nothing of it is lost: its end can be brought to the screen.
        seen.page.eval_on_selector(".wide", "(e) => { e.scrollLeft = e.scrollWidth }")
        last = seen.page.locator(".wide >> nth=0 >> tr >> nth=1 >> td >> nth=-1").bounding_box()
        assert last["x"] + last["width"] <= PHONE[0]


def test_printed_pages_lose_nothing(started: Any, report: Path) -> None:
    """Paper cannot scroll: pictures must fit it, and the file must be a PDF of several pages."""
    with visit(started, report, DESKTOP) as seen:
        pdf = seen.page.pdf(format="A4", margin={"left": "1cm", "right": "1cm"})
        assert pdf.startswith(b"%PDF")
        assert pdf.count(b"/Type /Page\n") >= 5
        seen.page.emulate_media(media="print")
        heights = seen.page.evaluate("() => [...document.images].map((e) => e.clientHeight)")
        assert max(heights) <= 23 / 2.54 * 96 + 1


@pytest.mark.parametrize(
    ("css", "said"),
    [
        ("main { width: 1400px }", "wide"),
        (".wide { overflow: visible !important }", "reaches|wide"),
        ("figcaption { margin-top: -60px }", "lies over"),
        ("td { max-width: 10px; overflow: hidden }", "holds more"),
    ],
)
def test_the_measurements_see_what_is_wrong(
    started: Any, report: Path, css: str, said: str
) -> None:
    with visit(started, report, PHONE) as seen:
        problems = seen.layout_problems()
        assert not problems, "; ".join(problems)
        seen.page.add_style_tag(content=css)
        pytest.fail("nothing was found") if not seen.layout_problems() else None
        assert any(
            word in problem for word in said.split("|") for problem in seen.layout_problems()
        )
