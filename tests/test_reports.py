"""Report pages: their parts, and how they are rendered as HTML and as Markdown."""

from __future__ import annotations

import base64
import re
from collections.abc import Sequence
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from markupsafe import Markup
from PIL import Image

from torchlift.transfer.errors import ReportError
from torchlift.transfer.plots.curves import Curve
from torchlift.transfer.reports import (
    Figure,
    Page,
    Question,
    Section,
    Step,
    Table,
    Text,
    runs_page,
    write_lab_report,
)
from torchlift.transfer.reports.markdown import markdown_table
from torchlift.transfer.reports.numbers import formatted
from torchlift.transfer.runs import RunSummary

TRAIN = Step(("train", "lenet5", "my data.t7", "--lr", "0.1"), {"loss": 0.5}, 12.34)
PLOT = Step(("plot", "filters", "run", "filters.png"), {}, 1.0)


@pytest.mark.parametrize(
    ("numbers", "texts"),
    [
        # Accuracies keep four digits; a column has one number of decimals.
        ([0.9, 0.98765, 0.5], ["0.9000", "0.9877", "0.5000"]),
        ([2.302585, 0.04], ["2.303", "0.040"]),
        ([123.456, 9.87], ["123.5", "9.9"]),
        ([61_119_528, 156], ["61,119,528", "156"]),
        ([244478.25, 1.5], ["244,478", "2"]),
        # Trailing zeros that all values have are dropped.
        ([0.001, 0.02], ["0.001", "0.020"]),
        ([1, 2.5], ["1", "2.5"]),
        ([None, 0.25], ["", "0.25"]),
        # A value far below the others keeps its digits.
        ([0.9, 1.5e-7], ["0.9", "1.5e-07"]),
        ([0.9, 4.9e-5], ["0.9", "4.9e-05"]),
        ([0.9, 5.1e-5], ["0.9000", "0.0001"]),
        ([0.0, 3.0], ["0", "3"]),
        # A zero is not far below the others.
        ([0.0, 0.5], ["0.0", "0.5"]),
        ([0.0, 0.0], ["0", "0"]),
        ([float("nan"), 1.5], ["nan", "1.5"]),
        ([-0.5, 10.25], ["-0.50", "10.25"]),
    ],
)
def test_a_column_has_one_precision(numbers: list[float], texts: list[str]) -> None:
    assert formatted(numbers) == texts


def test_a_column_is_numeric_if_all_its_cells_are() -> None:
    table = Table("c", ["layer", "n", "mixed"], [["conv", 1, "a"], ["pool", None, 2]], [TRAIN])
    assert table.numeric == [False, True, False]
    assert table.cells == [["conv", "1", "a"], ["pool", "", "2"]]


def test_a_column_without_a_number_is_no_column_of_numbers() -> None:
    """Such as validation results of a run without validation images; and a truth is a word."""
    table = Table("c", ["none", "truth", "some"], [[None, True, None], [None, False, 0]], [TRAIN])
    assert table.numeric == [False, False, True]
    assert table.cells == [["", "True", ""], ["", "False", "0"]]


def test_a_cell_stays_in_its_row_and_column() -> None:
    table = markdown_table(["a|b", "n"], [["two\nlines", "1"]], [False, True])
    assert table == "| a\\|b | n |\n| --- | ---: |\n| two lines | 1 |"


def test_a_table_may_have_no_rows() -> None:
    assert Table("c", ["a", "b"], [], [TRAIN]).cells == []


def test_parts_that_do_not_fit_together_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ReportError, match="has 2 cells, the header 1"):
        Table("c", ["a"], [[1, 2]], [TRAIN])
    with pytest.raises(ReportError, match="steps is empty"):
        Table("c", ["a"], [[1]], [])
    with pytest.raises(ReportError, match=r"gone\.png does not exist"):
        Figure("c", "alt", tmp_path / "gone.png", [PLOT])
    (tmp_path / "figure.gif").touch()
    with pytest.raises(ReportError, match="neither"):
        Figure("c", "alt", tmp_path / "figure.gif", [PLOT])
    answer = Question("?", [Table("c", ["a"], [[1]], [PLOT])])
    with pytest.raises(ReportError, match=r"torchlift plot filters run filters\.png is not among"):
        Page("t", "a", [Section("s", [answer])], [TRAIN])


