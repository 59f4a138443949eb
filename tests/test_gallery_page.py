"""`docs/gallery.md` shows what its commands give today."""

from __future__ import annotations

from pathlib import Path

import pytest
from gallery_page import IMAGES, PAGE, page, rows
from PIL import Image, ImageChops


@pytest.mark.slow
def test_the_gallery_is_what_its_commands_give(tmp_path: Path) -> None:
    """`python tests/gallery_page.py` writes it again."""
    assert page(rows(tmp_path)) == PAGE.read_text(encoding="utf-8")
    for made in tmp_path.glob("*.png"):
        difference = ImageChops.difference(Image.open(made), Image.open(IMAGES / made.name))
        # Another processor may round a gray level the other way.
        assert max(high for _, high in difference.getextrema()) <= 1
