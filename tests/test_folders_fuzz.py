"""Mutated models, features and runs open or raise a TorchliftError.

`tests/fuzz/fuzz_folders.py` runs longer; the inputs for which it found a bug are replayed here.
"""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from fuzz.fuzz_folders import draw, exercise, seeds

FINDINGS = sorted((Path(__file__).parent / "fuzz" / "findings" / "folders").glob("*.zip"))


@pytest.mark.parametrize("kind", ["features", "model", "onnx", "run"])
def test_mutated_folders_open_or_are_refused(kind: str) -> None:
    rng = random.Random(kind)
    corpus = {kind: seeds()[kind]}
    assert not all(exercise(draw(rng, corpus)) for _ in range(15))


@pytest.mark.parametrize("path", FINDINGS, ids=lambda path: path.stem)
def test_fuzzing_findings_stay_fixed(path: Path) -> None:
    exercise(path.read_bytes())
