"""What `apply` adds to a network, on a large image: `python benchmarks/apply.py`.

The network of fast-neural-style at full width on 1024×1024 pixels, alone and with all that turns an
image into an input and an output into an image. The turns alternate, so that what else the machine
does meets both alike. The table goes into `docs/benchmarks.md` (not with `--print`).
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from measure import machine, shortest_times, table, write_section
from torch import nn

from torchlift.converters.images import Preprocessing
from torchlift.converters.inference import OnnxPredictor, TorchPredictor
from torchlift.converters.inference.image_model import ImageModel
from torchlift.converters.inference.providers import open_session
from torchlift.converters.inference.threads import available_cpus
from torchlift.converters.onnx import export
from torchlift.converters.saved import SavedModel

_SIDE = 1024


def main() -> None:
    """Measure, print and write the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--print", action="store_true", help="do not write docs/benchmarks.md")
    options = parser.parse_args()
    torch.set_num_threads(available_cpus())
    image = np.random.default_rng(1).integers(0, 256, (_SIDE, _SIDE, 3), np.uint8)
    with tempfile.TemporaryDirectory() as folder:
        times = shortest_times(runs(Path(folder), image), options.rounds)
    names = list(times)
    rows = [
        [
            runtime,
            f"{times[bare]:.2f} s",
            f"{times[whole]:.2f} s",
            f"{times[bare] / times[whole]:.2f}",
        ]
        for runtime, bare, whole in (("PyTorch", *names[:2]), ("ONNX Runtime", *names[2:]))
    ]
    text = f"""\
`python benchmarks/apply.py --rounds {options.rounds}`, on {machine("torch", "onnxruntime")}.

The network of fast-neural-style at full width on an image of {_SIDE}×{_SIDE}, {available_cpus()}
threads, the best of {options.rounds} rounds: the network alone, and from the bytes of the image to
those of the result.

{table(["", "the network", "apply", "of the network's speed"], rows)}
"""
    print(text)
    if not options.print:
        write_section("Images from images", text)


def style_network() -> nn.Module:
    """Return c9s1-32,d64,d128,R128 five times,u64,u32,c9s1-3, as fast-neural-style writes it.

    The additions of its residual blocks are left out, which cost next to nothing.
    """
    torch.manual_seed(0)
    layers: list[nn.Module] = [nn.ReflectionPad2d(40)]
    for inputs, outputs, size, stride in ((3, 32, 9, 1), (32, 64, 3, 2), (64, 128, 3, 2)):
        layers += [
            nn.Conv2d(inputs, outputs, size, stride, size // 2),
            nn.InstanceNorm2d(outputs),
            nn.ReLU(),
        ]
    for _ in range(10):
        layers += [nn.Conv2d(128, 128, 3), nn.InstanceNorm2d(128), nn.ReLU()]
    for inputs, outputs in ((128, 64), (64, 32)):
        layers += [
            nn.ConvTranspose2d(inputs, outputs, 3, 2, 1, 1),
            nn.InstanceNorm2d(outputs),
            nn.ReLU(),
        ]
    return nn.Sequential(*layers, nn.Conv2d(32, 3, 9, 1, 4), nn.Tanh()).eval()


def runs(folder: Path, image: np.ndarray) -> dict[str, Callable[[], object]]:
    """Return the network and `apply`, in PyTorch and in ONNX Runtime."""
    preprocessing = Preprocessing("RGB", value_range=(-1, 1))
    model = SavedModel(style_network(), "features", preprocessing=preprocessing)
    file = folder / "style.onnx"
    export(model, file, input_shape="3x?x?")
    predictor, session = TorchPredictor(model, "cpu"), OnnxPredictor(file, "cpu")
    inputs = preprocessing([image])
    tensor = torch.from_numpy(inputs)

    @torch.inference_mode()
    def network() -> object:
        return predictor.module(tensor)

    in_torch, in_onnx = ImageModel(predictor), ImageModel(session)
    graph = open_session(file, "cpu")
    return {
        "network": network,
        "apply": lambda: in_torch(image),
        "onnx": lambda: graph.run({"input": inputs}),
        "apply onnx": lambda: in_onnx(image),
    }


if __name__ == "__main__":
    main()
