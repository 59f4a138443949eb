"""Checkpoints of published projects and what Torch7 computed with them (`fixtures/projects`).

The smaller ones are here, all of them in the shared folder, where there is one.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from support import FIXTURES, SHARED

from torchlift.converters import t7
from torchlift.converters.t7.paths import follow


class Record(NamedTuple):
    """One record of a file `NAME_io.t7`.

    Attributes:
        name: Name of the file, and the number of the record.
        file: The checkpoint.
        path: Path of the module in it.
        values: The fields of the record.
    """

    name: str
    file: Path
    path: str
    values: Any

    @property
    def is_forward(self) -> bool:
        """Return whether it is one forward pass of one module."""
        return "kind" not in self.values

    def module(self) -> t7.LuaObject:
        """Return the object that ran."""
        found: t7.LuaObject = follow(t7.load(self.file), self.path)
        return found

    def case(self) -> t7.LuaTable:
        """Return the record with the object that ran, as `module`."""
        return t7.LuaTable([*self.values.items(), ("module", self.module())])


@cache
def folders() -> list[Path]:
    """Return the folders with checkpoints, those of the project first."""
    shared = [SHARED / "fixtures" / "projects"] if SHARED is not None else []
    return [folder for folder in (FIXTURES / "projects", *shared) if folder.is_dir()]


def records(only_ours: bool = False) -> Iterator[Record]:
    """Iterate over the records of all checkpoints, each once."""
    files = {file.name: file for folder in reversed(folders()) for file in folder.glob("*_io.t7")}
    if only_ours:
        files = {file.name: file for file in (FIXTURES / "projects").glob("*_io.t7")}
    for name, file in sorted(files.items()):
        checkpoint = file.with_name(name.replace("_io.t7", ".t7"))
        for number, values in enumerate(t7.load(file).values(), 1):
            # `modules.3` is `modules[3]`.
            path = re.sub(r"(^|\.)(\d+)", r"[\2]", values.get("path", ""))
            yield Record(f"{checkpoint.stem}-{number}", checkpoint, path, values)
