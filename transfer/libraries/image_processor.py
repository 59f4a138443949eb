"""What `preprocessor_config.json` of transformers says of images, as a `Preprocessing`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ...converters.images.preprocessing import Preprocessing
from ...converters.validation import check_entries, flag, list_of, number, optional, whole

#: Pillow's numbers of resampling.
_RESAMPLING = {
    0: "pil-nearest",
    1: "pil-lanczos",
    2: "pil-bilinear",
    3: "pil-bicubic",
    4: "pil-box",
    5: "pil-hamming",
}

#: From this size on, ConvNeXt's images are resized to it and not cropped.
_NOT_CROPPED = 384

_FLAGS = (
    *("do_resize", "do_center_crop", "do_rescale", "do_normalize", "do_flip_channel_order"),
    "rescale_offset",
)
_ENTRIES = {
    **dict.fromkeys(_FLAGS, optional(flag)),
    **dict.fromkeys(("image_mean", "image_std"), optional(list_of(number))),
    **dict.fromkeys(("rescale_factor", "crop_pct"), optional(number)),
    "resample": optional(whole(0, 5)),
}


def preprocessing_of(values: Mapping[str, Any]) -> Preprocessing:
    """Return what an image processor of transformers does.

    Args:
        values: The entries of its file.

    Raises:
        ValueError: An entry is damaged, or does something that a `Preprocessing` does not.
        PreprocessingError: Its numbers make no preprocessing.

    Example:
        >>> size = {"height": 224, "width": 224}
        >>> preprocessing_of({"do_resize": True, "size": size, "resample": 2}).size
        (224, 224)
    """
    check_entries(values, _ENTRIES, optional=tuple(_ENTRIES))
    other = [
        name
        for name, value in values.items()
        if name.startswith("do_") and value and name not in (*_FLAGS, "do_convert_rgb")
    ]
    if other or values.get("rescale_offset"):
        raise ValueError(f"{(*other, 'rescale_offset')[0]} is not known")
    size = _size(values.get("size")) if values.get("do_resize", True) else None
    crop = _size(values.get("crop_size")) if values.get("do_center_crop") else None
    if isinstance(size, int) and values.get("crop_pct"):
        # As ConvNeXt's images.
        crop = None if size >= _NOT_CROPPED else (size, size)
        size = (size, size) if crop is None else int(size / values["crop_pct"])
    normalizes = values.get("do_normalize", True)
    return Preprocessing(
        color="BGR" if values.get("do_flip_channel_order") else "RGB",
        size=size,
        resize=_RESAMPLING[values.get("resample", 2)],
        crop=(crop, crop) if isinstance(crop, int) else crop,
        value_range=_value_range(values),
        mean=tuple(values.get("image_mean") or ()) if normalizes else (),
        std=tuple(values.get("image_std") or ()) if normalizes else (),
    )


def _value_range(values: Mapping[str, Any]) -> int | tuple[float, float]:
    if not values.get("do_rescale", True):
        return 255
    factor = values.get("rescale_factor") or 1 / 255
    return 1 if abs(factor * 255 - 1) < 1e-6 else (0.0, factor * 255)


def _size(value: Any) -> tuple[int, int] | int | None:
    """Return (height, width), or the length of the shorter side.

    Raises:
        ValueError: It is neither.
    """
    if isinstance(value, dict) and {"height", "width"} <= set(value):
        return value["height"], value["width"]
    if isinstance(value, dict) and list(value) == ["shortest_edge"]:
        value = value["shortest_edge"]
    if value is None or isinstance(value, int):
        return value
    raise ValueError(f"the size {value} is not known")
