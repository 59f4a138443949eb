"""Links of the README and of the pages in docs/ lead somewhere; the architecture page is true."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from support import ROOT

from torchlift.converters.modules.registry import converters_of, registered_classes

_PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
_OTHER_PAGES = [ROOT / name for name in ("CONTRIBUTING.md", "CHANGELOG.md", "SECURITY.md")]


@pytest.mark.parametrize("page", [*_PAGES, *_OTHER_PAGES], ids=lambda page: page.name)
def test_links_lead_to_files_and_headings(page: Path) -> None:
    for link in re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8")):
        if link.startswith("http"):
            continue
        file, _, heading = link.partition("#")
        target = page.parent / file if file else page
        assert target.exists(), link
        if heading:
            assert heading in headings(target), link


def headings(page: Path) -> set[str]:
    """Return the anchors of a page's headings, as GitHub forms them."""
    lines = re.findall(r"^#+ (.*)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", line).strip().lower().replace(" ", "-") for line in lines}


def test_the_architecture_page_has_each_class_in_the_row_of_its_file() -> None:
    """`docs/architecture.md` has a row for each file with converters."""
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    rows = dict(re.findall(r"^\| \[\w+\.py\]\(\.\./(\S+)\) \| (.*) \|$", text, re.MULTILINE))
    listed = {file: set(classes.split(", ")) for file, classes in rows.items()}
    expected: dict[str, set[str]] = {}
    every = [(name, one) for name in registered_classes() for one in converters_of(name)]
    for name, converter in every:
        if not converter.__module__.startswith("torchlift.converters."):
            continue  # A plugin of another test in this process.
        file = converter.__module__.removeprefix("torchlift.").replace(".", "/") + ".py"
        package, _, class_name = name.partition(".")
        is_nn = package == "nn" or "/layers/" in file
        expected.setdefault(file, set()).add(class_name if is_nn else name)
    assert listed == expected
