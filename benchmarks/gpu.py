"""Everything on a GPU, proved and measured: `python benchmarks/gpu.py` (`make gpu`).

Parity: ten networks in fp32, fp16 and int8, in PyTorch and ONNX Runtime on the GPU, against PyTorch
on the CPU. That each named provider ran the nodes is a line of `check`. Then throughput beside bare
loops, exact resume and memory. One run takes some ten minutes, ends with 0 if all holds and with 1
if not, and writes `docs/gpu.md`. Without CUDA it says so and ends with 0.

`--device cpu` runs the same on the CPU with small networks, to try the script itself; nothing is
written then.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from measure import machine, table
from torch import nn
from torch.nn import functional

from torchlift.cli.main import main as torchlift
from torchlift.converters.errors import TorchliftError
from torchlift.converters.images.preprocessing import Preprocessing
from torchlift.converters.inference import OnnxPredictor, TorchPredictor, provider_problem
from torchlift.converters.inference.torch_module import inference_copy
from torchlift.converters.onnx import check, export, quantize
from torchlift.converters.onnx.checker.check import full_float32
from torchlift.converters.saved import SavedModel, load
from torchlift.transfer.data import Dataset
from torchlift.transfer.features.extraction import extract, plan_extraction
from torchlift.transfer.features.extractors import build_extractor
from torchlift.transfer.features.settings import Settings
from torchlift.transfer.network_by_name import load_network

FIXTURES = Path(__file__).resolve().parent.parent / "fixtures"
PAGE = Path(__file__).resolve().parent.parent / "docs" / "gpu.md"

#: Fixtures of Torch7, and torchvision's families with weights from a seed.
NETWORKS = (
    *(str(FIXTURES / name) for name in ("digits/digits-lenet5-bn.t7", "cifar/cifar-convnet-bn.t7")),
    *(f"torchvision:{name}" for name in ("alexnet", "resnet18", "squeezenet1_1", "mobilenet_v2")),
    *(f"torchvision:{name}" for name in ("densenet121", "efficientnet_b0", "convnext_tiny")),
    "torchvision:vit_b_16",
)
PRECISIONS = ("fp32", "fp16", "int8")

#: Images of a measurement, and of a batch.
IMAGES, BATCH = 2_048, 64

#: How far the numbers of PyTorch on the GPU may be from those on the CPU, of the largest output.
GPU_TOLERANCE = 1e-3


@dataclass
class Results:
    """What was found.

    Attributes:
        parity: Rows of network, precision, what ran it, error and verdict.
        rates: Rows of what was done, images a second, and the ratio to a bare loop.
        facts: Sentences on resume and memory.
        failures: What does not hold.
    """

    parity: list[list[str]] = field(default_factory=list)
    rates: list[list[str]] = field(default_factory=list)
    facts: list[str] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)


def main() -> int:
    """Prove, measure, print and write the page; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    device = parser.parse_args().device
    if device == "cuda" and not torch.cuda.is_available():
        print("skipped: PyTorch finds no GPU here")
        return 0
    networks = NETWORKS if device == "cuda" else NETWORKS[:2]
    results = Results()
    with tempfile.TemporaryDirectory() as folder:
        for name in networks:
            prove_parity(results, name, device, Path(folder))
        measure_inference(results, networks[-1], device, Path(folder))
        measure_training(results, device, Path(folder))
        prove_resume(results, device, Path(folder))
    text = page(results, device)
    print(text)
    if device == "cuda":
        PAGE.write_text(text, encoding="utf-8")
    return 1 if results.failures else 0


def open_network(name: str) -> SavedModel:
    """Return a network whose weights say something: torchvision's heads of zeros are drawn."""
    torch.manual_seed(0)
    model = load_network(name)
    for parameter in model.module.parameters():
        if parameter.dim() > 1 and not parameter.any():
            nn.init.normal_(parameter, std=0.05)
    if model.preprocessing is None:
        channels, height, width = model.input_shape or (3, 224, 224)
        model.preprocessing = Preprocessing(
            "gray" if channels == 1 else "RGB", size=(height, width), mean=(0.5,), std=(0.25,)
        )
    return model


def pixels_for(model: SavedModel, count: int) -> np.ndarray:
    """Return images (N, C, H, W), uint8, as the network takes them."""
    shape = model.input_shape or (3, 224, 224)
    return np.random.default_rng(0).integers(0, 256, (count, *shape), np.uint8)


