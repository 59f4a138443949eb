"""What was asked for when a job began, against what is asked for as it goes on."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def changed_settings(before: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    """Return the settings that differ, in words; empty if none does.

    None and False stand for a setting that was not given.

    Args:
        before: The settings by name when the job began.
        now: The settings by name.

    Example:
        >>> changed_settings({"lr": 0.1, "seed": 0}, {"lr": 0.01, "seed": 0})
        'lr=0.1, now lr=0.01'
        >>> changed_settings({"balanced": True}, {"balanced": False, "labels": "a.txt"})
        "balanced=True, now no balanced=…; no labels=…, now labels='a.txt'"
    """
    pairs = {name: (_given(before, name), _given(now, name)) for name in {**before, **now}}
    return "; ".join(
        f"{_setting(name, first)}, now {_setting(name, second)}"
        for name, (first, second) in pairs.items()
        if first != second
    )


def _given(settings: Mapping[str, Any], name: str) -> Any:
    """Return the value of a setting; None if it was not given."""
    value = settings.get(name)
    return None if value is False else value


def _setting(name: str, value: Any) -> str:
    return f"no {name}=…" if value is None else f"{name}={value!r}"
