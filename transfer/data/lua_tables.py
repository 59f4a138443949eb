"""Images and labels in Lua values, in the layouts in which Torch7 projects saved them.

A value may be wrapped: an object of the project's own class, a `tds.Vec` or `tds.Hash`, or a string
that `torch.serialize` wrote stands for what it holds. An image may be a tensor or the bytes of an
image file.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ...converters.images.decode import read_image
from ...converters.t7 import LuaObject, LuaTable
from ...converters.t7.embedded import embedded_value
from ..errors import DataError
from .array_layout import IMAGE_KEYS, LABEL_KEYS

#: How the image files that datasets hold begin: JPEG, PNG, BMP.
_IMAGE_STARTS = (b"\xff\xd8\xff", b"\x89PNG", b"BM")


def images_and_labels(value: Any) -> tuple[np.ndarray, np.ndarray | None]:
    """Return the images of a value of a `.t7`, and their labels if it has any.

    Args:
        value: A tensor of images, or a table of one of these layouts: images and labels under usual
            names or as a list of two, where the images are a tensor or a list; a list of pairs
            `{image, label}` or `{image = …, label = …}`; a list of images.

    Raises:
        DataError: If it is none of these, or a list holds images of different shapes.
        ImageError: If the bytes of an image file cannot be decoded.

    Example:
        >>> listed = LuaTable.from_list([np.zeros((3, 4, 4)), np.ones((3, 4, 4))])
        >>> images, labels = images_and_labels(LuaTable({"data": listed, "label": np.ones(2)}))
        >>> images.shape, labels
        ((2, 3, 4, 4), array([1., 1.]))
    """
    value = unwrapped(value)
    if isinstance(value, np.ndarray):
        return value, None
    if not isinstance(value, LuaTable) or not len(value):
        raise DataError("not a dataset: expected a table such as {data = N×C×H×W, label = N}")
    images, labels = unwrapped(entry(value, IMAGE_KEYS)), unwrapped(entry(value, LABEL_KEYS))
    if isinstance(images, LuaTable) and labels is None:
        return images_and_labels(images)
    if (batch := _batch(images)) is not None:
        return batch, None if labels is None else label_array(labels)
    entries = [unwrapped(item) for item in value.to_list()]
    if len(entries) == 2 and (found := _images_beside_labels(*entries)) is not None:
        return found
    pairs = [pair for item in entries if (pair := _pair(item)) is not None]
    if pairs and len(pairs) == len(entries):
        return _stacked([image for image, _ in pairs]), label_array(
            LuaTable.from_list([label for _, label in pairs])
        )
    if entries and len(entries) == len(value) and (batch := _batch(value)) is not None:
        return batch, None
    keys = ", ".join(map(str, value.keys()[:8]))
    raise DataError(f"no images under a usual name (data, x, images, inputs) among: {keys}")


def label_array(labels: Any) -> np.ndarray:
    """Return the labels of a tensor, or of a list of numbers or one-element tensors.

    Raises:
        DataError: If they are something else.
    """
    labels = unwrapped(labels)
    if isinstance(labels, LuaTable):
        try:
            labels = np.array([float(np.ravel(label)[0]) for label in labels.to_list()])
        except (TypeError, ValueError, IndexError):
            raise DataError("the labels are not numbers") from None
    if not isinstance(labels, np.ndarray):
        raise DataError(f"the labels are a {type(labels).__name__}, expected a tensor or a list")
    return labels


def entry(value: Any, names: Sequence[str]) -> Any:
    """Return a table's entry under the first of these names, in upper or lower case."""
    entries = named_entries(value)
    return next((entries[name] for name in names if name in entries), None)


def named_entries(value: Any) -> dict[str, Any]:
    """Return the entries of a table whose keys are strings, with the keys in lower case."""
    if not isinstance(value, LuaTable):
        return {}
    return {key.lower(): item for key, item in value.items() if isinstance(key, str)}


def unwrapped(value: Any) -> Any:
    """Return the table of an object, and what `torch.serialize` wrote into a string.

    Example:
        >>> from torchlift.converters import t7
        >>> unwrapped(t7.dumps({"label": 3}))["label"], unwrapped("cat")
        (3, 'cat')
    """
    inside = embedded_value(value)
    value = value if inside is None else inside
    return value.fields if isinstance(value, LuaObject) else value


def _batch(value: Any) -> np.ndarray | None:
    """Return a tensor of images, or a list of images as one; None for anything else."""
    if isinstance(value, np.ndarray):
        return value
    if not isinstance(value, LuaTable) or not len(value) or not value.is_list():
        return None
    images = [image for item in value.to_list() if (image := _image(item)) is not None]
    return _stacked(images) if len(images) == len(value) else None


def _images_beside_labels(first: Any, second: Any) -> tuple[np.ndarray, np.ndarray] | None:
    """Return images and labels of a list of two, in whichever order they stand there."""
    for images, labels in ((first, second), (second, first)):
        if _are_labels(labels) and not _are_labels(images):
            batch = _batch(images)
            if batch is not None and batch.ndim > 1:
                return batch, label_array(labels)
    both_tensors = isinstance(first, np.ndarray) and isinstance(second, np.ndarray)
    return (first, second) if both_tensors and second.ndim < first.ndim else None


def _are_labels(value: Any) -> bool:
    """Return whether a value is a list of numbers, one after the other."""
    if isinstance(value, np.ndarray):
        return value.size == max(value.shape, default=0)
    is_list = isinstance(value, LuaTable) and len(value) > 0 and value.is_list()
    return is_list and all(isinstance(item, (int, float)) for item in value.values())


def _pair(item: Any) -> tuple[np.ndarray, Any] | None:
    """Return the pair `{image, label}` or `{image = …, label = …}`, as `nn.StochasticGradient`."""
    if not isinstance(item, LuaTable):
        return None
    image = _image(item.get(1, entry(item, IMAGE_KEYS)))
    label = item.get(2, entry(item, LABEL_KEYS))
    return (image, label) if image is not None and label is not None else None


def _image(value: Any) -> np.ndarray | None:
    """Return one image: a tensor, or the pixels (C, H, W) of the bytes of an image file."""
    value = unwrapped(value)
    is_tensor = isinstance(value, np.ndarray)
    if is_tensor and value.ndim == 1 and value.dtype.itemsize == 1:
        data = value.tobytes()
    elif isinstance(value, (bytes, str)):
        data = value if isinstance(value, bytes) else value.encode()
    else:
        return value if is_tensor else None
    if not data.startswith(_IMAGE_STARTS):
        return value if is_tensor else None
    return np.atleast_3d(np.asarray(read_image(data, "an image"))).transpose(2, 0, 1)


def _stacked(images: Sequence[np.ndarray]) -> np.ndarray:
    shapes = {image.shape for image in images}
    if len(shapes) != 1:
        raise DataError(f"images of different shapes: {sorted(shapes)[:4]}")
    return np.stack(images)