def prove_parity(results: Results, name: str, device: str, folder: Path) -> None:
    """Compare a network in each precision, on each provider, with PyTorch on the CPU."""
    model, title = open_network(name), name.rpartition(":")[2].rpartition("/")[2]
    pixels = pixels_for(model, 12)
    assert model.preprocessing is not None
    inputs = torch.from_numpy(model.preprocessing(pixels))
    with torch.no_grad(), full_float32():
        expected = inference_copy(model.module)(inputs)
        found = inference_copy(model.module, device=device)(inputs.to(device)).cpu()
    error = float((expected - found).abs().max() / expected.abs().max())
    note(results, [title, "fp32", f"PyTorch, {device}", f"{error:.1e}"], error <= GPU_TOLERANCE)
    for precision in PRECISIONS:
        path = folder / f"{precision}.onnx"
        try:
            if precision == "int8":
                quantize(folder / "fp32.onnx", path, pixels, max_drop=1.0, overwrite=True)
            else:
                export(model, path, fp16=precision == "fp16", overwrite=True)
        except TorchliftError as refusal:
            results.parity.append([title, precision, "", "", f"refused: {refusal}"])
            continue
        for provider in providers(device):
            try:
                report = check(model, path, pixels, provider=provider)
            except TorchliftError as problem:
                note(results, [title, precision, provider, str(problem)], False)
                continue
            failed = [line for line in report.lines() if line.startswith("FAILED")]
            worst = max((part.error for part in report.comparisons), default=float("nan"))
            row = [title, precision, provider, f"{worst:.1e}"]
            note(results, row, report.passed, "; ".join(failed))


def note(results: Results, row: list[str], holds: bool, why: str = "") -> None:
    """Keep a row of the table of parity."""
    results.parity.append([*row, "passed" if holds else f"FAILED {why}".strip()])
    if not holds:
        results.failures.append(" ".join([*row, why]))


def providers(device: str) -> list[str]:
    """Return the providers of ONNX Runtime to try: those of the device that start."""
    if device == "cpu":
        return ["cpu"]
    tried = {name: provider_problem(name) for name in ("cuda", "tensorrt")}
    # Without TensorRT installed there is none to prove; CUDA is what this is about.
    return [name for name, problem in tried.items() if problem is None or name == "cuda"]


def measure_inference(results: Results, name: str, device: str, folder: Path) -> None:
    """Measure classifying and extracting beside bare loops on inputs that are ready."""
    model = open_network(name)
    count = IMAGES if device == "cuda" else 4 * BATCH
    pixels = pixels_for(model, count)
    assert model.preprocessing is not None
    ready = model.preprocessing(pixels)
    batches = torch.from_numpy(ready).split(BATCH)
    bare = inference_copy(model.module, device=device)

    def bare_loop(autocast: bool) -> None:
        with torch.inference_mode(), torch.autocast(device, torch.bfloat16, enabled=autocast):
            for batch in batches:
                bare(batch.to(device, non_blocking=True)).float().cpu()

    def predict(predictor: Callable[[np.ndarray], np.ndarray]) -> None:
        for batch in batches:
            predictor(batch.numpy())

    export(model, folder / "speed.onnx", overwrite=True)
    ours = TorchPredictor(model, device)
    onnx = OnnxPredictor(folder / "speed.onnx", device)
    extractor = build_extractor(model, ["penultimate"], ready[:2], "torch", device)
    plan = plan_extraction(extractor, Dataset(pixels), Settings(batch_size=BATCH))

    def features() -> None:
        with tempfile.TemporaryDirectory() as place:
            extract(plan, Path(place) / "features")

    ways = {
        f"bare PyTorch loop, {device}": lambda: bare_loop(False),
        "the same with autocast to bfloat16": lambda: bare_loop(True),
        "predict and evaluate, PyTorch": lambda: predict(ours),
        "predict and evaluate, ONNX Runtime": lambda: predict(onnx),
        "extract, images to features on disk": features,
    }
    add_rates(results, ways, count)


def measure_training(results: Results, device: str, folder: Path) -> None:
    """Measure epochs of `train` beside a bare loop of the same network and batches."""
    from torchlift.transfer.networks import convnet

    random = np.random.default_rng(0)
    images = random.integers(0, 256, (IMAGES, 3, 32, 32), np.uint8)
    labels = random.integers(0, 10, IMAGES)
    np.savez(folder / "images.npz", images=images, labels=labels)
    inputs = torch.from_numpy(Preprocessing(mean=(0.5,), std=(0.25,))(images))
    classes = torch.from_numpy(labels)

    def bare_epochs(autocast: bool) -> float:
        network = convnet().to(device).train()
        optimizer = torch.optim.SGD(network.parameters(), lr=0.01, momentum=0.9)
        for _ in range(2):
            began = time.perf_counter()
            for chosen in torch.randperm(IMAGES).split(BATCH):
                optimizer.zero_grad()
                with torch.autocast(device, torch.bfloat16, enabled=autocast):
                    scores = network(inputs[chosen].to(device))
                functional.cross_entropy(scores.float(), classes[chosen].to(device)).backward()
                optimizer.step()
            synchronize(device)
        return time.perf_counter() - began

    def our_epochs(precision: str) -> float:
        run = folder / f"speed-{precision}"
        train(["convnet", str(folder / "images.npz"), "--epochs=3", f"--batch-size={BATCH}",
               "--val-fraction=0", "--tracker=none", f"--device={device}",
               f"--precision={precision}", f"--output={run}", "--overwrite"])  # fmt: skip
        return last_epoch_seconds(run)

    plain = bare_epochs(False)
    rows = {
        "bare training loop": plain,
        "train": our_epochs("fp32"),
        "bare training loop, autocast to bfloat16": bare_epochs(True),
        "train --precision bf16": our_epochs("bf16"),
    }
    for name, took in rows.items():
        results.rates.append([name, f"{IMAGES / took:,.0f}", f"{plain / took:.2f}"])
    if device == "cuda":
        peak = torch.cuda.max_memory_allocated() / 1e6
        results.facts.append(f"The most GPU memory that tensors took in this run: {peak:,.0f} MB.")


