"""Two classes of random images, and commands that must succeed, for whole families of networks."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnxruntime
import torch
from PIL import Image
from support import relative_error
from torch import nn

from torchlift.cli.main import main


def two_classes(folder: Path) -> Path:
    """Write two classes of four random images."""
    random = np.random.default_rng(0)
    for name in ("cat", "dog"):
        (folder / name).mkdir(parents=True)
        for index in range(4):
            pixels = random.integers(0, 256, (72, 80, 3), np.uint8)
            Image.fromarray(pixels).save(folder / name / f"{index}.png")
    return folder


def run(*arguments: object) -> None:
    """Run a command, which must succeed."""
    assert main([str(argument) for argument in arguments]) == 0, arguments


def require_same_outputs(module: nn.Module, graph: Path, inputs: torch.Tensor) -> torch.Tensor:
    """Check that ONNX Runtime computes what a network of two classes does, and return that."""
    session = onnxruntime.InferenceSession(graph, providers=["CPUExecutionProvider"])
    (outputs,) = session.run(None, {session.get_inputs()[0].name: inputs.numpy()})
    with torch.no_grad():
        expected: torch.Tensor = module(inputs)
    assert expected.shape == (len(inputs), 2)
    # Not dead: a classifier whose outputs are all zero passes every comparison.
    assert expected.abs().max() > 0
    assert relative_error(torch.from_numpy(outputs), expected) < 1e-3
    return expected
