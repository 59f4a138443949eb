"""A small network as a saved model, for the tests of saved models."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from torchlift.converters.saved import SavedModel


def tiny(**metadata: Any) -> SavedModel:
    torch.manual_seed(1)
    network = nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU(), nn.Flatten(), nn.Linear(72, 3))
    return SavedModel(network.eval(), "logits", (1, 8, 8), **metadata)
