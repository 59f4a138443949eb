"""Training and features to disk: `python benchmarks/transfer.py`.

Both are compared with what people write themselves: the loop around a torchvision Dataset and a
DataLoader of its documentation, timm's, and the lab's one image after another. Networks and images
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
from measure import in_turn, machine, table, write_section
from torch import nn
from torch.utils.data import DataLoader
from torchvision.transforms import (
    Compose,
    Normalize,
    RandomCrop,
    RandomHorizontalFlip,
    ToTensor,
)
from training_loops import (
    BATCH,
    EPOCH,
    MEAN,
    STD,
    loop_seconds,
    loops_section,
    our_epoch,
    torchvision_dataset,
)

from torchlift.converters.images.preprocessing import Preprocessing
from torchlift.converters.inference import prepare
from torchlift.converters.inference.providers import open_session
from torchlift.converters.inference.threads import available_cpus
from torchlift.converters.onnx import export
from torchlift.transfer.data import (
    Augmentation,
    BatchPlan,
    Dataset,
)
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
from torchlift.transfer.network_by_name import load_network
from torchlift.transfer.networks import convnet

FIXTURES = Path(__file__).resolve().parent.parent / "fixtures"
#: Networks whose features are stored: name, source, (C, H, W), images (as many as CIFAR-10 trains
#: on); and their batches.
NETWORKS = (
    ("ConvNet", str(FIXTURES / "cifar/cifar-convnet-bn.t7"), (3, 32, 32), 50000),
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
        "Training": training_section,
        "Training beside timm": loops_section,
        "Features to disk": features_section,
    }
    for title, section in sections.items():
        text = section(options.rounds)
        print(f"## {title}\n\n{text}\n", flush=True)
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
        DataLoader(torchvision_dataset(data, Compose(transforms)), batch_size=BATCH, shuffle=True)
        for transforms in (usual, [RandomCrop(32, padding=4), RandomHorizontalFlip(), *usual])
    )
    rates = in_turn(
        {
            "torchlift train": lambda: our_epoch(data, Augmentation()),
            "bare loop, inputs ready": lambda: loop_seconds(convnet(), lambda: shuffled(*ready)),
            "torchvision and DataLoader": lambda: loop_seconds(convnet(), lambda: plain),
            "torchlift train, flip and crop": lambda: our_epoch(data, changed),
            "torchvision and DataLoader, flip and crop": lambda: loop_seconds(
                convnet(), lambda: augmented
            ),
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


def our_batches(data: Dataset, augmentation: Augmentation) -> Batches:
    """Return the batches that `train` would make."""
    preprocessing = Preprocessing(mean=MEAN, std=STD)
    plan = BatchPlan(len(data), BATCH, shuffle_seed=0)
    return Batches(data, preprocessing, plan, augmentation=augmentation)


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
        part = FeatureNetwork(network, taps, stop=False)
        export(part, file, inputs=inputs[:2], output_kind="features")
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


if __name__ == "__main__":
    main()
