"""Runs the commands of a lab and records their results.

Each command runs exactly as a person would type it. `steps.jsonl` in the folder of the lab keeps
the command, its result and its time, and the names of the lab's files. A lab that was stopped
resumes behind the last recorded command.
"""

from __future__ import annotations

import itertools
import json
import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from ...converters.errors import TorchliftError
from ...converters.files import atomic_path, check_elsewhere, check_output, remove_abandoned
from ...converters.overwriting import check_no_links
from ...converters.validation import (
    anything,
    check_entries,
    list_of,
    mapping_of,
    number,
    read_json,
    text,
)
from ..errors import LabError
from ..reports.page import Step, command_line

#: The file name of the record.
_RECORD = "steps.jsonl"

#: Files that every lab has.
_REPORT = (_RECORD, "report.html", "report.md")

#: Runs a command, given as its arguments after `torchlift`, and returns its JSON document.
Runner = Callable[[list[str]], Any]

#: A positional argument of a command, or the value of an option.
Word = str | os.PathLike[str] | int | float


class Steps:
    """The commands of a lab, each of which runs once.

    Attributes:
        folder: The folder of the lab; the commands write into it.
        done: Every step so far, in order.
        notes: What the reader of the report must know first.

    Example:
        >>> from tempfile import mkdtemp
        >>> steps = Steps(Path(mkdtemp()), lambda words: {"accuracy": 0.9}, settings={"seed": 0})
        >>> trained = steps.run("train", "lenet5", "mnist.npz", epochs=5, flip=True)
        >>> trained.command
        'torchlift train lenet5 mnist.npz --epochs 5 --flip'
        >>> trained.result["accuracy"]
        0.9
    """

    def __init__(
        self,
        folder: Path,
        run: Runner,
        settings: dict[str, Any],
        say: Callable[[str], None] = lambda text: None,
        overwrite: bool = False,
    ) -> None:
        """Start a lab, or resume the one in the folder.

        Args:
            folder: Created if it does not exist.
            run: Runs one command.
            settings: Everything that the results depend on. A lab with other settings is not
                resumed.
            say: Called with each command before it runs, and with each note.
            overwrite: Replace an earlier lab in the folder.

        Raises:
            LabError: When the folder holds files that are not a lab's, or a lab with other
                settings.
        """
        self.folder = folder
        self.done: list[Step] = []
        self.notes: list[str] = []
        self._names: set[str] = set()
        self._run = run
        self._say = say
        self._names_before: frozenset[str] = frozenset()
        self._recorded = self._open(json.loads(json.dumps(settings)), overwrite)

    def run(self, *words: Word, **options: Word | bool | None) -> Step:
        """Run a command, or return its recorded step.

        A command that was killed is not recorded and runs again, and replaces what it wrote to
        `output`. Pass `resume="auto"` (training) where it is to go on, or `overwrite=True` where
        it writes elsewhere.

        Args:
            words: The command and its positional arguments.
            options: The options: `batch_size=64` becomes `--batch-size 64`, True a flag. None and
                False are left out.

        Raises:
            LabError: When the command fails; the message names it.
        """
        arguments = [str(word) for word in words]
        for name, value in options.items():
            arguments += _option(name, value)
        step = self._recorded.get(tuple(arguments)) or self._run_now(arguments)
        if step not in self.done:
            self.done.append(step)
        return step

    def path(self, name: str) -> Path:
        """Return the path of a file or folder of the lab, and record its name."""
        entry = Path(name).parts[0]
        if entry not in self._names:
            self._names.add(entry)
            self._record({"file": entry})
        return self.folder / name

    def note(self, text: str) -> None:
        """Add a note to the report and show it to whoever runs the lab."""
        self.notes.append(text)
        self._say(f"note: {text}")

    def _run_now(self, arguments: Sequence[str]) -> Step:
        command = command_line(arguments)
        self._say(f"$ {command}")
        start = time.perf_counter()
        try:
            result = self._run([*arguments, *self._overwrite_option(arguments)])
        except (TorchliftError, OSError) as error:
            raise LabError(f"{command}: {error}") from error
        seconds = round(time.perf_counter() - start, 2)
        step = _step({"words": arguments, "result": result, "seconds": seconds})
        self._record(vars(step))
        self._recorded[step.words] = step
        return step

    def _overwrite_option(self, arguments: Sequence[str]) -> list[str]:
        """Return the option to replace what a command wrote before it was killed."""
        words = dict(itertools.pairwise(arguments))
        output = Path(words.get("--output", self.folder))
        is_ours = output.parent == self.folder and output.name in self._names_before
        is_left = is_ours and output.exists() and not {"--overwrite", "--resume"} & {*arguments}
        return ["--overwrite"] if is_left else []

    def _record(self, entry: dict[str, Any]) -> None:
        with (self.folder / _RECORD).open("a", encoding="utf-8") as file:
            file.write(json.dumps(entry) + "\n")

    def _open(self, settings: dict[str, Any], overwrite: bool) -> dict[tuple[str, ...], Step]:
        """Create the folder and its record, or read the record."""
        record = self.folder / _RECORD
        begin = json.dumps({"settings": settings}) + "\n"
        remove_abandoned(self.folder)
        check_no_links(record)
        if not record.is_file():
            if self.folder.exists() and any(self.folder.iterdir()):
                raise LabError(f"{self.folder} already exists and holds no lab")
            self.folder.mkdir(parents=True, exist_ok=True)
            with atomic_path(record) as path:
                path.write_text(begin, encoding="utf-8")
        elif overwrite:
            _check_replaceable(self.folder)
            # The folder is exchanged in one step: a kill leaves the old lab or the new one.
            with atomic_path(self.folder) as path:
                path.mkdir()
                (path / _RECORD).write_text(begin, encoding="utf-8")
        first, *entries = _read_record(record)
        before = first["settings"]
        changes = [
            f"{name} ({before.get(name)}, now {settings.get(name)})"
            for name in {**before, **settings}
            if before.get(name) != settings.get(name)
        ]
        if changes:
            raise LabError(
                f"{self.folder} holds the lab with another value of {', '.join(changes)}; choose "
                "another folder with output=…, or replace it with overwrite=True"
            )
        self._names_before = frozenset(entry["file"] for entry in entries if "file" in entry)
        self._names |= self._names_before
        steps = [_step(entry) for entry in entries if "words" in entry]
        return {step.words: step for step in steps}