class Outline(HTMLParser):
    """The tags of a page with their attributes."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def all(self, tag: str, name: str) -> list[str]:
        return [attrs[name] or "" for each, attrs in self.tags if each == tag and name in attrs]


@pytest.fixture
def page(tmp_path: Path) -> Page:
    Image.new("L", (400, 200), 128).save(tmp_path / "filters.png", dpi=(192, 192))
    (tmp_path / "curve.svg").write_text(
        '<svg xmlns="http://www.w3.org/2000/svg" width="90" height="60"><rect width="90"/></svg>'
    )
    return Page(
        "A <lab>",
        "What *it* is.",
        [
            Section(
                "First & last",
                [
                    Text("Prose with `code` and <script>alert(1)</script>.", [TRAIN]),
                    Table("Results | all", ["a|b", "n"], [["x|y", 0.5], ["<b>", 1]], [TRAIN, PLOT]),
                ],
            ),
            Section(
                "Questions",
                [
                    Question(
                        "Why *9216*?",
                        [
                            Text("Because."),
                            Figure("Filters.", 'a "grey" square', tmp_path / "filters.png", [PLOT]),
                            Figure("Curve.", "a curve", tmp_path / "curve.svg", [PLOT]),
                        ],
                    )
                ],
            ),
        ],
        [TRAIN, PLOT],
        {"torch": "2.9", "seed": "0"},
        ["The digits replace MNIST."],
    )


def test_html_is_self_contained_and_links_parts_to_commands(page: Page, tmp_path: Path) -> None:
    html = write_lab_report(page, tmp_path)[0].read_text(encoding="utf-8")
    outline = Outline(html)
    assert html.lstrip().startswith("<!DOCTYPE html>")
    # Nothing is loaded from other files.
    sources = outline.all("img", "src") + outline.all("link", "href")
    assert all(source.startswith("data:") for source in sources)
    assert not [tag for tag, _ in outline.tags if tag == "script"]
    assert not re.findall(r"url\(|@import", html)
    ids = [attrs["id"] for _, attrs in outline.tags if "id" in attrs]
    assert len(ids) == len(set(ids))
    links = outline.all("a", "href")
    assert {link.removeprefix("#") for link in links} <= set(ids)
    assert [link for link in links if link.startswith("#command-")] == [
        "#command-1",
        *("#command-1", "#command-2"),
        *("#command-2", "#command-2"),
    ]
    assert "torchlift train lenet5 &#39;my data.t7&#39; --lr 0.1" in html
    # HTML in the text is escaped, Markdown is rendered.
    assert "&lt;script&gt;alert(1)" in html
    assert "<em>9216</em>" in html
    assert "<td>&lt;b&gt;</td>" in html
    assert '<td class="number">0.5</td>' in html


def test_text_loads_no_image(tmp_path: Path) -> None:
    section = Section("s", [Text("![x](http://example.org/x.png)", [TRAIN])])
    html = write_lab_report(Page("t", "a", [section], [TRAIN]), tmp_path)[0]
    assert not Outline(html.read_text(encoding="utf-8")).all("img", "src")


def test_figures_are_inlined_at_their_size_in_inches(page: Page, tmp_path: Path) -> None:
    outline = Outline(write_lab_report(page, tmp_path)[0].read_text(encoding="utf-8"))
    png, svg = outline.all("img", "src")
    for source, kind, name in ((png, "png", "filters.png"), (svg, "svg+xml", "curve.svg")):
        head, _, data = source.partition(",")
        assert head == f"data:image/{kind};base64"
        assert base64.b64decode(data) == (tmp_path / name).read_bytes()
    # 400 pixels at 192 dpi are 200 CSS pixels at 96 dpi; an SVG holds its own size.
    assert outline.all("img", "width") == ["200"]
    assert outline.all("img", "alt") == ['a "grey" square', "a curve"]


def test_markdown_links_its_figures(page: Page, tmp_path: Path) -> None:
    text = write_lab_report(page, tmp_path)[1].read_text(encoding="utf-8")
    assert text.startswith("# A <lab>\n\nWhat *it* is.\n\n> The digits replace MNIST.\n")
    assert "| a\\|b | n |\n| --- | ---: |\n| x\\|y | 0.5 |\n" in text
    assert '![a "grey" square](<filters.png>)' in text
    assert "Made by torchlift train [1](#command-1), torchlift plot [2](#command-2)\n" in text
    assert '<a id="command-2"></a>2. (1.0 s)' in text
    assert "```sh\ntorchlift train lenet5 'my data.t7' --lr 0.1\n```" in text
    assert "- torch: 2.9" in text


def test_every_run_with_an_epoch_has_a_curve_and_eight_share_a_figure(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Also one that was stopped; and each part of the page has a name of its own."""
    drawn: list[tuple[list[str], str]] = []

    def svg(curves: Sequence[Curve], prefix: str) -> Markup:
        drawn.append(([curve.name for curve in curves], prefix))
        return Markup("<svg></svg>")

    monkeypatch.setattr(runs_page, "_svg", svg)
    rows = [{"epoch": 1.0, "train_loss": 1.0}]
    status: Any = ["finished", "interrupted", "diverged"]
    runs = [RunSummary(f"r{n}", status[n % 3], history=rows) for n in range(9)]
    runs.insert(3, RunSummary("none", "failed"))
    html = runs_page.render_runs("A <title>", runs, {}, ["run none: <why>"])
    assert drawn == [([f"r{n}" for n in range(8)], "f0-"), (["r8"], "f1-")]
    assert html.count("<svg></svg>") == 2
    assert "Loss and accuracy by epoch: r0, r1, r2, r3, r4, r5, r6, r7." in html
    assert "&lt;title&gt;" in html
    assert "run none: &lt;why&gt;" in html
