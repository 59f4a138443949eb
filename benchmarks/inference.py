"""Images a second on a CPU, engine beside engine: `python benchmarks/inference.py`.

The same networks in PyTorch (eager and compiled), in a bare session of ONNX Runtime, in torchlift's
predictor on ONNX Runtime and on its OpenVINO provider, in int8, and in OpenCV's dnn. Each engine is
a process of its own, and the turns of all alternate, so that what else the machine does meets all
alike. The wheels exclude each other, so OpenVINO and OpenCV may be in other environments:
`--openvino-python VENV/bin/python`, `--opencv-python …`. The tables go into `docs/benchmarks.md`
(not with `--print`).
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from measure import machine, table, write_section
from networks import save_alexnet

from torchlift.converters import load_model
from torchlift.converters.inference.threads import available_cpus
from torchlift.converters.onnx import OnnxError, export, quantize
from torchlift.converters.saved import SavedModel, save
from torchlift.transfer.network_by_name import load_network

SHAPE = (3, 224, 224)
#: Name → source; AlexNet-OWT-BN is made here.
NETWORKS = {
    "AlexNet-OWT-BN": "",
    "ResNet-18": "torchvision:resnet18",
    "SqueezeNet 1.1": "torchvision:squeezenet1_1",
    "MobileNet V2": "torchvision:mobilenet_v2",
    "DenseNet-121": "torchvision:densenet121",
}
_PROGRAM = Path(__file__).with_name("inference_engines.py")


@dataclass(frozen=True)
class Column:
    """A column of the table.

    Attributes:
        title: Its head.
        engine: The engine of `inference_engines.py`.
        file: Which of the network's files it runs.
        is_ours: Whether it is one of torchlift's choices in float32.
    """

    title: str
    engine: str
    file: str
    is_ours: bool = False


COLUMNS = (
    Column("PyTorch eager", "eager", "saved"),
    Column("torch.compile", "compiled", "saved"),
    Column("ONNX Runtime", "plain", "fp32.onnx"),
    Column("OpenCV dnn", "opencv", "fp32.onnx"),
    Column("torchlift, cpu", "torchlift", "fp32.onnx", is_ours=True),
    Column("torchlift, openvino", "openvino", "fp32.onnx", is_ours=True),
    Column("torchlift, int8", "torchlift", "int8.onnx"),
)


@dataclass
class Worker:
    """A network in an engine that waits for its turn."""

    process: subprocess.Popen[str]
    versions: str
    outputs: np.ndarray
    seconds: list[float] = field(default_factory=list)

    def take_turn(self) -> None:
        """Run one batch, and keep what it took."""
        assert self.process.stdin
        assert self.process.stdout
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        self.seconds.append(float(self.process.stdout.readline()))


def main() -> None:
    """Measure, compare, print and write the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--networks", default=",".join(NETWORKS))
    parser.add_argument("--openvino-python", default=sys.executable)
    parser.add_argument("--opencv-python", default=sys.executable)
    parser.add_argument("--print", action="store_true", help="do not write docs/benchmarks.md")
    options = parser.parse_args()
    pythons = {"openvino": options.openvino_python, "opencv": options.opencv_python}
    inputs = np.random.default_rng(1).standard_normal((options.batch, *SHAPE), np.float32)
    results = {}
    for name in options.networks.split(","):
        with tempfile.TemporaryDirectory() as folder:
            write_network(name, Path(folder), inputs)
            results[name] = measure_in_turns(Path(folder), pythons, options.rounds)
    text = report(results, options.batch, options.rounds)
    print(text)
    if not options.print:
        write_section("Inference on a CPU", text)


