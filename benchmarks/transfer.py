"""Training and features to disk: `python benchmarks/transfer.py`.

Both are compared with what people write themselves: the loop around a torchvision Dataset and a
DataLoader of its documentation, and the lab's one image after another. Networks and images
are the lab's in size; what random images show takes no time. Everything that is compared takes
its turn, and the best turn of each counts, so that whatever else the machine does meets all alike.
The tables go into `docs/benchmarks.md` (not with `--print`).
"""

from __future__ import annotations

import argparse
import copy
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path

import numpy as np
import torch
from measure import machine, table, write_section
from torch import nn
from torch.nn import functional
from torch.utils.data import DataLoader
from torchvision.datasets import CIFAR10
from torchvision.transforms import (
    Compose,
    Normalize,
    RandomCrop,
    RandomHorizontalFlip,
    ToTensor,
)

from torchlift.converters.images.preprocessing import Preprocessing
from torchlift.converters.inference import prepare
from torchlift.converters.inference.providers import open_session
from torchlift.converters.inference.threads import available_cpus
from torchlift.converters.onnx import export
from torchlift.converters.saved import SavedModel
from torchlift.transfer.data import Augmentation, BatchPlan, Dataset, Splits
from torchlift.transfer.data.batches import Batches
from torchlift.transfer.features.extraction import (
    ExtractionPlan,
    example_of,
    extract,
    plan_extraction,
)
from torchlift.transfer.features.extractors import build_extractor
from torchlift.transfer.features.network import FeatureNetwork
from torchlift.transfer.features.settings import Settings
from torchlift.transfer.find_layers import find_taps
from torchlift.transfer.load_network import load_network
from torchlift.transfer.memory_format import to_channels_last
from torchlift.transfer.networks import convnet
from torchlift.transfer.training.loop import fit
from torchlift.transfer.training.options import Experiment, Optimization, Run
from torchlift.transfer.training.processes import start_processes

FIXTURES = Path(__file__).resolve().parent.parent / "fixtures"
MEAN, STD = (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)

#: Images of an epoch, and of a batch of the lab's.
EPOCH, BATCH = 6_400, 32

#: Networks whose features are stored: name, source, (C, H, W), images; and their batches.
NETWORKS = (
    ("ConvNet", str(FIXTURES / "cifar/cifar-convnet-bn.t7"), (3, 32, 32), 16384),
    ("ResNet-18", "torchvision:resnet18", (3, 224, 224), 128),
)
FEATURE_BATCH = 64

#: What is timed: it does its work and gives the seconds that count.
Timed = Callable[[], float]
Pairs = Iterable[tuple[torch.Tensor, torch.Tensor]]


def main() -> None:
    """Measure, print and write the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=8, help="turns of everything")
    parser.add_argument("--print", action="store_true", help="do not write docs/benchmarks.md")
    options = parser.parse_args()
    torch.set_num_threads(available_cpus())
    sections = {
        "Training": training_section(options.rounds),
        "Features to disk": features_section(options.rounds),
    }
    for title, text in sections.items():
        print(f"## {title}\n\n{text}\n")
        if not options.print:
            write_section(title, text)


def training_section(rounds: int) -> str:
    """Run the training loop, with images as they are and with flips and crops."""
    random = np.random.default_rng(0)
    images = random.integers(0, 256, (EPOCH, 3, 32, 32), np.uint8)
    data = Dataset(images, random.integers(0, 10, EPOCH), tuple("0123456789"))
    inputs = torch.from_numpy(Preprocessing(mean=MEAN, std=STD)(images))
    ready = (inputs, torch.from_numpy(data.classes))
    changed = Augmentation(flip=True, crop_padding=4)
    usual = [ToTensor(), Normalize(MEAN, STD)]
    plain, augmented = (
        DataLoader(torchvision_dataset(data, transforms), batch_size=BATCH, shuffle=True)
        for transforms in (usual, [RandomCrop(32, padding=4), RandomHorizontalFlip(), *usual])
    )
    rates = in_turn(
        {
            "torchlift train": lambda: our_epoch(data, Augmentation()),
            "bare loop, inputs ready": lambda: plain_epoch(lambda: shuffled(*ready)),
            "torchvision and DataLoader": lambda: plain_epoch(lambda: plain),
            "torchlift train, flip and crop": lambda: our_epoch(data, changed),
            "torchvision and DataLoader, flip and crop": lambda: plain_epoch(lambda: augmented),
            "torchlift's batches alone": lambda: reading(our_batches(data, Augmentation())),
            "torchlift's batches alone, flip and crop": lambda: reading(our_batches(data, changed)),
            "DataLoader alone": lambda: reading(plain),
            "DataLoader alone, flip and crop": lambda: reading(augmented),
        },
        EPOCH,
        rounds,
    )

    def row(name: str, other: str) -> list[str]:
        return [name, f"{rates[name]:,.0f}", f"{rates[name] / rates[other]:.2f}×"]

    loader, changing = "torchvision and DataLoader", "torchvision and DataLoader, flip and crop"
    alone, apart = "DataLoader alone", "DataLoader alone, flip and crop"
    bare = "bare loop, inputs ready"
    rows = [
        *(row(name, loader) for name in ("torchlift train", bare, loader)),
        *(row(name, changing) for name in ("torchlift train, flip and crop", changing)),
        *(row(name, alone) for name in ("torchlift's batches alone", alone)),
        *(row(name, apart) for name in ("torchlift's batches alone, flip and crop", apart)),
    ]
    header = ["", "images a second", "against the DataLoader of the same kind"]
    bounds = [rates[bare] / rates[name] for name in (loader, changing)]
    return f"""\
