"""A page as one self-contained HTML file: styles and figures are embedded."""

from __future__ import annotations

import base64
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markdown_it import MarkdownIt
from markupsafe import Markup
from PIL import Image

from .page import Figure, Page, Part

_TEMPLATES = Path(__file__).parent / "templates"
_MEDIA_TYPES = {".png": "image/png", ".svg": "image/svg+xml"}

#: HTML in the text is shown as text, and images are not loaded: a text may quote names from files.
_MARKDOWN = MarkdownIt("commonmark", {"html": False}).disable("image")

#: CSS pixels an inch.
_PAGE_DPI = 96


def render_html(page: Page) -> str:
    """Render a page as HTML for screens of any width and for print."""
    templates = environment()
    templates.filters |= {
        "kind": _kind,
        "markdown": _markdown,
        "inline": _inline,
        "data_uri": _data_uri,
        "width": _width,
    }
    return templates.get_template("page.html").render(page=page, style=page_style())


def environment() -> Environment:
    """Return the templates, in which every text is escaped."""
    return Environment(
        loader=FileSystemLoader(_TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def page_style() -> Markup:
    """Return the style of all pages."""
    return Markup((_TEMPLATES / "style.css").read_text(encoding="utf-8"))


def _markdown(text: str) -> Markup:
    return Markup(_MARKDOWN.render(text))


def _inline(text: str) -> Markup:
    return Markup(_MARKDOWN.renderInline(text))


def _kind(part: Part) -> str:
    return type(part).__name__


def _data_uri(figure: Figure) -> str:
    data = base64.b64encode(figure.file.read_bytes()).decode()
    return f"data:{_MEDIA_TYPES[figure.file.suffix]};base64,{data}"


def _width(figure: Figure) -> int | None:
    """Return the width in CSS pixels that gives a PNG its size in inches; None for an SVG."""
    if figure.file.suffix == ".svg":
        return None
    with Image.open(figure.file, formats=["PNG"]) as image:
        dpi: float = image.info.get("dpi", (_PAGE_DPI, _PAGE_DPI))[0]
        return round(image.width * _PAGE_DPI / dpi)
