"""Giving a model probabilities that are as high as it is often right."""

from __future__ import annotations

import numpy as np
from torch import nn

from ..converters.inference import Predictor
from ..converters.inference.prepare import prepare_all
from ..converters.inference.scores import log_probabilities
from ..converters.modules.layers.arithmetic import MulConstant
from ..converters.saved import SavedModel
from ..converters.saved.shapes import is_sigmoid_last
from .data import Dataset, ImageFiles
from .data.class_matching import MatchBy, match_classes
from .data.selection import labelled
from .errors import DataError, HeadError
from .evaluation.temperature import fit_temperature
from .heads import strip_softmax

#: What follows the logits of a model of each kind.
_SOFTMAX = {"logits": None, "log_probabilities": nn.LogSoftmax, "probabilities": nn.Softmax}

#: How the note of a calibrated model begins.
CALIBRATED = "calibrated: "


def find_temperature(
    predictor: Predictor,
    data: Dataset | ImageFiles,
    match_by: MatchBy = "name",
    batch_size: int = 64,
) -> float:
    """Return the temperature that suits a classifier's confidence on labeled images.

    Args:
        predictor: The classifier.
        data: Images that it was not trained on; their classes are matched with the classifier's.
        match_by: How they are matched (see `match_classes`).
        batch_size: The number of images that are run together.

    Raises:
        DataError: If there are no labels, no temperature is the best, or the classes do not fit.
        InferenceError: If the model is not a classifier, or the images do not fit it.
    """
    if data.classes is None or not len(data):
        raise DataError("no labels: a model is calibrated on labeled images")
    matched, _ = match_classes(data, predictor.labels, match_by)
    scores = [
        log_probabilities(
            predictor(prepare_all(images, predictor.preprocessing)), predictor.output_kind
        )
        for images, _ in matched.batches(batch_size)
    ]
    return fit_temperature(np.concatenate(scores), labelled(matched))


def with_temperature(model: SavedModel, temperature: float) -> SavedModel:
    """Return a classifier whose logits are divided by a temperature.

    Its outputs mean what they meant before: a softmax at the end stays, behind the division.

    Args:
        model: The classifier; its network is changed.
        temperature: What `fit_temperature` found; above 1 it lowers every confidence.

    Raises:
        HeadError: If the model gives features, or independent probabilities of its classes.

    Example:
        >>> network = nn.Sequential(nn.Linear(2, 2), nn.LogSoftmax(1))
        >>> model = SavedModel(network, "log_probabilities")
        >>> calibrated = with_temperature(model, 2.0)
        >>> [type(layer).__name__ for layer in calibrated.module]
        ['Linear', 'Identity', 'MulConstant', 'LogSoftmax']
    """
    kind = model.output_kind
    if kind not in _SOFTMAX or is_sigmoid_last(model.module):
        meaning = "features" if kind not in _SOFTMAX else "independent probabilities of its classes"
        raise HeadError(f"the model gives {meaning}; a temperature is for a choice among classes")
    strip_softmax(model.module, kind)
    network = model.module
    layers = [*network] if type(network) is nn.Sequential else [network]
    layers.append(MulConstant(1 / temperature))
    if softmax := _SOFTMAX[kind]:
        layers.append(softmax(1))
    model.module = nn.Sequential(*layers).eval()
    model.notes.append(f"{CALIBRATED}the logits are divided by the temperature {temperature:.4g}")
    return model
