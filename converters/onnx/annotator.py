"""Annotating: an `.onnx` file of another program gets labels and preprocessing.

The graph is not read, let alone written anew: every byte of the file but its metadata stays.
"""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx

from ..files import atomic_path, check_output
from ..inference.metadata import Metadata
from ..inference.onnx_overrides import OnnxOverrides
from ..inference.onnx_predictor import OnnxPredictor
from ..inference.protobuf import spans
from .errors import OnnxError
from .onnx_file import weight_files

#: The field of `ModelProto` that holds an entry of the metadata.
_METADATA = 14


@dataclass(frozen=True)
class Annotated:
    """The result of `annotate`.

    Attributes:
        files: The `.onnx` file, and those of its weights that were copied beside it.
        metadata: What the file says now.
        notes: What was decided.
    """

    files: list[Path]
    metadata: Metadata
    notes: list[str]


def annotate(
    path: str | os.PathLike[str],
    target: str | os.PathLike[str],
    *,
    overwrite: bool = False,
    said: OnnxOverrides | None = None,
    **options: Any,
) -> Annotated:
    """Write a copy of an `.onnx` file that says what its inputs and outputs are.

    What is given replaces what the file says; what is not given stays. The graph's bytes stay as
    they are. Weights in files beside the graph are copied with it to another folder.

    Args:
        path: An `.onnx` file of one input, whichever program wrote it.
        target: The file to write; the same file only with `overwrite`.
        overwrite: Replace an existing file.
        said: What the file shall say; in place of `options`.
        options: `labels`, `mean_std`, `mean`, `std`, `color`, `value_range`, `input_size`,
            `resize`, `output_kind` and `output_name` (see `OnnxOverrides.of`).

    Raises:
        OnnxError: If nothing is given, or ONNX Runtime cannot run the file.
        TorchliftError: If something does not fit the graph.
        WriteError: If the target exists already, or cannot be written.

    Example:
        >>> from tempfile import mkdtemp
        >>> from torch import nn
        >>> from torchlift.converters.onnx import export
        >>> folder = Path(mkdtemp())
        >>> network = nn.Sequential(nn.Flatten(), nn.Linear(12, 2))
        >>> exported = export(network, folder / "a.onnx", input_shape=(3, 2, 2))
        >>> annotated = annotate(folder / "a.onnx", folder / "b.onnx", labels=["cat", "dog"])
        >>> annotated.metadata.labels
        ['cat', 'dog']
    """
    said = said or OnnxOverrides.of(**options, replaces=True)
    if said.is_empty:
        raise OnnxError(
            f"{os.fspath(path)}: nothing to say of it: give labels=…, mean=…, std=…, color=…, "
            "value_range=…, resize=… or output_kind=…"
        )
    source, output = Path(path), check_output(target, overwrite)
    predictor = OnnxPredictor(source, "cpu", said=said)
    metadata = predictor.metadata
    beside = [] if source.parent.samefile(output.parent) else _files_beside(source)
    copies = [check_output(output.parent / name, overwrite) for name in beside]
    content = with_metadata(source.read_bytes(), metadata)
    with atomic_path(output) as written:
        for name, copy in zip(beside, copies, strict=True):
            shutil.copyfile(source.parent / name, written.with_name(copy.name))
        written.write_bytes(content)
    return Annotated([output, *copies], metadata, predictor.notes)


def with_metadata(content: bytes, metadata: Metadata) -> bytes:
    """Return an `.onnx` file with other metadata; all other bytes stay.

    Args:
        content: The file. Entries that other programs understand stay too.
        metadata: What it shall say.
    """
    kept, props = [], onnx.ModelProto()
    for number, span in spans(memoryview(content)):
        if number == _METADATA:
            # An entry is a field of a message that holds nothing else.
            props.MergeFromString(bytes(span))
        else:
            kept.append(span)
    old = {prop.key: prop.value for prop in props.metadata_props}
    onnx.helper.set_model_props(props, metadata.added_to(old))
    return b"".join([*kept, props.SerializeToString()])


def _files_beside(source: Path) -> list[str]:
    """Return the names of the files that hold a file's weights.

    Raises:
        OnnxError: If one is in another folder.
    """
    names = list(weight_files(onnx.load(source, load_external_data=False)))
    if inner := [name for name in names if Path(name).name != name]:
        raise OnnxError(
            f"{source}: its weights are in {inner[0]}: write the annotated file beside it"
        )
    return names
