"""The site of `make docs`: no public name is without an entry, no page is out of the navigation.

Building it needs mkdocs, which `make docs` installs; these need nothing.
"""

from __future__ import annotations

import re
import sys
from importlib import import_module

import pytest
import yaml
from docs_pictures import PICTURES
from support import ROOT

sys.path.insert(0, str(ROOT / "docs" / "site"))
reference = import_module("reference")
sys.path.pop(0)


class _Loader(yaml.SafeLoader):
    """Reads `mkdocs.yml`, in which a tag names a Python function."""


_Loader.add_multi_constructor("tag:yaml.org,2002:python/", lambda *_: None)

SITE = yaml.load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"), _Loader)


def packages() -> list[str]:
    """The packages of the library that say which of their names are public."""
    found = (
        file.parent.relative_to(ROOT).as_posix()
        for top in ("converters", "transfer")
        for file in (ROOT / top).rglob("__init__.py")
    )
    return sorted(package for package in found if reference.public_names(package))


def test_there_are_packages() -> None:
    assert len(packages()) >= 15


@pytest.mark.parametrize("package", packages())
def test_every_public_name_has_an_entry(package: str) -> None:
    pages = "\n".join(reference.pages().values())
    entries = set(re.findall(r"^(?:::: |- \[?`)torchlift\.([\w.]+)", pages, re.MULTILINE))
    parent = package.rpartition("/")[0]
    for name in reference.public_names(package):
        places = {f"{place.replace('/', '.')}.{name}" for place in (package, parent)}
        assert places & entries, f"{package}: {name}"


def test_the_table_of_stable_names_is_that_of_the_packages() -> None:
    for package, names in reference.STABLE.items():
        assert names <= set(reference.public_names(package)), package


@pytest.mark.parametrize("package", ["converters/t7", "converters/saved", "converters/compat"])
def test_stable_names_have_examples(package: str) -> None:
    module = import_module(f"torchlift.{package.replace('/', '.')}")
    for name in sorted(reference.STABLE[package]):
        documented = getattr(module, name)
        assert ">>> " in (documented.__doc__ or ""), f"{package}: {name}"


def test_every_picture_is_made_and_shown() -> None:
    pages = (page.read_text(encoding="utf-8") for page in sorted((ROOT / "docs").glob("*.md")))
    shown = re.findall(r"^<!-- picture: ([\w-]+), .+? -->$", "\n".join(pages), re.MULTILINE)
    made = [name for _, names, _ in PICTURES for name in names]
    assert sorted(shown) == sorted(made)


def test_every_page_is_in_the_navigation() -> None:
    listed = set(re.findall(r"[\w./-]+\.md", str(SITE["nav"])))
    written = {path.name for path in (ROOT / "docs").glob("*.md")}
    assert written | set(reference.pages()) <= listed
    assert SITE["theme"]["font"] is False
    assert SITE["strict"] is True
