"""`FeatureTransformer`: scikit-learn's own checks, and what people do with a step of a pipeline.

What is protected: it behaves as scikit-learn expects of a transformer, and gives the features that
`torchlift extract` stores.
"""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any
from unittest import SkipTest

import numpy as np
import pytest
from PIL import Image
from sklearn.base import clone
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils import estimator_checks
from sklearn.utils.estimator_checks import parametrize_with_checks
from support import FIXTURES
from torch import nn

from torchlift.converters import TorchliftError
from torchlift.converters.saved import SavedModel, open_model
from torchlift.transfer import FeatureTransformer, extract_features, open_data
from torchlift.transfer.features import transformer as transformer_file

DIGITS = FIXTURES / "digits"

#: It takes rows of any length, as scikit-learn's checks give, and no row depends on its neighbors.
ANY_ROWS = nn.Sequential(nn.Tanh(), nn.Softplus())


@parametrize_with_checks([FeatureTransformer(ANY_ROWS, "0")])
def test_scikit_learns_checks_pass(estimator: Any, check: Any) -> None:
    """All of them: none is expected to fail. Without pandas and polars some skip themselves."""
    check(estimator)


@pytest.mark.parametrize(
    "check",
    [
        "check_transformer_get_feature_names_out",
        "check_transformer_get_feature_names_out_pandas",
        "check_set_output_transform",
        "check_set_output_transform_pandas",
        "check_set_output_transform_polars",
        "check_global_set_output_transform_polars",
    ],
)
def test_scikit_learns_checks_of_its_own_transformers_pass(check: str) -> None:
    """`check_estimator` leaves these to scikit-learn's own estimators."""
    try:
        getattr(estimator_checks, check)("FeatureTransformer", FeatureTransformer(ANY_ROWS, "0"))
    except SkipTest as reason:
        pytest.skip(str(reason))


@pytest.fixture(scope="module")
def network() -> SavedModel:
    model = DIGITS / "digits-lenet5-bn.t7"
    return open_model(model, mean_std=str(DIGITS / "digits_meanStd.t7"))


@pytest.fixture(scope="module")
def digits() -> Any:
    return open_data(DIGITS / "digits-test.t7", limit=120)


@pytest.mark.parametrize("layer", ["get(8)", "penultimate", "input"])
def test_the_values_are_those_that_are_extracted(
    layer: str, network: SavedModel, digits: Any
) -> None:
    transformer = FeatureTransformer(network, layer).fit(digits.images)
    expected = extract_features(network, digits, layer)
    assert np.array_equal(transformer.transform(digits.images), expected.to_numpy())
    assert transformer.get_feature_names_out().tolist() == expected.columns()


def test_rows_and_files_are_the_same_images(
    network: SavedModel, digits: Any, tmp_path: Path
) -> None:
    pixels = digits.images[:5]
    files = [tmp_path / f"{index}.png" for index in range(5)]
    for file, image in zip(files, pixels, strict=True):
        Image.fromarray(image[0]).save(file)
    transformer = FeatureTransformer(network)
    expected = transformer.fit_transform(pixels)
    assert np.array_equal(transformer.fit_transform(pixels.reshape(5, -1)), expected)
    assert np.array_equal(transformer.fit_transform([str(file) for file in files]), expected)


def test_whole_numbers_that_are_no_bytes_are_not_taken_for_inputs(
    network: SavedModel, digits: Any
) -> None:
    with pytest.raises(ValueError, match=r"int64: pixels from 0 to 255 are uint8"):
        FeatureTransformer(network).fit(digits.images.astype(np.int64))


def test_a_pipeline_searches_for_the_layer(network: SavedModel, digits: Any) -> None:
    steps = [
        ("features", FeatureTransformer(network, pool="avg", workers=1)),
        ("scale", StandardScaler()),
        ("classifier", LogisticRegression(max_iter=300)),
    ]
    # Of the input one mean brightness per image is left, which says little about a digit.
    grid = {"features__layer": ["input", "penultimate"]}
    search = GridSearchCV(Pipeline(steps), grid, cv=2, error_score="raise")
    search.fit(digits.images, digits.classes)
    assert search.best_params_ == {"features__layer": "penultimate"}
    assert search.best_score_ > 0.9 > 0.5 > search.cv_results_["mean_test_score"][0]
    again = pickle.loads(pickle.dumps(search.best_estimator_))
    assert np.array_equal(again.predict(digits.images), search.predict(digits.images))


