"""Loss and accuracy of a network, counted over all processes."""

from __future__ import annotations

import torch
from accelerate import Accelerator
from accelerate.utils import broadcast
from torch import nn
from torch.nn import functional

from ..data.batches import Batches

#: The sum of a batch's losses, how many are right, how many there are. On the device until an
#: epoch ends: reading a number waits for everything before it.
Count = tuple[torch.Tensor, torch.Tensor, int]


def measure(network: nn.Module, batches: Batches, accelerator: Accelerator) -> tuple[float, float]:
    """Mean loss in nats, and batch_slice of images whose likeliest class is right.

    Args:
        network: gives logits; it is left in evaluation mode.
        batches: this process's fraction of labelled images.
        accelerator: the processes.
    """
    network.eval()
    if accelerator.num_processes > 1:
        # Each process has seen other images; the first one's running statistics are saved.
        broadcast(list(network.buffers()))
    counts = []
    with torch.inference_mode(), accelerator.autocast():
        for inputs, targets in batches.epoch(0):
            logits = network(inputs).float()
            loss = functional.cross_entropy(logits, targets, reduction="sum")
            counts.append(count(loss, logits, targets))
    return mean_of(counts, accelerator)


def count(loss: torch.Tensor, logits: torch.Tensor, targets: torch.Tensor) -> Count:
    """What is counted of a batch.

    Args:
        loss: the sum of its losses.
        logits: (N, classes).
        targets: (N,), or slices of classes (N, classes).
    """
    classes = targets if targets.dim() == 1 else targets.argmax(1)
    return loss.detach(), (logits.argmax(1) == classes).sum(), len(logits)


def mean_of(counts: list[Count], accelerator: Accelerator) -> tuple[float, float]:
    """Mean loss and accuracy of all batches of all processes."""
    losses, right, sizes = zip(*counts, strict=True)
    sums = [torch.stack(losses).double().sum(), torch.stack(right).sum().double()]
    total = torch.stack([*sums, torch.full_like(sums[0], sum(sizes))])
    loss, correct, images = accelerator.reduce(total, "sum").tolist()
    return loss / images, correct / images
