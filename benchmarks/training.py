"""How fast the training loop is: the lab's ConvNet on pictures of CIFAR-10's size.

    python benchmarks/training.py            writes docs/benchmarks.md's section "Training"

Compared with the same network in a loop of plain PyTorch, fed by a torchvision Dataset and a
DataLoader as their documentation shows them, and by inputs that are ready in memory. The pictures
are random: what they show takes no time.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional
from torch.utils.data import DataLoader
from torchvision.datasets import CIFAR10
from torchvision.transforms import Compose, Normalize, ToTensor

from torchlift.converters.preprocessing import Preprocessing
from torchlift.transfer.data import Dataset
from torchlift.transfer.data.batches import Batches
from torchlift.transfer.networks import convnet
from torchlift.transfer.training.loop import fit
from torchlift.transfer.training.options import Freezing, Optimization, Run
from torchlift.transfer.training.processes import start_processes

sys.path.insert(0, str(Path(__file__).parent))
from measure import machine, table, write_section

PICTURES, BATCH, EPOCHS = 3_200, 32, 8
MEAN, STD = (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)

Pairs = Iterable[tuple[torch.Tensor, torch.Tensor]]


def main() -> None:
    """Measure and write the table."""
    random = np.random.default_rng(0)
    images = random.integers(0, 256, (PICTURES, 3, 32, 32), np.uint8)
    data = Dataset(images, random.integers(0, 10, PICTURES), tuple("0123456789"))
    loader = DataLoader(torchvision_dataset(data), batch_size=BATCH, shuffle=True)
    inputs = torch.from_numpy(Preprocessing(mean=MEAN, std=STD)(images))
    ready = (inputs, torch.from_numpy(data.classes))
    plain: dict[str, Callable[[], Pairs]] = {
        "plain loop, inputs ready in memory": lambda: shuffled(*ready),
        "plain loop, torchvision dataset, DataLoader": lambda: loader,
    }
    seconds: dict[str, list[float]] = {"torchlift train": [], **{name: [] for name in plain}}
    # In turn, so that whatever else the machine does meets all alike; the best of each counts.
    for _ in range(EPOCHS):
        seconds["torchlift train"].append(ours(data))
        for name, batches in plain.items():
            seconds[name].append(epoch_of(batches))
    rates = {name: PICTURES / min(times) for name, times in seconds.items()}
    mine = rates["torchlift train"]
    rows = [[name, f"{rate:,.0f}", f"{mine / rate:.2f}"] for name, rate in rates.items()]
    text = (
        f"The lab's ConvNet, {PICTURES:,} pictures of 3×32×32, batches of {BATCH}, SGD with "
        f"momentum; the best of {EPOCHS} epochs each, in turn, with {torch.get_num_threads()} "
        "threads (`python benchmarks/training.py`). "
        f"{machine('torch', 'torchvision', 'accelerate')}.\n\n"
        + table(("", "pictures a second", "torchlift is so many times as fast"), rows)
    )
    print(text)
    write_section("Training", text)


def ours(data: Dataset) -> float:
    """Seconds of the second of two epochs of `fit`, its checkpoint included."""
    ends: list[float] = []
    options = Optimization(epochs=2, batch_size=BATCH, lr=0.01)
    preprocessing = Preprocessing(mean=MEAN, std=STD)
    with tempfile.TemporaryDirectory() as folder:
        fit(
            convnet(),
            Batches(data, preprocessing, BATCH, shuffle_seed=0, drop_last=True),
            None,
            options,
            Freezing(),
            start_processes(Run(device="cpu", tracker="none"), Freezing(), Path(folder)),
            Path(folder) / "checkpoints",
            on_epoch=lambda history, seconds: ends.append(time.perf_counter()),
        )
    return ends[1] - ends[0]


def epoch_of(batches: Callable[[], Pairs]) -> float:
    """Seconds of the second of two epochs of a plain loop."""
    network = convnet().train()
    optimizer = torch.optim.SGD(network.parameters(), lr=0.01, momentum=0.9)
    for _ in range(2):
        began = time.perf_counter()
        for inputs, classes in batches():
            optimizer.zero_grad()
            functional.cross_entropy(network(inputs), classes).backward()
            optimizer.step()
    return time.perf_counter() - began


def shuffled(inputs: torch.Tensor, classes: torch.Tensor) -> Iterator[tuple[torch.Tensor, ...]]:
    """Ready inputs in a new order."""
    for chosen in torch.randperm(len(inputs)).split(BATCH):
        yield inputs[chosen], classes[chosen]


def torchvision_dataset(data: Dataset) -> CIFAR10:
    """Torchvision's CIFAR10 with these pictures, without its files."""
    dataset = CIFAR10.__new__(CIFAR10)
    dataset.data = np.ascontiguousarray(data.images.transpose(0, 2, 3, 1))
    dataset.targets = data.classes.tolist()
    dataset.transform = Compose([ToTensor(), Normalize(MEAN, STD)])
    dataset.target_transform = None
    return dataset


if __name__ == "__main__":
    main()