`python benchmarks/transfer.py`, on {machine("torch", "torchvision", "accelerate")}.

The network `convnet` (see [the labs](labs.md)), {EPOCH:,} images of 3×32×32 in each epoch,
batches of {BATCH}, SGD with momentum, {torch.get_num_threads()} threads; the best of {rounds}
rounds. *flip and crop* mirrors images at random and crops them from a padding of 4: torchvision
does so for each image, torchlift for each batch.

{table(header, rows)}

The network takes most of the time. With inputs that are ready in memory, the loop is
{bounds[0]:.2f} times as fast as with torchvision's DataLoader, and {bounds[1]:.2f} times with
flip and crop. Only a faster network can exceed that: `train` uses the channels-last memory
format."""


def our_epoch(data: Dataset, augmentation: Augmentation) -> float:
    """Seconds of the second of two epochs of `fit`, its checkpoint included."""
    ends: list[float] = []
    preprocessing = Preprocessing(mean=MEAN, std=STD)
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
        fit(
            model,
            experiment,
            start_processes(experiment.run, experiment.freezing, Path(folder)),
            Path(folder) / "checkpoints",
            lambda state: ends.append(time.perf_counter()),
        )
    return ends[1] - ends[0]


def our_batches(data: Dataset, augmentation: Augmentation) -> Batches:
    """Return the batches that `train` would make."""
    preprocessing = Preprocessing(mean=MEAN, std=STD)
    plan = BatchPlan(len(data), BATCH, shuffle_seed=0)
    return Batches(data, preprocessing, plan, augmentation=augmentation)


def plain_epoch(batches: Callable[[], Pairs]) -> float:
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


def reading(batches: Pairs) -> float:
    """Seconds of an epoch without a network."""
    began = time.perf_counter()
    for _ in batches:
        pass
    return time.perf_counter() - began


def shuffled(inputs: torch.Tensor, classes: torch.Tensor) -> Iterator[tuple[torch.Tensor, ...]]:
    """Ready inputs in a new order."""
    for chosen in torch.randperm(len(inputs)).split(BATCH):
        yield inputs[chosen], classes[chosen]


def torchvision_dataset(data: Dataset, transforms: list[Callable[..., object]]) -> CIFAR10:
    """Torchvision's CIFAR10 with these images, without its files."""
    dataset = CIFAR10.__new__(CIFAR10)
    dataset.data = np.ascontiguousarray(data.images.transpose(0, 2, 3, 1))
    dataset.targets = data.classes.tolist()
    dataset.transform = Compose(transforms)
    dataset.target_transform = None
    return dataset


