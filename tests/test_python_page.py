"""The examples of `docs/python.md` run in order, as a doctest."""

from __future__ import annotations

import doctest
import re
from pathlib import Path

import pytest
from support import FIXTURES, ROOT

PAGE = ROOT / "docs" / "python.md"


@pytest.mark.slow
def test_the_examples_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "fixtures").symlink_to(FIXTURES)
    monkeypatch.chdir(tmp_path)
    flags = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
    blocks = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    examples = doctest.DocTestParser().get_doctest("".join(blocks), {}, PAGE.name, None, 0)
    report: list[str] = []
    result = doctest.DocTestRunner(optionflags=flags).run(examples, out=report.append)
    assert result.attempted > 15
    assert not result.failed, "".join(report)
