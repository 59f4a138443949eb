"""Models and images as Python code has them: by name, or as objects.

Importing this file does not import torch: an `.onnx` file is evaluated without it.
"""

from __future__ import annotations

import copy
import os
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ..converters.inference.predictors import Predictor, TorchPredictor, open_predictor
from .data import Dataset, ImageFiles, open_data
from .errors import NetworkError

if TYPE_CHECKING:
    from torch import nn

    from ..converters.saved import SavedModel

    #: A model: what `load_network` opens by name, or a network.
    Model = str | os.PathLike[str] | SavedModel | nn.Module

    #: Images: what `open_data` opens by name, a dataset, or an array (N, C, H, W) without labels.
    Images = str | os.PathLike[str] | Dataset | ImageFiles | np.ndarray


def opened_model(model: Model) -> SavedModel:
    """Return a model that may be changed: a network that was given as an object is copied.

    Args:
        model: The name of a model (see `load_network`), or a network.

    Raises:
        TorchliftError: If there is no such model, or it is an exported graph.

    Example:
        >>> from torch import nn
        >>> opened_model(nn.Sequential(nn.Linear(4, 2), nn.LogSoftmax(1))).output_kind
        'log_probabilities'
    """
    from ..converters.saved import SavedModel, infer_output_kind
    from .network_by_name import load_network

    if isinstance(model, (str, os.PathLike)):
        if Path(model).suffix.lower() in (".onnx", ".pt2"):
            raise NetworkError(
                f"{model} is an exported graph: name the model that it was made from"
            )
        return load_network(os.fspath(model))
    if not isinstance(model, SavedModel):
        model = SavedModel(model, infer_output_kind(model))
    model = copy.deepcopy(model)
    model.module.eval()
    return model


def opened_predictor(model: Model | Predictor, provider: str = "auto") -> Predictor:
    """Return a model of any kind, an `.onnx` file too, ready to run.

    Args:
        model: The name of a model, or a network; a predictor is returned as it is.
        provider: What the others run on (see `open_predictor`).

    Raises:
        TorchliftError: If it cannot be opened.
    """
    if isinstance(model, Predictor):
        return model
    if isinstance(model, (str, os.PathLike)) and Path(model).suffix.lower() == ".onnx":
        return open_predictor(model, provider)
    opened = opened_model(model)
    predictor = TorchPredictor(opened, provider)
    predictor.note = "; ".join(opened.notes)
    return predictor


def opened_data(data: Images) -> Dataset | ImageFiles:
    """Return images.

    Args:
        data: The name of a dataset (see `open_data`), a dataset, or an array (N, C, H, W): uint8
            pixels, or floats that are already a network's input.

    Raises:
        TorchliftError: If there is no such dataset, or it cannot be read.

    Example:
        >>> len(opened_data(np.zeros((3, 1, 8, 8), np.uint8)))
        3
    """
    if isinstance(data, np.ndarray):
        return Dataset(data)
    return data if isinstance(data, (Dataset, ImageFiles)) else open_data(data)
