"""`torchlift dump`."""

from __future__ import annotations

import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

from .data_options import ALL_DATA, DataOptions, given_options
from .errors import UsageError
from .outputs import output_suffix
from .result import CommandResult


def dump(
    file: str,
    output: str,
    *,
    overwrite: bool = False,
    data_options: DataOptions = ALL_DATA,
) -> CommandResult:
    """Write all values of a .t7 to one file, or a dataset to a folder of images.

    The suffix of the output tells which. The keys of a file are the paths that cat takes.

    Args:
        file: A .t7 file; for a folder of images any dataset.
        output: A .npz, .safetensors or .json file for values; a folder for images, as PNG files.
        overwrite: Replace what is there.
        data_options: Which images are written.
    """
    from ..converters.files import check_output

    suffix = output_suffix(output, ["", ".npz", ".safetensors", ".json"])
    given = given_options(data_options, ALL_DATA)
    if suffix and given:
        option = given[0].replace("_", "-")
        raise UsageError(f"--{option} selects images, which are written to a folder: {output}")
    target = check_output(output, overwrite, folder=not suffix)
    data = _images(file, target, data_options) if not suffix else _values(file, target)
    lines = [f"{data['count']:,} {'values' if suffix else 'images'} → {target}"]
    return CommandResult(data, "\n".join([*lines, *(f"note: {note}" for note in data["notes"])]))


def _values(file: str, target: Path) -> dict[str, Any]:
    from ..converters import t7
    from ..converters.files import atomic_path
    from ..converters.t7.leaves import leaves_of, write_leaves
    from ..converters.t7.reading.load import read_file

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", t7.T7Warning)
        # All objects of the file, as for cat: a path begins with the number of one.
        found = leaves_of(read_file(file, single=False).value)
    try:
        with atomic_path(target) as temporary:
            write_leaves(found.values, temporary)
    except t7.T7Error as error:
        error.source = file
        raise
    notes = [*(str(warning.message) for warning in caught), *found.notes]
    return {"file": file, "files": [str(target)], "count": len(found.values), "notes": notes}


def _images(file: str, target: Path, options: DataOptions) -> dict[str, Any]:
    from ..transfer.data.write_image_folder import write_image_folder
    from ..transfer.errors import DataError

    data = options.open(file)
    if data.classes is None and data.splits is not None:
        note = "the splits are not kept: the images have no classes"
        data = replace(data, notes=(*data.notes, note))
    try:
        write_image_folder(data, target)
    except DataError as error:
        raise DataError(f"{file}: {error}") from None
    return {
        "file": file,
        "files": [str(target)],
        "count": len(data),
        "notes": list(data.notes),
    }
