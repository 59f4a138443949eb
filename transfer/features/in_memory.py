"""Features as arrays and tables in memory, for Python code."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from ...converters.requirements import require
from ..data import Dataset, ImageFiles
from ..errors import LayerError
from ..find_layers import PENULTIMATE
from ..sources import opened_data, opened_model
from .extraction import example_of, features_in_memory
from .extractors import FeatureExtractor, build_extractor, open_extractor
from .settings import Pool, Settings

if TYPE_CHECKING:
    from ..sources import Images, Model


@dataclass(frozen=True)
class Features:
    """The features of some layers for the images of a dataset.

    Attributes:
        arrays: Each layer's name → its features, (N, …) float32, in the layer's own shape.
        classes: (N,) int64 class indices, counted from 0; None for images without labels.
        names: The class names, where the data has them.
        ids: (N,) what the data calls each image: the path of its file, or its position.
        splits: (N,) `train`, `val` or `test`; None where the data has no splits.
        notes: What was assumed when model and data were opened.

    Example:
        >>> array = np.arange(6, dtype=np.float32).reshape(2, 3, 1)
        >>> features = Features({"7": array}, np.array([1, 0]), ("cat", "dog"))
        >>> features.to_numpy().shape, features.columns()
        ((2, 3), ['7_0', '7_1', '7_2'])
    """

    arrays: dict[str, np.ndarray]
    classes: np.ndarray | None = None
    names: tuple[str, ...] | None = None
    ids: np.ndarray | None = None
    splits: np.ndarray | None = None
    notes: tuple[str, ...] = ()

    def to_numpy(self, layer: str | None = None) -> np.ndarray:
        """Return one row per image, (N, D) float32, as scikit-learn takes it.

        Args:
            layer: The layer; by default all of them side by side.

        Raises:
            LayerError: If there are no features of this layer.
        """
        if layer is not None and layer not in self.arrays:
            raise LayerError(f"no features of {layer!r}: there are {', '.join(self.arrays)}")
        chosen = self.arrays.values() if layer is None else [self.arrays[layer]]
        return np.concatenate([array.reshape(len(array), -1) for array in chosen], axis=1)

    def columns(self) -> list[str]:
        """Return the names of the columns of `to_numpy()`, such as `penultimate_0`."""
        shapes = {name: array.shape[1:] for name, array in self.arrays.items()}
        return [text for name in shapes for text in column_names(name, int(np.prod(shapes[name])))]

    def to_pandas(self) -> Any:
        """Return a `pandas.DataFrame`: one row per image, named by its id.

        The first columns are `label`, where the images have labels (the class name, or the index
        of a class without one), and `split`, where the data has splits.

        Raises:
            MissingPackageError: If pandas is not installed.
        """
        require("Features.to_pandas", "pandas")
        import pandas as pd

        table = pd.DataFrame(self.to_numpy(), pd.Index(self._ids(), name="image"), self.columns())
        if self.splits is not None:
            table.insert(0, "split", self.splits)
        if self.classes is not None:
            named = self.classes if self.names is None else np.array(self.names)[self.classes]
            table.insert(0, "label", named)
        return table

    def _ids(self) -> np.ndarray:
        count = len(next(iter(self.arrays.values())))
        return np.arange(count) if self.ids is None else self.ids


def column_names(layer: str, count: int) -> list[str]:
    """Return the names of the columns with a layer's features.

    Example:
        >>> column_names("penultimate", 2)
        ['penultimate_0', 'penultimate_1']
    """
    return [f"{layer}_{index}" for index in range(count)]


def extract_features(
    model: Model,
    data: Images,
    layers: str | Sequence[str] = PENULTIMATE,
    *,
    pool: Pool = "none",
    backend: Literal["torch", "onnxruntime"] | None = None,
    provider: str = "auto",
    workers: int | None = None,
    progress: Callable[[int], None] = lambda images: None,
) -> Features:
    """Compute the features of layers of a network, as `torchlift extract` stores them.

    Nothing after the last of these layers is computed.

    Args:
        model: A network, or its name, as `torchlift extract` takes it: a `.t7` file, a saved
            model's folder, an `.onnx` file, `torchvision:NAME`, `timm:NAME`, `hf:FOLDER` or
            `python:package.module:function`. Whatever the name alone does not say (`mean=`,
            `at=`, …) is an argument of `open_model`, whose result is taken too.
        data: Images: the name of a dataset, as `torchlift extract` takes it, what `open_data`
            returns, or an array (N, C, H, W) without labels: uint8 pixels, or floats that are
            already a network's input.
        layers: One or several of `penultimate` (the input of the last Linear), `input`, `output`,
            PyTorch names (`1.8`) and Lua paths (`get(2):get(9)`); of an `.onnx` file a value's
            name.
        pool: One value per channel of a feature map, its `avg` or `max`; `none` for all of them.
        backend: What computes; `onnxruntime` is faster on a CPU. By default `torch`, which an
            `.onnx` file does not run in.
        provider: What to run on: `auto`, `cpu` or `cuda`.
        workers: The number of batches that are computed at once; by default one per core.
        progress: Called with the number of images that were done, by the threads that compute,
            one at a time.

    Raises:
        LayerError: If there is no such layer, or it has no features.
        DataError: If there are no images.
        TorchliftError: If model or data cannot be opened, or do not fit each other.

    Example:
        >>> from torch import nn
        >>> network = nn.Sequential(nn.Flatten(), nn.Linear(12, 5), nn.ReLU(), nn.Linear(5, 2))
        >>> images = np.zeros((10, 3, 2, 2), np.float32)
        >>> features = extract_features(network, images, ["1", "penultimate"])
        >>> features.to_numpy("penultimate").shape, features.to_numpy().shape
        ((10, 5), (10, 10))
    """
    settings, images = Settings(pool=pool), opened_data(data)
    names = [layers] if isinstance(layers, str) else list(layers)
    extractor, notes = opened_extractor(model, images, names, backend, provider)
    arrays = features_in_memory(extractor, images, settings, workers=workers, progress=progress)
    return Features(
        dict(zip(extractor.names, arrays, strict=True)),
        images.classes,
        images.names,
        images.ids,
        images.splits,
        (*images.notes, *notes),
    )


def opened_extractor(
    model: Model,
    images: Dataset | ImageFiles,
    layers: Sequence[str],
    backend: Literal["torch", "onnxruntime"] | None = None,
    provider: str = "auto",
) -> tuple[FeatureExtractor, list[str]]:
    """Return what computes the features of images, and the notes on its network.

    Args:
        model: As for `extract_features`.
        images: At least one.
        layers: Their names.
        backend: As for `extract_features`.
        provider: As for `extract_features`.

    Raises:
        TorchliftError: As for `extract_features`.
    """
    if isinstance(model, (str, os.PathLike)) and Path(model).suffix.lower() == ".onnx":
        if backend == "torch":
            raise LayerError(f"{model}: an .onnx file runs in onnxruntime: leave out backend=…")
        return open_extractor(model, layers, provider), []
    opened = opened_model(model)
    example = example_of(images, opened.preprocessing)
    return build_extractor(opened, layers, example, backend or "torch", provider), opened.notes
