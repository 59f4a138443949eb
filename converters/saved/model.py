"""A model together with its labels, preprocessing and origin."""

from __future__ import annotations

from dataclasses import dataclass, field

from torch import nn

from ..images.image_to_image import ImageToImage
from ..images.preprocessing import Preprocessing
from ..input_shapes import InputShapes
from ..vocabulary import Vocabulary
from .config import OUTPUT_KINDS as OUTPUT_KINDS


@dataclass(frozen=True)
class Provenance:
    """The file that a model was converted from.

    Attributes:
        file: Its name, without folders.
        sha256: The SHA-256 of its bytes, in hexadecimal.
    """

    file: str
    sha256: str


@dataclass
class SavedModel:
    """A network, with everything that is needed to use it.

    Attributes:
        module: The network, in evaluation mode; it takes batches (N, …).
        output_kind: What its outputs mean, one of `OUTPUT_KINDS`.
        input_shape: (C, H, W) of one example, or None if it is not known or no image.
        labels: The class names of the outputs, or None.
        preprocessing: The steps from an image to an input, or None.
        image_to_image: The steps from an output back to an image, where they are not as those of
            the input.
        vocabularies: What the numbers of its inputs and outputs stand for, in networks of texts.
        notes: What was decided or assumed during the conversion, for people to read.
        source: The file that it was converted from, or None.
        inputs: What it takes where that is not one image of a known size: a vector, a sequence,
            several tensors; else None.

    Example:
        >>> model = SavedModel(nn.Linear(4, 2).eval(), "logits", labels=["cat", "dog"])
        >>> model.labels[1]
        'dog'
    """

    module: nn.Module
    output_kind: str
    input_shape: tuple[int, int, int] | None = None
    labels: list[str] | None = None
    preprocessing: Preprocessing | None = None
    notes: list[str] = field(default_factory=list)
    source: Provenance | None = None
    inputs: InputShapes | None = None
    vocabularies: list[Vocabulary] = field(default_factory=list)
    image_to_image: ImageToImage | None = None

    @property
    def input_shapes(self) -> InputShapes | None:
        """All inputs, an image among them; None if they are not known."""
        if self.inputs is not None or self.input_shape is None:
            return self.inputs
        return InputShapes.single(self.input_shape)

    def set_inputs(self, shapes: InputShapes) -> None:
        """Set what the network takes."""
        self.input_shape = shapes.image_shape
        self.inputs = shapes if self.input_shape is None else None
