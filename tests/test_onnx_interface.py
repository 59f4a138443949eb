"""What a graph takes and gives: dtypes, axes, batches, and which output holds the scores."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from torchlift.converters.inference import InferenceError
from torchlift.converters.inference.onnx_interface import (
    NetworkInput,
    describe_values,
    find_input,
    find_scores,
    in_batches,
)

FLOAT = np.dtype(np.float32)


def value(name: str, kind: str, *shape: Any) -> Any:
    return SimpleNamespace(name=name, type=kind, shape=list(shape))


@pytest.mark.parametrize(
    ("kind", "dtype"),
    [
        ("tensor(float)", np.float32),
        ("tensor(double)", np.float64),
        ("tensor(float16)", np.float16),
        ("tensor(uint8)", np.uint8),
        ("tensor(int32)", np.int32),
        ("tensor(int64)", np.int64),
    ],
)
def test_arrays_become_what_the_graph_takes(kind: str, dtype: Any) -> None:
    network = find_input([value("x", kind, "N", 3)], is_foreign=False)
    assert (network.name, network.axes, network.dtype) == ("x", (None, 3), dtype)
    ((feed, count),) = network.batches(np.array([[1, 2, 3], [4, 5, 6]]))
    assert (count, feed["x"].dtype, feed["x"].tolist()) == (2, dtype, [[1, 2, 3], [4, 5, 6]])


@pytest.mark.parametrize(
    ("inputs", "problem"),
    [
        ([], "it takes 0 inputs, none, where one was expected"),
        (
            [value("a", "tensor(float)", 1, "w"), value("b", "x", None), value("c", "x", 2)],
            r"it takes 3 inputs, a \(1×w\), b \(\?\) and c \(2\), where one",
        ),
        ([value("a", "tensor(string)", "N")], r"^inputs of type tensor\(string\)$"),
        ([value("a", "seq(tensor(float))", "N")], "inputs of type seq"),
    ],
)
def test_a_graph_takes_one_array_of_numbers(inputs: list[Any], problem: str) -> None:
    with pytest.raises(InferenceError, match=problem):
        find_input(inputs, is_foreign=True)
    assert describe_values([]) == "none"


@pytest.mark.parametrize(
    ("axes", "dtype", "takes_image"),
    [
        ((None, None, 3), np.uint8, True),
        ((None, None, 3), np.float32, False),
        ((None, 5, 3), np.uint8, False),
        ((5, None, 3), np.uint8, False),
        ((None, None, None, 3), np.uint8, False),
        ((None, None), np.uint8, False),
    ],
)
def test_an_image_of_any_size_has_a_free_height_and_width_of_bytes(
    axes: tuple[int | None, ...], dtype: Any, takes_image: bool
) -> None:
    network = NetworkInput("x", axes, np.dtype(dtype))
    assert network.takes_image is takes_image
    if takes_image:
        images = np.arange(2 * 3 * 4 * 5, dtype=np.uint8).reshape(2, 3, 4, 5)
        found = list(network.batches(images))
        assert [count for _, count in found] == [1, 1]
        for (feed, _), image in zip(found, images, strict=True):
            assert np.array_equal(feed["x"], np.moveaxis(image, 0, 2))
            assert feed["x"].flags.c_contiguous


def test_images_are_arranged_as_rows_or_with_their_channels_last() -> None:
    images = np.random.default_rng(0).random((2, 3, 4, 5), np.float32)
    for network, expected in (
        (NetworkInput("x", (None, 60), FLOAT), images.reshape(2, 60)),
        (NetworkInput("x", (None, 4, 5, 3), FLOAT, True), images.transpose(0, 2, 3, 1)),
        (NetworkInput("x", (None, 3, 4, 5), FLOAT), images),
        (NetworkInput("x", (None, None, 4, 5), FLOAT), images),
    ):
        ((feed, count),) = network.batches(images)
        assert count == 2
        assert np.array_equal(feed["x"], expected)
        assert feed["x"].flags.c_contiguous
    # What is no image stays as it is.
    ((feed, _),) = NetworkInput("x", (None, 4, 5, 3), FLOAT, True).batches(images[:, 0])
    assert np.array_equal(feed["x"], images[:, 0])


@pytest.mark.parametrize(
    ("count", "size", "batches"),
    [
        (3, None, [([0, 1, 2], 3)]),
        (3, 3, [([0, 1, 2], 3)]),
        (3, 1, [([0], 1), ([1], 1), ([2], 1)]),
        (4, 2, [([0, 1], 2), ([2, 3], 2)]),
        (5, 3, [([0, 1, 2], 3), ([3, 4, 4], 2)]),
        (1, 4, [([0, 0, 0, 0], 1)]),
    ],
)
def test_the_last_batch_is_filled_up_with_its_last_example(
    count: int, size: int | None, batches: list[tuple[list[int], int]]
) -> None:
    inputs = {"x": np.arange(count), "y": 10 * np.arange(count)[:, None]}
    found = list(in_batches(inputs, size))
    assert [(feed["x"].tolist(), real) for feed, real in found] == batches
    assert [feed["y"].ravel().tolist() for feed, _ in found] == [
        [10 * number for number in numbers] for numbers, _ in batches
    ]


@pytest.mark.parametrize(
    ("outputs", "name", "found"),
    [
        ([value("label", "tensor(int64)", "N"), value("p", "seq(map(int64,tensor(float)))")], 0, 0),
        ([value("p", "seq(map(int64,tensor(float)))")], None, 0),
        ([value("a", "tensor(float)", "N", 2), value("p", "map(x)")], "p", 0),
        # Beside maps there may be scores.
        ([value("p", "map(x)"), *(value(n, "tensor(float)", "N", 3) for n in "ab")], None, 0),
        ([value("p", "map(x)"), value("scores", "tensor(float)", "N", 3)], None, "scores"),
        # A number for each example is none of several classes, and neither are whole numbers.
        (
            [value("p", "tensor(float)", "N"), value("scores", "tensor(float)", "N", 3)],
            None,
            "scores",
        ),
        (
            [value("p", "tensor(int64)", "N", 3), value("scores", "tensor(double)", "N", 3)],
            None,
            "scores",
        ),
    ],
)
def test_probabilities_in_maps_are_no_scores(outputs: list[Any], name: Any, found: Any) -> None:
    if found:
        assert find_scores(outputs, name or None)[0].name == found
        return
    if len(outputs) > 2:
        with pytest.raises(InferenceError, match=r"3 outputs \(p, a, b\), a classifier has one"):
            find_scores(outputs, None)
        return
    with pytest.raises(InferenceError, match=r"outputs of type (seq|map)\(.* with zipmap=False"):
        find_scores(outputs, name or None)


@pytest.mark.parametrize(
    ("axes", "batch", "channels"),
    [
        ((), None, None),
        ((None,), None, None),
        ((4, 9), 4, 1),
        ((4, 3, 8, 8), 4, 3),
        ((None, 3, 5, 8, 8), None, None),
    ],
)
def test_the_axes_tell_batch_and_channels_of_images(
    axes: tuple[int | None, ...], batch: int | None, channels: int | None
) -> None:
    network = find_input([value("x", "tensor(float)", *axes)], is_foreign=False)
    assert (network.batch, network.channels) == (batch, channels)
