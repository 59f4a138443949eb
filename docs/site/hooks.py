"""What `mkdocs build` does beside rendering docs/: reference pages, pages of the root, links.

The pages are written to be read in the repository too: links to its code, which is not part of the
site, become plain text here. Pictures, which `tests/docs_pictures.py` makes, are in the site alone:
a comment `<!-- picture: NAME, what it shows -->` becomes the picture where there is one.
"""

from __future__ import annotations

import posixpath
import re
import sys
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

sys.path.insert(0, str(Path(__file__).parent))
from reference import ROOT, pages

#: Pages at the root of the repository → their names in the site.
_ROOT_PAGES = {
    "README.md": "index.md",
    "CHANGELOG.md": "changelog.md",
    "CONTRIBUTING.md": "contributing.md",
    "SECURITY.md": "security.md",
}

_PICTURES = ROOT / "build" / "pictures"

_PICTURE = re.compile(r"<!-- picture: ([\w-]+), (.+?) -->")
_LINK = re.compile(r"(!?)\[([^\]]*)\]\(([^)\s#]*)(#[^)\s]*)?\)")


def on_startup(**_: Any) -> None:
    """Make a folder of the package's name that holds the package and nothing else of the root."""
    package = ROOT / "build" / "source" / "torchlift"
    package.mkdir(parents=True, exist_ok=True)
    for name in ("__init__.py", "compat.py", "converters", "transfer"):
        link = package / name
        link.unlink(missing_ok=True)
        link.symlink_to(ROOT / name)


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the reference pages, and those at the root of the repository."""
    texts = {
        **pages(),
        **{new: (ROOT / old).read_text("utf-8") for old, new in _ROOT_PAGES.items()},
    }
    for path, text in texts.items():
        files.append(File.generated(config, path, content=text))
    for picture in sorted(_PICTURES.glob("*.png")):
        place = f"pictures/{picture.name}"
        files.append(File.generated(config, place, abs_src_path=str(picture)))
    return files


def on_page_markdown(markdown: str, page: Page, files: Files, **_: Any) -> str:
    """Rewrite the links of a page from the repository's layout to the site's."""
    source = page.file.src_uri
    if source.startswith("reference/"):
        return markdown
    roots = {new: old for old, new in _ROOT_PAGES.items()}
    here = roots.get(source, f"docs/{source}")

    def rewritten(found: re.Match[str]) -> str:
        image, text, target, anchor = found[1], found[2], found[3], found[4] or ""
        if not target or target.startswith(("http:", "https:", "mailto:")):
            return found[0]
        path = posixpath.normpath(posixpath.join(posixpath.dirname(here), target))
        in_site = _ROOT_PAGES.get(path, path.removeprefix("docs/"))
        if (
            path not in _ROOT_PAGES and not path.startswith("docs/")
        ) or not files.get_file_from_path(in_site):
            return text
        relative = posixpath.relpath(in_site, posixpath.dirname(source) or ".")
        return f"{image}[{text}]({relative}{anchor})"

    def pictured(found: re.Match[str]) -> str:
        place = f"pictures/{found[1]}.png"
        return f"![{found[2]}]({place})" if files.get_file_from_path(place) else ""

    return _PICTURE.sub(pictured, _LINK.sub(rewritten, markdown))
