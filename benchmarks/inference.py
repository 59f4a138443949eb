"""Images a second on a CPU in three runtimes: `python benchmarks/inference.py`.

The same AlexNet-OWT-BN in all of them: PyTorch eager on the converted module, our exported file in
ONNX Runtime in float32 and int8, and OpenCV's dnn on the `.t7` itself. Their turns alternate, so
that what else the machine does meets all alike. The table goes into `docs/benchmarks.md` (not
with `--print`).
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from measure import installed, machine, megabytes, table, write_section
from networks import ALEXNET_PARAMETERS, save_alexnet

from torchlift.converters import load_model
from torchlift.converters.inference import OnnxPredictor
from torchlift.converters.inference.threads import available_cpus
from torchlift.converters.onnx import export, quantize

_OPENCV = "opencv-python-headless"
_SHAPE = (3, 224, 224)

Network = Callable[[np.ndarray], np.ndarray]


def main() -> None:
    """Measure, compare, print and write the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--print", action="store_true", help="do not write docs/benchmarks.md")
    options = parser.parse_args()
    torch.set_num_threads(available_cpus())
    images = np.random.default_rng(1).standard_normal((options.batch, *_SHAPE), np.float32)
    with tempfile.TemporaryDirectory() as name:
        networks, sizes = open_networks(Path(name), images)
        times = measure_in_turns(networks, images, options.rounds)
        outputs = {name: network(images) for name, network in networks.items()}
    rate = {name: options.batch / seconds for name, seconds in times.items()}
    eager = "PyTorch eager"
    rows = [
        [
            name,
            f"{rate[name]:.1f}",
            f"{rate[name] / rate[eager]:.2f}×",
            f"{difference(outputs[name], outputs[eager]):.1e}",
            megabytes(sizes[name]),
        ]
        for name in networks
    ]
    header = ["", "images/s", "against eager", "largest difference", "file"]
    text = f"""\
`python benchmarks/inference.py --batch {options.batch} --rounds {options.rounds}`, on \
{machine("torch", "onnxruntime", _OPENCV)}.

AlexNet-OWT-BN at full size ({ALEXNET_PARAMETERS:,} parameters) on 3×224×224 inputs, in batches
of {options.batch}, {available_cpus()} threads each, the best of {options.rounds} rounds. The
difference is between the outputs and those of PyTorch, relative to the largest output.

{table(header, rows)}
"""
    print(text)
    if not options.print:
        write_section("Inference on a CPU", text)


def open_networks(folder: Path, images: np.ndarray) -> tuple[dict[str, Network], dict[str, int]]:
    """Return the network in each runtime, and the sizes of their files in bytes."""
    source, single, int8 = folder / "alexnet.t7", folder / "fp32.onnx", folder / "int8.onnx"
    save_alexnet(source)
    module = load_model(source)
    export(module, single, input_shape=_SHAPE)
    # Random weights name random classes: only the speed is of interest here.
    quantize(single, int8, images, max_drop=1)

    @torch.inference_mode()
    def eager(inputs: np.ndarray) -> np.ndarray:
        return module(torch.from_numpy(inputs)).numpy()

    networks: dict[str, Network] = {"PyTorch eager": eager}
    files = {"PyTorch eager": source, "torchlift export, fp32": single}
    if installed(_OPENCV):
        import cv2

        cv2.setNumThreads(available_cpus())
        net = cv2.dnn.readNetFromTorch(str(source), True, True)

        def opencv(inputs: np.ndarray) -> np.ndarray:
            net.setInput(inputs)
            return net.forward()

        networks["OpenCV dnn"] = opencv
        files["OpenCV dnn"] = source
    networks["torchlift export, fp32"] = OnnxPredictor(single, "cpu")
    networks["torchlift quantize, int8"] = OnnxPredictor(int8, "cpu")
    files["torchlift quantize, int8"] = int8
    return networks, {name: files[name].stat().st_size for name in networks}


def measure_in_turns(
    networks: dict[str, Network], images: np.ndarray, rounds: int
) -> dict[str, float]:
    """Seconds for one batch in each network: the least of several, after a first one."""
    best = dict.fromkeys(networks, float("inf"))
    for number in range(rounds + 1):
        for name, network in networks.items():
            start = time.perf_counter()
            network(images)
            if number:
                best[name] = min(best[name], time.perf_counter() - start)
    return best


def difference(outputs: np.ndarray, expected: np.ndarray) -> float:
    """Return the largest difference, relative to the largest expected output."""
    return float(np.abs(outputs - expected).max() / np.abs(expected).max())


if __name__ == "__main__":
    main()
