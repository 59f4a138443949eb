"""Runs a command in a process of its own, in which the machine fails at a chosen moment.

A moment is the n-th time that the command touches a file system entry in its folder: the trials
are the same on a fast and on a slow machine. Each process is forked from one that has imported
everything, which takes a tenth of the time of a new one.
"""

from __future__ import annotations

import errno
import os
import resource
import signal
import sys
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any, Literal

from torchlift.cli.commands import COMMANDS

#: What may happen: a kill; SIGTERM; Ctrl-C; no space for new files; no space within a file, so that
#: libraries which are no Python meet it too (`Fault.moment` is the largest size in bytes).
Kind = Literal["kill", "terminate", "interrupt", "full", "limit"]

#: Imported once, as commands import them when they run. No import starts a session of ONNX Runtime
#: or a thread of torch, which would not survive the fork.
_PRELOADED = [
    *("torch", "torch._dynamo", "torch.export", "torch.onnx", "torch.utils.tensorboard"),
    *("accelerate", "onnx.reference", "onnxruntime", "onnxruntime.quantization", "onnxscript"),
    *("matplotlib.figure", "matplotlib.backends.backend_svg", "sklearn.linear_model", "zarr"),
    *(f"torchlift.cli.{name}" for name in COMMANDS),
    *("torchlift.converters.onnx", "torchlift.transfer.training.experiment"),
    *("torchlift.transfer.labs.run", "torchlift.transfer.reports", "torchlift.transfer.probe"),
]


@dataclass(frozen=True)
class Fault:
    """What happens to a command, and when.

    Attributes:
        kind: what happens.
        moment: after how many events in the folder, from 1; for `limit`, at how many bytes.
    """

    kind: Kind
    moment: int


@dataclass(frozen=True)
class Outcome:
    """How a command ended.

    Attributes:
        code: the exit code; negative for a signal that killed it.
        out: what it wrote to stdout.
        err: what it wrote to stderr.
        events: how often it touched an entry of its folder.
    """

    code: int
    out: str
    err: str
    events: int


def run_command(words: list[str], folder: Path, fault: Fault | None = None) -> Outcome:
    """Run a command in a folder.

    Args:
        words: what stands after `torchlift`.
        folder: the current folder of the command, where all that it writes stands.
        fault: what happens to it.
    """
    context = get_context("forkserver")
    context.set_forkserver_preload(_PRELOADED)
    logs = folder.with_name(f"{folder.name}-logs")
    logs.mkdir(exist_ok=True)
    process = context.Process(target=_run, args=(words, str(folder), str(logs), fault))
    process.start()
    process.join()
    assert process.exitcode is not None
    out, err, events = (
        (logs / name).read_text(encoding="utf-8", errors="replace")
        for name in ("out", "err", "events")
    )
    return Outcome(process.exitcode, out, err, len(events))


def contents(folder: Path) -> dict[str, bytes | None]:
    """The files in a folder by their paths in it, and its folders as None."""
    return {
        str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None
        for path in sorted(folder.rglob("*"))
    }


def spread(first: int, last: int, trials: int) -> list[int]:
    """So many moments from `first` to `last`, these two among them; none if there are none."""
    steps = max(trials - 1, 1)
    moments = {first + round(i * (last - first) / steps) for i in range(trials)}
    return sorted(moments) if first <= last else []


def _run(words: list[str], folder: str, logs: str, fault: Fault | None) -> None:
    os.chdir(folder)
    for name, descriptor in (("out", 1), ("err", 2)):
        os.dup2(os.open(f"{logs}/{name}", os.O_CREAT | os.O_WRONLY | os.O_TRUNC), descriptor)
    counter = os.open(f"{logs}/events", os.O_CREAT | os.O_WRONLY | os.O_TRUNC)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    if fault is not None and fault.kind == "limit":
        resource.setrlimit(resource.RLIMIT_FSIZE, (fault.moment, resource.RLIM_INFINITY))
        fault = None
    _watch(folder, counter, fault)
    from torchlift.cli.main import main

    code = main(words)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def _watch(folder: str, counter: int, fault: Fault | None) -> None:
    """Count what happens in a folder, and let the fault happen."""
    seen = 0
    asked = {"kill": signal.SIGKILL, "terminate": signal.SIGTERM, "interrupt": signal.SIGINT}

    def event(name: str, arguments: tuple[Any, ...]) -> None:
        nonlocal seen
        if name not in ("open", "os.rename", "os.mkdir", "os.remove", "os.rmdir"):
            return
        path = arguments[0]
        if isinstance(path, int) or path is None:
            return
        if not (Path(folder) / os.fsdecode(path)).is_relative_to(folder):
            return
        writes = name == "os.mkdir" or (name == "open" and _writes(arguments))
        seen += 1
        os.write(counter, b".")
        if fault is None:
            return
        if fault.kind in asked:
            if seen == fault.moment:
                os.kill(os.getpid(), asked[fault.kind])
        elif seen >= fault.moment and writes:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), os.fsdecode(path))

    sys.addaudithook(event)


def _writes(arguments: tuple[Any, ...]) -> bool:
    mode, flags = arguments[1], arguments[2]
    if isinstance(mode, str):
        return any(letter in mode for letter in "wax+")
    return bool(flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT))
