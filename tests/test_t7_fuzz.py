"""Any bytes load or raise a `T7Error`; any value survives a round trip through a file.

`tests/fuzz/fuzz_t7.py` runs longer; the inputs for which it found a bug are replayed here.
"""

from __future__ import annotations

import random
import time
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fuzz.generated import values
from fuzz.mutations import mutate, seeds
from fuzz.oracle import difference, exercise
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from torchlift.converters import t7
from torchlift.converters.t7 import LuaTable

FINDINGS = sorted((Path(__file__).parent / "fuzz" / "findings").glob("*.t7"))
SEEDS = seeds()

slow_generation = settings(
    deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large]
)


@slow_generation
@given(values())
@pytest.mark.parametrize("format", ["binary", "ascii"])
@pytest.mark.parametrize("long_size", [8, 4])
def test_any_value_survives_a_round_trip(format: str, long_size: int, value: Any) -> None:
    raw = t7.dumps(value, format=format, long_size=long_size)
    assert difference(value, t7.loads(raw)) == ""


def test_difference_detects_differences() -> None:
    """Otherwise the round trip proves nothing."""
    shared = LuaTable({"a": 1})
    one = LuaTable.from_list([shared, shared])
    assert difference(one, one) == ""
    assert difference(one, LuaTable.from_list([shared, LuaTable({"a": 1})])) != ""
    assert difference(LuaTable.from_list([shared, LuaTable({"a": 1})]), one) != ""
    assert difference(LuaTable({1: 1}), LuaTable({True: 1})) != ""
    assert difference(LuaTable({"x": -0.0}), LuaTable({"x": 0})) != ""
    array = np.zeros(3).view(t7.TorchArray)
    assert difference(array, array.copy()) == ""
    assert difference(array, array.astype("f4")) != ""
    cycle, unrolled = LuaTable(), LuaTable()
    cycle["self"], unrolled["self"] = cycle, cycle
    assert difference(cycle, unrolled) != ""


@settings(deadline=5000)
@given(st.integers(0, 2**32), st.sampled_from(SEEDS))
def test_damaged_files_load_or_raise_t7_error(seed: int, data: bytes) -> None:
    exercise(mutate(data, random.Random(seed), SEEDS))


@settings(deadline=5000)
@given(st.binary(max_size=200))
def test_random_bytes_load_or_raise_t7_error(data: bytes) -> None:
    exercise(data)


@pytest.mark.parametrize("path", FINDINGS, ids=lambda path: path.stem)
def test_fuzzing_findings_stay_fixed(path: Path) -> None:
    exercise(path.read_bytes())


@pytest.mark.parametrize("count", [300, pytest.param(2000, marks=pytest.mark.slow)])
def test_damaged_files_use_little_memory(count: int) -> None:
    """No length in a file is trusted: damaged files stay below a peak of 64 MB."""
    rng = random.Random(0)
    tracemalloc.start()
    start = time.process_time()
    for _ in range(count):
        exercise(mutate(rng.choice(SEEDS), rng, SEEDS))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 64e6
    assert time.process_time() - start < 60
