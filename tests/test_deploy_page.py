"""The Python examples of `docs/deploy.md` are true: each ends at a running classifier.

What is protected: that a program from the page, copied as it is, names the digit of an image; the
page that it writes is opened in a browser where one is at hand.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from browser import DESKTOP, browser
from page_support import RUNTIME, opened, package
from serve_support import digit_images, serving
from support import FIXTURES, ROOT

from torchlift.converters import t7

pytestmark = pytest.mark.slow

_NAMES = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]


@pytest.fixture
def digit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Write digit.png into the current folder, beside the fixtures, and return its name."""
    (tmp_path / "fixtures").symlink_to(FIXTURES)
    (tmp_path / "digit.png").write_bytes(digit_images(1)[0])
    monkeypatch.chdir(tmp_path)
    return _NAMES[int(t7.load(FIXTURES / "digits" / "digits-test.t7")["label"][0]) - 1]


def examples() -> list[str]:
    """Return the programs of the section, in order."""
    text = (ROOT / "docs" / "deploy.md").read_text(encoding="utf-8")
    section = text.split("## From Python\n")[1].split("\n## ")[0]
    found: list[str] = re.findall(r"```python\n(.*?)```", section, re.DOTALL)
    assert len(found) == 4
    return found


def run(program: str) -> None:
    exec(compile(program, "docs/deploy.md", "exec"), {})


def test_an_annotated_file_names_the_digit(digit: str, capsys: pytest.CaptureFixture[str]) -> None:
    run(examples()[0])
    assert capsys.readouterr().out.splitlines()[-1] == digit


def test_a_client_gets_the_digit_from_the_repository(
    digit: str, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("tritonclient.http")
    _, export, ask, _ = examples()
    run(export)
    with serving("models") as server:
        run(ask.replace(":8000", f":{server.port}"))
    # value:index:label, as Triton's classification gives it.
    assert f":{digit}'" in capsys.readouterr().out.splitlines()[-1]


def test_a_page_names_the_digit(digit: str, tmp_path: Path) -> None:
    modules = tmp_path / "node_modules" / "onnxruntime-web"
    modules.parent.mkdir()
    if RUNTIME.is_dir():
        modules.symlink_to(RUNTIME)
    else:
        package(modules)
    run(examples()[3])
    if not RUNTIME.is_dir():
        pytest.skip("the page was written; onnxruntime-web is not installed, to open it")
    with browser() as chromium, opened(chromium, tmp_path / "digits-page", DESKTOP) as (visit, _):
        visit.page.set_input_files("#file", tmp_path / "digit.png")
        first: Any = visit.page.wait_for_selector("article li .name span", timeout=30_000)
        assert first.inner_text() == digit
