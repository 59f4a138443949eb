"""The five labs: each a chain of torchlift commands, and a page that shows their results.

A lab is a `Lab` in a file of its own. Its function runs commands with `steps.run`, and gives the
sections of the report; whatever stands in them comes from the steps' results.
"""

from __future__ import annotations

import importlib.metadata
import os
import platform
from dataclasses import asdict
from typing import Any

from ... import __version__
from ..errors import LabError
from ..reports import Page
from .blitz import BLITZ
from .cifar2 import CIFAR2
from .lab import Lab
from .lenet_pytorch import LENET_PYTORCH
from .mnist_features import MNIST_FEATURES
from .options import LabOptions
from .steps import Steps
from .torch7_convnets import TORCH7_CONVNETS

#: Every lab, by its name on the command line.
LABS: dict[str, Lab] = {
    lab.name: lab for lab in (TORCH7_CONVNETS, LENET_PYTORCH, BLITZ, MNIST_FEATURES, CIFAR2)
}

__all__ = ["LABS", "Lab", "LabError", "LabOptions", "Steps", "do_lab", "settings_of"]

_PACKAGES = ("torch", "torchvision", "numpy", "scikit-learn", "matplotlib")


def settings_of(lab: Lab, options: LabOptions) -> dict[str, Any]:
    """What decides about a lab's results; a change of it makes another lab."""
    return {"lab": lab.name, **asdict(options), "torchlift": __version__}


def do_lab(lab: Lab, steps: Steps, options: LabOptions) -> Page:
    """Do a lab's steps and put its page together.

    Raises:
        LabError: when a step fails.
    """
    sections = lab.sections(steps, options)
    given = {name: value for name, value in asdict(options).items() if value}
    facts = {
        "lab": lab.name,
        **{name.replace("_", " "): str(value) for name, value in given.items()},
        "seed": str(options.seed),
        "device": _device(options.device),
        "seconds": f"{sum(step.seconds for step in steps.done):.0f}",
        "machine": f"{platform.machine()}, {os.cpu_count()} CPU cores, {platform.system()}",
        "torchlift": __version__,
        "Python": platform.python_version(),
        **{name: importlib.metadata.version(name) for name in _PACKAGES},
    }
    return Page(lab.title, lab.about, sections, steps.done, facts, steps.notes)


def _device(asked: str) -> str:
    """What the networks were computed on."""
    import torch

    if asked == "cpu" or not torch.cuda.is_available():
        return "CPU"
    return torch.cuda.get_device_name()
