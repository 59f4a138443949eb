"""`compare`: errors relative to the largest output, ties, and values that are not finite."""

from __future__ import annotations

import math

import numpy as np
import pytest

from torchlift.converters.onnx.checker.batch_results import compare_outputs
from torchlift.converters.onnx.checker.check_inputs import CheckBatch
from torchlift.converters.onnx.checker.comparison import Tie, _predicted_classes, compare
from torchlift.converters.onnx.checker.profiles import PROFILES
from torchlift.converters.onnx.checker.thresholds import _errors, check_accuracy


def test_errors_are_relative_to_the_largest_output_and_say_where() -> None:
    expected = np.array([[1.0, -4.0, 2.0], [0.5, 0.25, 0.0]], np.float32)
    actual = expected.copy()
    actual[1, 2] = 0.04
    result = compare(expected, actual, np.array([8, 9]), 1e-4, is_classifier=True)
    assert result.error == pytest.approx(0.01)
    assert result.where == (9, 2)
    assert result.values == pytest.approx((0.0, 0.04))
    assert result.agreeing == 2


def test_a_tie_counts_as_agreement_and_a_clear_difference_does_not() -> None:
    expected = np.array([[1.0, 1.00001, 0.0]])
    actual = np.array([[1.00002, 1.0, 0.0]])
    tied = compare(expected, actual, np.array([8]), 1e-4, is_classifier=True)
    assert tied.agreeing == 1
    assert tied.ties == [Tie(example=8, first=1, second=0)]
    assert compare(expected, actual, np.arange(1), 1e-6, is_classifier=True).agreeing == 0


def test_nan_is_counted_and_left_out_of_the_error() -> None:
    expected, actual = np.array([[1.0, 2.0]]), np.array([[np.nan, 2.0]])
    result = compare(expected, actual, np.arange(1), 1e-4, is_classifier=False)
    assert result.not_finite == (0, 1)
    assert result.error == 0
    nothing = compare(expected * np.nan, actual, np.arange(1), 1e-4, is_classifier=False)
    assert math.isnan(nothing.error)


@pytest.mark.parametrize("order", [1, -1])
def test_one_batch_without_a_finite_output_is_not_compared_by_the_others(order: int) -> None:
    numbers = np.array([[1.0, 2.0]])
    good, bad = (
        compare(expected, numbers, np.arange(1), 1e-4, is_classifier=False)
        for expected in (numbers, numbers * np.nan)
    )
    assert _errors([good, good], 1e-4).passed
    found = _errors([good, bad][::order], 1e-4)
    assert not found.passed
    assert found.text.startswith("a batch has no finite output to compare")


def test_top5_of_maps_is_that_of_each_place() -> None:
    expected = np.random.default_rng(0).permuted(np.arange(2 * 9.0 * 3).reshape(2, 9, 3), axis=1)
    assert compare(expected, expected, np.arange(2), 1e-6, is_classifier=True).top5 == 2 * 5
    # The reverse at one place of nine classes: only the fifth is among the first five of both.
    reverse = expected.copy()
    reverse[1, :, 2] *= -1
    assert compare(expected, reverse, np.arange(2), 1e-6, is_classifier=True).top5 == 5 + 1


def test_top5_is_compared_as_a_set_with_ties() -> None:
    expected = np.array([[9.0, 8, 7, 6, 5, 4.995, 3]])
    swapped = expected[:, [1, 0, 2, 3, 4, 5, 6]]
    assert compare(expected, swapped, np.arange(1), 1e-4, is_classifier=True).top5 == 5
    other = expected[:, [0, 1, 2, 3, 5, 4, 6]]
    assert compare(expected, other, np.arange(1), 1e-4, is_classifier=True).top5 == 4
    # The fifth and the sixth class tie.
    assert compare(expected, other, np.arange(1), 1e-3, is_classifier=True).top5 == 5
    # No tolerance makes a tie of scores that are clearly apart.
    last = expected[:, [0, 1, 2, 3, 6, 5, 4]]
    assert compare(expected, last, np.arange(1), 0.5, is_classifier=True).top5 == 4


