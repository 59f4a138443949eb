"""Report pages in a real browser: on a phone, on a desktop, and in print.

The page holds an extreme example of everything that a lab may show: long words, wide tables, large
figures. `test_labs.py` applies the same checks to the report of every lab.
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
def chromium() -> Iterator[Any]:
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
    prose = "A sentence that is so long that its cell needs several lines. " * 3
    page = Page(
        f"A report with a {_LONG} in its heading",
        "A description in *one line* that is longer than a phone is wide.",
        [
            Section(
                f"Tables of {_LONG}",
                [
                    Text(
                        f"A word: {_LONG}.\n\n- a list\n- of `{_LONG}`\n\n```\n{_LONG}\n```",
                        [train],
                    ),
                    Table("A wide table.", header, rows, [train, plot]),
                    Table("Words.", ["what", "why"], [["short", prose], [_LONG, "short"]], [plot]),
                ],
            ),
            Section(
                "Figures",
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
        [f"The digits replace {_LONG}."],
    )
    return write_lab_report(page, folder)[0]


@pytest.mark.parametrize("size", [PHONE, DESKTOP], ids=["phone", "desktop"])
def test_a_page_with_every_kind_of_part_fits_any_screen(
    chromium: Any, report: Path, size: tuple[int, int]
) -> None:
    check_page(chromium, report, size)


def test_a_wide_table_scrolls_on_its_own(chromium: Any, report: Path) -> None:
    with visit(chromium, report, PHONE) as opened:
        hidden = "(e) => e.scrollWidth - e.clientWidth"
        assert opened.page.eval_on_selector(".wide", hidden) > 400
        # Scrolling brings its end onto the screen.
        opened.page.eval_on_selector(".wide", "(e) => { e.scrollLeft = e.scrollWidth }")
        last = opened.page.locator(".wide >> nth=0 >> tr >> nth=1 >> td >> nth=-1").bounding_box()
        assert last["x"] + last["width"] <= PHONE[0]


def test_printed_pages_lose_nothing(chromium: Any, report: Path) -> None:
    """Paper cannot scroll, so every figure must fit on one page."""
    with visit(chromium, report, DESKTOP) as opened:
        pdf = opened.page.pdf(format="A4", margin={"left": "1cm", "right": "1cm"})
        assert pdf.startswith(b"%PDF")
        assert pdf.count(b"/Type /Page\n") >= 5
        opened.page.emulate_media(media="print")
        heights = opened.page.evaluate("() => [...document.images].map((e) => e.clientHeight)")
        assert max(heights) <= 23 / 2.54 * 96 + 1


@pytest.mark.parametrize(
    ("css", "words"),
    [
        ("main { width: 1400px }", "wide"),
        (".wide { overflow: visible !important }", "extends|wide"),
        ("figcaption { margin-top: -60px }", "overlaps"),
        ("td { max-width: 10px; overflow: hidden }", "clipped"),
    ],
)
def test_layout_problems_are_detected(chromium: Any, report: Path, css: str, words: str) -> None:
    with visit(chromium, report, PHONE) as opened:
        problems = opened.layout_problems()
        assert not problems, "; ".join(problems)
        opened.page.add_style_tag(content=css)
        broken = opened.layout_problems()
        assert any(word in problem for word in words.split("|") for problem in broken), broken
