"""A layer of saved models: a network that ends at one of its own layers."""

from __future__ import annotations

import torch
from torch import nn

from ..modules.registry import layer


@layer
class UpToLayer(nn.Module):
    """A network whose output is that of one of its layers, wherever that layer is.

    The network's own code runs until the layer is reached, and not on. A plain
    `nn.Sequential` is shortened instead: this is for code that does more than call its children
    in order.

    Args:
        network: The network; layers that are left out are removed from it.
        layer: The PyTorch name of the layer.
        before: Whether the input of the layer is the output, and not what the layer makes of it.
        unused: Layers behind it that are left out; the network must run without them.

    Example:
        >>> network = nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2))
        >>> UpToLayer(network, "1", unused=["2"])(torch.zeros(5, 4)).shape
        torch.Size([5, 3])
    """

    def __init__(
        self,
        network: nn.Module,
        layer: str,
        before: bool = False,
        unused: list[str] | None = None,
    ) -> None:
        super().__init__()
        for name in unused or []:
            network.set_submodule(name, nn.Identity())
        self.network = network
        self.layer = layer
        self.before = before
        self.unused = unused

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """Map (N, …), an input of the network, to the features (N, …) of the layer."""
        kept: list[torch.Tensor] = []
        # An exporter loses its way in a pass that ends early, and leaves out by itself what no
        # output depends on.
        to_the_end = torch.compiler.is_exporting()

        def keep(features: torch.Tensor) -> None:
            if not to_the_end:
                raise _LayerReached(features)
            # A later layer may change it in place.
            kept.append(features.clone())

        last = self.network.get_submodule(self.layer)
        if self.before:
            hook = last.register_forward_pre_hook(lambda _layer, inputs: keep(inputs[0]))
        else:
            hook = last.register_forward_hook(lambda _layer, _inputs, output: keep(output))
        try:
            self.network(input)
        except _LayerReached as reached:
            return reached.features
        finally:
            hook.remove()
        return kept[0]

    def extra_repr(self) -> str:
        """Return the arguments shown by repr()."""
        return f"layer={self.layer}, before={self.before}"


class _LayerReached(Exception):  # noqa: N818  # not an error: it ends a pass that has all it needs
    """The layer was reached.

    Args:
        features: What is wanted of it.
    """

    def __init__(self, features: torch.Tensor) -> None:
        super().__init__()
        self.features = features
