"""Loading a network from a file, another library, a function, or from `NETWORKS`."""

from __future__ import annotations

import importlib
import inspect
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ..converters.saved import (
    NamedNetwork,
    SavedModel,
    apply_overrides,
    infer_output_kind,
    is_saved_model,
    open_model,
)
from ..converters.saved.hub import HF, fetch_of_another_library, is_remote, model_path
from .errors import NetworkError
from .libraries.checkpoint import fill_from_state, read_state
from .libraries.hugging_face import open_hugging_face
from .libraries.timm_models import timm_classifier, timm_weights
from .libraries.torchvision_models import (
    torchvision_classifier,
    torchvision_weights,
    with_current_names,
)
from .network_description import WEIGHTS, NetworkDescription, find_description
from .networks import NETWORKS
from .torch7_weights import fill_from_t7

#: Prefixes of a source that is not a file.
TORCHVISION, TIMM, PYTHON = "torchvision:", "timm:", "python:"


def load_network(
    source: str,
    weights: str | None = None,
    *,
    at: str | None = None,
    download: bool = False,
    **overrides: Any,
) -> SavedModel:
    """Load a trained network.

    Args:
        source: A `.t7` file or the folder of a saved model; `torchvision:NAME` or `timm:NAME`, such
            as `torchvision:resnet18`; `hf:FOLDER` or `hf:ORG/NAME` (see `model_path`), a saved
            model or a classifier of timm or transformers; or `python:package.module:function`, a
            function that is called without arguments and returns an `nn.Module`, or a `SavedModel`
            that describes it.
        weights: A `.safetensors`, `.pth` or `.pt` file with the state dict of a network that is
            not a file itself, alone or in a checkpoint; a `.t7` with its tensors (see
            `fill_from_t7`); the folder of the run that trained it; or the name of weights that
            torchvision (`IMAGENET1K_V1`) or timm (`a1_in1k`) publishes, or `DEFAULT`, in their
            cache. No code in it is run. The head, labels and preprocessing of a run are taken from
            it too. The head has as many outputs as the weights; a note lists what does not fit.
        at: The path of the model in a `.t7` file (see `open_model`), or of the weights in one.
        download: Whether published weights that are not in a cache are fetched.
        overrides: `labels`, `mean_std`, `input_size`, `resize`, as for `open_model`.

    Raises:
        NetworkError: There is no such network, or the weights do not fit it.
        TorchliftError: A file cannot be opened.

    Example:
        >>> from torchlift.transfer import load_network
        >>> load_network("fixtures/digits/digits-lenet5.t7").output_kind
        'log_probabilities'
    """
    if download and not source.startswith((TORCHVISION, TIMM)):
        raise NetworkError(f"download=True is for torchvision:NAME and timm:NAME, not {source}")
    is_named = source.startswith((TORCHVISION, TIMM, PYTHON))
    if weights is not None and not is_named:
        raise NetworkError(f"{source} has its own weights; leave out weights={weights!r}")
    if not is_named:
        if source.startswith(HF) and not is_saved_model(folder := model_path(source)):
            return _of_another_library(source, folder, at, overrides)
        if source in NETWORKS and not Path(source).exists():
            raise NetworkError(
                f"{source} is a network without weights: `torchlift train` trains it"
            )
        return open_model(source, at=at, **overrides)
    is_t7 = weights is not None and Path(weights).suffix.lower() == ".t7"
    if at is not None and not is_t7:
        raise NetworkError(f"{source} is a single network; leave out at={at!r}")
    with _same_random_numbers():
        model = _without_weights(source, weights)
    if weights is not None:
        network = model.module
        inner = network.network if isinstance(network, NamedNetwork) else network
        if is_t7:
            model.notes += fill_from_t7(inner, Path(weights), at)
        else:
            file = _weights_file(source, weights, download)
            state, key = read_state(file)
            if source.startswith(TORCHVISION):
                state = with_current_names(state)
            fill_from_state(model, inner, state, str(file))
            if "ema" in key:
                model.notes.append(f"{file}: the averaged weights are taken ({key})")
    elif source.startswith((TORCHVISION, TIMM)):
        model.notes.append("no weights were given: they are random")
    apply_overrides(model, source, **overrides)
    return model


