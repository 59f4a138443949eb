"""What the user says about an `.onnx` file, beside or over what its metadata say."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from ..images.mean_std import with_table
from ..images.normalization import NOTHING_SAID, Normalization, Numbers, describe_resizing
from ..images.preprocessing import Preprocessing, ValueRange
from ..labels import check_labels, read_labels
from ..saved.config import OUTPUT_KINDS
from .errors import InferenceError
from .metadata import Metadata
from .onnx_interface import NetworkInput


@dataclass(frozen=True)
class OnnxOverrides:
    """What is said about an `.onnx` file; what is not said is None.

    Attributes:
        labels: Class names, in the order of the outputs.
        normalization: Mean, std, color order and range of the inputs.
        input_size: (height, width) of the input, where the graph leaves it free.
        resize: How images are resized, as `Preprocessing.resized_by` takes it.
        output_kind: What the scores mean (`Predictor.output_kind`).
        output_name: Which output the scores are, where there are several.
        replaces: Whether this counts over what the file says; otherwise another value is an error.
    """

    labels: list[str] | None = None
    normalization: Normalization = NOTHING_SAID
    input_size: tuple[int, int] | None = None
    resize: str | None = None
    output_kind: str | None = None
    output_name: str | None = None
    replaces: bool = False

    @classmethod
    def of(
        cls,
        *,
        labels: str | os.PathLike[str] | Sequence[str] | None = None,
        mean_std: Any = None,
        mean: Numbers | None = None,
        std: Numbers | None = None,
        color: str | None = None,
        value_range: ValueRange | None = None,
        input_size: tuple[int, int] | None = None,
        resize: str | None = None,
        output_kind: str | None = None,
        output_name: str | None = None,
        replaces: bool = False,
    ) -> OnnxOverrides:
        """Return what the arguments say; files are read.

        Args:
            labels: As for `open_model`.
            mean_std: As for `open_model`.
            mean: As for `open_model`.
            std: As for `open_model`.
            color: As for `open_model`.
            value_range: As for `open_model`.
            input_size: As for `open_model`.
            resize: As for `open_model`.
            output_kind: `logits`, `log_probabilities`, `probabilities` or `features`.
            output_name: The name of an output.
            replaces: Whether this counts over what the file says.

        Raises:
            TorchliftError: If something is wrong in itself, or a file cannot be read.
        """
        if output_kind is not None and output_kind not in OUTPUT_KINDS:
            known = ", ".join(OUTPUT_KINDS)
            raise InferenceError(f"output_kind={output_kind}: {known} are known")
        said = Normalization.of(mean, std, color, value_range)
        if mean_std is not None:
            said, _ = with_table(said, "mean_std", mean_std)
        if isinstance(labels, (str, os.PathLike)):
            labels = read_labels(labels)
        return cls(
            None if labels is None else list(labels),
            said,
            input_size,
            resize,
            output_kind,
            output_name,
            replaces,
        )

    @property
    def is_empty(self) -> bool:
        """Whether nothing is said."""
        return replace(self, replaces=False) == OnnxOverrides()

    def over(
        self,
        metadata: Metadata,
        network: NetworkInput,
        columns: int | None,
        kind_of_graph: Callable[[], tuple[str, str]],
    ) -> tuple[Metadata, list[str]]:
        """Return the metadata with what is said, and notes on what was decided.

        Args:
            metadata: Those of the file.
            network: What its graph takes.
            columns: How many classes it tells apart, or None if the graph leaves it open.
            kind_of_graph: Returns what the output means as the graph tells, and what tells it.

        Raises:
            TorchliftError: If something does not fit the graph, or is not what the file says.
        """
        notes: list[str] = []
        said: dict[str, Any] = {}
        if self.output_name is not None:
            self._require("output_name", self.output_name, metadata.output_name)
            said["output_name"] = self.output_name
        if self.labels is not None:
            self._require("labels", self.labels, metadata.labels)
            if columns is not None:
                check_labels(self.labels, columns)
            said["labels"] = self.labels
        if self.output_kind is not None:
            self._require("output_kind", self.output_kind, metadata.output_kind)
            said["output_kind"] = self.output_kind
        elif metadata.output_kind is None:
            said["output_kind"], told_by = kind_of_graph()
            words = said["output_kind"].replace("_", " ")
            notes.append(f"the outputs are taken for {words}: the graph ends in {told_by}")
        preprocessing, note = self._preprocessing(metadata, network)
        notes += [note] if note else []
        return replace(metadata, preprocessing=preprocessing, **said), notes

    def _require(self, name: str, said: Any, own: Any) -> None:
        """Check that what is said may stand where the file has a value of its own."""
        if not self.replaces and own is not None and said != own:
            shown = "" if name == "labels" else f": {own}"
            raise InferenceError(f"{name}=… is not the file's own{shown}")

    def _preprocessing(
        self, metadata: Metadata, network: NetworkInput
    ) -> tuple[Preprocessing | None, str]:
        """Return how an image becomes an input of the graph, and a note on what is new in it."""
        own, given = metadata.preprocessing, self.normalization
        if given.is_empty and self.resize is None and self.input_size is None:
            return own, ""
        shape = self._shape(network)
        if own is None:
            return given.preprocessing(shape, network.channels, self.resize)
        if metadata.baked_preprocessing is not None and self.replaces:
            raise InferenceError(
                "its preprocessing is in the graph and cannot be replaced: export the model again"
            )
        if not self.replaces:
            given.require_same(metadata.baked_preprocessing or own)
            for name, changed in (
                ("resize", own.resized_by(self.resize) if self.resize else own),
                ("input_size", _sized(own, self.input_size)),
            ):
                if changed != own:
                    raise InferenceError(
                        f"{name}=… is not the file's own: {describe_resizing(own)}"
                    )
            return own, ""
        new, note = _merged(given, own).preprocessing(shape, network.channels)
        changed = replace(
            own, color=new.color, value_range=new.value_range, mean=new.mean, std=new.std
        )
        changed = _sized(changed, self.input_size)
        changed = changed.resized_by(self.resize) if self.resize else changed
        return changed, f"{note.partition(';')[0]}; {describe_resizing(changed)}"

    def _shape(self, network: NetworkInput) -> tuple[int, int, int] | None:
        """Return (C, H, W) of the network's input, the size that is given where that is free."""
        shape, size = network.image_shape, self.input_size
        if size is None:
            return shape
        if shape is not None and shape[1:] != size:
            raise InferenceError(
                f"input_size={size[0]}x{size[1]}, but the graph takes {shape[1]}×{shape[2]}"
            )
        channels = network.channels
        if channels is None:
            colors = len(self.normalization.mean or ()) or 3
            channels = 1 if self.normalization.color == "gray" else colors
        return channels, *size


def _sized(preprocessing: Preprocessing, size: tuple[int, int] | None) -> Preprocessing:
    """Return a preprocessing that gives images of a size."""
    if size is None or size == (preprocessing.crop or preprocessing.size):
        return preprocessing
    return replace(preprocessing, size=size, crop=None)


def _merged(given: Normalization, own: Preprocessing) -> Normalization:
    """Return what is given, and of a preprocessing what is not given."""
    mean, std = given.mean or own.mean, given.std or own.std
    # Numbers above 1 are for another range than 0 to 1.
    is_outside = own.value_range == 1 and max((*mean, *std), default=0) > 1
    kept = None if is_outside else own.value_range
    return Normalization(
        mean or None, std or None, given.color or own.color, given.value_range or kept
    )
