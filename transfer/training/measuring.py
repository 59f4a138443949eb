"""The loss and the accuracy of a network on batches, of all classes together and of each one."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from accelerate import Accelerator
from accelerate.utils import broadcast
from torch import nn
from torch.nn import functional

from ..data.batches import Batches
from ..evaluation.results import ClassResult
from .monitoring import Row

#: The sum of a batch's losses, the number of correct predictions, the number of images. The first
#: two stay on the device until an epoch ends: reading a value waits for everything before it.
Count = tuple[torch.Tensor, torch.Tensor, int]


def count(loss: torch.Tensor, logits: torch.Tensor, targets: torch.Tensor) -> Count:
    """Return the summed loss, the correct predictions and the size of a batch.

    Args:
        loss: The sum of its losses.
        logits: (N, classes).
        targets: (N,), or fractions of classes (N, classes).
    """
    classes = targets if targets.dim() == 1 else targets.argmax(1)
    return loss.detach(), (logits.argmax(1) == classes).sum(), len(logits)


def mean_of(counts: list[Count], accelerator: Accelerator) -> tuple[float, float]:
    """Return the mean loss and the accuracy over all batches of all processes."""
    losses, correct, sizes = zip(*counts, strict=True)
    sums = [torch.stack(losses).double().sum(), torch.stack(correct).sum().double()]
    total = torch.stack([*sums, torch.full_like(sums[0], sum(sizes))])
    loss, hits, images = accelerator.reduce(total, "sum").tolist()
    return loss / images, hits / images


def measure(
    network: nn.Module,
    batches: Batches,
    accelerator: Accelerator,
    on_batch: Callable[[int], None] = lambda images: None,
) -> tuple[Row, torch.Tensor]:
    """Return the results of a network on the validation split.

    Args:
        network: Returns logits; it is left in evaluation mode.
        batches: This process's labeled images.
        accelerator: The processes.
        on_batch: Called after each batch with the number of its images.

    Returns:
        `val_loss`, the mean in nats, `val_accuracy`, and the means over the classes that have
        images, `val_precision`, `val_recall`, `val_f1`; and the counts of each class, (3, classes)
        int64, as `class_results` takes them.
    """
    network.eval()
    if accelerator.num_processes > 1:
        # Each process has its own running statistics; those of the first one are saved.
        broadcast(list(network.buffers()))
    counts = []
    of_classes: torch.Tensor | int = 0
    with torch.inference_mode(), accelerator.autocast():
        for inputs, targets in batches.epoch(0):
            logits = network(inputs).float()
            loss = functional.cross_entropy(logits, targets, reduction="sum")
            counts.append(count(loss, logits, targets))
            of_classes = of_classes + count_classes(logits, targets)
            on_batch(len(targets))
    loss_, accuracy = mean_of(counts, accelerator)
    total = accelerator.reduce(torch.as_tensor(of_classes), "sum").cpu()
    results = [each for each in class_results(total) if each.count]
    row: Row = {"val_loss": loss_, "val_accuracy": accuracy}
    for name, values in {
        "val_precision": [each.precision for each in results],
        "val_recall": [each.accuracy for each in results],
        "val_f1": [each.f1 for each in results],
    }.items():
        row[name] = sum(values) / len(values)
    return row, total


def count_classes(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Return what `class_results` takes, (3, classes) int64, of one batch.

    Args:
        logits: (N, classes).
        targets: (N,) int64.

    Example:
        >>> logits = torch.tensor([[2.0, 1.0], [0.0, 3.0], [0.0, 1.0]])
        >>> count_classes(logits, torch.tensor([0, 0, 1])).tolist()
        [[2, 1], [1, 1], [1, 2]]
    """
    predicted, classes = logits.argmax(1), logits.shape[1]
    hits = targets[predicted == targets]
    groups = (targets, hits, predicted)
    return torch.stack([torch.bincount(group, minlength=classes) for group in groups])


def class_results(counts: torch.Tensor, labels: Sequence[str] = ()) -> list[ClassResult]:
    """Return the results of each class.

    Args:
        counts: (3, classes): the images of each class, those of them that were predicted
            correctly, and the images that were predicted to be of it.
        labels: The names of the classes; those without one are called by their numbers from 1.

    Example:
        >>> class_results(torch.tensor([[2, 1], [1, 1], [1, 2]]))[0].f1
        0.6666666666666666
    """
    names = [*labels, *(str(index + 1) for index in range(len(labels), counts.shape[1]))]
    return [
        ClassResult(
            label=label,
            count=images,
            correct=correct,
            predicted=predicted,
            accuracy=correct / max(images, 1),
            precision=correct / max(predicted, 1),
            f1=2 * correct / max(images + predicted, 1),
        )
        for label, images, correct, predicted in zip(names, *counts.tolist(), strict=True)
    ]
