"""Full-size files to measure with, in the layout in which Torch7 saved them.

AlexNet-OWT-BN is the network of the transfer-learning lab (`fixtures/models/alexnetowtbn_small.t7`
is the same at an eighth of its width): weights and gradients, buffers cleared, 466 MiB.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from torchlift.converters import t7
from torchlift.converters.modules.to_torch7 import to_torch7
from torchlift.converters.t7 import LuaObject
from torchlift.transfer.networks import alexnet_owt_bn

ALEXNET_PARAMETERS = 61_119_528


def alexnet(seed: int = 0) -> LuaObject:
    """AlexNet-OWT-BN for 224×224 images and 1,000 classes, as `t7.load` would give it.

    Args:
        seed: for the weights, which keep the activations' scale, and for statistics that a
            training might leave.
    """
    torch.manual_seed(seed)
    network = alexnet_owt_bn().eval()
    for layer in network.modules():
        if isinstance(layer, (nn.Conv2d, nn.Linear)):
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
        elif isinstance(layer, _BatchNorm):
            nn.init.normal_(layer.weight, 1, 0.1)
            nn.init.normal_(layer.running_mean, 0, 0.1)
            nn.init.uniform_(layer.running_var, 0.5, 1.5)
    network[1].append(nn.LogSoftmax(1))
    return to_torch7(network, (3, 224, 224))


def save_alexnet(path: Path) -> None:
    """Write the network to a `.t7` of 466 MiB."""
    t7.save(alexnet(), path)
