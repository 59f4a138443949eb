"""A torchvision network as one layer, so that a saved model can name it."""

from __future__ import annotations

import torch
from torch import nn

from ..modules.registry import layer


@layer
class TorchvisionNetwork(nn.Module):
    """A classifier that torchvision builds.

    Args:
        name: Its name in torchvision, such as `resnet18`.
        num_classes: Number of outputs.
    """

    def __init__(self, name: str, num_classes: int = 1000) -> None:
        # Importing torchvision takes a second, which opening other models should not cost.
        from torchvision.models import get_model

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