def test_errors_above_the_tolerance_are_counted() -> None:
    expected, actual = np.array([[1.0, 10.0, 3.0]]), np.array([[1.5, 10.0, 3.2]])
    result = compare(expected, actual, np.arange(1), 0.03, is_classifier=False, input_shape=(3,))
    assert (result.above, result.count, result.input_shape) == (1, 3, (3,))


@pytest.mark.parametrize(("tolerance", "passes"), [(0.25, True), (0.2499, False)])
def test_exactly_as_much_as_is_allowed_passes(tolerance: float, passes: bool) -> None:
    expected, actual = np.array([[1.0, 0.5]]), np.array([[1.0, 0.75]])
    result = compare(expected, actual, np.arange(1), tolerance, is_classifier=False)
    assert result.above == (not passes)
    assert _errors([result], tolerance).passed is passes


def test_a_loss_is_counted_in_examples_and_not_in_fractions_of_them() -> None:
    """0.29 · 100 is less than 29 in floating point."""
    classes, file = np.zeros(100, int), np.repeat([1, 0], [29, 71])
    assert check_accuracy(classes, (classes, file), 0, 0.29).passed
    file[29] = 1
    assert not check_accuracy(classes, (classes, file), 0, 0.29).passed


@pytest.mark.parametrize(("margin", "is_tie"), [(0.25, True), (0.2499, False), (0.3, True)])
def test_a_tie_is_within_the_margin_or_at_it(margin: float, is_tie: bool) -> None:
    expected, actual = np.array([[1.0, 0.75], [1.0, 0.0]]), np.array([[0.0, 1.0], [1.0, 0.0]])
    agreeing, ties = _predicted_classes(expected, actual, np.array([7, 8]), margin)
    assert agreeing == (2 if is_tie else 1)
    assert ties == ([Tie(7, 0, 1)] if is_tie else [])


@pytest.mark.parametrize(("classes", "top5"), [(5, None), (6, 5)])
def test_five_of_five_classes_say_nothing(classes: int, top5: int | None) -> None:
    scores = np.arange(float(classes))[None]
    assert compare(scores, scores, np.arange(1), 1e-4, is_classifier=True).top5 == top5


def test_a_map_agrees_where_all_of_its_places_do() -> None:
    """(N, classes, places): one place of the second example is clearly of another class."""
    expected = np.tile([[[5.0], [1.0]]], (2, 1, 3))
    actual = expected.copy()
    actual[1, :, 2] = [1, 5]
    assert compare(expected, actual, np.arange(2), 1e-4, is_classifier=True).agreeing == 1
    assert compare(expected, expected, np.arange(2), 1e-4, is_classifier=True).agreeing == 2


def test_one_number_for_each_example_has_no_class() -> None:
    found = compare(np.ones(3), np.ones(3), np.arange(3), 1e-4, is_classifier=True)
    assert (found.agreeing, found.top5, found.error) == (None, None, 0)


def test_rounding_is_asked_for_where_one_of_several_outputs_is_too_far_off() -> None:
    """An error of 0.01, of which rounding explains 1: as much as 1e-6 of what passes."""
    batch = CheckBatch(np.arange(2), np.zeros((2, 5)), np.zeros((2, 5)), is_real=True)
    ones = np.ones((2, 3))
    outputs = [(ones, ones), (ones, ones * 1.01)]
    found = compare_outputs(batch, outputs, PROFILES["fp32-cpu"], False, lambda: [0.0, 1.0])
    assert [one.error for one in found] == pytest.approx([0, 1e-6])
    assert [one.input_shape for one in found] == [(5,), (5,)]


def test_where_nothing_is_rounded_tiny_outputs_are_compared_as_before() -> None:
    """With the smallest number of full precision in float16, 2⁻¹⁴."""
    expected, actual = np.array([[1e-6, 0.0]]), np.array([[3e-6, 0.0]])
    batch = CheckBatch(np.arange(1), expected, expected, is_real=True)
    for allowed in ([0.0], []):
        (found,) = compare_outputs(
            batch, [(expected, actual)], PROFILES["fp16"], False, lambda known=allowed: known
        )
        assert found.error == pytest.approx(2e-6 * 2**14)
