"""A job that goes on with other settings than it began with says which, in words."""

from __future__ import annotations

from typing import Any

import pytest

from torchlift.converters.settings import changed_settings


@pytest.mark.parametrize(
    ("before", "now", "said"),
    [
        ({}, {}, ""),
        ({"lr": 0.1}, {"lr": 0.1}, ""),
        ({"lr": 0.1}, {"lr": 0.2}, "lr=0.1, now lr=0.2"),
        ({"labels": "a"}, {}, "labels='a', now no labels=…"),
        ({}, {"labels": "a"}, "no labels=…, now labels='a'"),
        # An option that is not there was not given.
        ({"labels": None}, {}, ""),
        # Nor was one that the version did not have that began the job.
        ({}, {"download": False}, ""),
        ({"download": False}, {"download": None}, ""),
        ({}, {"seed": 0}, "no seed=…, now seed=0"),
        ({"seed": 0}, {}, "seed=0, now no seed=…"),
        ({"balanced": True}, {"balanced": False}, "balanced=True, now no balanced=…"),
        ({"seed": 0}, {"seed": 1}, "seed=0, now seed=1"),
        ({"seed": 5}, {"seed": 0}, "seed=5, now seed=0"),
        ({"b": 1, "a": 1}, {"c": 2, "a": 2, "b": 2}, "b=1, now b=2; a=1, now a=2; no c=…, now c=2"),
    ],
)
def test_what_differs_is_said(before: dict[str, Any], now: dict[str, Any], said: str) -> None:
    assert changed_settings(before, now) == said
