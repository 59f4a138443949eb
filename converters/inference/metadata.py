"""What an exported model says about itself in the metadata of its `.onnx` file."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from ... import __version__
from ..errors import TorchliftError
from ..images.preprocessing import Preprocessing
from ..saved.config import OUTPUT_KINDS, preprocessing_of_format_1
from .errors import InferenceError

#: Increased when an older torchlift could not understand what this one writes.
FORMAT_VERSION = 2

#: Entries that have another name in format 1, which torchlift 0.1.0 wrote.
_FORMAT_1 = {"output": "output_kind"}

#: The entries that hold a `Preprocessing`.
PREPROCESSING = ("preprocessing", "baked_preprocessing")


@dataclass(frozen=True)
class Metadata:
    """The metadata of an `.onnx` file; an entry that the file lacks is None.

    Attributes:
        labels: Class names, in the order of the outputs.
        preprocessing: How an image becomes an input of the graph.
        baked_preprocessing: How an image becomes an input of the network, if the graph does a
            part of that itself; `preprocessing` is the part that remains outside.
        precision: The arithmetic inside the graph: `fp32`, `fp16` or `int8`.
        output_kind: What the outputs mean: `logits`, `log_probabilities`, `probabilities` or
            `features`.
        source: `{file, sha256}` of the file that the model was converted from.
        torchlift_version: The version of torchlift that exported the file.
        format_version: The version of these entries.
    """

    labels: list[str] | None = None
    preprocessing: Preprocessing | None = None
    baked_preprocessing: Preprocessing | None = None
    precision: str | None = None
    output_kind: str | None = None
    source: dict[str, str] | None = None
    torchlift_version: str | None = __version__
    format_version: int | None = FORMAT_VERSION

    def to_props(self) -> dict[str, str]:
        """Return the entries as ONNX stores them: a JSON text for each name."""
        return {
            name: json.dumps(value, ensure_ascii=False)
            for name, value in asdict(self).items()
            if value is not None
        }

    @classmethod
    def from_props(cls, props: Mapping[str, str]) -> Metadata:
        """Return the metadata that `to_props` gave; entries of other programs are skipped.

        Raises:
            InferenceError: If one of our entries is damaged, or a later version wrote them.
        """
        values: dict[str, Any] = dict.fromkeys(cls.__dataclass_fields__)
        is_format_1 = "format_version" not in props
        for key, text in props.items():
            name = _FORMAT_1.get(key, key) if is_format_1 else key
            if name not in values:
                continue
            try:
                values[name] = _from_json(name, json.loads(text), is_format_1)
            except (ValueError, AttributeError, RecursionError, TorchliftError) as error:
                raise InferenceError(f"the metadata {key!r} is damaged: {error}") from error
        return cls(**values)


def _from_json(name: str, value: Any, is_format_1: bool) -> Any:
    """Return an entry of `Metadata` from its JSON value.

    Raises:
        ValueError: If this entry cannot have the value.
        PreprocessingError: If a preprocessing is invalid.
    """
    if value is None:
        return None
    if name in PREPROCESSING:
        return Preprocessing.from_json(preprocessing_of_format_1(value) if is_format_1 else value)
    is_valid = {
        "labels": isinstance(value, list) and all(isinstance(label, str) for label in value),
        "output_kind": value in OUTPUT_KINDS,
        "source": isinstance(value, dict),
        "format_version": value == FORMAT_VERSION,
    }.get(name, isinstance(value, str))
    if not is_valid:
        raise ValueError(f"torchlift {__version__} does not know the value {str(value)[:50]!r}")
    return value
