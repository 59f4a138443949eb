"""What an exported model says of itself, in the file's own metadata."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from ... import __version__
from ..errors import TorchliftError
from ..images.preprocessing import Preprocessing, preprocessing_of_format_1
from .errors import InferenceError

#: The arithmetic that a file may have inside.
PRECISIONS = ("fp32", "fp16", "int8")

#: Counts up when an older torchlift could not understand what this one writes.
FORMAT_VERSION = 2

#: What format 1, of torchlift 0.1.0, calls differently.
_FORMAT_1 = {"output": "output_kind"}

#: The entries that are a preprocessing.
PREPROCESSING = ("preprocessing", "baked_preprocessing")


@dataclass(frozen=True)
class Metadata:
    """The metadata of an `.onnx` file; every entry is None where the file has none.

    Attributes:
        labels: the names of the outputs.
        preprocessing: what turns an image into an input.
        baked_preprocessing: what turned it into the network's input, where the graph does a part
            of that itself; `preprocessing` is what is left to do.
        precision: the arithmetic inside, one of `PRECISIONS`.
        output_kind: what the outputs mean: `logits`, `log_probabilities`, `probabilities`, `features`.
        source: `{file, sha256}` of the file that the model was converted from.
        torchlift_version: the version that exported it.
        format_version: the version of these entries.
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
        """As ONNX keeps it: texts by name, each a JSON document."""
        values = asdict(self)
        return {
            name: json.dumps(value, ensure_ascii=False)
            for name, value in values.items()
            if value is not None
        }

    @classmethod
    def from_props(cls, props: Mapping[str, str]) -> Metadata:
        """What `to_props` gave; entries of other programs are passed over.

        Raises:
            InferenceError: when an entry of ours is damaged.
        """
        values: dict[str, Any] = dict.fromkeys(cls.__dataclass_fields__)
        # Torchlift 0.1.0 wrote no version, and other names for some entries.
        old = "format_version" not in props
        try:
            for key in props:
                name = _FORMAT_1.get(key, key) if old else key
                if name in values:
                    values[name] = json.loads(props[key])
            for name in PREPROCESSING:
                if old and values[name] is not None:
                    values[name] = preprocessing_of_format_1(values[name])
                if values[name] is not None:
                    values[name] = Preprocessing.from_json(values[name])
        except (ValueError, TorchliftError) as error:
            raise InferenceError(f"the metadata {name!r} is damaged: {error}") from error
        return cls(**values)
