"""A model with everything that must travel with it."""

from __future__ import annotations

from dataclasses import dataclass, field

from torch import nn

from ..images.preprocessing import Preprocessing

#: What a model's outputs mean.
OUTPUT_KINDS = ("logits", "log_probabilities", "probabilities", "features")


@dataclass(frozen=True)
class Provenance:
    """The file that a model was converted from.

    Attributes:
        file: its name, without folders.
        sha256: of its bytes, in hexadecimal.
    """

    file: str
    sha256: str


@dataclass
class SavedModel:
    """A network, and what a person needs to use it.

    Attributes:
        module: the network, in evaluation mode; it takes batches (N, C, H, W).
        output_kind: what its outputs mean, one of `OUTPUT_KINDS`.
        input_shape: (C, H, W) of one example, or None where it is not known.
        labels: the names of the outputs, or None.
        preprocessing: what turns an image into an input, or None.
        notes: what was decided or assumed on the way, for people to read.
        source: the file it comes from, or None.
    """

    module: nn.Module
    output_kind: str
    input_shape: tuple[int, int, int] | None = None
    labels: list[str] | None = None
    preprocessing: Preprocessing | None = None
    notes: list[str] = field(default_factory=list)
    source: Provenance | None = None
