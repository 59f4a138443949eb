"""Every snippet of the README and of the pages in docs/ is true.

The snippets of a page run in order, in one folder with the fixtures beside: `torchlift` commands,
whose output must match the page as in a doctest (`...` stands for anything), and Python. What
nothing runs has a comment that says why (`snippets_support.py`); without one, a test here fails.
"""

from __future__ import annotations

import doctest
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from serve_support import digit_images
from snippets_support import Snippet, snippets
from support import FIXTURES, ROOT

from torchlift.cli.main import main
from torchlift.converters import onnx, saved, t7

PAGES = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "SECURITY.md")),
    *sorted((ROOT / "docs").rglob("*.md")),
]

_DIGITS = "fixtures/digits/digits"
_FLAGS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE


def test_the_readme_has_a_session() -> None:
    (session,) = [one for one in snippets(ROOT / "README.md") if one.language == "console"]
    assert len(session.commands()) >= 5


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_no_block_is_overlooked(page: Path) -> None:
    fences = len(re.findall(r"^ *(?:```|~~~)", page.read_text(encoding="utf-8"), re.MULTILINE))
    assert fences == 2 * len(snippets(page))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_a_snippet_is_run_or_says_why_not(page: Path) -> None:
    for snippet in snippets(page):
        where = f"{page.name}:{snippet.line}"
        for named in re.findall(r"tests/\w+\.py", snippet.comment):
            assert (ROOT / named).is_file(), f"{where}: no {named}"
        if snippet.comment.startswith("run by "):
            test = ROOT / snippet.comment.removeprefix("run by ")
            assert page.name in test.read_text(encoding="utf-8"), f"{where}: {test} names no page"
        elif snippet.comment.startswith("not run: "):
            assert len(snippet.comment.split()) >= 5, f"{where}: a reason of some words"
        elif snippet.is_run and snippet.language != "python":
            assert snippet.language in ("console", "sh", "bash"), f"{where}: nothing runs this"
            programs = {words[0] for words in snippet.commands()}
            assert programs == {"torchlift"}, f"{where}: nothing runs {programs}"


def cases() -> Iterator[Any]:
    """Yield each page with snippets that run: without the slow ones, and all of them."""
    for page in PAGES:
        run = [snippet for snippet in snippets(page) if snippet.is_run]
        quick = [snippet for snippet in run if snippet.comment != "slow"]
        if quick:
            yield pytest.param(quick, id=page.name)
        if quick != run:
            yield pytest.param(run, id=f"{page.name}-all", marks=pytest.mark.slow)


@pytest.mark.parametrize("run", [*cases()])
def test_snippets_run(
    run: list[Snippet],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "fixtures").symlink_to(FIXTURES)
    monkeypatch.chdir(tmp_path)
    PREPARED.get(run[0].page.name, list)()
    names: dict[str, Any] = {}
    # docs/saved-model.md imports the model.py that it wrote.
    monkeypatch.setattr(sys, "path", [*sys.path])
    sys.modules.pop("model", None)
    for snippet in run:
        where = f"{snippet.page.name}:{snippet.line}"
        if snippet.language == "console":
            check_session(snippet, capsys)
        elif snippet.language == "python":
            run_python(snippet, names, where)
        else:
            for words in snippet.commands():
                assert main(words[1:]) == 0, f"{where}: {words}"


def check_session(snippet: Snippet, capsys: pytest.CaptureFixture[str]) -> None:
    """Run the commands of a console block, and compare what they print."""
    for words, (command, expected) in zip(snippet.commands(), snippet.sessions(), strict=True):
        capsys.readouterr()
        main(words[1:])
        captured = capsys.readouterr()
        actual = captured.out + captured.err
        assert doctest.OutputChecker().check_output(expected, actual, _FLAGS), (
            f"$ {command}\n{actual}"
        )


def run_python(snippet: Snippet, names: dict[str, Any], where: str) -> None:
    """Run a Python block; one with prompts as a doctest."""
    if ">>> " not in snippet.text:
        exec(compile(snippet.text, where, "exec"), names)
        return
    test = doctest.DocTestParser().get_doctest(snippet.text, names, where, None, None)
    result = doctest.DocTestRunner(optionflags=_FLAGS).run(test, clear_globs=False)
    assert result.attempted
    assert not result.failed
    names |= test.globs


def checkpoint() -> None:
    """Write a checkpoint with a model and an input."""
    model = t7.load(f"{_DIGITS}-lenet5-bn.t7")
    image = np.zeros((1, 1, 32, 32), np.float32)
    t7.save(t7.LuaTable({"model": model, "input": image}), "checkpoint.t7")


def digit() -> None:
    """Write an image of a digit."""
    Path("digit.png").write_bytes(digit_images(1)[0])


def saved_model(folder: str = "model") -> None:
    """Write a saved model."""
    options = {"labels": f"{_DIGITS}_classes.t7", "mean_std": f"{_DIGITS}_meanStd.t7"}
    saved.save(saved.open_model(f"{_DIGITS}-lenet5-bn.t7", **options), folder)


def exported() -> None:
    """Write a saved model and its ONNX file."""
    saved_model("digits-model")
    onnx.export(saved.open_model("digits-model"), "digits.onnx")


def baked() -> None:
    """Write a file that takes an image, and an image."""
    saved_model()
    onnx.export(saved.open_model("model"), "baked.onnx", bake_resize=True)
    Path("cat.jpg").write_bytes(digit_images(1)[0])


#: What lies in the folder before the first snippet of a page.
PREPARED: dict[str, Callable[[], Any]] = {
    "README.md": checkpoint,
    "checks.md": exported,
    "deploy.md": digit,
    "protocol.md": baked,
    "saved-model.md": saved_model,
}
