"""An image classifier of transformers as one layer, so that a saved model can name it."""

from __future__ import annotations

import json
from typing import Any

import torch
from torch import nn

from ..modules.registry import layer
from ..requirements import require
from .errors import SavedModelError
from .named_network import NamedNetwork, build_with_buffers

#: Entries of a configuration that do not change the network, and name code or files to load.
_LEFT_OUT = (
    *("_name_or_path", "architectures", "auto_map", "dtype", "torch_dtype", "id2label"),
    *("label2id", "num_labels", "quantization_config", "transformers_version"),
)

#: Parts of entries for networks that are built around another one, which would be loaded.
_OF_ANOTHER_NETWORK = ("backbone", "pretrained")

#: Above every size in a configuration, and below what keeps a machine busy for hours.
_LARGEST_NUMBER = 1_000_000


@layer
class TransformersNetwork(NamedNetwork):
    """A classifier that transformers builds, with random weights; nothing is downloaded.

    Args:
        config: The content of its `config.json`, as JSON text: data alone, no code is loaded.
        num_classes: Number of outputs.

    Raises:
        MissingPackageError: If transformers is not installed.
        SavedModelError: If it cannot build such a classifier.

    Example:
        With transformers installed, of a folder that it wrote:

        ```python
        config = Path("resnet/config.json").read_text(encoding="utf-8")
        network = TransformersNetwork(config, num_classes=3)
        ```
    """

    def __init__(self, config: str, num_classes: int) -> None:
        super().__init__()
        self.config = config
        self.network = _build_transformers(_checked_config(config), num_classes)

    @property
    def classifier(self) -> nn.Module:
        """The part of the network in which its head is."""
        part = getattr(self.network, "classifier", None)
        return part if isinstance(part, nn.Module) else self.network

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """Map (N, 3, H, W) to logits (N, num_classes)."""
        output: torch.Tensor = self.network(pixel_values=input, return_dict=True).logits
        return output


def stored_config(values: dict[str, Any]) -> str:
    """Return what of a `config.json` describes the network, as JSON text.

    Raises:
        SavedModelError: If it is not that of an image classifier.
    """
    kept = {name: value for name, value in values.items() if name not in _LEFT_OUT}
    text = json.dumps(kept, sort_keys=True)
    _checked_config(text)
    return text


def with_current_names(
    module: TransformersNetwork, state: dict[str, torch.Tensor]
) -> dict[str, torch.Tensor]:
    """Return tensors by the names that the installed transformers has for them.

    Files keep the names of the version that first wrote them. Those of no use keep theirs.

    Raises:
        SavedModelError: If transformers does not take them.
    """
    from transformers.utils import logging

    network: Any = module.network
    verbosity = logging.get_verbosity()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        # Without a place to load from, it takes the tensors that are given.
        loaded, found = type(network).from_pretrained(
            None,
            config=network.config,
            state_dict=dict(state),
            output_loading_info=True,
            ignore_mismatched_sizes=True,
        )
    except Exception as error:  # of any class, for tensors of another network
        raise SavedModelError(f"transformers does not take the weights: {error}") from error
    finally:
        logging.set_verbosity(verbosity)
        logging.enable_progress_bar()
    mismatched = [key if isinstance(key, str) else key[0] for key in found["mismatched_keys"]]
    random = {*found["missing_keys"], *mismatched}
    known = {name: value for name, value in loaded.state_dict().items() if name not in random}
    return known | {name: state[name] for name in found["unexpected_keys"] if name in state}


def _checked_config(text: str) -> dict[str, Any]:
    try:
        values = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise SavedModelError(f"the configuration is damaged: {error}") from None
    if not isinstance(values, dict) or not isinstance(values.get("model_type"), str):
        raise SavedModelError("the configuration has no model_type: it is not of transformers")
    for name, value in values.items():
        if name in _LEFT_OUT or (value and any(part in name for part in _OF_ANOTHER_NETWORK)):
            raise SavedModelError(f"the configuration has {name}, which would load something")
        _check_numbers(name, value)
    return values


def _check_numbers(name: str, value: Any) -> None:
    items = list(value.values()) if isinstance(value, dict) else value
    for item in items if isinstance(items, list) else []:
        _check_numbers(name, item)
    if isinstance(value, (int, float)) and not abs(value) <= _LARGEST_NUMBER:
        raise SavedModelError(f"the configuration has {name}: {value}, which is no size")


def _build_transformers(config: dict[str, Any], num_classes: int) -> nn.Module:
    require("this network", "transformers")
    from transformers import CONFIG_MAPPING, AutoModelForImageClassification
    from transformers.models.auto.modeling_auto import (
        MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING_NAMES,
    )

    kind = config["model_type"]
    # That of timm takes its network by a name, which may be a place to load it from.
    if kind not in MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING_NAMES or kind == "timm_wrapper":
        raise SavedModelError(f"transformers has no image classifier {kind!r}")
    settings = {name: value for name, value in config.items() if name != "model_type"}
    try:
        described = CONFIG_MAPPING[kind](**settings, num_labels=num_classes)
        network: nn.Module = build_with_buffers(
            lambda: AutoModelForImageClassification.from_config(described, trust_remote_code=False)
        )
    except Exception as error:  # of a constructor that does not take these values
        raise SavedModelError(f"transformers cannot build this {kind}: {error}") from error
    return network.float()
