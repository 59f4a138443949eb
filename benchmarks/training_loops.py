"""The training loops of others: a default DataLoader's, and timm's, on the same images.

timm is not among torchlift's packages: without it (`pip install 'torchlift[bench]'`) its rows are
missing.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from measure import in_turn, installed, machine, table
from PIL import Image
from torch import nn
from torch.nn import functional
from torch.utils.data import DataLoader
from torchvision.datasets import CIFAR10, ImageFolder
from torchvision.transforms import (
    CenterCrop,
    Compose,
    Normalize,
    RandomHorizontalFlip,
    RandomResizedCrop,
    Resize,
    ToTensor,
)

from torchlift.converters.images.preprocessing import Preprocessing
from torchlift.converters.saved import SavedModel
from torchlift.transfer.data import Augmentation, Dataset, ImageFiles, Splits, stream_folder
from torchlift.transfer.memory_format import to_channels_last
from torchlift.transfer.networks import convnet
from torchlift.transfer.training.loop import run_epochs
from torchlift.transfer.training.options import Experiment, Optimization, Run
from torchlift.transfer.training.processes import start_processes

MEAN, STD = (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)

#: Images of an epoch, and of a batch of the lab's.
EPOCH, BATCH = 6_400, 32

Pairs = Iterable[tuple[torch.Tensor, torch.Tensor]]

#: The smallest part of an image that a random crop takes, everywhere.
SCALE = 0.08

#: Images of the folder that the loops of others are compared on, and its random changes.
FOLDER = 2_000
CROPPED = Augmentation(flip=True, resized_crop=SCALE)


def loops_section(rounds: int) -> str:
    """Run the training loops of torchlift, timm and a default DataLoader on the same images."""
    random = np.random.default_rng(0)
    images = random.integers(0, 256, (EPOCH, 3, 32, 32), np.uint8)
    memory = Dataset(images, random.integers(0, 10, EPOCH), tuple("0123456789"))
    names = ["torchlift train", "default DataLoader"]
    names += ["timm's loader, optimizer and scheduler"] if installed("timm") else []
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        write_folder(Path(folder), FOLDER, (120, 160))
        for place, count in (("in memory", EPOCH), ("image folder", FOLDER)):
            for changed in (False, True):
                data = memory if count == EPOCH else stream_folder(folder)
                runs = [partial(our_epoch, data, CROPPED if changed else Augmentation())]
                for loader, seconds in (
                    (default_loader, loop_seconds),
                    (timm_loader, timm_seconds),
                ):
                    own = torchvision_dataset(memory, []) if count == EPOCH else ImageFolder(folder)
                    runs.append(partial(their_epoch, loader, seconds, own, changed))
                rates = in_turn(dict(zip(names, runs, strict=False)), count, rounds)
                kind = "random crops and flips" if changed else "as they are"
                rows += [
                    [place, kind, name, f"{rate:,.0f}", f"{rates[names[0]] / rate:.2f}×"]
                    for name, rate in rates.items()
                ]
    header = ["images", "changes", "", "images a second", "torchlift's rate in comparison"]
    return f"""\
`python benchmarks/transfer.py`, on {machine("torch", "torchvision", "timm")}.

The network `convnet` on inputs of 3×32×32, batches of {BATCH}, SGD with momentum, the second of two
epochs, the best of {rounds} rounds: {EPOCH:,} images in memory, and a folder of {FOLDER:,} JPEG
files of 160×120. A random crop takes at least {SCALE:.0%} of an image
(`--resized-crop {SCALE} --flip`).

{table(header, rows)}"""


def their_epoch(
    loader: Callable[..., Any], seconds: Callable[..., float], dataset: Any, changed: bool
) -> float:
    """Seconds of an epoch of another loop."""
    batches = loader(dataset, 32, MEAN, STD, changed=changed)(BATCH)
    return seconds(convnet(), batches if seconds is timm_seconds else lambda: batches)


def our_epoch(data: Dataset | ImageFiles, augmentation: Augmentation) -> float:
    """Seconds of the second of two epochs of `fit`, its checkpoint included."""
    ends: list[float] = []
    preprocessing = Preprocessing(size=32, crop=(32, 32), mean=MEAN, std=STD)
    model = SavedModel(convnet(), "logits", (3, 32, 32), preprocessing=preprocessing)
    to_channels_last(model.module, torch.zeros(2, 3, 32, 32))
    no_images = data.take(np.arange(0))
    experiment = Experiment(
        Splits(data, no_images, no_images),
        Optimization(epochs=2, batch_size=BATCH, lr=0.01, weight_decay=0),
        augmentation=augmentation,
        run=Run(device="cpu", tracker=["none"]),
    )
    with tempfile.TemporaryDirectory() as folder:
        run_epochs(
            model,
            experiment,
            start_processes(experiment.run, experiment.freezing, Path(folder)),
            Path(folder) / "checkpoints",
            lambda state: ends.append(time.perf_counter()),
        )
    return ends[1] - ends[0]


def torchvision_dataset(data: Dataset, transform: Callable[..., object] | None = None) -> CIFAR10:
    """Torchvision's CIFAR10 with these images, without its files."""
    dataset = CIFAR10.__new__(CIFAR10)
    dataset.data = np.ascontiguousarray(data.images.transpose(0, 2, 3, 1))
    dataset.targets = data.classes.tolist()
    dataset.transform = transform
    dataset.target_transform = None
    return dataset


