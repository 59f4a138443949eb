"""The Python examples of docs/compat.md run as they stand, in the folder of the fixtures."""

from __future__ import annotations

import doctest

import pytest
from support import FIXTURES, ROOT


def test_the_examples_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(FIXTURES)
    page = str(ROOT / "docs" / "compat.md")
    result = doctest.testfile(page, module_relative=False, optionflags=doctest.ELLIPSIS)
    assert result.attempted > 15
    assert not result.failed
