"""Triton's model repository: one folder a model, one a version, and a configuration for both."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ..errors import WriteError
from ..files import atomic_path, remove_abandoned
from .errors import OnnxError
from .onnx_file import describe_file

#: The file of a version.
MODEL_FILE = "model.onnx"
CONFIG_FILE, LABELS_FILE = "config.pbtxt", "labels.txt"

#: The largest batch that Triton forms, and how long it waits for it, in microseconds: as `serve`.
_MAX_BATCH, _MAX_DELAY = 32, 2000

_VERSION = re.compile(r"[1-9]\d*")
_NAME = re.compile(r"[^./\\\s](?:[^/\\]*[^/\\\s])?")

#: Triton's names of NumPy's types, where they are not the same in capitals.
_TYPES = {"float16": "FP16", "float32": "FP32", "float64": "FP64", "object": "STRING"}


def next_version(repository: str | os.PathLike[str], name: str) -> Path:
    """Return the folder of the next version of a model: `REPOSITORY/NAME/1`, or one more.

    Args:
        repository: The model repository; its parent folder must exist. Other models may be in it.
        name: The model's name, one folder's.

    Raises:
        WriteError: If there is no such folder, or something else has this name.

    Example:
        >>> from tempfile import mkdtemp
        >>> next_version(mkdtemp(), "digits").parts[-2:]
        ('digits', '1')
    """
    folder = Path(repository)
    if not folder.is_dir() and (os.path.lexists(folder) or not folder.resolve().parent.is_dir()):
        raise WriteError(f"{folder}: a folder was expected, or a new name in a folder")
    if not isinstance(name, str) or not _NAME.fullmatch(name) or not name.isprintable():
        raise WriteError(f"{name!r} cannot be a model's name: it is the name of a folder")
    model = folder / name
    if model.is_symlink() or (os.path.lexists(model) and not (model / CONFIG_FILE).is_file()):
        raise WriteError(f"{model} is there already and is no model: it has no {CONFIG_FILE}")
    versions = [
        int(entry.name)
        for entry in (model.iterdir() if model.is_dir() else ())
        if _VERSION.fullmatch(entry.name)
    ]
    return model / str(max(versions, default=0) + 1)


@contextmanager
def triton_version(folder: Path) -> Iterator[Path]:
    """Yield where to write the `.onnx` file of a version; the rest of the folder follows.

    The first version of a model brings `config.pbtxt`, and `labels.txt` if the file has labels.
    A later one leaves them as they are. It appears complete or not at all.

    Args:
        folder: The version's folder (see `next_version`).

    Raises:
        OnnxError: If the inputs, outputs or labels of a later version are not those of the model.
        WriteError: If the folder cannot be written.

    Example:
        >>> from tempfile import mkdtemp
        >>> from torch import nn
        >>> from torchlift.converters import onnx
        >>> folder = onnx.next_version(mkdtemp(), "linear")
        >>> with onnx.triton_version(folder) as file:
        ...     exported = onnx.export(nn.Linear(3, 2), file, input_shape=(3,))
        >>> sorted(entry.name for entry in folder.parent.iterdir())
        ['1', 'config.pbtxt']
    """
    model = folder.parent
    model.parent.mkdir(exist_ok=True)
    remove_abandoned(model.parent)  # A first version that a kill stopped, when this is a later one.
    is_new = not model.exists()
    with atomic_path(model if is_new else folder) as written:
        version = written / folder.name if is_new else written
        version.mkdir(parents=True)
        yield version / MODEL_FILE
        description = describe_file(version / MODEL_FILE)
        config = triton_config(model.name, description)
        labels = "".join(f"{_one_line(label)}\n" for label in description["labels"] or [])
        if is_new:
            (written / CONFIG_FILE).write_text(config, encoding="utf-8")
            if labels:
                (written / LABELS_FILE).write_text(labels, encoding="utf-8")
        else:
            _require_same(model, config, labels)
            _require_same_preprocessing(model, folder, description)
        if os.path.lexists(model if is_new else folder):
            raise WriteError(f"{folder} was written by another process meanwhile; try again")


def triton_config(name: str, description: dict[str, Any]) -> str:
    """Return the text of `config.pbtxt`.

    Requests are batched where the first axis of every input and output is that of the examples,
    unless the answers depend on the other examples of a batch.

    Args:
        name: The model's name.
        description: What `describe_file` says of the file.

    Raises:
        OnnxError: If Triton has no name for a type.
    """
    has_batch = _has_batch(description["inputs"], description["outputs"])
    labels_of = description["outputs"][0]["name"] if description["labels"] else None
    parts = [
        f"name: {_quoted(name)}",
        'backend: "onnxruntime"',
        f"max_batch_size: {_MAX_BATCH if has_batch else 0}",
        _tensors("input", description["inputs"], has_batch, None),
        _tensors("output", description["outputs"], has_batch, labels_of),
        "instance_group [\n  { kind: KIND_AUTO count: 1 }\n]",
    ]
    if has_batch and not description["depends_on_batch"]:
        parts.append(f"dynamic_batching {{ max_queue_delay_microseconds: {_MAX_DELAY} }}")
    return "\n".join(parts) + "\n"


def _has_batch(inputs: list[dict[str, Any]], outputs: list[dict[str, Any]]) -> bool:
    """Return whether the first axis of every tensor is free, and one and the same."""
    if [(one["dtype"], len(one["shape"])) for one in inputs] == [("uint8", 3)]:
        return False  # The pixels of one image.
    shapes = [one["shape"] for one in [*inputs, *outputs]]
    first = {shape[0] if shape else 0 for shape in shapes}
    return (
        len(first) == 1
        and not isinstance(next(iter(first)), int)
        and not any(axis in first for shape in shapes for axis in shape[1:] if axis)
    )


def _tensors(
    kind: str, tensors: Sequence[dict[str, Any]], has_batch: bool, labels_of: str | None
) -> str:
    entries = []
    for tensor in tensors:
        dtype = tensor["dtype"]
        if dtype is None or not (dtype in _TYPES or re.fullmatch(r"bool|u?int\d+", dtype)):
            raise OnnxError(f"{tensor['name']}: Triton has no type for {dtype or 'what it is'}")
        sizes = tensor["shape"][1:] if has_batch else tensor["shape"]
        dims = ", ".join(str(size) if isinstance(size, int) else "-1" for size in sizes)
        lines = [
            f"name: {_quoted(tensor['name'])}",
            f"data_type: TYPE_{_TYPES.get(dtype, dtype.upper())}",
            f"dims: [ {dims} ]" if sizes else "dims: [ 1 ]\n    reshape: { shape: [ ] }",
        ]
        if tensor["name"] == labels_of:
            lines.append(f'label_filename: "{LABELS_FILE}"')
        entries.append("  {\n" + "".join(f"    {line}\n" for line in lines) + "  }")
    return f"{kind} [\n" + ",\n".join(entries) + "\n]"


def _require_same(model: Path, config: str, labels: str) -> None:
    """Compare what the configuration of a model says with what a new version needs.

    The rest of the configuration may have been changed by hand.

    Raises:
        OnnxError: If inputs, outputs, batches or labels differ.
    """
    found = _compact((model / CONFIG_FILE).read_text(encoding="utf-8", errors="replace"))
    for key in ("max_batch_size", "input", "output"):
        wanted = re.search(rf"^{key}\b(?: \[.*?^\]|: \d+)", config, re.MULTILINE | re.DOTALL)
        if wanted and _compact(wanted[0]) not in found and not _both_batch(key, wanted[0], found):
            raise OnnxError(
                f"{model / CONFIG_FILE}: another {key} than that of the new version: "
                f"{' '.join(wanted[0].split())} was expected; choose another name"
            )
    file = model / LABELS_FILE
    if (file.read_text(encoding="utf-8", errors="replace") if file.is_file() else "") != labels:
        raise OnnxError(f"{file}: other labels than those of the new version; choose another name")


def _require_same_preprocessing(model: Path, folder: Path, description: dict[str, Any]) -> None:
    """Compare what images become, and what scores mean, with the version before.

    Clients that prepare images themselves would prepare them for the other version.

    Raises:
        OnnxError: If they differ.
    """
    versions = (entry for entry in model.iterdir() if (entry / MODEL_FILE).is_file())
    numbers = [int(entry.name) for entry in versions if _VERSION.fullmatch(entry.name)]
    if not numbers:
        return
    before = describe_file(model / str(max(numbers)) / MODEL_FILE)
    for key in ("preprocessing", "output_kind"):
        if before[key] != description[key]:
            raise OnnxError(
                f"{folder}: version {max(numbers)} of {model.name} has another {key}; "
                "choose another name"
            )


def _both_batch(key: str, wanted: str, found: str) -> bool:
    """Return whether both let Triton form batches, whatever their largest."""
    size = re.search(r"max_batch_size:(\d+)", found)
    return key == "max_batch_size" and size is not None and "0" not in (size[1], wanted.split()[1])


def _compact(text: str) -> str:
    """Return a configuration without blanks and comments."""
    return re.sub(r"#.*|\s+", "", text)


def _quoted(text: str) -> str:
    """Return a string of protobuf's text format."""
    return '"' + text.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n") + '"'


def _one_line(label: str) -> str:
    """Return a label on one line, as `labels.txt` has to hold it."""
    return " ".join(label.splitlines())
