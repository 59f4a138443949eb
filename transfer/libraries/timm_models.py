"""`timm:NAME`: timm's classifiers, the weights that it publishes, and what their images are."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ...converters.images.preprocessing import Preprocessing
from ...converters.saved import SavedModel, TimmNetwork
from ...converters.saved.timm_network import timm_architectures
from ..errors import NetworkError
from ..find_layers import nearest
from .published import hub_file, weights_at

#: The part of an image that a network sees, where timm says nothing.
_CROP = 0.875


def timm_classifier(name: str, classes: int | None = None, tag: str = "") -> SavedModel:
    """Return a classifier of timm with random weights, and the preprocessing of published ones.

    Args:
        name: Its name in timm, `resnet18`, or with a tag of weights, `resnet18.a1_in1k`.
        classes: Number of outputs; by default as the published weights have.
        tag: The tag of the weights that it gets.

    Raises:
        NetworkError: There is no such classifier, or no such tag.
        SavedModelError: timm is missing.
    """
    settings = _published(name, tag)
    count = int(settings["num_classes"] or 1000) if classes is None else classes
    module = TimmNetwork(settings["architecture"], count).eval()
    return described_by_timm(module, settings)


def timm_weights(name: str, weights: str, download: bool) -> Path:
    """Return the file of published weights, in the cache of the Hugging Face Hub or `torch.hub`.

    Args:
        name: The classifier, with or without a tag.
        weights: A tag of its weights, or `DEFAULT` for those of the name.
        download: Whether a file that is not there is fetched.

    Raises:
        NetworkError: There are no such weights, or they are not in the cache.
    """
    settings = _published(name, "" if weights == "DEFAULT" else weights)
    repository, url = settings.get("hf_hub_id"), settings.get("url")
    if repository:
        file = settings.get("hf_hub_filename") or "model.safetensors"
        if found := hub_file(repository, file, download):
            return found
        raise NetworkError(
            f"hf:{repository} is not in the cache of the Hugging Face Hub: download=True fetches it"
        )
    if not url:
        raise NetworkError(f"timm publishes no weights of {name}")
    return weights_at(url, download)


def described_by_timm(module: TimmNetwork, settings: Mapping[str, Any]) -> SavedModel:
    """Return a network with the preprocessing that timm's settings of its weights say.

    Args:
        module: The network.
        settings: `input_size` (C, H, W), `crop_pct`, `crop_mode`, `interpolation`, `mean`, `std`.
    """
    _, height, width = settings.get("input_size") or (3, 224, 224)
    part, mode = settings.get("crop_pct") or _CROP, settings.get("crop_mode") or "center"
    resized = math.floor(height / part), math.floor(width / part)
    keeps_shape = mode == "center" and height == width
    interpolation = settings.get("interpolation") or "bicubic"
    if interpolation not in ("bilinear", "bicubic", "lanczos", "nearest", "box", "hamming"):
        interpolation = "bicubic"
    preprocessing = Preprocessing(
        size=resized[0] if keeps_shape else resized,
        resize=f"pil-{interpolation}",
        crop=(height, width),
        mean=tuple(settings["mean"]),
        std=tuple(settings["std"]),
    )
    model = SavedModel(module, "logits", (3, height, width), preprocessing=preprocessing)
    if mode == "border":
        model.notes.append("timm pads images of another shape to a square; here they are stretched")
    return model


def _published(name: str, tag: str) -> dict[str, Any]:
    """Return what timm says of the weights of a classifier.

    Raises:
        NetworkError: There is no such classifier, or no such tag.
    """
    architecture, _, own_tag = name.partition(".")
    known = timm_architectures()
    if architecture not in known:
        similar = ", ".join(nearest(architecture, known)) or "see timm.list_models()"
        raise NetworkError(f"timm has no network {name!r}; similar names: {similar}")
    from timm.models import get_pretrained_cfg, list_pretrained

    tag = tag or own_tag
    try:
        found = get_pretrained_cfg(f"{architecture}.{tag}" if tag else architecture)
    except RuntimeError:
        tags = [each.partition(".")[2] for each in list_pretrained(f"{architecture}.*")]
        raise NetworkError(
            f"weights={tag!r} is no file, and timm publishes {', '.join(tags) or 'no weights'} of "
            f"{architecture}"
        ) from None
    defaults = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225), "num_classes": None}
    settings = {} if found is None else found.to_dict(remove_null=True)
    return {**defaults, **settings, "architecture": architecture}