def features_section(rounds: int) -> str:
    """Features to disk beside a bare forward pass and the lab's way."""
    rows = []
    for name, source, shape, count in NETWORKS:
        pixels = np.random.default_rng(0).integers(0, 256, (count, *shape), np.uint8)
        rates = in_turn(ways(source, Dataset(pixels)), count, rounds)
        lab = rates["the lab's way"]
        for way, rate in rates.items():
            bare = rates.get(f"{way.partition(',')[0]}, bare forward pass")
            rows.append(
                [
                    name,
                    way,
                    f"{rate:,.0f}",
                    "" if bare is None else f"{rate / bare:.2f}",
                    f"{rate / lab:.1f}×",
                ]
            )
    header = ["network", "way", "images a second", "of the bare pass", "against the lab's way"]
    return f"""\
`python benchmarks/transfer.py`, on {machine("torch", "onnxruntime", "zarr")}.

The best of {rounds} rounds, on {available_cpus()} cores. The bare forward pass runs the same
layers on inputs that are ready in memory, in batches of {FEATURE_BATCH}, with all cores on one
batch. `extract` starts with uint8 images and ends with chunks on disk; each core computes a
batch of its own, in the channels-last memory format. *The lab's way* is the loop of the
[lab](labs.md) `torch7-convnets`: it copies and normalizes one image after another into a batch
and runs the whole network, layer by layer.

{table(header, rows)}"""


def ways(source: str, data: Dataset) -> dict[str, Timed]:
    """Every way to the features of `penultimate`, ready to run."""
    model = load_network(source)
    model.preprocessing = Preprocessing(size=data.images.shape[2:], mean=(0.5,), std=(0.25,))
    # As it is opened: `extract` lays out its own in memory.
    eager = copy.deepcopy(model.module)
    ready = prepare(data.images, model.preprocessing)
    example = example_of(data, model.preprocessing)
    found: dict[str, Timed] = {}
    for backend in ("torch", "onnxruntime"):
        bare = bare_torch(eager, ready) if backend == "torch" else bare_onnx(eager, ready)
        found[f"{backend}, bare forward pass"] = partial(timed, bare)
        features = build_extractor(model, ["penultimate"], example, backend)
        plan = plan_extraction(features, data, Settings(batch_size=FEATURE_BATCH))
        found[f"{backend}, extract"] = partial(extract_once, plan)
    found["the lab's way"] = partial(timed, lambda: labs_way(eager, data.images))
    return found


def extract_once(plan: ExtractionPlan) -> float:
    """Seconds for all features to a new store."""
    with tempfile.TemporaryDirectory() as folder:
        return timed(lambda: extract(plan, Path(folder) / "features"))


def bare_torch(network: nn.Module, inputs: np.ndarray) -> Callable[[], object]:
    """Return the layers up to the features, on tensors."""
    part = FeatureNetwork(network, find_taps(network, ["penultimate"])).eval()
    batches = torch.from_numpy(inputs).split(FEATURE_BATCH)

    def run() -> None:
        with torch.inference_mode():
            for batch in batches:
                part(batch)

    return run


def bare_onnx(network: nn.Module, inputs: np.ndarray) -> Callable[[], object]:
    """Return the same part of the network, exported, in one session."""
    taps = find_taps(network, ["penultimate"])
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "part.onnx"
        export(FeatureNetwork(network, taps, stop=False), file, inputs=inputs[:2])
        session = open_session(file, "cpu", threads=available_cpus()).runtime

    def run() -> None:
        for start in range(0, len(inputs), FEATURE_BATCH):
            session.run(None, {"input": inputs[start : start + FEATURE_BATCH]})

    return run


def labs_way(network: nn.Module, images: np.ndarray) -> list[torch.Tensor]:
    """One image at a time into a batch, then the whole network; a hook keeps the features."""
    kept: list[torch.Tensor] = []
    last = [part for part in network.modules() if isinstance(part, nn.Linear)][-1]
    handle = last.register_forward_pre_hook(lambda _, inputs: kept.append(inputs[0].clone()))
    with torch.no_grad():
        for start in range(0, len(images), FEATURE_BATCH):
            part = images[start : start + FEATURE_BATCH]
            batch = torch.zeros(part.shape)
            for index, image in enumerate(part):
                batch[index] = torch.from_numpy(image).float().div(255)
                for channel in range(image.shape[0]):
                    batch[index, channel].sub_(0.5).div_(0.25)
            network(batch)
    handle.remove()
    return kept


def timed(run: Callable[[], object]) -> float:
    """Seconds of a run."""
    began = time.perf_counter()
    run()
    return time.perf_counter() - began


def in_turn(each: dict[str, Timed], images: int, rounds: int) -> dict[str, float]:
    """Images a second of each, at its best, after a run that is not counted."""
    seconds: dict[str, list[float]] = {name: [] for name in each}
    for counted in [False, *[True] * rounds]:
        for name, run in each.items():
            took = run()
            if counted:
                seconds[name].append(took)
    return {name: images / min(times) for name, times in seconds.items()}


if __name__ == "__main__":
    main()
