"""`torchlift quantize`."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from .data_options import ALL_DATA, DataOptions
from .describe import metadata_view
from .result import CommandResult, console


def quantize(
    model: str,
    output: str,
    *,
    data: str,
    dynamic: bool = False,
    max_drop: float = 0.01,
    keep: str | None = None,
    search: bool = False,
    calibration: int = 256,
    overwrite: bool = False,
    data_options: DataOptions = ALL_DATA,
) -> CommandResult:
    """Write an .onnx file as int8, unless it would be less often right.

    Weights become int8 with a scale for each channel; the ranges of what flows between the layers
    are measured on the data. Both files then run all of the data, and the int8 file is written if
    its accuracy falls by no more than --max-drop. Data without labels is judged by the float file.

    Args:
        model: The .onnx file, in float32.
        output: The .onnx file to write.
        data: A dataset: a .t7 or .npz file, a folder, CIFAR's or MNIST's files, or digits.
        dynamic: Only the linear layers' weights become int8; for networks that lose too much.
        max_drop: Largest loss of accuracy.
        keep: Nodes that stay in float, with commas between.
        search: Find the layers that have to stay in float.
        calibration: How many images, evenly spread, are measured for the ranges.
        overwrite: Replace a file that is there.
        data_options: Which images are taken.
    """
    from ..converters.onnx import quantize as quantize_onnx
    from ..transfer.data import Dataset

    images = data_options.open(data)
    with _progress() as shown:
        written = quantize_onnx(
            model,
            output,
            images.images if isinstance(images, Dataset) else images,
            classes=images.classes,
            dynamic=dynamic,
            max_drop=max_drop,
            keep=[name.strip() for name in keep.split(",")] if keep else (),
            search=search,
            calibration=calibration,
            progress=shown,
            overwrite=overwrite,
        )
    facts = {
        "file": str(written.file),
        "bytes": written.bytes[1],
        "of the float file": written.bytes[1] / written.bytes[0],
        "accuracy before": written.before,
        "accuracy after": written.after,
        "judged by": "labels" if written.labelled else "the float file's own answers",
        "images": len(images),
        "layers": written.layers,
        "kept in float": written.kept,
        "notes": list(images.notes),
    }
    return CommandResult(facts, metadata_view(facts))


@contextmanager
def _progress() -> Iterator[Callable[[str, int, int], None]]:
    """A bar on stderr for what is being done, where that is a terminal."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    bar = Progress(
        *columns,
        TimeRemainingColumn(),
        console=console(stderr=True),
        disable=not sys.stderr.isatty(),
        transient=True,
    )
    with bar:
        task = bar.add_task("", total=None)
        yield lambda what, done, total: bar.update(
            task, description=what, completed=done, total=total
        )
