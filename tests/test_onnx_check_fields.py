"""Every field and sentence of a check's report, against numbers worked out by hand.

A field that nobody reads in a test may hold anything.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from PIL import Image
from torch import nn

from torchlift.converters.onnx.checker.check_inputs import indices_of
from torchlift.converters.onnx.checker.comparison import Comparison, Tie, compare
from torchlift.converters.onnx.checker.image_file import odd_images
from torchlift.converters.onnx.checker.profiles import PROFILES
from torchlift.converters.onnx.checker.report import CheckReport, Finding, RuntimeResult
from torchlift.converters.onnx.checker.thresholds import check_outputs

#: Scores of six classes for two examples; the largest is 8.
EXPECTED = np.array([[8.0, 7.996, 1.0, 2.0, 3.0, 4.0], [0.0, 1.0, 2.0, 3.0, 4.0, 6.0]])
#: Of the first the second class wins by a hair; of the second the last but one, far off.
ACTUAL = np.array([[7.99, 7.996, 1.05, 2.0, 3.0, 4.0], [0.0, 5.0, 2.0, 3.0, 8.0, 6.0]])
COMPARED = Comparison(
    batch=2,
    input_shape=(3, 8, 6),
    not_finite=(0, 0),
    error=0.5,
    above=2,
    count=12,
    where=(9, 1),
    values=(1.0, 5.0),
    agreeing=1,
    # Of 0, 1, 5, 4, 3 and of 5, 4, 3, 2, 1 the file has all.
    top5=10,
    ties=[Tie(4, 0, 1)],
)


def test_two_networks_are_compared_field_by_field() -> None:
    found = compare(EXPECTED, ACTUAL, np.array([4, 9]), 0.01, True, (3, 8, 6))
    assert found == COMPARED
    # A smaller tolerance leaves no tie, and more outputs above it.
    strict = compare(EXPECTED, ACTUAL, np.array([4, 9]), 1e-4, True, (3, 8, 6))
    assert strict == replace(COMPARED, agreeing=0, above=4, ties=[])
    features = compare(EXPECTED, ACTUAL, np.array([4, 9]), 0.01, False, (3, 8, 6))
    assert features == replace(COMPARED, agreeing=None, top5=None, ties=[])
    # Relative to the floor, where all outputs are smaller.
    floored = compare(EXPECTED, ACTUAL, np.array([4, 9]), 0.01, False, (3, 8, 6), floor=16)
    assert floored == replace(features, error=0.25)


def test_what_is_not_finite_is_counted_on_its_side_and_left_out() -> None:
    expected, actual = EXPECTED.copy(), ACTUAL.copy()
    expected[0, 0], actual[1, 4:] = np.nan, np.inf
    found = compare(expected, actual, np.array([4, 9]), 0.01, False)
    assert (found.not_finite, found.error, found.where) == ((1, 2), 4 / 7.996, (9, 1))


def test_the_sentences_of_outputs_have_the_numbers_of_all_batches() -> None:
    small = replace(COMPARED, batch=1, error=0.25, values=(2.0, 3.0), top5=4, agreeing=1)
    other = replace(COMPARED, input_shape=(3, 4, 4))
    limits = replace(PROFILES["int8"], tolerance=0.3, top1=0.75, top5=0.97)
    found = check_outputs([small, COMPARED, other], limits, list("abcdef"))
    assert found == [
        Finding("finite", True, "no NaN and no infinity"),
        Finding(
            "outputs",
            False,
            "largest error 5.0e-01 of the largest output, 0.3 allowed (6 of 36 outputs above): 1 "
            "in the model, 5 in the file, at [9, 1]; batches: 1, 2 of 2; sizes: 3×8×6, 3×4×4",
        ),
        Finding(
            "top-1",
            False,
            "3 of 5 predictions agree, 75% required, 3 of them ties (example 4: a or b; example 4: "
            "a or b; example 4: a or b)",
        ),
        Finding("top-5", False, "24 of 25 top-5 classes agree, 97% required"),
    ]
    bad = replace(COMPARED, not_finite=(1, 2), ties=COMPARED.ties * 4)
    finite, errors, top1, _ = check_outputs([bad], limits, None)
    # Where all inputs have one size nothing is said of it.
    assert errors.text.endswith("at [9, 1]; batches: 2")
    assert not finite.passed
    assert finite.text == "NaN or infinite: 1 outputs of the model, 2 of the file"
    named = "; ".join(["example 4: 1 or 2"] * 3)
    assert top1.text.endswith(f"4 of them ties ({named}, …)")
    (top1,) = (
        one for one in check_outputs([COMPARED], PROFILES["fp32-cpu"], None) if one.name == "top-1"
    )
    assert "required" not in top1.text, "where all must agree"
    skipped = check_outputs([COMPARED], limits, None, skipped="random")
    assert [(one.name, one.passed) for one in skipped] == [("finite", True), ("outputs", True)]
    assert skipped[1].text == "skipped (random)"
    assert check_outputs([], limits, None) == []


def test_a_report_says_all_of_it_to_programs() -> None:
    runtime = RuntimeResult("opencv", "5.0", "CPU", None, True, 1e-6, 8, 9, None, None, None, None)
    report = CheckReport(
        path="x.onnx",
        provider="CPUExecutionProvider",
        data="noise from seed 3",
        profile="fp16",
        tolerance=0.01,
        findings=[Finding("finite", True, "none")],
        comparisons=[COMPARED, replace(COMPARED, batch=3, error=0.25, values=(np.inf, 1.0))],
        runtimes=[runtime],
    )
    found = report.to_json()
    comparisons, runtimes = found.pop("comparisons"), found.pop("runtimes")
    assert found == {
        "file": "x.onnx",
        "passed": True,
        "provider": "CPUExecutionProvider",
        "compared_on": "noise from seed 3",
        "profile": "fp16",
        "tolerance": 0.01,
        "error": 0.5,
        "agreeing": 2,
        "count": 5,
        "findings": [{"name": "finite", "passed": True, "text": "none"}],
    }
    assert comparisons[0]["ties"] == [{"example": 4, "first": 0, "second": 1}]
    assert [one["values"] for one in comparisons] == [[1.0, 5.0], [None, 1.0]]
    assert (comparisons[1]["batch"], comparisons[1]["top5"]) == (3, 10)
    assert runtimes[0]["runtime"] == "opencv"
    assert (runtimes[0]["agreeing"], runtimes[0]["count"]) == (8, 9)


@pytest.mark.parametrize(
    ("layers", "indices"),
    [
        ((nn.Embedding(7, 2),), range(1, 8)),
        # The smallest table has them all.
        ((nn.Embedding(7, 2), nn.Embedding(4, 2)), range(1, 5)),
        ((nn.Embedding(4, 2), nn.Embedding(7, 2)), range(1, 5)),
        ((nn.Linear(3, 2),), range(3)),
    ],
)
def test_random_indices_are_those_that_every_table_has(
    layers: tuple[nn.Module, ...], indices: range
) -> None:
    assert indices_of(nn.Sequential(*layers)) == indices


@pytest.mark.parametrize(("count", "made"), [(1, 4), (3, 6), (4, 4), (5, 5), (16, 16), (40, 16)])
def test_images_of_a_check_are_parts_of_those_that_are_given(count: int, made: int) -> None:
    """At least four sizes, of at most sixteen images that are spread over all."""
    batch = (
        np.zeros((count, 3, 100, 100), np.uint8)
        + np.arange(count, dtype=np.uint8)[:, None, None, None]
    )
    found = odd_images(batch, 3)
    sizes = [(100, 100), (71, 93), (87, 39), (30, 60)]
    assert [image.shape for image in found] == [(*sizes[n % 4], 3) for n in range(made)]
    numbers = [int(image[0, 0, 0]) for image in found]
    assert (numbers[0], max(numbers)) == (0, count - 1)
    assert numbers[: min(count, 16)] == sorted({*numbers})
    # Of an image of one row there is a row.
    thin = [image.shape[:2] for image in odd_images(batch[:1, :, :1, :3], 3)]
    assert thin == [(1, 3), (1, 2), (1, 1), (1, 1)]


def test_images_that_are_made_have_odd_sizes_and_are_the_same_each_time() -> None:
    for channels in (1, 3):
        first, again = odd_images(None, channels), odd_images(None, channels)
        assert [image.shape[2] for image in first] == [channels] * len(first)
        assert len({image.shape[:2] for image in first}) == len(first) == 8
        assert all(np.array_equal(*both) for both in zip(first, again, strict=True))
    gray = Image.fromarray(np.arange(12, dtype=np.uint8).reshape(3, 4))

    class Files(list):
        files = ()

    found = odd_images(Files([gray]), 1)
    assert found[0].shape == (3, 4, 1)
    assert np.array_equal(found[0][..., 0], np.asarray(gray))
