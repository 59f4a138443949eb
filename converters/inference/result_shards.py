"""One file of predictions from several processes: each fills a shard, the first joins them.

The images are divided where a batch ends, so that every batch holds what it would in one process,
and the result has the same bytes. A shard is a partial file (see `partial_results`): after a kill,
the same number of processes goes on where each was.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ..errors import WriteError
from ..files import check_output
from .partial_results import open_partial, partial_files, remove_partial
from .processes import Process
from .results import JSONL, ResultWriter, check_suffix, jsonl_bytes, write_lines


def shard_of(counts: Sequence[int], batch_size: int, process: Process) -> range:
    """Return the images of a process, among those of several inputs one after the other.

    Args:
        counts: How many images each input has; batches begin anew with each.
        batch_size: How many images run together.
        process: The process among those that share the work.

    Example:
        >>> [shard_of([5, 4], 2, Process(rank, 2)) for rank in (0, 1)]
        [range(0, 4), range(4, 9)]
    """
    starts = [0]
    for count in counts:
        first = starts.pop()
        starts += [*range(first, first + count, batch_size), first + count]
    batches = len(starts) - 1
    first, last = (
        starts[rank * batches // process.world_size] for rank in (process.rank, process.rank + 1)
    )
    return range(first, last)


@contextmanager
def open_shard(
    target: Path, process: Process, *, overwrite: bool, resume: bool, facts: Mapping[str, Any]
) -> Iterator[ResultWriter]:
    """Open the shard of a process, and write the target when all processes have filled theirs.

    Args:
        target: The file of all predictions.
        process: The process among those that share the work; all open theirs.
        overwrite: As for `open_results`.
        resume: Keep what an earlier run of as many processes left.
        facts: As for `open_results`.

    Raises:
        WriteError: If the target exists already, an earlier run left shards of another number of
            processes, or a file cannot be written.
    """
    check_output(target, overwrite)
    check_suffix(target)
    shards = [_shard(target, rank, process.world_size) for rank in range(process.world_size)]
    if process.is_first:
        _check_others(target, process.world_size, overwrite)
    process.wait()
    own = shards[process.rank]
    with open_partial(own, JSONL, overwrite=overwrite, resume=resume, facts=facts) as opened:
        stream, done = opened
        yield ResultWriter(own, stream, jsonl_bytes, done)
        process.wait()
        if process.is_first:
            write_lines(_lines(shards), target)
            for shard in shards:
                remove_partial(shard)
        process.wait()


def _shard(target: Path, rank: int, world_size: int) -> Path:
    return target.with_name(f"{target.name}.{rank + 1}-of-{world_size}")


def _lines(shards: Sequence[Path]) -> Iterator[bytes]:
    for shard in shards:
        with partial_files(shard)[0].open("rb") as stream:
            yield from stream


def _check_others(target: Path, world_size: int, overwrite: bool) -> None:
    """Check that no run of another number of processes left its shards.

    Raises:
        WriteError: If one did, and `overwrite` is not set; else they are removed.
    """
    pattern = re.compile(rf"{re.escape(target.name)}\.\d+-of-(\d+)\.partial")
    for file in sorted(target.parent.iterdir()):
        found = pattern.fullmatch(file.name)
        if found is None or int(found[1]) == world_size:
            continue
        if not overwrite:
            raise WriteError(
                f"{file} is of a run of {found[1]} processes: as many go on with resume='auto', "
                "overwrite=True starts again"
            )
        remove_partial(file.with_name(file.name.removesuffix(".partial")))
