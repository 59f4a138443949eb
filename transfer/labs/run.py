"""Every lab by its name, and how one is run."""

from __future__ import annotations

import importlib.metadata
import os
import platform
from dataclasses import asdict
from typing import Any

from ... import __version__
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

_PACKAGES = ("torch", "torchvision", "numpy", "scikit-learn", "matplotlib")


def settings_of(lab: Lab, options: LabOptions) -> dict[str, Any]:
    """Return everything that the results of a lab depend on.

    A lab is resumed only if these are unchanged.

    Example:
        >>> settings_of(LABS["blitz"], LabOptions(seed=3))["seed"]
        3
    """
    return {"lab": lab.name, **asdict(options), "torchlift": __version__}


def do_lab(lab: Lab, steps: Steps, options: LabOptions) -> Page:
    """Run the commands of a lab and assemble its report.

    Args:
        lab: One of `LABS`.
        steps: Runs the commands, or reads results that an earlier process recorded.
        options: The options of the lab.

    Raises:
        LabError: When a command fails.
    """
    sections = lab.sections(steps, options)
    given_options = {name: value for name, value in asdict(options).items() if value}
    facts = {
        "lab": lab.name,
        **{name.replace("_", " "): str(value) for name, value in given_options.items()},
        "seed": str(options.seed),
        "device": _device(options.device),
        "seconds": f"{sum(step.seconds for step in steps.done):.0f}",
        "machine": f"{platform.machine()}, {os.cpu_count()} CPU cores, {platform.system()}",
        "torchlift": __version__,
        "Python": platform.python_version(),
        **{name: importlib.metadata.version(name) for name in _PACKAGES},
    }
    return Page(lab.title, lab.about, sections, steps.done, facts, steps.notes)


def _device(choice: str) -> str:
    """Return the name of the device that the networks ran on."""
    import torch

    if choice == "cpu" or not torch.cuda.is_available():
        return "CPU"
    return torch.cuda.get_device_name()
