"""docs/errors.md has every error, and no other: a user looks up there what to do."""

from __future__ import annotations

import pkgutil
import re
from collections.abc import Iterator
from importlib import import_module

from support import ROOT

import torchlift.cli
import torchlift.converters
import torchlift.transfer
from torchlift.converters import TorchliftError


def subclasses(error: type[Exception]) -> Iterator[str]:
    for one in error.__subclasses__():
        # Tests and plugins may have their own.
        if one.__module__.startswith("torchlift."):
            yield one.__name__
            yield from subclasses(one)


def test_every_error_is_on_the_page_with_its_cure() -> None:
    for package in (torchlift.converters, torchlift.transfer, torchlift.cli):
        for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            if module.name.endswith((".errors", ".requirements", ".finite")):
                import_module(module.name)
    text = (ROOT / "docs" / "errors.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `(\w+)` \| (.+?) \| (.+?) \|$", text, re.MULTILINE)
    assert sorted(name for name, _, _ in rows) == sorted(set(subclasses(TorchliftError)))
    assert all(len(cure) > 10 for _, _, cure in rows)
