"""A torchvision network as one layer, so that a saved model can name it."""

from __future__ import annotations

import types
from typing import Any

import torch
from torch import nn

from ..modules.registry import layer
from .errors import SavedModelError
from .named_network import NamedNetwork


def classifier_names() -> list[str]:
    """Return the names of torchvision's classifiers.

    Example:
        >>> "resnet18" in classifier_names(), "fasterrcnn_resnet50_fpn" in classifier_names()
        (True, False)
    """
    from torchvision import models

    return list(models.list_models(module=models))


#: Networks with auxiliary classifiers, whose outputs only the paper's own training used, and whose
#: ImageNet weights expect inputs in -1…1, to which `transform_input` maps normalized ones.
_INCEPTION = ("googlenet", "inception_v3")


@layer
class TorchvisionNetwork(NamedNetwork):
    """A classifier that torchvision builds, without auxiliary classifiers.

    Nothing is downloaded: the networks of torchvision's other packages (detection, segmentation)
    would load weights of a part of them.

    Args:
        name: Its name in torchvision, such as `resnet18`.
        num_classes: Number of outputs.
        transform_input: Whether GoogLeNet and Inception map inputs that are normalized with
            ImageNet's mean and deviation to -1…1, which torchvision's own weights for them expect.

    Raises:
        SavedModelError: If torchvision has no classifier of this name.

    Example:
        >>> with torch.device("meta"):  # Weights of no values, in no time.
        ...     network = TorchvisionNetwork("resnet18", num_classes=3)
        >>> network.num_classes, network.classifier is network.network
        (3, True)
    """

    def __init__(self, name: str, num_classes: int = 1000, transform_input: bool = False) -> None:
        if name not in classifier_names():
            raise SavedModelError(f"torchvision has no classifier {name!r}")
        super().__init__()
        self.name = name
        self.transform_input = transform_input
        self.network = _build(name, num_classes, transform_input)


def _build(name: str, num_classes: int, transform_input: bool) -> nn.Module:
    """Build a network of torchvision on the default device, which may be `meta`."""
    # Importing torchvision takes a second, which opening other models should not cost.
    from torchvision.models import MNASNet, SqueezeNet, get_model

    settings: dict[str, Any] = {"weights": None, "num_classes": num_classes}
    if name in _INCEPTION:
        settings |= {"aux_logits": False, "init_weights": True, "transform_input": transform_input}
    device = torch.get_default_device()
    try:
        network: nn.Module = get_model(name, **settings)
    except NotImplementedError:
        # RegNet computes its widths with tensors, which have no values on the meta device.
        with torch.device("cpu"):
            network = get_model(name, **settings)
        network = network.to(device)
    if isinstance(network, MNASNet):
        # Its own method refuses tensors without the version that torch.save writes beside them.
        method = types.MethodType(nn.Module._load_from_state_dict, network)
        network._load_from_state_dict = method
    if isinstance(network, SqueezeNet):
        # A ReLU follows the head: a class that is below zero for all images would never learn.
        head = network.classifier[1]
        assert isinstance(head, nn.Conv2d)
        assert head.bias is not None
        nn.init.ones_(head.bias)
    return network
