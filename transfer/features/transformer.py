"""Features as a step of scikit-learn's pipelines."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.utils.validation import check_is_fitted, validate_data

from ...converters.images.preprocessing import Preprocessing
from ...converters.saved import SavedModel
from ..data import Dataset, ImageFiles
from ..find_layers import PENULTIMATE
from ..sources import opened_model
from .extraction import example_of, feature_shapes, features_in_memory
from .extractors import FeatureExtractor, build_extractor
from .in_memory import column_names
from .settings import Pool, Settings

#: What is computed in this process alone, and made again after unpickling.
_CACHE = "_extractor"


class FeatureTransformer(
    ClassNamePrefixFeaturesOutMixin,  # type: ignore[misc]  # untyped
    TransformerMixin,  # type: ignore[misc]  # untyped
    BaseEstimator,  # type: ignore[misc]  # untyped
):
    """A scikit-learn transformer from images to the features of a layer.

    It takes part in pipelines and searches (`GridSearchCV` over `layer`), names its columns, gives
    DataFrames (`set_output(transform="pandas")`), and once fitted is pickled with its network.

    Images are an array (N, C, H, W), or rows (N, D) if the network's inputs have D numbers; uint8
    are pixels, which get the network's preprocessing, and floats are inputs that had it already. Or
    they are a list of the paths of image files.

    Args:
        model: A network, or its name, as `torchlift finetune` takes it (see `load_network`).
        layer: As for `extract_features`: `penultimate`, `input`, `output` or a layer.
        pool: One value per channel of a feature map, its `avg` or `max`; `none` for all of them.
        backend: `torch`, or `onnxruntime`, which is faster on a CPU.
        provider: What to run on: `auto`, `cpu` or `cuda`.
        workers: The number of batches that are computed at once; by default one per core.

    Attributes:
        model_: The network that was opened, a `SavedModel`.
        layer_: The layer's PyTorch name, `penultimate`, `input` or `output`.
        n_features_in_: What scikit-learn counts: the size of the second dimension.
        n_features_out_: Number of columns.

    Example:
        >>> from sklearn.linear_model import LogisticRegression
        >>> from sklearn.pipeline import make_pipeline
        >>> from torch import nn
        >>> network = nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2))
        >>> probe = make_pipeline(FeatureTransformer(network), LogisticRegression())
        >>> images = np.random.default_rng(0).normal(size=(20, 4))
        >>> probe.fit(images, np.arange(20) % 2).predict(images).shape
        (20,)
        >>> probe[0].get_feature_names_out().tolist()
        ['penultimate_0', 'penultimate_1', 'penultimate_2']
    """

    def __init__(
        self,
        model: Any,
        layer: str = PENULTIMATE,
        *,
        pool: Pool = "none",
        backend: Literal["torch", "onnxruntime"] = "torch",
        provider: str = "auto",
        workers: int | None = None,
    ) -> None:
        self.model = model
        self.layer = layer
        self.pool = pool
        self.backend = backend
        self.provider = provider
        self.workers = workers

    def fit(self, X: Any, y: Any = None) -> FeatureTransformer:  # noqa: N803  # scikit-learn's name
        """Open the network and check that it takes such images; nothing is learned.

        Args:
            X: Images.
            y: Ignored.

        Raises:
            ValueError: If the images are none.
            TorchliftError: If the network cannot be opened, or does not take the images.
        """
        self.__dict__.pop(_CACHE, None)
        self.model_ = opened_model(self.model)
        images = self._images(X, reset=True)
        settings = self._settings()
        extractor = self._opened(images)
        example = example_of(images, extractor.preprocessing)
        ((self.layer_, shape),) = feature_shapes(extractor, example, settings).items()
        self.n_features_out_ = int(np.prod(shape))
        return self

    def transform(self, X: Any) -> np.ndarray:  # noqa: N803  # scikit-learn's name
        """Return the features of images, (N, n_features_out_) float32.

        Args:
            X: Images like those that it was fitted with.

        Raises:
            NotFittedError: If it was not fitted.
            ValueError: If the images are none.
            TorchliftError: If the network does not take the images.
        """
        check_is_fitted(self)
        images = self._images(X, reset=False)
        extractor = self._opened(images)
        (features,) = features_in_memory(extractor, images, self._settings(), workers=self.workers)
        return features

    def get_feature_names_out(self, input_features: Any = None) -> np.ndarray:
        """Return the names of the columns, such as `penultimate_0`.

        Args:
            input_features: Must be the names of the columns of X, if there are any.

        Raises:
            NotFittedError: If it was not fitted.
            ValueError: If the columns of X have other names, or another number.
        """
        super().get_feature_names_out(input_features)  # Its names are not used, its checks are.
        return np.array(column_names(self.layer_, self.n_features_out_), object)

    @property
    def _n_features_out(self) -> int:
        """What scikit-learn calls it."""
        return self.n_features_out_

    def __getstate__(self) -> dict[str, Any]:
        state = super().__getstate__()
        return {name: value for name, value in state.items() if name != _CACHE}

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        # Networks compute in float32.
        tags.transformer_tags.preserves_dtype = ["float32"]
        return tags

    def _settings(self) -> Settings:
        return Settings(pool=self.pool, flatten=True)

    def _opened(self, images: Dataset | ImageFiles) -> FeatureExtractor:
        """Return what computes the features."""
        if not hasattr(self, _CACHE):
            example = example_of(images, self.model_.preprocessing)
            made = build_extractor(self.model_, [self.layer], example, self.backend, self.provider)
            setattr(self, _CACHE, made)
        extractor: FeatureExtractor = getattr(self, _CACHE)
        return extractor

    def _images(self, values: Any, reset: bool) -> Dataset | ImageFiles:
        """Return what was given as X as images."""
        preprocessing = self.model_.preprocessing
        if _are_paths(values):
            return _image_files(values, preprocessing)
        kind = np.asarray(values).dtype if preprocessing is not None else None
        if kind is not None and kind.kind in "iu" and kind != np.uint8:
            raise ValueError(
                f"X has the dtype {kind}: pixels from 0 to 255 are uint8 (X.astype('uint8')), and "
                "inputs that need no preprocessing are floats"
            )
        array = validate_data(
            self, values, reset=reset, dtype=[np.float32, np.uint8], allow_nd=True
        )
        return Dataset(_shaped(array, self.model_))


def _are_paths(values: Any) -> bool:
    """Return whether values are a list, an array or a column of paths."""
    if not isinstance(values, (list, tuple)) and getattr(values, "ndim", 0) != 1:
        return False
    return len(values) > 0 and all(isinstance(value, (str, os.PathLike)) for value in values)


def _image_files(paths: Sequence[str], preprocessing: Preprocessing | None) -> ImageFiles:
    files = np.array([Path(path) for path in paths], object)
    gray = preprocessing is not None and preprocessing.channels == 1
    return ImageFiles(files, color="gray" if gray else "RGB")


def _shaped(rows: np.ndarray, model: SavedModel) -> np.ndarray:
    """Give rows the shape of a network's input, if they have as many numbers."""
    shape = model.input_shape
    if rows.ndim == 2 and shape is not None and rows.shape[1] == np.prod(shape):
        return rows.reshape(len(rows), *shape)
    return rows
