"""The examples in docstrings run, in every module of the project that has some."""

from __future__ import annotations

import doctest
from importlib import import_module
from pathlib import Path

import pytest

import torchlift

ROOT = Path(torchlift.__file__).parent
MODULES = sorted(
    file.relative_to(ROOT).with_suffix("").as_posix().replace("/", ".")
    for folder in ("converters", "transfer", "cli")
    for file in (ROOT / folder).rglob("*.py")
    if ">>> " in file.read_text(encoding="utf-8")
)


@pytest.mark.parametrize("module", MODULES)
def test_the_examples_in_docstrings_run(module: str) -> None:
    name = f"torchlift.{module}".removesuffix(".__init__")
    result = doctest.testmod(import_module(name))
    assert result.attempted, "the examples of this module are in no docstring"
    assert not result.failed
