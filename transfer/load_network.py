"""Where a network comes from: a file, torchvision, a function, or a name of ours."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn

from ..converters.images.preprocessing import Preprocessing
from ..converters.saved import (
    SavedModel,
    TorchvisionNetwork,
    apply_overrides,
    infer_output_kind,
    open_model,
)
from .errors import NetworkError
from .layers import nearest
from .networks import NETWORKS

#: How a source begins that is no file.
TORCHVISION, PYTHON = "torchvision:", "python:"

#: What checkpoints call the tensors of their network.
_STATE_KEYS = ("state_dict", "model")


def load_network(
    source: str, weights: str | None = None, *, at: str | None = None, **known: Any
) -> SavedModel:
    """A trained network.

    Args:
        source: a `.t7` file or a saved model's folder; `torchvision:NAME`, such as
            `torchvision:resnet18`; or `python:package.module:function`, a function that is called
            without arguments and gives an `nn.Module`, or a `SavedModel` with what is known of it.
        weights: a `.safetensors`, `.pth` or `.pt` file with the tensors of a network that is not
            a file itself. No code in it is run.
        at: where the model stands in a `.t7` (see `open_model`).
        known: `labels`, `mean_std`, `input_size`, `resize`, as `open_model` takes them.

    Raises:
        NetworkError: when there is no such network, or the weights do not fit it.
        TorchliftError: when a file cannot be opened.
    """
    if not source.startswith((TORCHVISION, PYTHON)):
        if weights is not None:
            raise NetworkError(f"{source} is a file with weights of its own; leave out --weights")
        return open_model(source, at=at, **known)
    # Random weights are the same each time, so that a command gives the same again.
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        if source.startswith(TORCHVISION):
            model = _torchvision(source.removeprefix(TORCHVISION))
        else:
            model = _given(source.removeprefix(PYTHON))
    if at is not None:
        raise NetworkError(f"{source} is one network: nothing stands in it at {at}")
    network = model.module
    if weights is not None:
        inner = network.network if isinstance(network, TorchvisionNetwork) else network
        _fill(inner, Path(weights))
    elif isinstance(network, TorchvisionNetwork):
        model.notes.append("no weights were given: they are random")
    apply_overrides(model, source, **known)
    return model


def new_network(source: str, channels: int, classes: int) -> nn.Module:
    """A network to train from scratch, with random weights (of torch's generator).

    Args:
        source: a name of `NETWORKS`, `torchvision:NAME`, or `python:package.module:function`, a
            function that takes the number of channels and of classes and gives an `nn.Module`.
        channels: of an image.
        classes: number of outputs.

    Raises:
        NetworkError: when there is no such network.
    """
    if source in NETWORKS:
        return NETWORKS[source](channels, classes)
    if source.startswith(TORCHVISION):
        return _torchvision(source.removeprefix(TORCHVISION), classes).module
    if source.startswith(PYTHON):
        network = _call(source.removeprefix(PYTHON), channels, classes)
        if not isinstance(network, nn.Module):
            raise NetworkError(f"{source} gave a {type(network).__name__}, not an nn.Module")
        return network
    raise NetworkError(
        f"no network {source!r}: one of {', '.join(NETWORKS)} was expected, or {TORCHVISION}NAME, "
        f"or {PYTHON}package.module:function; `finetune` starts from a file"
    )


def _torchvision(name: str, classes: int = 1000) -> SavedModel:
    """A classifier of torchvision, prepared for as its own ImageNet weights were."""
    from torchvision.models import get_model_weights, list_models

    if name not in list_models():
        near = ", ".join(nearest(name, list_models())) or "see torchvision.models"
        raise NetworkError(f"torchvision has no network {name!r}; near: {near}")
    module = TorchvisionNetwork(name, classes).eval()
    transforms = next(iter(get_model_weights(name))).transforms()
    crop, shorter = transforms.crop_size[0], transforms.resize_size[0]
    preprocessing = Preprocessing(
        size=shorter,
        resize=f"pil-{transforms.interpolation.value}",
        crop=(crop, crop),
        mean=tuple(transforms.mean),
        std=tuple(transforms.std),
    )
    return SavedModel(module, "logits", (3, crop, crop), preprocessing=preprocessing)


def _given(name: str) -> SavedModel:
    """The network that a function gives, in evaluation mode."""
    given = _call(name)
    if isinstance(given, nn.Module):
        given = SavedModel(given, infer_output_kind(given))
    if not isinstance(given, SavedModel):
        raise NetworkError(f"{PYTHON}{name} gave a {type(given).__name__}, not an nn.Module")
    given.module.eval()
    return given


def _call(name: str, *arguments: Any) -> Any:
    """What a function gives; `package.module:function` names it."""
    module_name, _, function_name = name.partition(":")
    # As uvicorn does: what stands in the current folder can be named too.
    if str(Path.cwd()) not in sys.path:
        sys.path.insert(0, str(Path.cwd()))
    try:
        function = getattr(importlib.import_module(module_name), function_name)
    except (ImportError, AttributeError, ValueError) as error:
        raise NetworkError(f"{PYTHON}{name}: {error}") from error
    try:
        return function(*arguments)
    except TypeError as error:
        raise NetworkError(f"{PYTHON}{name}: {error}") from error


def _fill(network: nn.Module, file: Path) -> None:
    """Load a state dict into a network, all of it."""
    try:
        if file.suffix == ".safetensors":
            content: Any = load_file(file)
        else:
            content = torch.load(file, map_location="cpu", weights_only=True)
    except (OSError, SafetensorError, RuntimeError, EOFError) as error:
        raise NetworkError(f"{file}: cannot be read: {str(error).splitlines()[0]}") from error
    except Exception as error:
        # Unpickling says "UnpicklingError", which pickle's own module defines.
        raise NetworkError(f"{file}: no plain state dict: {str(error).splitlines()[0]}") from error
    state: dict[str, Any] = next(
        (content[key] for key in _STATE_KEYS if isinstance(content.get(key), dict)), content
    )
    # DataParallel and DistributedDataParallel put this before every name.
    state = {name.removeprefix("module."): tensor for name, tensor in state.items()}
    try:
        network.load_state_dict(state)
    except RuntimeError as error:
        problems = [line.strip() for line in str(error).splitlines()[1:4]]
        raise NetworkError(f"{file} does not fit the network: {' '.join(problems)}") from None
