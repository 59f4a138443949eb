"""Classifiers that are ready to be trained on a dataset, new ones and trained ones."""

from __future__ import annotations

from typing import Literal

import numpy as np

from ...converters.images.preprocessing import Preprocessing
from ...converters.saved import SavedModel, infer_input_shape
from ..data import Dataset, ImageFiles, channel_statistics, class_count
from ..errors import TrainingError
from ..heads import replace_head, strip_softmax
from ..load_network import new_network
from .probe_start import probe_head
from .seeding import seed_everything

#: How the head of a trained network begins: with zeros, with what a linear probe finds on the
#: features before it, or as it is.
HeadStart = Literal["zeros", "probe", "keep"]


def new_classifier(source: str, train: Dataset | ImageFiles, seed: int = 0) -> SavedModel:
    """An untrained network for the classes of a dataset.

    Args:
        source: what `new_network` takes.
        train: the training part.
        seed: of the weights.

    Raises:
        NetworkError: when there is no such network.
        DataError: when the images have no labels.
    """
    if isinstance(train, Dataset):
        channels = train.images.shape[1]
    else:
        channels = 1 if train.color == "gray" else 3
    seed_everything(seed)
    network = new_network(source, channels, class_count(train))
    model = SavedModel(network, "logits", infer_input_shape(network.eval()))
    return _fitted(model, train)


def adapted_classifier(
    model: SavedModel, train: Dataset | ImageFiles, head: HeadStart, device: str = "cpu"
) -> SavedModel:
    """A trained classifier for the classes of a dataset; its own preprocessing stays.

    Args:
        model: its network is changed.
        train: the training part.
        head: how the last linear layer begins.
        device: where features are computed for a probe.

    Raises:
        HeadError: when the network does not end in a linear layer.
        TrainingError: when a head that is kept has another number of classes.
        DataError: when the images have no labels.
    """
    classes = class_count(train)
    if head == "keep":
        strip_softmax(model.module, model.output_kind)
        model.output_kind = "logits"
        outputs = None if model.labels is None else len(model.labels)
        if outputs not in (None, classes):
            raise TrainingError(
                f"the head that is kept tells {outputs} classes apart, the data has {classes}"
            )
        return _fitted(model, train)
    replace_head(model.module, classes, output_kind=model.output_kind)
    model.output_kind, model.labels = "logits", None
    model = _fitted(model, train)
    if head == "probe":
        model.notes.append(probe_head(model, train, device))
    return model


def _fitted(model: SavedModel, train: Dataset | ImageFiles) -> SavedModel:
    """Give a model the labels of a dataset and, if it has none, a preprocessing measured on it."""
    if train.names is not None:
        model.labels = list(train.names)
    if isinstance(train, Dataset):
        if model.input_shape is None:
            model.input_shape = train.images.shape[1:]
        if train.images.dtype != np.uint8:
            model.preprocessing = None
            return model
    if model.preprocessing is not None:
        return model
    if model.input_shape is None:
        raise TrainingError(
            "images of different sizes for a network that takes any: give --image-size"
        )
    channels, height, width = model.input_shape
    mean, std = channel_statistics(train)
    if len(mean) != channels:
        # Grey images for a network of colours, or the other way round: one number for all.
        mean, std = (float(np.mean(mean)),), (float(np.mean(std)),)
    model.preprocessing = Preprocessing(
        color="gray" if channels == 1 else "RGB",
        size=(height, width),
        mean=mean,
        # A channel without any contrast has a deviation of 0, by which nothing can be divided.
        std=tuple(value or 1.0 for value in std),
    )
    return model
