"""A file that is open in another runtime: in a process of its own, which may hang or die."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import tempfile
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from ..errors import OnnxError
from .installed import InstalledRuntime

#: How many seconds a runtime may take to open a file, and to run one batch.
TIMEOUT = 300.0


class RuntimeSession:
    """A file in a runtime, open inside a `with` statement.

    Args:
        runtime: Where the runtime is.
        file: The `.onnx` file.
        timeout: How many seconds it may take to start, to open the file, and for each run.

    Attributes:
        version: The runtime's version; empty before it has started.
        arithmetic: What it says that it computes in; empty before it has opened the file.
    """

    def __init__(
        self, runtime: InstalledRuntime, file: str | os.PathLike[str], timeout: float = TIMEOUT
    ) -> None:
        self.runtime = runtime
        self.version = self.arithmetic = ""
        self._file = Path(file).absolute()
        self._timeout = timeout
        self._folder = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
        self._log = Path(self._folder.name) / "stderr.txt"

    def __enter__(self) -> RuntimeSession:
        """Start the runtime and open the file.

        Raises:
            OnnxError: If it does not open it.
        """
        command = [*self.runtime.command, os.fspath(self._file), self._folder.name]
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                command + [self.runtime.precision] * bool(self.runtime.precision),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                env=self.runtime.environment(),
            )
        try:
            self.version = str(self._answer("starting")["version"])
            self.arithmetic = str(self._answer("opening the file")["arithmetic"])
        except BaseException:
            self._close()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._close()

    def run(self, inputs: Mapping[str, np.ndarray], outputs: Sequence[str]) -> list[np.ndarray]:
        """Return outputs of the file.

        Args:
            inputs: An array for each input, by name and of the input's dtype.
            outputs: The names of those that are wanted, in this order.

        Raises:
            OnnxError: If the runtime cannot run them, hangs or dies.
        """
        folder = Path(self._folder.name)
        for index, array in enumerate(inputs.values()):
            np.save(folder / f"input-{index}.npy", np.asarray(array, order="C"))
        request = json.dumps({"inputs": list(inputs), "outputs": list(outputs)})
        shapes = ", ".join("×".join(map(str, array.shape)) for array in inputs.values())
        # Where it has died, the answer says how.
        with suppress(OSError):
            assert self._process.stdin is not None
            self._process.stdin.write(f"{request}\n".encode())
            self._process.stdin.flush()
        self._answer(f"running inputs of {shapes}")
        return [
            np.load(folder / f"output-{index}.npy", allow_pickle=False)
            for index in range(len(outputs))
        ]

    def _close(self) -> None:
        """End the process and remove its files."""
        self._process.kill()
        self._process.communicate()
        self._folder.cleanup()

    def _answer(self, doing: str) -> dict[str, Any]:
        """Return the process's next line.

        Raises:
            OnnxError: If it is a problem, or none comes in time.
        """
        timer = threading.Timer(self._timeout, self._process.kill)
        timer.start()
        try:
            assert self._process.stdout is not None
            line = self._process.stdout.readline()
        finally:
            is_late = not timer.is_alive()
            timer.cancel()
        name = self.runtime.name
        if not line:
            code = self._process.wait()
            if is_late:
                raise OnnxError(f"{name}: no answer within {self._timeout:g} s, {doing}")
            how = f"signal {_signal(-code)}" if code < 0 else f"exit code {code}"
            text = self._log.read_text(encoding="utf-8", errors="replace").strip()
            last = f": {text.splitlines()[-1]}" if text else ""
            raise OnnxError(f"{name} died of {how}, {doing}{last}")
        answer: dict[str, Any] = json.loads(line)
        if "problem" in answer:
            raise OnnxError(f"{name} fails, {doing}: {one_line(answer['problem'])}")
        return answer


def one_line(text: str, length: int = 300) -> str:
    r"""Return a message of another program on one line, cut where it is long.

    Example:
        >>> one_line("a\n  b", 20), one_line("abcdef", 4)
        ('a b', 'abc…')
    """
    words = " ".join(text.split())
    return words if len(words) <= length else f"{words[: length - 1]}…"


def _signal(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return str(number)
