"""A torchvision network as one layer, so that a saved model can name it."""

from __future__ import annotations

import torch
from torch import nn

from ..modules.registry import layer
from .errors import SavedModelError


def classifier_names() -> list[str]:
    """Return the names of torchvision's classifiers.

    Example:
        >>> "resnet18" in classifier_names(), "fasterrcnn_resnet50_fpn" in classifier_names()
        (True, False)
    """
    from torchvision import models

    return list(models.list_models(module=models))


@layer
class TorchvisionNetwork(nn.Module):
    """A classifier that torchvision builds.

    Nothing is downloaded: the networks of torchvision's other packages (detection, segmentation)
    would load weights of a part of them.

    Args:
        name: Its name in torchvision, such as `resnet18`.
        num_classes: Number of outputs.

    Raises:
        SavedModelError: If torchvision has no classifier of this name.
    """

    def __init__(self, name: str, num_classes: int = 1000) -> None:
        # Importing torchvision takes a second, which opening other models should not cost.
        from torchvision.models import get_model

        if name not in classifier_names():
            raise SavedModelError(f"torchvision has no classifier {name!r}")
        super().__init__()
        self.name = name
        self.network = get_model(name, weights=None, num_classes=num_classes)

    @property
    def num_classes(self) -> int:
        """Number of outputs, also after the last linear layer was replaced."""
        linear = [module for module in self.network.modules() if isinstance(module, nn.Linear)]
        return int(linear[-1].out_features)

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """Map (N, 3, H, W) to logits (N, num_classes)."""
        output = self.network(input)
        # In training mode GoogLeNet and Inception return auxiliary logits too.
        logits: torch.Tensor = getattr(output, "logits", output)
        return logits