def train(words: list[str]) -> None:
    """Run `torchlift train` in this process.

    Raises:
        RuntimeError: when it fails.
    """
    if torchlift(["train", *words]) != 0:
        raise RuntimeError(f"train {' '.join(words)} failed")


def last_epoch_seconds(run: Path) -> float:
    """Return how long the last epoch of a run took."""
    return float((run / "seconds.csv").read_text(encoding="utf-8").split()[-1].split(",")[1])


def prove_resume(results: Results, device: str, folder: Path) -> None:
    """Train in one go and in two, and compare the weights to the bit."""
    data = str(FIXTURES / "digits" / "digits-test.t7")
    common = ["lenet5", data, "--limit=256", "--deterministic", "--tracker=none",
              "--schedule=constant", f"--device={device}", "--seed=0"]  # fmt: skip
    train([*common, "--epochs=4", f"--output={folder / 'whole'}"])
    train([*common, "--epochs=2", f"--output={folder / 'parts'}"])
    train([*common, "--epochs=4", f"--output={folder / 'parts'}", "--resume=auto"])
    whole, parts = (load(folder / name / "model").module for name in ("whole", "parts"))
    same = all(
        torch.equal(one, other)
        for one, other in zip(whole.parameters(), parts.parameters(), strict=True)
    )
    text = "the same" if same else "other"
    results.facts.append(
        f"A training that was resumed after two of four epochs has {text} weights."
    )
    if not same:
        results.failures.append("resume is not exact")


def add_rates(results: Results, ways: dict[str, Callable[[], None]], count: int) -> None:
    """Measure ways that take turns, after a run that is not counted; the first is the limit."""
    best = dict.fromkeys(ways, float("inf"))
    for counted in (False, True, True, True):
        for name, run in ways.items():
            began = time.perf_counter()
            run()
            took = time.perf_counter() - began
            best[name] = min(best[name], took) if counted else best[name]
    limit = next(iter(best.values()))
    for name, took in best.items():
        results.rates.append([name, f"{count / took:,.0f}", f"{limit / took:.2f}"])


def synchronize(device: str) -> None:
    """Wait until the device has done all that was asked."""
    if device == "cuda":
        torch.cuda.synchronize()


def page(results: Results, device: str) -> str:
    """Return the page: the machine, the tables, and what does not hold."""
    lines = list(gpu_lines()) if device == "cuda" else ["no GPU: the script was tried on the CPU"]
    about = machine("torch", "torchvision", "onnxruntime-gpu", "onnxruntime", "tensorrt-cu12")
    verdict = "\n".join(f"- {text}" for text in results.failures) or "All of it holds."
    parity = ["network", "precision", "ran on", "largest error", "verdict"]
    return f"""# On a GPU

`make gpu` writes this page. {"; ".join(lines)}. {about}.

## Parity

Against PyTorch on the CPU in float32; the error is relative to the largest output. *passed* is the
verdict of `check`, which also fails if a node with weights ran elsewhere than on the provider.

{table(parity, results.parity)}

## Throughput

Batches of {BATCH}; the ratio is to the bare loop on inputs that are ready in memory.

{table(["", "images a second", "ratio"], results.rates)}

## Resume and memory

{" ".join(results.facts)}

## Verdict

{verdict}
"""


def gpu_lines() -> Iterator[str]:
    """Yield the GPU, its driver and CUDA's version."""
    yield torch.cuda.get_device_name()
    query = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    found = subprocess.run(query, capture_output=True, text=True, check=False)
    yield f"driver {found.stdout.strip() or 'unknown'}"
    yield f"CUDA {torch.version.cuda}, cuDNN {torch.backends.cudnn.version()}"


if __name__ == "__main__":
    sys.exit(main())
