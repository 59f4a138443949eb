"""What scripts call of OpenCV beside its networks, where it is not installed."""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace

import numpy as np
from PIL import Image

IMREAD_GRAYSCALE = 0


def imread(name: str, flags: int = 1) -> np.ndarray:
    with Image.open(name) as image:
        rgb = np.asarray(image.convert("L" if flags == 0 else "RGB"))
    return rgb if flags == 0 else rgb[:, :, ::-1]


def getTickFrequency() -> float:  # noqa: N802 - OpenCV's name
    return 1e9


def _blob_from_images(
    images: Sequence[np.ndarray],
    scale: float = 1.0,
    size: tuple[int, int] | None = None,
    mean: Sequence[float] = (),
    swapRB: bool = False,  # noqa: N803 - OpenCV's name
    crop: bool = False,
) -> np.ndarray:
    blobs = []
    for image in images:
        assert size is None or size == image.shape[1::-1], "the scripts resize nothing"
        values = np.atleast_3d(image).astype(np.float32)
        values = values[:, :, ::-1] if swapRB else values
        channels = values.shape[2]
        values = values - np.float32([*mean, *[0] * channels][:channels])
        blobs.append(values.transpose(2, 0, 1) * np.float32(scale))
    return np.ascontiguousarray(np.stack(blobs))


dnn = SimpleNamespace(
    blobFromImage=lambda image, *args, **options: _blob_from_images([image], *args, **options),
    blobFromImages=_blob_from_images,
    DNN_BACKEND_OPENCV=3,
    DNN_TARGET_CPU=0,
)
