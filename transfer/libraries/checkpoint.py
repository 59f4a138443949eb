"""Somebody's checkpoint: the state dict in it, and what of it fits a network."""

from __future__ import annotations

import re
from argparse import Namespace
from collections import Counter
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

from ...converters.errors import first_line
from ...converters.saved import SavedModel
from ..errors import HeadError, NetworkError
from ..heads import find_head, resize_head

#: Keys under which checkpoints keep the state dict of their network, averaged weights first: they
#: are what is evaluated and published.
_AVERAGED = ("state_dict_ema", "model_ema", "ema_state_dict", "ema")
_PLAIN = ("state_dict", "model_state_dict", "model", "network", "net", "module")

#: The number of tensors that a note names.
_NAMED = 5

#: A state dict: names and tensors.
State = dict[str, torch.Tensor]


def read_state(file: Path) -> tuple[State, str]:
    """Return the state dict in a file, or in a checkpoint that holds one; no code in it is run.

    Returns:
        The tensors by name, and the keys that lead to them; empty where the file is the dict.

    Raises:
        NetworkError: It cannot be read, or holds no state dict or more than plain values.
    """
    try:
        if file.suffix.lower() == ".safetensors":
            content: Any = load_file(file)
        else:
            # torchvision's references keep their options, plain values, beside the weights.
            with safe_globals([Namespace]):
                content = torch.load(file, map_location="cpu", weights_only=True)
    except (OSError, SafetensorError, RuntimeError, EOFError) as error:
        raise NetworkError(f"{file}: cannot be read: {first_line(error)}") from error
    except UnpicklingError as error:
        found = re.search(r"GLOBAL (\S+)", str(error))
        more = f"a Python object of {found[1]}" if found else "more than tensors"
        raise NetworkError(
            f"{file}: damaged, or no plain state dict: it holds {more}; save model.state_dict()"
        ) from error
    except Exception as error:  # of a damaged archive
        raise NetworkError(f"{file}: cannot be read: {first_line(error)}") from error
    state, key = _find_state(content)
    if not state:
        raise NetworkError(f"{file}: no state dict: names and tensors were expected")
    return state, key


def fill_from_state(model: SavedModel, network: nn.Module, state: State, source: str) -> None:
    """Give a network the tensors of a state dict that fit; a note lists the rest.

    Names may have a prefix that the network's lack, such as `module.` of DataParallel, `model.` of
    Lightning or `_orig_mod.` of a compiled network. A head with another number of outputs than the
    tensors is replaced.

    Args:
        model: The model that the network is of; it gets the notes.
        network: The network, which is changed.
        state: The tensors.
        source: Where they are from, for notes and errors.

    Raises:
        NetworkError: Half of the network's tensors or more are not among them.
    """
    prefix = _common_prefix(state, network)
    given = {
        name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)
    }
    with suppress(HeadError):
        name = find_head(network)
        own, head = network.get_parameter(f"{name}.weight").shape, given.get(f"{name}.weight")
        if head is not None and own != head.shape and own[1:] == head.shape[1:]:
            resize_head(network, len(head))
            model.labels = None
            model.notes.append(f"the head has {len(head)} outputs, as {source} has, not {own[0]}")
    expected = network.state_dict()
    fitting = {
        name: value
        for name, value in given.items()
        if name in expected and value.shape == expected[name].shape
    }
    # Old checkpoints lack the counter of BatchNorm, which changes no output.
    missing = [
        name
        for name in expected
        if name not in fitting and not name.endswith("num_batches_tracked")
    ]
    if 2 * len(missing) >= len(expected):
        raise NetworkError(
            f"{source} does not fit the network: {_misfit(missing[0], given, expected)}"
        )
    network.load_state_dict(fitting, strict=False)
    unused = [name for name in state if name.removeprefix(prefix) not in fitting]
    if missing or unused:
        rest = [
            f"{what} {_list(names)}"
            for what, names in (("not in it, so random:", missing), ("not used of it:", unused))
            if names
        ]
        model.notes.append(f"{source}: {len(fitting)} tensors are loaded; {'; '.join(rest)}")


def _find_state(content: Any, levels: int = 3) -> tuple[State, str]:
    """Return the state dict in a value and the keys that lead to it; nothing if there is none.

    Args:
        content: The value; a file may make a dict that contains itself.
        levels: How many keys at most lead to the state dict.
    """
    if not isinstance(content, dict) or not levels:
        return {}, ""
    for key in (*_AVERAGED, *_PLAIN):
        state, inner = _find_state(content.get(key), levels - 1)
        if state:
            return state, f"{key}.{inner}".strip(".")
    return _tensors(content), ""


def _tensors(values: dict[Any, Any]) -> State:
    """Return the tensors of a dict, nothing if it holds anything but tensors and plain values."""
    if not all(isinstance(name, str) for name in values):
        return {}
    if any(isinstance(value, dict) and value for value in values.values()):
        return {}
    return {name: value for name, value in values.items() if isinstance(value, torch.Tensor)}


def _common_prefix(state: State, network: nn.Module) -> str:
    """Return what most names in a state dict have before a name of the network."""
    own = network.state_dict()
    counts: Counter[str] = Counter()
    for name, value in state.items():
        steps = name.split(".")
        for start in range(len(steps)):
            known = own.get(".".join(steps[start:]))
            if known is not None and known.shape == value.shape:
                counts[name.removesuffix(".".join(steps[start:]))] += 1
    # Of two that are equally frequent, the shorter one.
    return min(counts, key=lambda prefix: (-counts[prefix], len(prefix)), default="")


def _misfit(name: str, given: State, expected: State) -> str:
    if name not in given:
        return f"{name} is not in it, but {_list(list(given))}"
    return f"{name} is {_shape(given[name])}, {_shape(expected[name])} was expected"


def _shape(tensor: torch.Tensor) -> str:
    return "×".join(map(str, tensor.shape)) or "a number"


def _list(names: Sequence[str]) -> str:
    more = f" and {len(names) - _NAMED:,} more" if len(names) > _NAMED else ""
    return f"{', '.join(names[:_NAMED])}{more}"
