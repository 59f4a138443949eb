"""Fuzz the `.t7` reader with mutated files: `fuzz_t7.py --minutes 60`.

`tests/test_t7_fuzz.py` replays the findings.
"""

from __future__ import annotations

import random

from mutations import mutate, seeds
from oracle import exercise
from rounds import FINDINGS, Fuzzer, main


class Corpus:
    """Inputs to mutate: valid files, and what became of them and can still be read."""

    def __init__(self) -> None:
        self.files = seeds()
        self.mutated = list(self.files)
        self.rng = random.Random(0)

    def draw(self, rng: random.Random) -> bytes:
        """Return a mutated file."""
        pool = rng.choice((self.files, self.files, self.mutated))
        return mutate(rng.choice(pool), rng, self.files)

    def exercise(self, data: bytes) -> bool:
        """Exercise a file; mutate readable ones further, until hardly anything is left of them."""
        readable = exercise(data)
        if readable:
            kept = data if len(data) > 40 else self.rng.choice(self.files)
            self.mutated[self.rng.randrange(len(self.mutated))] = kept
        return readable


if __name__ == "__main__":
    corpus = Corpus()
    main(
        Fuzzer(
            script=__file__,
            suffix=".t7",
            findings=FINDINGS,
            draw=corpus.draw,
            exercise=corpus.exercise,
            inputs=20_000,
            seconds=5,
            memory=1 << 30,
        )
    )
