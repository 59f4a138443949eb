"""What an exported model says about itself in the metadata of its `.onnx` file."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from ... import __version__
from ..errors import LabelsError, TorchliftError
from ..images.errors import PreprocessingError
from ..images.image_to_image import ImageToImage
from ..images.normalization import Normalization
from ..images.preprocessing import Preprocessing
from ..labels import check_labels
from ..saved.config import OUTPUT_KINDS, preprocessing_of_format_1
from ..validation import Kind, flag, list_of, mapping_of, one_of, read_json, text, whole
from ..vocabulary import Vocabulary, check_vocabulary
from .errors import InferenceError

#: Increased when an older torchlift could not understand what this one writes.
FORMAT_VERSION = 2

#: The arithmetic inside a graph.
PRECISIONS = ("fp32", "fp16", "int8")

#: Entries that have another name in format 1, which torchlift 0.1.0 wrote.
_FORMAT_1 = {"output": "output_kind"}

#: What each entry is; those that are not named here are texts.
_KINDS: dict[str, Kind] = {
    "labels": list_of(text),
    "vocabularies": list_of(check_vocabulary),
    "precision": one_of(*PRECISIONS),
    "output_kind": one_of(*OUTPUT_KINDS),
    "depends_on_batch": flag,
    "kept_outputs": list_of(whole(1)),
    "kept_columns": list_of(whole(1), 2),
    "source": mapping_of(text),
    "format_version": one_of(FORMAT_VERSION),
}

#: The entries that hold a `Preprocessing`.
PREPROCESSING = ("preprocessing", "baked_preprocessing")


@dataclass(frozen=True)
class Metadata:
    """The metadata of an `.onnx` file; an entry that the file lacks is None.

    Attributes:
        labels: Class names, in the order of the outputs.
        vocabularies: What the numbers of inputs and outputs stand for, in networks of texts.
        preprocessing: How an image becomes an input of the graph.
        baked_preprocessing: How an image becomes an input of the network, if the graph does a
            part of that itself; `preprocessing` is the part that remains outside.
        image_to_image: The steps from an output back to an image, where they are not as those of
            the input.
        precision: The arithmetic inside the graph: `fp32`, `fp16` or `int8`.
        output_kind: What the outputs mean: `logits`, `log_probabilities`, `probabilities` or
            `features`.
        depends_on_batch: Whether what the file gives for an example depends on the other examples
            of its batch (`quantize(dynamic=True)`).
        inputs: What the model takes, as `parse_inputs` reads it.
        kept_outputs: The numbers, from 1, of the model's outputs that the file gives; None for all.
        kept_columns: The first and the last column, from 1, of the model's output that the file
            gives; None for all.
        output_name: Which output the scores are, in a file that has several.
        source: `{file, sha256}` of the file that the model was converted from.
        exporter: The versions of the packages that translated the model; another one may name and
            arrange the nodes in another way.
        torchlift_version: The version of torchlift that exported the file.
        format_version: The version of these entries.
    """

    labels: list[str] | None = None
    vocabularies: list[Vocabulary] | None = None
    preprocessing: Preprocessing | None = None
    baked_preprocessing: Preprocessing | None = None
    image_to_image: ImageToImage | None = None
    precision: str | None = None
    output_kind: str | None = None
    depends_on_batch: bool | None = None
    inputs: str | None = None
    kept_outputs: list[int] | None = None
    kept_columns: list[int] | None = None
    output_name: str | None = None
    source: dict[str, str] | None = None
    exporter: str | None = None
    torchlift_version: str | None = __version__
    format_version: int | None = FORMAT_VERSION

    def added_to(self, props: Mapping[str, str]) -> dict[str, str]:
        """Return the metadata of a file with these entries in place of those of their names.

        Entries that other programs understand stay.
        """
        # Without a version, entries with the names of ours count as another program's.
        named = replace(self, format_version=FORMAT_VERSION)
        others = {key: value for key, value in props.items() if key not in own_keys(self)}
        return others | named.to_props()

    @property
    def is_foreign(self) -> bool:
        """Whether another program than torchlift wrote the graph."""
        return self.torchlift_version is None

    def to_props(self) -> dict[str, str]:
        """Return the entries as ONNX stores them: a JSON text for each name."""
        values = asdict(self)
        if self.vocabularies is not None:
            values["vocabularies"] = [vocabulary.to_json() for vocabulary in self.vocabularies]
        return {
            name: json.dumps(value, ensure_ascii=False)
            for name, value in values.items()
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
        if is_format_1 and "torchlift_version" not in props:
            # Another program's entries may have the same names and mean something else.
            return cls(**values)
        for key, value in props.items():
            name = _FORMAT_1.get(key, key) if is_format_1 else key
            if name not in values:
                continue
            try:
                values[name] = _from_json(name, read_json(value), is_format_1)
            except (ValueError, TorchliftError) as error:
                raise InferenceError(f"the metadata {key!r} is damaged: {error}") from error
        return cls(**values)

    def require_normalization(self, said: Normalization) -> None:
        """Check that what is said of the preprocessing is what the file has.

        Raises:
            PreprocessingError: If the file has other values, or none.
        """
        own = self.baked_preprocessing or self.preprocessing
        if own is None:
            raise PreprocessingError(
                "the file says nothing of its preprocessing: export the model again with it"
            )
        said.require_same(own)

    def check_fits(self, input_shape: Sequence[int] | None, outputs: int | None) -> None:
        """Check that preprocessing and labels fit the graph.

        Args:
            input_shape: (C, H, W) of the graph's input, or None if it leaves them open.
            outputs: How many columns the output has, or None if it leaves them open.

        Raises:
            InferenceError: If one does not fit.
        """
        try:
            if self.preprocessing is not None:
                self.preprocessing.check_fits(input_shape)
        except TorchliftError as error:
            raise InferenceError(f"the metadata 'preprocessing' does not fit: {error}") from error
        try:
            if self.labels is not None and outputs is not None:
                check_labels(self.labels, outputs)
        except LabelsError as error:
            raise InferenceError(f"the metadata 'labels' does not fit: {error}") from error


def own_keys(metadata: Metadata) -> set[str]:
    """Return the keys of a file's metadata that are torchlift's."""
    is_format_1 = metadata.format_version is None and not metadata.is_foreign
    return {*Metadata.__dataclass_fields__, *(_FORMAT_1 if is_format_1 else ())}


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
    if name == "image_to_image":
        return ImageToImage.from_json(value)
    if name in _KINDS:
        checked = _KINDS[name](value, name)
        return [Vocabulary.from_json(one) for one in value] if name == "vocabularies" else checked
    return text(value, name)