def test_a_fitted_one_carries_its_network(network: SavedModel, digits: Any) -> None:
    transformer = FeatureTransformer(network).fit(digits.images)
    expected = transformer.transform(digits.images)
    text = pickle.dumps(transformer)
    fresh = clone(transformer)
    assert not hasattr(fresh, "model_")
    for parameter in transformer.model_.module.parameters():
        parameter.data.zero_()
    assert np.array_equal(pickle.loads(text).transform(digits.images), expected)
    # Neither a clone nor the network that was given has changed with it.
    assert np.array_equal(fresh.fit(digits.images).transform(digits.images), expected)


def test_fitting_again_forgets_the_layer_before(network: SavedModel, digits: Any) -> None:
    transformer = FeatureTransformer(network, "7").fit(digits.images)
    assert transformer.transform(digits.images).shape == (120, 400)
    transformer.set_params(layer="penultimate").fit(digits.images)
    assert transformer.transform(digits.images).shape == (120, 84)


def test_columns_are_named_in_a_data_frame(network: SavedModel, digits: Any) -> None:
    pd = pytest.importorskip("pandas")
    transformer = FeatureTransformer(network).set_output(transform="pandas")
    rows = pd.DataFrame(digits.images.reshape(120, -1)).add_prefix("pixel")
    table = transformer.fit_transform(rows)
    assert table.columns[[0, -1]].tolist() == ["penultimate_0", "penultimate_83"]
    assert table.index.equals(rows.index)


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"layer": "nowhere"}, "no layer 'nowhere'"),
        ({"pool": "mean"}, "pool='mean': expected 'none' or 'avg' or 'max'"),
        ({"backend": "tensorflow"}, "expected torch or onnxruntime"),
    ],
)
def test_what_is_wrong_is_one_sentence(
    parameters: dict[str, Any], message: str, network: SavedModel, digits: Any
) -> None:
    with pytest.raises(TorchliftError, match=message):
        FeatureTransformer(network, **parameters).fit(digits.images)


def test_an_exported_graph_is_no_network(digits: Any) -> None:
    with pytest.raises(TorchliftError, match=r"x\.onnx is an exported graph"):
        FeatureTransformer("x.onnx").fit(digits.images)


def test_what_is_asked_for_reaches_what_computes(
    network: SavedModel, digits: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where, by what and how many at once."""
    asked: list[Any] = []
    build, compute = transformer_file.build_extractor, transformer_file.features_in_memory

    def built(model: Any, layers: Any, example: Any, backend: str, provider: str) -> Any:
        asked.append((layers, backend, provider))
        return build(model, layers, example)

    def computed(*given: Any, workers: int | None) -> Any:
        asked.append(workers)
        return compute(*given, workers=workers)

    monkeypatch.setattr(transformer_file, "build_extractor", built)
    monkeypatch.setattr(transformer_file, "features_in_memory", computed)
    options: Any = {"backend": "onnxruntime", "provider": "cpu", "workers": 2}
    FeatureTransformer(network, "3", **options).fit(digits.images).transform(digits.images)
    # It is built once, for both.
    assert asked == [(["3"], "onnxruntime", "cpu"), 2]


def test_a_network_without_preprocessing_takes_whole_numbers_as_inputs() -> None:
    """They are no pixels, which would be scaled."""
    transformer = FeatureTransformer(nn.Sequential(nn.Flatten()), "0")
    rows = np.array([[1, 300], [-2, 4]])
    assert transformer.fit_transform(rows).tolist() == rows.tolist()


@pytest.mark.parametrize("kind", [list, tuple, np.array])
def test_paths_may_be_in_any_row(kind: Any, network: SavedModel, tmp_path: Path) -> None:
    files = []
    for index in range(2):
        files.append(tmp_path / f"{index}.png")
        Image.new("RGB", (32, 32), (index, 0, 250)).save(files[-1])
    paths = kind([str(file) for file in files]) if kind is np.array else kind(files)
    found = FeatureTransformer(network, "input", pool="max").fit_transform(paths)
    # The network takes gray images: those are decoded.
    gray = [float(np.asarray(Image.open(file).convert("L")).max()) for file in files]
    scale = network.preprocessing
    assert scale is not None
    expected = [(value - scale.mean[0]) / scale.std[0] for value in gray]
    np.testing.assert_allclose(found[:, 0], expected, rtol=1e-5)
    with pytest.raises(ValueError, match="Expected 2D array, got 1D array"):
        FeatureTransformer(network).fit([])
