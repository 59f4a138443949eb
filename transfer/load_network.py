"""Loading a network from a file, from torchvision, from a function, or from `NETWORKS`."""

from __future__ import annotations

import importlib
import inspect
import re
import sys
from argparse import Namespace
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn
from torch.serialization import safe_globals

from ..converters.images.preprocessing import Preprocessing
from ..converters.saved import (
    SavedModel,
    TorchvisionNetwork,
    apply_overrides,
    infer_output_kind,
    open_model,
)
from ..converters.saved.torchvision_network import classifier_names
from .errors import HeadError, NetworkError
from .find_layers import nearest
from .heads import find_head, resize_head
from .network_description import WEIGHTS, find_description
from .networks import NETWORKS
from .torch7_weights import fill_from_t7

#: Prefixes of a source that is not a file.
TORCHVISION, PYTHON = "torchvision:", "python:"

#: Keys under which checkpoints keep the state dict of their network.
_STATE_KEYS = ("state_dict", "model")


def load_network(
    source: str, weights: str | None = None, *, at: str | None = None, **overrides: Any
) -> SavedModel:
    """Load a trained network.

    Args:
        source: A `.t7` file or the folder of a saved model; `torchvision:NAME`, such as
            `torchvision:resnet18`; or `python:package.module:function`, a function that is called
            without arguments and returns an `nn.Module`, or a `SavedModel` that describes it.
        weights: A `.safetensors`, `.pth` or `.pt` file with the state dict of a network that is
            not a file itself; a `.t7` with its tensors (see `fill_from_t7`); or the folder of the
            run that trained it. No code in it is run. The head, labels and preprocessing of a run
            are taken from it too. The head has as many outputs as the weights.
        at: The path of the model in a `.t7` file (see `open_model`), or of the weights in one.
        overrides: `labels`, `mean_std`, `input_size`, `resize`, as for `open_model`.

    Raises:
        NetworkError: There is no such network, or the weights do not fit it.
        TorchliftError: A file cannot be opened.
    """
    if not source.startswith((TORCHVISION, PYTHON)):
        if weights is not None:
            raise NetworkError(f"{source} has its own weights; leave out weights={weights!r}")
        if source in NETWORKS and not Path(source).exists():
            raise NetworkError(
                f"{source} is a network without weights: `torchlift train` trains it"
            )
        return open_model(source, at=at, **overrides)
    # Random weights are the same each time, so that a command can be repeated.
    run = None if weights is None else find_description(weights)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        if source.startswith(TORCHVISION):
            name = source.removeprefix(TORCHVISION)
            model = _torchvision_classifier(name, transform_input=weights is not None)
        else:
            arguments = () if run is None else run.arguments
            model = _model_from_function(source.removeprefix(PYTHON), arguments)
            if run is not None:
                run.apply(model)
    is_t7 = weights is not None and Path(weights).suffix.lower() == ".t7"
    if at is not None and not is_t7:
        raise NetworkError(f"{source} is a single network; leave out at={at!r}")
    network = model.module
    if weights is not None:
        inner = network.network if isinstance(network, TorchvisionNetwork) else network
        if is_t7:
            model.notes += fill_from_t7(inner, Path(weights), at)
        else:
            _load_weights(model, inner, _weights_file(Path(weights)))
    elif isinstance(network, TorchvisionNetwork):
        model.notes.append("no weights were given: they are random")
    apply_overrides(model, source, **overrides)
    return model


def new_network(source: str, channels: int, classes: int) -> nn.Module:
    """Create a network with random weights, to train from scratch.

    Args:
        source: A name of `NETWORKS`; `torchvision:NAME`; or `python:package.module:function`, a
            function that takes the numbers of channels and classes and returns an `nn.Module`.
        channels: Channels of an image.
        classes: Number of outputs.

    Raises:
        NetworkError: There is no such network.
    """
    if source in NETWORKS:
        return NETWORKS[source](channels, classes)
    if source.startswith(TORCHVISION):
        return _torchvision_classifier(source.removeprefix(TORCHVISION), classes).module
    if source.startswith(PYTHON):
        network = _call_function(source.removeprefix(PYTHON), channels, classes)
        if not isinstance(network, nn.Module):
            raise NetworkError(f"{source} returned {_type_of(network)}, not an nn.Module")
        return network
    raise NetworkError(
        f"no network {source!r}: one of {', '.join(NETWORKS)} was expected, or {TORCHVISION}NAME, "
        f"or {PYTHON}package.module:function; `finetune` starts from a file"
    )


def _torchvision_classifier(
    name: str, classes: int = 1000, transform_input: bool = False
) -> SavedModel:
    """Return a torchvision classifier with the preprocessing of its ImageNet weights."""
    from torchvision.models import get_model_weights

    if name not in classifier_names():
        similar = ", ".join(nearest(name, classifier_names())) or "see torchvision.models"
        raise NetworkError(f"torchvision has no classifier {name!r}; similar names: {similar}")
    module = TorchvisionNetwork(name, classes, transform_input).eval()
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


