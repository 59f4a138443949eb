"""Fuzz the `.t7` reader with mutated files: `fuzz_t7.py --minutes 60`.

Each round runs in its own process with a memory limit and a time limit for every input. A crash, a
hang, an allocation of gigabytes or an unexpected exception is a finding. Findings are written to
`findings/`, and `tests/test_t7_fuzz.py` replays them.
"""

from __future__ import annotations

import argparse
import hashlib
import random
import resource
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from pathlib import Path
from types import FrameType

from mutations import mutate, seeds
from oracle import exercise

FINDINGS = Path(__file__).parent / "findings"
#: Limit on the CPU time for an input of at most 64 KiB.
SECONDS_PER_INPUT = 5
MEMORY = 1 << 30
INPUTS_PER_ROUND = 20_000


class TooSlowError(Exception):
    """An input that exceeded the time limit."""


def stop(signum: int, frame: FrameType | None) -> None:
    """Handle the timer's signal."""
    raise TooSlowError(f"more than {SECONDS_PER_INPUT} s")


def work(seed: int, current: Path) -> None:
    """Run one round, and report findings; `current` always holds the current input."""
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    signal.signal(signal.SIGPROF, stop)
    rng = random.Random(seed)
    corpus = seeds()
    mutated = list(corpus)
    readable = findings = 0
    for _ in range(INPUTS_PER_ROUND):
        data = mutate(rng.choice(rng.choice((corpus, corpus, mutated))), rng, corpus)
        current.write_bytes(data)
        signal.setitimer(signal.ITIMER_PROF, SECONDS_PER_INPUT)
        try:
            if exercise(data):
                readable += 1
                # Mutate readable files further, until hardly anything is left of them.
                mutated[rng.randrange(len(mutated))] = (
                    data if len(data) > 40 else rng.choice(corpus)
                )
        except Exception as error:
            signal.setitimer(signal.ITIMER_PROF, 0)
            frame = traceback.extract_tb(error.__traceback__)[-1]
            kind = f"{type(error).__name__}-{Path(frame.filename).stem}.{frame.name}"
            if keep(data, kind, current.parent):
                findings += 1
                traceback.print_exc(limit=-4)
        finally:
            signal.setitimer(signal.ITIMER_PROF, 0)
    print(f"seed {seed}: {INPUTS_PER_ROUND:,} inputs, {readable:,} readable, {findings} findings")


def keep(data: bytes, kind: str, scratch: Path) -> bool:
    """Write the first finding of a kind in this run to a file.

    Returns:
        Whether it was the first.
    """
    kind = "".join(letter for letter in kind if letter not in "<>")
    if (marker := scratch / kind).exists():
        return False
    marker.touch()
    path = FINDINGS / f"{kind}-{hashlib.sha256(data).hexdigest()[:8]}.t7"
    path.write_bytes(data)
    print(f"FOUND {path.name} ({len(data):,} bytes)", flush=True)
    return True


def main() -> None:
    """Run rounds until the time is over; exit with 1 if there were findings."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--seed", type=int, default=int(time.time()))
    parser.add_argument("--worker", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        work(options.seed, options.worker)
        return
    FINDINGS.mkdir(exist_ok=True)
    before = set(FINDINGS.iterdir())
    end, seed = time.monotonic() + options.minutes * 60, options.seed
    with tempfile.TemporaryDirectory() as folder:
        current = Path(folder) / "current.t7"
        while time.monotonic() < end:
            current.unlink(missing_ok=True)
            command = [sys.executable, __file__, "--seed", str(seed), "--worker", str(current)]
            try:
                code = subprocess.run(command, timeout=1200).returncode
            except subprocess.TimeoutExpired:
                code = -signal.SIGKILL
            if code != 0 and not current.exists():
                raise SystemExit("the reader cannot be imported")
            if code != 0:
                keep(current.read_bytes(), f"exit{code}", current.parent)
            seed += 1
    if findings := sorted(path.name for path in set(FINDINGS.iterdir()) - before):
        raise SystemExit(f"{len(findings)} findings: {', '.join(findings)}")


if __name__ == "__main__":
    main()
