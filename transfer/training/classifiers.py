"""Classifiers to train on a dataset: new networks, and trained ones with a new head."""

from __future__ import annotations

from typing import Any, Literal, get_args

import numpy as np
import torch

from ...converters.images.errors import PreprocessingError
from ...converters.images.normalization import NOTHING_SAID, Normalization
from ...converters.images.preprocessing import COLORS, Preprocessing
from ...converters.modules.finite import require_finite_parameters
from ...converters.saved import SavedModel, infer_input_shape
from ..calibration import CALIBRATED
from ..data import BatchPlan, Dataset, ImageFiles, channel_statistics, class_count
from ..data.batches import Batches
from ..data.selection import conversion_note, labelled
from ..errors import HeadError, TrainingError
from ..features.network import FeatureNetwork
from ..find_layers import PENULTIMATE, find_tap
from ..heads import head_outputs, replace_head, strip_softmax
from ..network_by_name import new_network
from ..probe_methods import Examples, Regression, Scale
from .processes import seed_everything

#: How the head of a trained network begins: with zeros, as a linear probe of the features before
#: it, or as it is.
HeadStart = Literal["zeros", "probe", "keep"]

#: Images of a batch whose features are computed for a probe.
_PROBE_BATCH = 256
#: C of the probe. It matters little, since the whole head is trained afterwards.
_PROBE_C = 1.0


def new_classifier(
    source: str, train: Dataset | ImageFiles, seed: int = 0, **preprocessing: Any
) -> SavedModel:
    """Return an untrained network for the classes of a dataset.

    Args:
        source: As for `new_network`.
        train: The training images.
        seed: Seed of the weights.
        preprocessing: `mean`, `std`, `color` and `value_range`, as for `open_model`; without them
            mean and std are measured on the training images.

    Raises:
        NetworkError: If there is no such network.
        PreprocessingError: If the preprocessing does not fit the network.
        DataError: If the images have no labels.
    """
    seed_everything(seed)
    network = new_network(source, *network_arguments(train))
    model = SavedModel(network, "logits", infer_input_shape(network.eval()))
    return _with_labels_and_preprocessing(model, train, Normalization.of(**preprocessing))


def network_arguments(train: Dataset | ImageFiles) -> tuple[int, int]:
    """Return what a function that makes a network for a dataset takes: channels and classes."""
    if isinstance(train, Dataset):
        channels: int = train.images.shape[1]
    else:
        channels = 1 if train.color == "gray" else 3
    return channels, class_count(train)


def adapted_classifier(
    model: SavedModel, train: Dataset | ImageFiles, head: HeadStart, device: str = "cpu"
) -> SavedModel:
    """Return a trained classifier with a head for the classes of a dataset.

    The classifier keeps its own preprocessing.

    Args:
        model: Its network is changed in place.
        train: The training images; for a head that is kept, with the classes of the model (see
            `match_classes`).
        head: How the last linear layer begins.
        device: Where the features for a probe are computed.

    Raises:
        NotFiniteError: If a parameter of the network is not a finite number.
        HeadError: If the network does not end in a linear layer.
        TrainingError: If the kept head has other classes, or there is no such beginning.
        DataError: If the images have no labels.
    """
    if head not in get_args(HeadStart):
        raise TrainingError(f"head={head!r}: expected 'zeros', 'probe' or 'keep'")
    require_finite_parameters(model.module)
    if head == "keep":
        _check_classes(model, train)
        strip_softmax(model.module, model.output_kind)
        model.output_kind = "logits"
        return _with_labels_and_preprocessing(model, train)
    replace_head(model.module, class_count(train), output_kind=model.output_kind)
    model.output_kind, model.labels = "logits", None
    model.notes = [note for note in model.notes if not note.startswith(CALIBRATED)]
    model = _with_labels_and_preprocessing(model, train)
    if head == "probe":
        features = _probe_head(model, train, device)
        model.notes.append(f"the head began as a logistic regression on {features} features")
    return model