def write_network(name: str, folder: Path, inputs: np.ndarray) -> None:
    """Write a network with seeded random weights: saved, as `.onnx`, and in int8."""
    # For environments where torchlift is not installed.
    (folder / "torchlift").symlink_to(_PROGRAM.resolve().parents[1])
    source = NETWORKS[name]
    if not source:
        save_alexnet(folder / "alexnet.t7")
    module = load_network(source).module if source else load_model(folder / "alexnet.t7")
    model = SavedModel(module, "logits", SHAPE)
    save(model, folder / "saved")
    export(model, folder / "fp32.onnx")
    # Random weights name random classes: only the speed is of interest, where int8 is not refused.
    with suppress(OnnxError):
        quantize(folder / "fp32.onnx", folder / "int8.onnx", inputs, max_drop=1)
    np.save(folder / "inputs.npy", inputs)


def measure_in_turns(folder: Path, pythons: dict[str, str], rounds: int) -> dict[str, Worker]:
    """Return a worker of each column that this machine can run, with the seconds of its turns."""
    with ExitStack() as stack:
        workers = {}
        for column in COLUMNS:
            python = pythons.get(column.engine, sys.executable)
            worker = start(column, python, folder, stack)
            if worker is not None:
                workers[column.title] = worker
        for _ in range(rounds):
            for worker in workers.values():
                worker.take_turn()
    return workers


def start(column: Column, python: str, folder: Path, stack: ExitStack) -> Worker | None:
    """Start an engine and wait until it has run once; None where its package or file is missing."""
    if not (folder / column.file).exists():
        return None
    outputs = folder / f"{column.engine}-{column.file}.npy"
    names = [column.engine, str(folder / column.file), str(folder / "inputs.npy"), str(outputs)]
    environment = os.environ | {"PYTHONPATH": str(folder)}
    process = subprocess.Popen(
        [python, str(_PROGRAM), *names, str(available_cpus())],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=environment,
    )
    stack.enter_context(process)
    assert process.stdin
    assert process.stdout
    stack.callback(process.stdin.close)
    line = process.stdout.readline()
    return Worker(process, line.strip(), np.load(outputs)) if line else None


def report(results: dict[str, dict[str, Worker]], batch: int, rounds: int) -> str:
    """Return the tables of all networks."""
    titles = [
        column.title for column in COLUMNS if any(column.title in row for row in results.values())
    ]
    rows, differences = [], []
    for name, workers in results.items():
        rate = {name: batch / statistics.median(one.seconds) for name, one in workers.items()}
        ours = [column.title for column in COLUMNS if column.is_ours and column.title in workers]
        others = [title for title in workers if not title.startswith("torchlift")]
        best, rival = max(ours, key=rate.__getitem__), max(others, key=rate.__getitem__)
        spread = statistics.quantiles(workers[rival].seconds, n=4)
        rows.append(
            [
                name,
                *(f"{rate[title]:.1f}" if title in rate else "" for title in titles),
                f"{rate[best] / rate[rival]:.2f} of {rival}",
                f"{(spread[2] - spread[0]) / spread[1]:.0%}",
            ]
        )
        expected = workers[COLUMNS[0].title].outputs
        errors = {title: difference(one.outputs, expected) for title, one in workers.items()}
        cells = (f"{errors[title]:.1e}" if title in errors else "" for title in titles)
        differences.append([name, *cells])
    versions = dict.fromkeys(
        worker.versions for workers in results.values() for worker in workers.values()
    )
    return f"""\
`python benchmarks/inference.py --batch {batch} --rounds {rounds}`, on {machine("numpy")}; \
{"; ".join(versions)}.

Images a second on 3×224×224 inputs in batches of {batch}, {available_cpus()} threads, the median of
{rounds} turns. *Best* is the faster of torchlift's two in float32 beside the fastest of the others;
*spread* is the middle half of that one's times.

{table(["", *titles, "best", "spread"], rows)}

The largest difference to PyTorch's eager outputs, relative to the largest of them:

{table(["", *titles], differences)}
"""


def difference(outputs: np.ndarray, expected: np.ndarray) -> float:
    """Return the largest difference, relative to the largest expected output."""
    return float(np.abs(outputs - expected).max() / np.abs(expected).max())


if __name__ == "__main__":
    main()