def write_folder(folder: Path, count: int, size: tuple[int, int], classes: int = 10) -> None:
    """Write JPEG files of smooth random images, as many of each class.

    Args:
        folder: It gets a folder for each class.
        count: How many images.
        size: Their height and width.
        classes: How many classes.
    """
    random = np.random.default_rng(0)
    for index in range(count):
        target = folder / f"class{index % classes}" / f"{index:05}.jpg"
        target.parent.mkdir(parents=True, exist_ok=True)
        coarse = random.integers(0, 256, (8, 8, 3)).astype(np.uint8)
        Image.fromarray(coarse).resize(size[::-1], Image.Resampling.BICUBIC).save(target)


def default_loader(
    dataset: Any, side: int, mean: tuple[float, ...], std: tuple[float, ...], *, changed: bool
) -> Callable[[int], DataLoader[Any]]:
    """Return what makes a DataLoader with torchvision's transforms, by batch size.

    Args:
        dataset: A dataset of torchvision's, whose transform is set.
        side: Height and width of the inputs.
        mean: Of each channel.
        std: Of each channel.
        changed: Whether images are cropped at random and flipped.
    """
    sized = (
        [RandomResizedCrop(side, (SCALE, 1)), RandomHorizontalFlip()]
        if changed
        else [Resize(side), CenterCrop(side)]
    )
    dataset.transform = Compose([*sized, ToTensor(), Normalize(mean, std)])
    return lambda batch: DataLoader(dataset, batch_size=batch, shuffle=True, drop_last=True)


def timm_loader(
    dataset: Any, side: int, mean: tuple[float, ...], std: tuple[float, ...], *, changed: bool
) -> Callable[[int], Any]:
    """Return what makes timm's loader with its own transforms, by batch size.

    Args:
        dataset: As for `default_loader`.
        side: Height and width of the inputs.
        mean: Of each channel.
        std: Of each channel.
        changed: Whether images are cropped at random and flipped.
    """
    from timm.data import create_loader

    return lambda batch: create_loader(
        dataset,
        input_size=(3, side, side),
        batch_size=batch,
        is_training=True,
        no_aug=not changed,
        scale=(SCALE, 1),
        color_jitter=None,
        mean=mean,
        std=std,
        num_workers=2,
        use_prefetcher=False,
        persistent_workers=True,
        device=torch.device("cpu"),
    )


def loop_seconds(network: nn.Module, batches: Callable[[], Pairs]) -> float:
    """Return the seconds of the second of two epochs of a plain loop with SGD."""
    optimizer = torch.optim.SGD(network.train().parameters(), lr=0.01, momentum=0.9)
    for _ in range(2):
        began = time.perf_counter()
        for inputs, classes in batches():
            optimizer.zero_grad()
            functional.cross_entropy(network(inputs), classes).backward()
            optimizer.step()
    return time.perf_counter() - began


def timm_seconds(network: nn.Module, loader: Any) -> float:
    """Return the seconds of the second of two epochs with timm's optimizer and scheduler."""
    from timm.optim import create_optimizer_v2
    from timm.scheduler import create_scheduler_v2

    optimizer = create_optimizer_v2(network.train(), "sgd", lr=0.01, momentum=0.9)
    updates = len(loader)
    scheduler, _ = create_scheduler_v2(
        optimizer, "cosine", num_epochs=2, step_on_epochs=False, updates_per_epoch=updates
    )
    for epoch in range(2):
        began = time.perf_counter()
        for step, (inputs, classes) in enumerate(loader, epoch * updates):
            optimizer.zero_grad()
            functional.cross_entropy(network(inputs), classes).backward()
            optimizer.step()
            scheduler.step_update(step + 1)
        scheduler.step(epoch + 1)
    return time.perf_counter() - began
