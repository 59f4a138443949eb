"""`torchvision:NAME`: torchvision's classifiers, and the weights that it publishes for them."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from ...converters.images.preprocessing import Preprocessing
from ...converters.saved import SavedModel, TorchvisionNetwork
from ...converters.saved.torchvision_network import classifier_names
from ..errors import NetworkError
from ..find_layers import nearest
from .checkpoint import State
from .published import weights_at

#: DenseNet's names in the weights that torchvision publishes, which are of an older PyTorch.
_OLD_NAME = re.compile(r"(.*denselayer\d+\.(?:norm|relu|conv))\.([12]\..+)")


def torchvision_classifier(
    name: str, classes: int = 1000, weights: str | None = None
) -> SavedModel:
    """Return a torchvision classifier with random weights, and the preprocessing of ImageNet's.

    Args:
        name: Its name in torchvision.
        classes: Number of outputs.
        weights: A member of its enumeration of weights, whose preprocessing and classes it has; or
            a file, with torchvision's first ones.

    Raises:
        NetworkError: There is no such classifier.
    """
    members = _published(name)
    module = TorchvisionNetwork(name, classes, transform_input=weights is not None).eval()
    known = members.get(weights or "")
    transforms = next(iter(members.values())).transforms() if known is None else known.transforms()
    crop, shorter = transforms.crop_size[0], transforms.resize_size[0]
    preprocessing = Preprocessing(
        size=shorter,
        resize=f"pil-{transforms.interpolation.value}",
        crop=(crop, crop),
        mean=tuple(transforms.mean),
        std=tuple(transforms.std),
    )
    labels = None if known is None else list(known.meta["categories"])
    return SavedModel(module, "logits", (3, crop, crop), labels=labels, preprocessing=preprocessing)


def torchvision_weights(name: str, weights: str, download: bool) -> Path:
    """Return the file of published weights, in the cache of `torch.hub`.

    Args:
        name: The classifier.
        weights: A member of its enumeration of weights, such as `IMAGENET1K_V1` or `DEFAULT`.
        download: Whether a file that is not there is fetched.

    Raises:
        NetworkError: There are no such weights, or they are not in the cache.
    """
    members = _published(name)
    if weights not in members:
        raise NetworkError(
            f"weights={weights!r} is no file, and torchvision:{name} has {', '.join(members)}"
        )
    return weights_at(members[weights].url, download)


def with_current_names(state: State) -> State:
    """Return a state dict with DenseNet's names of today.

    Example:
        >>> import torch
        >>> list(with_current_names({"features.denselayer1.norm.1.bias": torch.zeros(1)}))
        ['features.denselayer1.norm1.bias']
    """
    return {_OLD_NAME.sub(r"\1\2", name): tensor for name, tensor in state.items()}


def _published(name: str) -> dict[str, Any]:
    """Return the members of a classifier's enumeration of weights by name, with `DEFAULT`.

    Raises:
        NetworkError: There is no such classifier.
    """
    from torchvision.models import get_model_weights

    if name not in classifier_names():
        similar = ", ".join(nearest(name, classifier_names())) or "see torchvision.models"
        raise NetworkError(f"torchvision has no classifier {name!r}; similar names: {similar}")
    return dict(get_model_weights(name).__members__)