def _check_classes(model: SavedModel, train: Dataset | ImageFiles) -> None:
    """Check that the outputs of a kept head are the classes of a dataset.

    Raises:
        TrainingError: They differ in number or in names.
    """
    outputs = head_outputs(model.module) if model.labels is None else len(model.labels)
    if outputs != class_count(train):
        raise TrainingError(
            f"the kept head has {outputs} classes, but the data has {class_count(train)}"
        )
    if model.labels is not None and train.names is not None and [*train.names] != model.labels:
        raise TrainingError(
            "the classes of the data are not those of the kept head, in its order: match_classes "
            "matches them"
        )


def _probe_head(model: SavedModel, train: Dataset | ImageFiles, device: str) -> int:
    """Replace the head by a logistic regression on its inputs, and return their number.

    Linear probing, then fine-tuning (Kumar et al., 2022): a head that fits the features from the
    start does not distort them while it is trained.

    Raises:
        TrainingError: If a class has no training image.
        ProbeError: If there is only one class, or a feature is not a finite number.
    """
    if len(np.unique(labelled(train))) != class_count(train):
        raise TrainingError("a probe needs training images of every class; use head='zeros'")
    features = _head_inputs(model, train, device)
    scale = Scale.of(features)
    regression = Regression()
    regression.fit(Examples(scale(features), labelled(train)), _PROBE_C)
    layer = regression.linear.unscaled(scale)
    weight, bias = torch.from_numpy(layer.weight), torch.from_numpy(layer.bias)
    replace_head(model.module, len(weight), weight, bias, output_kind=model.output_kind)
    return int(features.shape[1])


def _head_inputs(model: SavedModel, train: Dataset | ImageFiles, device: str) -> np.ndarray:
    """Return what the head receives for each training image, (N, D) float32.

    Raises:
        HeadError: If the head is a convolution over more than one position.
    """
    tap = find_tap(model.module, PENULTIMATE)
    network = FeatureNetwork(model.module.to(device).eval(), [tap])
    plan = BatchPlan(len(train), _PROBE_BATCH)
    batches = Batches(train, model.preprocessing, plan, device=device)
    with torch.inference_mode():
        rows = torch.cat([network(inputs)[0].cpu() for inputs, _ in batches])
    model.module.cpu()
    if rows[0].numel() != rows.shape[1]:
        raise HeadError(
            "a head that is a convolution over several positions cannot begin as a probe: use "
            "head='zeros'"
        )
    return rows.flatten(1).numpy()


def _with_labels_and_preprocessing(
    model: SavedModel, train: Dataset | ImageFiles, said: Normalization = NOTHING_SAID
) -> SavedModel:
    """Give a model the labels of a dataset and, if it has none, a preprocessing measured on it.

    Args:
        model: The model, which is changed.
        train: The training images.
        said: What is not measured.
    """
    if train.names is not None:
        model.labels = list(train.names)
    if isinstance(train, Dataset):
        if model.input_shape is None:
            model.input_shape = train.images.shape[1:]
        if train.images.dtype != np.uint8:
            model.preprocessing = None
            return model
    if model.preprocessing is not None:
        model.notes += conversion_note(train, model.preprocessing.channels)
        return model
    if model.input_shape is None:
        raise TrainingError(
            "the images differ in size and the network accepts any size; give image_size=…"
        )
    channels, height, width = model.input_shape
    model.notes += conversion_note(train, channels)
    if said.mean is not None or said.std is not None or said.value_range is not None:
        model.preprocessing, note = said.preprocessing(model.input_shape)
        model.notes.append(note)
        return model
    color = said.color or ("gray" if channels == 1 else "RGB")
    if COLORS[color] != channels:
        raise PreprocessingError(
            f"color={color} has {COLORS[color]} channels, but the network takes {channels}"
        )
    mean, std = channel_statistics(train)
    if len(mean) != channels:
        # Gray images for a network of color images, or the reverse: one value for all channels.
        mean, std = (float(np.mean(mean)),), (float(np.mean(std)),)
    if color == "BGR":
        mean, std = mean[::-1], std[::-1]
    model.preprocessing = Preprocessing(
        color=color,
        size=(height, width),
        mean=mean,
        # A constant channel has a standard deviation of 0; dividing by 1 leaves it at 0.
        std=tuple(value or 1.0 for value in std),
    )
    return model