def _model_from_function(name: str, arguments: Sequence[Any] = ()) -> SavedModel:
    """Return the network that a function returns, in evaluation mode.

    Args:
        name: `package.module:function`.
        arguments: What the function is called with, if it takes arguments.
    """
    result = _call_function(name, *arguments, optional=True)
    if isinstance(result, nn.Module):
        result = SavedModel(result, infer_output_kind(result))
    if not isinstance(result, SavedModel):
        raise NetworkError(f"{PYTHON}{name} returned {_type_of(result)}, not an nn.Module")
    result.module.eval()
    return result


def _call_function(name: str, *arguments: Any, optional: bool = False) -> Any:
    """Call a function by its name, `package.module:function`, and return its result.

    Args:
        name: The function.
        arguments: Its arguments.
        optional: Whether a function that takes no arguments is called without them.
    """
    module_name, _, function_name = name.partition(":")
    # Modules in the current folder can be imported too. It comes last: a file there must not take
    # the place of a package that torchlift or the function's module imports.
    if not {"", str(Path.cwd())} & set(sys.path):
        sys.path.append(str(Path.cwd()))
    try:
        function = getattr(importlib.import_module(module_name), function_name)
    except (ImportError, AttributeError, ValueError) as error:
        raise NetworkError(f"{PYTHON}{name}: {error}") from error
    try:
        if optional:
            with suppress(ValueError, TypeError):
                if not inspect.signature(function).parameters:
                    arguments = ()
        return function(*arguments)
    except TypeError as error:
        raise NetworkError(f"{PYTHON}{name}: {error}") from error


def _type_of(value: object) -> str:
    return f"a value of type {type(value).__name__}"


def _weights_file(path: Path) -> Path:
    """Return the file of weights that a path names: itself, or that of a run.

    Raises:
        NetworkError: The folder holds no weights of a network.
    """
    if not path.is_dir():
        return path
    if (path / WEIGHTS).is_file():
        return path / WEIGHTS
    if (path / "model").is_dir():
        raise NetworkError(f"{path}: its model is complete: open {path / 'model'} itself")
    raise NetworkError(
        f"{path}: holds no {WEIGHTS}, which a finished run of a network of your own has; name a "
        "file of weights, such as one of its checkpoints"
    )


def _load_weights(model: SavedModel, network: nn.Module, file: Path) -> None:
    """Load a state dict from a file into a network; the keys have to match.

    Args:
        model: The model that the network is of. A head with another number of outputs than the
            weights is replaced, with a note.
        network: The network that the state dict is of.
        file: The file.
    """
    state = _read_state(file)
    with suppress(HeadError):
        name = find_head(network)
        own, given = network.get_parameter(f"{name}.weight").shape, state.get(f"{name}.weight")
        if given is not None and own != given.shape and own[1:] == given.shape[1:]:
            resize_head(network, len(given))
            model.labels = None
            model.notes.append(f"the head has {len(given)} outputs, as {file} has, not {own[0]}")
    try:
        network.load_state_dict(state)
    except RuntimeError as error:
        problems = [line.strip() for line in str(error).splitlines()[1:4]]
        raise NetworkError(f"{file} does not fit the network: {' '.join(problems)}") from None


def _read_state(file: Path) -> dict[str, torch.Tensor]:
    """Return the state dict in a file, or in a checkpoint that holds one."""
    try:
        if file.suffix == ".safetensors":
            content: Any = load_file(file)
        else:
            # torchvision's references keep their options, plain values, beside the weights.
            with safe_globals([Namespace]):
                content = torch.load(file, map_location="cpu", weights_only=True)
    except (OSError, SafetensorError, RuntimeError, EOFError) as error:
        raise NetworkError(f"{file}: cannot be read: {_first_line(error)}") from error
    except UnpicklingError as error:
        found = re.search(r"GLOBAL (\S+)", str(error))
        more = f"a Python object of {found[1]}" if found else "more than tensors"
        raise NetworkError(
            f"{file}: damaged, or no plain state dict: it holds {more}; save model.state_dict()"
        ) from error
    except Exception as error:  # of a damaged archive
        raise NetworkError(f"{file}: cannot be read: {_first_line(error)}") from error
    inner = [content.get(key) for key in _STATE_KEYS] if isinstance(content, dict) else []
    state = next((value for value in inner if isinstance(value, dict)), content)
    if not isinstance(state, dict) or not all(
        isinstance(name, str) and isinstance(value, torch.Tensor) for name, value in state.items()
    ):
        raise NetworkError(f"{file}: no state dict: names and tensors were expected")
    # DataParallel and DistributedDataParallel prefix every name.
    return {name.removeprefix("module."): tensor for name, tensor in state.items()}


def _first_line(error: Exception) -> str:
    """Return the first line of an error, or its class where it says nothing."""
    return (str(error).splitlines() or [type(error).__name__])[0]
