"""What the name of an output says: a folder, or a file of a kind that the command writes."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from .errors import UsageError


def output_suffix(output: str, suffixes: Sequence[str]) -> str:
    """Return the suffix that tells the format of an output; empty for a folder.

    A name that ends in a slash is a folder. A name that ends in a dot and a letter must be of a
    kind that is known; `model-1.5` is a folder.

    Args:
        output: as it was typed.
        suffixes: those that the command writes, such as `.onnx`; empty for a folder.

    Raises:
        UsageError: when the suffix is none of them.

    Example:
        >>> output_suffix("model.onnx", ["", ".onnx"]), output_suffix("model-1.5", ["", ".onnx"])
        ('.onnx', '')
    """
    suffix = "" if output.endswith(("/", "\\")) else Path(output).suffix
    if not re.match(r"\.[A-Za-z]", suffix):
        suffix = ""
    if suffix.lower() in suffixes:
        return suffix.lower()
    known = [one or "a folder" for one in suffixes]
    raise UsageError(f"{output}: {' or '.join(known)} is written, not {suffix or 'a folder'}")
