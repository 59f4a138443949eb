"""The snippets of a page: its fenced blocks, and what a comment above one says of running it.

A block without a comment is run by `tests/test_snippets.py`. Above others stands one of

- `<!-- slow -->`: it is run with the slow tests;
- `<!-- run by tests/test_ray.py -->`: that file, which names the page, runs it as it stands or with
  paths of its own;
- `<!-- not run: REASON -->`: it needs what is not here, or does what no test may do.
"""

from __future__ import annotations

import re
import shlex
import textwrap
from dataclasses import dataclass
from pathlib import Path

_BLOCK = re.compile(
    r"(?:^ *<!-- (?P<comment>slow|run by .*?|not run: .*?) -->\n)?"
    r"^(?P<indent> *)```(?P<language>\w*)\n(?P<text>.*?)^(?P=indent)```$",
    re.DOTALL | re.MULTILINE,
)

#: Languages of blocks that are no code, unless a prompt stands in them.
_PROSE = ("text", "mermaid")


@dataclass(frozen=True)
class Snippet:
    """A fenced block of a page.

    Attributes:
        page: The page.
        line: The number of its first line.
        language: What stands behind the fence: console, python, sh, bash, text or mermaid.
        text: Its lines.
        comment: What the comment above it says; empty without one.
    """

    page: Path
    line: int
    language: str
    text: str
    comment: str

    @property
    def is_run(self) -> bool:
        """Whether `tests/test_snippets.py` runs it."""
        is_code = self.language not in _PROSE or bool(re.search(r"^(\$|>>>) ", self.text, re.M))
        return is_code and self.comment in ("", "slow")

    def sessions(self) -> list[tuple[str, str]]:
        """Return the commands of a console block, each with what it prints."""
        return re.findall(r"^\$ (.*)\n((?:(?!\$ ).*\n)*)", self.text, re.MULTILINE)

    def commands(self) -> list[list[str]]:
        """Return the words of each command of a console block or of a script for a shell."""
        if self.language == "console":
            return [shlex.split(command) for command, _ in self.sessions()]
        lines = self.text.replace("\\\n", "").splitlines()
        return [words for line in lines if (words := shlex.split(line, comments=True))]


def snippets(page: Path) -> list[Snippet]:
    """Return the fenced blocks of a page, in order."""
    text = page.read_text(encoding="utf-8")
    return [
        Snippet(
            page,
            text.count("\n", 0, found.start("text")) + 1,
            found["language"],
            textwrap.dedent(found["text"]),
            found["comment"] or "",
        )
        for found in _BLOCK.finditer(text)
    ]
