"""Mutated objects convert or raise a TorchliftError, in bounded time and memory.

`tests/fuzz/fuzz_modules.py` runs longer; the inputs for which it found a bug are replayed here.
"""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from fuzz.fuzz_modules import exercise
from fuzz.module_mutations import FIXTURES, draw, seeds

FINDINGS = sorted((Path(__file__).parent / "fuzz" / "findings" / "modules").glob("*.t7"))


@pytest.mark.parametrize("seed", range(6))
def test_mutated_modules_convert_or_are_refused(seed: int) -> None:
    rng = random.Random(seed)
    corpus = seeds(FIXTURES / "models", FIXTURES / "digits")
    for _ in range(5):
        exercise(draw(rng, corpus))


@pytest.mark.parametrize("path", FINDINGS, ids=lambda path: path.stem)
def test_fuzzing_findings_stay_fixed(path: Path) -> None:
    exercise(path.read_bytes())