def _check_replaceable(folder: Path) -> None:
    """Check that a folder holds the files of a lab and nothing else.

    Raises:
        LabError: When it holds something else; the message names it.
        WriteError: When it is a link, or the folder that the process works in.
    """
    check_output(folder, overwrite=True, folder=True)
    check_elsewhere(folder)
    entries = _read_record(folder / _RECORD)
    names = {entry["file"] for entry in entries if "file" in entry}
    # While `extract` writes a file, the features are in a folder beside it.
    names |= {f".{name}.zarr" for name in names}
    foreign = sorted({entry.name for entry in folder.iterdir()} - names - {*_REPORT})
    if foreign:
        raise LabError(
            f"{folder} holds more than the files of a lab: {', '.join(foreign)}. Move it elsewhere "
            "or choose another folder with output=…"
        )


def _read_record(record: Path) -> list[dict[str, Any]]:
    """Return the entries of a record, of which the first holds the settings.

    Raises:
        LabError: When it is damaged, or not of a lab.
    """
    step = {"words": list_of(text), "result": anything, "seconds": number}
    try:
        entries = [
            check_entries(read_json(line), {"file": text, **step}, f"line {index}", ("file", *step))
            for index, line in enumerate(_complete_lines(record), 1)
        ]
        check_entries(entries[0] if entries else None, {"settings": mapping_of(anything)})
    except ValueError as error:
        raise LabError(f"{record}: not the record of a lab, or damaged: {error}") from None
    return entries


def _complete_lines(record: Path) -> list[str]:
    """Return the lines of a record, and remove a last line that a kill left incomplete."""
    text = record.read_text(encoding="utf-8")
    complete = text[: text.rfind("\n") + 1]
    if complete != text:
        with atomic_path(record) as path:
            path.write_text(complete, encoding="utf-8")
    return complete.splitlines()


def _step(entry: dict[str, Any]) -> Step:
    """Return the step of a record entry, the same whether it is new or was read from a file."""
    recorded = json.loads(json.dumps(entry))
    return Step(tuple(recorded["words"]), recorded["result"], recorded["seconds"])


def _option(name: str, value: Word | bool | None) -> list[str]:
    if value is None or value is False:
        return []
    flag = f"--{name.replace('_', '-')}"
    return [flag] if value is True else [flag, str(value)]
