"""The site of `make docs`: no public name is without an entry, no page is out of the navigation.

Building it needs mkdocs, which `make docs` installs; these need nothing.
"""

from __future__ import annotations

import re
import sys
from importlib import import_module
from inspect import get_annotations, isclass, isfunction, ismodule
from typing import Any

import pytest
import yaml
from docs_pictures import PICTURES
from snippets_support import snippets
from support import ROOT

sys.path.insert(0, str(ROOT / "docs" / "site"))
reference = import_module("reference")
notebook_pages = import_module("notebook_pages")
sys.path.pop(0)


#: The Python of the pages that runs as a test.
EXAMPLES = "\n".join(
    snippet.text
    for page in sorted((ROOT / "docs").glob("*.md"))
    for snippet in snippets(page)
    if snippet.language == "python" and not snippet.comment.startswith("not run")
)

#: Networks of packages that torchlift does without: their examples run in the tests of these alone.
OPTIONAL = {"TimmNetwork", "TransformersNetwork"}


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


def is_shown(documented: Any) -> bool:
    """Whether an example in its docstring or a method's is run by tests/test_doctests.py."""
    members = vars(documented).values() if isclass(documented) else ()
    return any(">>> " in (getattr(one, "__doc__", None) or "") for one in (documented, *members))


@pytest.mark.parametrize("package", sorted(reference.STABLE))
def test_stable_names_have_examples(package: str) -> None:
    module = import_module(f"torchlift.{package.replace('/', '.')}")
    for name in sorted(reference.STABLE[package]):
        documented = getattr(module, name)
        # A package's functions are stable or not by themselves.
        assert is_shown(documented) or ismodule(documented), f"{package}: {name}"


def test_public_names_have_examples() -> None:
    """In a docstring or on a page; a class also as what an example gives, or a part of that."""
    public = {
        name: getattr(import_module(f"torchlift.{package.replace('/', '.')}"), name)
        for package in packages()
        for name in reference.public_names(package)
    }
    on_pages = set(re.findall(r"\w+", EXAMPLES))
    found = {name for name, one in public.items() if name in on_pages or is_shown(one)}
    waiting = [*found]
    while waiting:
        given = set(re.findall(r"\w+", gives(public[waiting.pop()]))) & public.keys() - found
        waiting += given
        found |= given
    for name, documented in public.items():
        is_error = isclass(documented) and issubclass(documented, Exception)
        # docs/errors.md has the errors; constants speak for themselves.
        if (isclass(documented) or isfunction(documented)) and not is_error:
            assert name in found | OPTIONAL, f"{name} has no example"


def gives(documented: Any) -> str:
    """Return the types of what a function returns, and of a class's fields and methods' results."""
    if isfunction(documented):
        return str(get_annotations(documented).get("return"))
    if not isclass(documented):
        return str(documented)  # A union of classes names them.
    methods = [one for one in vars(documented).values() if isfunction(one)]
    return f"{get_annotations(documented)} {' '.join(map(gives, methods))}"


def test_a_notebook_becomes_a_page_with_its_code_and_what_it_printed() -> None:
    page = notebook_pages.notebook_pages()["notebooks/convert-and-trust.md"]
    assert page.startswith("# Convert")
    assert 'network = load_model(DIGITS / "digits-lenet5-bn.t7")\nprint(network)\n```' in page
    assert "```text\nSequential(\n  (0): Conv2d(1, 6" in page


def test_every_picture_is_made_and_shown() -> None:
    pages = (page.read_text(encoding="utf-8") for page in sorted((ROOT / "docs").glob("*.md")))
    shown = re.findall(r"^<!-- picture: ([\w-]+), .+? -->$", "\n".join(pages), re.MULTILINE)
    made = [name for _, names, _ in PICTURES for name in names]
    assert sorted(shown) == sorted(made)


def test_every_page_is_in_the_navigation() -> None:
    listed = set(re.findall(r"[\w./-]+\.md", str(SITE["nav"])))
    written = {path.name for path in (ROOT / "docs").glob("*.md")}
    assert written | set(reference.pages()) | set(notebook_pages.notebook_pages()) <= listed
    assert SITE["theme"]["font"] is False
    assert SITE["strict"] is True
