"""What every fuzzer shares: rounds in processes of their own, limits, and findings.

A fuzzer is a script that builds a `Fuzzer` and calls `main`; `--minutes` and `--seed` are its
options. Each round runs in its own process. A crash, an input that takes too long or too much
memory, or an exception that is not allowed is a finding: its bytes are written to the fuzzer's
folder of findings, and a test replays them.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import random
import resource
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

FINDINGS = Path(__file__).parent / "findings"
_PAGE = resource.getpagesize()


class TooSlowError(BaseException):
    """An input that exceeded the time limit; no `except Exception` may catch it."""


@dataclass(frozen=True)
class Fuzzer:
    """What to try, and which limits hold for one input.

    Attributes:
        script: The script, which runs again in each round's process.
        suffix: Suffix of the files in `findings`.
        findings: The folder for inputs that failed.
        draw: Draws an input.
        exercise: Runs an input, and returns whether it was accepted rather than refused. It raises
            for a finding.
        inputs: Inputs of a round.
        seconds: CPU time for an input.
        memory: Bytes for any input, beyond those of the process before it.
        memory_factor: Further bytes for each byte of the input.
    """

    script: str
    suffix: str
    findings: Path
    draw: Callable[[random.Random], bytes]
    exercise: Callable[[bytes], bool]
    inputs: int
    seconds: float
    memory: int
    memory_factor: int = 0

    def run(self, data: bytes) -> bool:
        """Exercise an input within the limits.

        Raises:
            TooSlowError: It took too long.
            Exception: It is a finding.
        """
        before = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0]) * _PAGE
        limit = before + self.memory + self.memory_factor * len(data)
        resource.setrlimit(resource.RLIMIT_AS, (limit, resource.RLIM_INFINITY))
        signal.signal(signal.SIGPROF, _stop)
        signal.setitimer(signal.ITIMER_PROF, self.seconds)
        try:
            return self.exercise(data)
        finally:
            signal.setitimer(signal.ITIMER_PROF, 0)
            resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY,) * 2)


def main(fuzzer: Fuzzer) -> None:
    """Run rounds until the time is over; exit with 1 if there were findings."""
    parser = argparse.ArgumentParser(description=sys.modules["__main__"].__doc__)
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--seed", type=int, default=int(time.time()))
    parser.add_argument("--worker", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        _round(fuzzer, options.seed, options.minutes, options.worker)
        return
    fuzzer.findings.mkdir(exist_ok=True)
    before = set(fuzzer.findings.iterdir())
    end, seed = time.monotonic() + options.minutes * 60, options.seed
    with tempfile.TemporaryDirectory() as folder:
        current = Path(folder) / f"current{fuzzer.suffix}"
        while time.monotonic() < end:
            current.unlink(missing_ok=True)
            arguments = ["--seed", str(seed), "--worker", str(current)]
            arguments += ["--minutes", str((end - time.monotonic()) / 60)]
            # Each thread's arena reserves memory that the limit would count.
            environment = {**os.environ, "MALLOC_ARENA_MAX": "1"}
            command = [sys.executable, fuzzer.script, *arguments]
            process = subprocess.Popen(command, env=environment)
            try:
                code = process.wait(timeout=3600)
            except subprocess.TimeoutExpired:
                process.kill()
                code = process.wait()
            if code != 0 and not current.exists():
                raise SystemExit(f"{fuzzer.script} does not start")
            if code != 0:
                _keep(fuzzer, current.read_bytes(), f"exit{code}", current.parent)
            seed += 1
    if findings := sorted(path.name for path in set(fuzzer.findings.iterdir()) - before):
        raise SystemExit(f"{len(findings)} findings: {', '.join(findings)}")


def _stop(signum: int, frame: FrameType | None) -> None:
    raise TooSlowError("it takes too long")


def _round(fuzzer: Fuzzer, seed: int, minutes: float, current: Path) -> None:
    """Run one round, and report findings; `current` always holds the current input."""
    end = time.monotonic() + minutes * 60
    rng = random.Random(seed)
    tried = accepted = findings = 0
    slowest = 0.0
    while tried < fuzzer.inputs and time.monotonic() < end:
        data = fuzzer.draw(rng)
        current.write_bytes(data)
        start = time.process_time()
        try:
            accepted += fuzzer.run(data)
        except (Exception, TooSlowError) as error:
            frame = traceback.extract_tb(error.__traceback__)[-1]
            kind = f"{type(error).__name__}-{Path(frame.filename).stem}.{frame.name}"
            if _keep(fuzzer, data, kind, current.parent):
                findings += 1
                traceback.print_exc(limit=-6)
        slowest = max(slowest, time.process_time() - start)
        tried += 1
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10
    print(
        f"seed {seed}: {tried:,} inputs, {accepted:,} accepted, {findings} findings, "
        f"slowest {slowest:.1f} s, peak {peak:,} MB",
        flush=True,
    )


def _keep(fuzzer: Fuzzer, data: bytes, kind: str, scratch: Path) -> bool:
    """Write the first finding of a kind in this run to a file.

    Returns:
        Whether it was the first.
    """
    kind = "".join(letter for letter in kind if letter not in "<>")
    if (marker := scratch / kind).exists():
        return False
    marker.touch()
    path = fuzzer.findings / f"{kind}-{hashlib.sha256(data).hexdigest()[:8]}{fuzzer.suffix}"
    path.write_bytes(data)
    print(f"FOUND {path.name} ({len(data):,} bytes)", flush=True)
    return True