def _of_another_library(
    source: str, folder: Path, at: str | None, overrides: dict[str, Any]
) -> SavedModel:
    """Return the network of timm or transformers in a folder, described by what is said of it."""
    if at is not None:
        raise NetworkError(f"{source} is a single network; leave out at={at!r}")
    if is_remote(source):
        fetch_of_another_library(source)
    with _same_random_numbers():
        model = open_hugging_face(folder)
    if is_remote(source):
        model.notes.append(f"downloaded from {source}, commit {folder.name}")
    # Its weights are float32 in any case.
    apply_overrides(model, source, **{k: v for k, v in overrides.items() if k != "dtype"})
    return model


@contextmanager
def _same_random_numbers() -> Iterator[None]:
    """Make random weights the same each time, so that a command can be repeated."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        yield


def _without_weights(source: str, weights: str | None) -> SavedModel:
    """Return a network by its name, with random weights."""
    prefix, _, name = source.partition(":")
    published = None if weights is None or Path(weights).exists() else weights
    if f"{prefix}:" == TIMM:
        return timm_classifier(name, tag="" if published in (None, "DEFAULT") else published)
    if f"{prefix}:" == TORCHVISION:
        return torchvision_classifier(name, weights=weights)
    run: NetworkDescription | None = None if weights is None else find_description(weights)
    model = _model_from_function(name, () if run is None else run.arguments)
    if run is not None:
        run.apply(model)
    return model


def new_network(source: str, channels: int, classes: int) -> nn.Module:
    """Create a network with random weights, to train from scratch.

    Args:
        source: A name of `NETWORKS`; `torchvision:NAME` or `timm:NAME`; or
            `python:package.module:function`, a function that takes the numbers of channels and
            classes and returns an `nn.Module`.
        channels: Channels of an image.
        classes: Number of outputs.

    Raises:
        NetworkError: There is no such network.
    """
    if source in NETWORKS:
        return NETWORKS[source](channels, classes)
    if source.startswith(TORCHVISION):
        return torchvision_classifier(source.removeprefix(TORCHVISION), classes).module
    if source.startswith(TIMM):
        return timm_classifier(source.removeprefix(TIMM), classes).module
    if source.startswith(PYTHON):
        network = _call_function(source.removeprefix(PYTHON), channels, classes)
        if not isinstance(network, nn.Module):
            raise NetworkError(f"{source} returned {_type_of(network)}, not an nn.Module")
        return network
    raise NetworkError(
        f"no network {source!r}: one of {', '.join(NETWORKS)} was expected, or {TORCHVISION}NAME, "
        f"{TIMM}NAME or {PYTHON}package.module:function; `finetune` starts from a file"
    )


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


def _weights_file(source: str, weights: str, download: bool) -> Path:
    """Return the file of weights that `weights` names: itself, that of a run, or a published one.

    Raises:
        NetworkError: There is none.
    """
    path = Path(weights)
    if path.is_file():
        return path
    if path.is_dir():
        if (path / WEIGHTS).is_file():
            return path / WEIGHTS
        if (path / "model").is_dir():
            raise NetworkError(f"{path}: its model is complete: open {path / 'model'} itself")
        raise NetworkError(
            f"{path}: holds no {WEIGHTS}, which a finished run of a network of your own has; name "
            "a file of weights, such as one of its checkpoints"
        )
    if path.suffix or path.name != weights or source.startswith(PYTHON):
        raise NetworkError(f"{weights}: no such file")
    if source.startswith(TIMM):
        return timm_weights(source.removeprefix(TIMM), weights, download)
    return torchvision_weights(source.removeprefix(TORCHVISION), weights, download)
