"""Knowledge distillation: an older network's probabilities as targets beside the labels.

Hinton et al., Distilling the Knowledge in a Neural Network, 2015.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch.nn import functional

from ...converters.images.preprocessing import Preprocessing
from ...converters.inference.torch_module import inference_copy
from ...converters.modules.finite import require_finite_parameters
from ...converters.saved import SavedModel
from ..data import Dataset, ImageFiles, class_count
from ..data.class_matching import match_names
from ..errors import TrainingError
from ..features.extractors import network_digest
from ..heads import head_outputs
from ..network_by_name import load_network

if TYPE_CHECKING:
    from .options import Distillation

#: The part of each color in gray, as Pillow has it.
_GRAY = (0.299, 0.587, 0.114)


class Teacher:
    """A classifier whose probabilities another one learns.

    Args:
        model: The classifier.
        student: The one that learns; the teacher gets its inputs, converted to its own.
        columns: For each class of the student, the teacher's output.

    Example:
        >>> from torch import nn
        >>> from torchlift.converters.saved import SavedModel
        >>> network = nn.Sequential(nn.Flatten(), nn.Linear(4, 3))
        >>> model = SavedModel(network, "logits", (1, 2, 2))
        >>> Teacher(model, model, [2, 0])(torch.zeros(5, 1, 2, 2)).shape
        torch.Size([5, 2])
    """

    def __init__(self, model: SavedModel, student: SavedModel, columns: list[int]) -> None:
        require_finite_parameters(model.module)
        self.digest = network_digest(model.module)
        self._network = inference_copy(model.module)
        self._columns = columns
        self._kind = model.output_kind
        self._size = None if model.input_shape is None else model.input_shape[1:]
        self._before = student.preprocessing
        self._after = model.preprocessing

    def to(self, device: torch.device) -> Teacher:
        """Move the network to a device, and return the teacher."""
        self._network.to(device)
        return self

    @torch.no_grad()
    def __call__(self, inputs: torch.Tensor) -> torch.Tensor:
        """Return log-probabilities (N, classes) for inputs (N, C, H, W) of the student."""
        outputs: torch.Tensor = self._network(self._converted(inputs)).float()
        if self._kind == "probabilities":
            outputs = outputs.clamp_min(torch.finfo(torch.float32).tiny).log()
        return outputs[:, self._columns].log_softmax(1)

    def _converted(self, inputs: torch.Tensor) -> torch.Tensor:
        values = inputs
        if self._before and self._after and self._before != self._after:
            pixels = _recolored(_to_pixels(inputs, self._before), self._after.color)
            values = _to_inputs(pixels, self._after)
        if self._size is not None and values.shape[2:] != self._size:
            values = functional.interpolate(
                values, self._size, mode="bilinear", antialias=True, align_corners=False
            )
        return values


def _to_pixels(inputs: torch.Tensor, preprocessing: Preprocessing) -> torch.Tensor:
    """Return a network's inputs as RGB or gray values from 0 to 1."""
    low, high = preprocessing.limits
    if preprocessing.std:
        inputs = inputs * inputs.new_tensor(preprocessing.std).view(-1, 1, 1)
    if preprocessing.mean:
        inputs = inputs + inputs.new_tensor(preprocessing.mean).view(-1, 1, 1)
    pixels = (inputs - low) / (high - low)
    return pixels.flip(1) if preprocessing.color == "BGR" else pixels


def _recolored(pixels: torch.Tensor, color: str) -> torch.Tensor:
    """Return RGB or gray values with as many channels as a color order has."""
    if color == "gray" and pixels.shape[1] == 3:
        return (pixels * pixels.new_tensor(_GRAY).view(-1, 1, 1)).sum(1, keepdim=True)
    if color != "gray" and pixels.shape[1] == 1:
        return pixels.expand(-1, 3, -1, -1)
    return pixels


def _to_inputs(pixels: torch.Tensor, preprocessing: Preprocessing) -> torch.Tensor:
    """Return values from 0 to 1 as a network's inputs."""
    low, high = preprocessing.limits
    inputs = (pixels.flip(1) if preprocessing.color == "BGR" else pixels) * (high - low) + low
    if preprocessing.mean:
        inputs = inputs - inputs.new_tensor(preprocessing.mean).view(-1, 1, 1)
    if preprocessing.std:
        inputs = inputs / inputs.new_tensor(preprocessing.std).view(-1, 1, 1)
    return inputs


def open_teacher(
    options: Distillation, student: SavedModel, train: Dataset | ImageFiles
) -> Teacher | None:
    """Return the teacher that options name, or None; what is assumed is noted with the student.

    Args:
        options: Where it is.
        student: The network that learns; notes are added to it.
        train: The training images, whose classes the teacher must have.

    Raises:
        TrainingError: It is no classifier, or its classes are not those of the images.
        DataError: It lacks some of the classes.
        TorchliftError: It cannot be opened.
    """
    if options.teacher is None:
        return None
    model = load_network(options.teacher)
    if model.output_kind == "features":
        raise TrainingError(f"the teacher {options.teacher} gives features, not classes")
    if model.preprocessing is None and student.preprocessing is not None:
        student.notes.append(
            f"the teacher {options.teacher} does not say what its inputs are: it gets those of "
            "the network that is trained"
        )
    if train.names is not None and model.labels is not None:
        sides = ("the training data", "the teacher")
        return Teacher(model, student, match_names(train.names, model.labels, sides))
    classes, outputs = class_count(train), head_outputs(model.module)
    if outputs != classes:
        raise TrainingError(
            f"the teacher {options.teacher} has {outputs} outputs, the data {classes} classes, and "
            "names on one side only: convert it with labels=… to match them by name"
        )
    student.notes.append("the teacher's classes are matched by position: one side has no names")
    return Teacher(model, student, list(range(classes)))


def distillation_loss(logits: torch.Tensor, soft: torch.Tensor, temperature: float) -> torch.Tensor:
    """Return how far probabilities are from a teacher's, summed over a batch.

    The Kullback-Leibler divergence at a temperature, times its square, so that the gradients are
    of the size of those of labels at any temperature.

    Args:
        logits: (N, classes) of the student.
        soft: (N, classes) log-probabilities of the teacher.
        temperature: Both are divided by it.

    Example:
        >>> logits = torch.tensor([[1.0, 2.0]])
        >>> abs(float(distillation_loss(logits, logits.log_softmax(1), 1.0))) < 1e-6
        True
    """
    divergence = functional.kl_div(
        (logits / temperature).log_softmax(1),
        (soft / temperature).log_softmax(1),
        reduction="sum",
        log_target=True,
    )
    return divergence * temperature**2
