"""How many threads this process should start."""

from __future__ import annotations

import os


def available_cpus() -> int:
    """Return how many processors this process may use, at least one.

    Counts the affinity mask, the CPU quota of a container and `LOKY_MAX_CPU_COUNT`, and divides by
    the processes that torchrun started on this machine. More threads than that wait for each other
    and make a network several times slower.
    """
    # joblib takes a tenth of a second to import, which `--help` and the like do not need.
    from joblib import cpu_count

    return max(int(cpu_count()) // int(os.environ.get("LOCAL_WORLD_SIZE", "1")), 1)
