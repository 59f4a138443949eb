"""A head that begins as a linear probe: fine-tuning then starts from what the features can do.

Linear probing, then fine-tuning (Kumar et al., 2022): a head that fits the features from the start
does not bend them while it is being learnt.
"""

from __future__ import annotations

import numpy as np
import torch

from ...converters.saved import SavedModel
from ..data import Dataset, ImageFiles, class_count
from ..data.batches import Batches
from ..data.selection import labelled
from ..errors import TrainingError
from ..features.network import FeatureNetwork
from ..heads import replace_head
from ..layers import PENULTIMATE, find_tap
from ..probe_methods import Examples, Regression, Scale

_BATCH = 256

#: C of the regression. It matters little: all of the head goes on learning.
_STRENGTH = 1.0


def probe_head(model: SavedModel, train: Dataset | ImageFiles, device: str = "cpu") -> str:
    """Set a classifier's last linear layer to a logistic regression on what it is given.

    Args:
        model: gives logits for the classes of the data; its head is replaced.
        train: the training part.
        device: where the features are computed.

    Returns:
        what was done, for people to read.

    Raises:
        TrainingError: when the data has no image of a class.
    """
    if len(np.unique(labelled(train))) != class_count(train):
        raise TrainingError("a probe needs training images of every class; take --head zeros")
    features = _features(model, train, device)
    scale = Scale.of(features)
    regression = Regression()
    regression.fit(Examples(scale(features), labelled(train)), _STRENGTH)
    weight, bias = regression.linear(scale)
    head = torch.from_numpy(weight), torch.from_numpy(bias)
    replace_head(model.module, len(weight), *head, output_kind=model.output_kind)
    return f"the head began as a logistic regression on {weight.shape[1]} features"


def _features(model: SavedModel, train: Dataset | ImageFiles, device: str) -> np.ndarray:
    """What the head is given for each training image: (N, D) float32."""
    tap = find_tap(model.module, PENULTIMATE)
    network = FeatureNetwork(model.module.to(device).eval(), [tap])
    batches = Batches(train, model.preprocessing, _BATCH, device=device)
    with torch.inference_mode():
        rows = [network(inputs)[0].cpu() for inputs, _ in batches]
    model.module.cpu()
    return torch.cat(rows).numpy()
