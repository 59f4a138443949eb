"""How many processors this process may really use."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from pathlib import Path

#: Where Linux shows the control groups, and which groups this process is in.
_GROUPS = Path("/sys/fs/cgroup")
_MINE = Path("/proc/self/cgroup")


def available_cpus() -> int:
    """How many threads are worth starting: by the affinity mask, and by the quota of a container.

    The machine's own count is of no use to a process that may use a part of it: threads that wait
    for each other's turn make a network several times slower.
    """
    quota = cpu_quota()
    return affinity() if quota is None else max(1, min(affinity(), math.floor(quota)))


def affinity() -> int:
    """How many processors the scheduler may put this process on."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def cpu_quota() -> float | None:
    """Processors' worth of time that the control group grants; None without a limit.

    Both versions of control groups are read; of a group and those around it the least counts.
    """
    try:
        lines = _MINE.read_text().splitlines()
    except OSError:
        return None
    return min((quota for line in lines for quota in _quotas(line)), default=None)


def _quotas(line: str) -> Iterator[float]:
    """The limits above one line of `/proc/self/cgroup`: `number:controllers:path`."""
    _, controllers, path = line.split(":", 2)
    if controllers == "":
        root, read = _GROUPS, _quota_2
    elif "cpu" in controllers.split(","):
        root, read = _GROUPS / "cpu", _quota_1
    else:
        return
    inside = root / path.lstrip("/")
    for folder in (inside, *inside.parents):
        try:
            quota = read(folder)
        except (OSError, ValueError):
            quota = None
        if quota:
            yield quota
        if folder == root:
            return


def _quota_2(folder: Path) -> float | None:
    """Version 2: `cpu.max` holds microseconds and the period, or `max`."""
    quota, period = (folder / "cpu.max").read_text().split()
    return None if quota == "max" else int(quota) / int(period)


def _quota_1(folder: Path) -> float | None:
    """Version 1: -1 stands for no limit."""
    quota, period = (
        int((folder / f"cpu.cfs_{name}_us").read_text()) for name in ("quota", "period")
    )
    return None if quota < 0 else quota / period
