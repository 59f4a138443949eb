"""The chain of commands that a lab consists of, and the record of what they gave.

Every command is run as a person would type it. `steps.jsonl` in the lab's folder keeps its words,
its result and its seconds, so that a lab that was stopped goes on where it was.
"""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from ...converters.errors import TorchliftError
from ..errors import LabError
from ..reports.page import Step, command_line

#: The record's name in a lab's folder.
_RECORD = "steps.jsonl"

#: Runs the words of a command and gives what `--json` prints.
Runner = Callable[[list[str]], Any]

#: What a word or an option of a command may be given as.
Word = str | os.PathLike[str] | int | float


class Steps:
    """Runs a lab's commands, each once.

        trained = steps.run("train", "lenet5", data, epochs=5, flip=True, output=steps.path("run"))
        trained.result["history"][-1]["val_accuracy"]
        Table("Each epoch.", ["epoch", "loss"], rows, steps=[trained])

    Attributes:
        folder: the lab's folder, as it was named: the commands' files are in it.
        done: every step so far, in order.
        notes: what the reader of the report must know first.
    """

    def __init__(
        self,
        folder: Path,
        run: Runner,
        settings: dict[str, Any],
        say: Callable[[str], None] = lambda text: None,
        overwrite: bool = False,
    ) -> None:
        """Begin a lab, or go on with the one in the folder.

        Args:
            folder: made if it is not there.
            run: runs one command.
            settings: what the lab is done with; a folder is gone on with only if they are equal.
            say: is told each command before it runs, and each note.
            overwrite: delete what an earlier lab left in the folder.

        Raises:
            LabError: when the folder holds something else, or a lab with other settings.
        """
        self.folder = folder
        self.done: list[Step] = []
        self.notes: list[str] = []
        self._run = run
        self._say = say
        self._known = self._open(json.loads(json.dumps(settings)), overwrite)

    def run(self, *words: Word, **options: Word | bool | None) -> Step:
        """The step of a command; the command is run unless the record has its result.

        A command that was killed is run again: let it go on (`resume="auto"` for a training) or
        replace its files (`overwrite=True`) where it would refuse to otherwise.

        Args:
            words: the command and its positional arguments.
            options: the others: `batch_size=64` is `--batch-size 64`, True is a flag, and None or
                False is left out.

        Raises:
            LabError: when the command fails; the error names it.
        """
        line = [str(word) for word in words]
        for name, value in options.items():
            line += _option(name, value)
        step = self._known.get(tuple(line)) or self._first_time(line)
        if step not in self.done:
            self.done.append(step)
        return step

    def path(self, name: str) -> Path:
        """A file or folder of the lab."""
        return self.folder / name

    def note(self, text: str) -> None:
        """Tell the reader of the report, and whoever watches the lab."""
        self.notes.append(text)
        self._say(f"note: {text}")

    def _first_time(self, words: Sequence[str]) -> Step:
        command = command_line(words)
        self._say(f"$ {command}")
        began = time.perf_counter()
        try:
            result = self._run(list(words))
        except (TorchliftError, OSError) as error:
            raise LabError(f"{command}: {error}") from error
        step = _step(
            {"words": words, "result": result, "seconds": round(time.perf_counter() - began, 2)}
        )
        with (self.folder / _RECORD).open("a", encoding="utf-8") as file:
            file.write(json.dumps(vars(step)) + "\n")
        self._known[step.words] = step
        return step

    def _open(self, settings: dict[str, Any], overwrite: bool) -> dict[tuple[str, ...], Step]:
        """Make the folder, or read its record."""
        record = self.folder / _RECORD
        if overwrite and record.is_file():
            shutil.rmtree(self.folder)
        if not record.is_file():
            if self.folder.exists() and any(self.folder.iterdir()):
                raise LabError(f"{self.folder} is there already, and holds something else")
            self.folder.mkdir(parents=True, exist_ok=True)
            record.write_text(json.dumps({"settings": settings}) + "\n", encoding="utf-8")
        first, *lines = _whole_lines(record)
        before = json.loads(first)["settings"]
        changed = [key for key in {**before, **settings} if before.get(key) != settings.get(key)]
        if changed:
            said = ", ".join(
                f"{key} ({before.get(key)}, now {settings.get(key)})" for key in changed
            )
            raise LabError(
                f"{self.folder} holds the lab with another value of {said}; name another "
                "--output, or --overwrite it"
            )
        steps = [_step(json.loads(line)) for line in lines]
        return {step.words: step for step in steps}


def _whole_lines(record: Path) -> list[str]:
    """The record's lines; one that a kill cut short is taken out of the file."""
    text = record.read_text(encoding="utf-8")
    whole = text[: text.rfind("\n") + 1]
    if whole != text:
        record.write_text(whole, encoding="utf-8")
    return whole.splitlines()


def _step(entry: dict[str, Any]) -> Step:
    """A step as the record keeps it: a new result and one read again must be the same."""
    kept = json.loads(json.dumps(entry))
    return Step(tuple(kept["words"]), kept["result"], kept["seconds"])


def _option(name: str, value: Word | bool | None) -> list[str]:
    if value is None or value is False:
        return []
    flag = f"--{name.replace('_', '-')}"
    return [flag] if value is True else [flag, str(value)]
