"""Fuzz `convert` with mutated objects: `fuzz_modules.py --minutes 60`.

Modules of every class in the fixtures, and in other people's files where they are there, get
fields that nobody writes. Whatever they hold, each command answers or raises a `TorchliftError`,
in bounded time, and with at most 200 MB and 20 times the file beyond an interpreter with torch.
`tests/test_modules_fuzz.py` replays the findings.
"""

from __future__ import annotations

import os
import random
import sys
import tempfile
import warnings
from pathlib import Path

import torch

from torchlift.converters import TorchliftError, t7
from torchlift.converters.modules import find
from torchlift.converters.modules.selfcheck import self_check
from torchlift.converters.modules.to_torch7 import to_torch7
from torchlift.converters.saved import load, open_model, save
from torchlift.converters.t7.inspection import inspect
from torchlift.transfer.summary.layers import summarize

# The package `fuzz`, of which this script is a part, is in the folder of the tests.
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from fuzz.module_mutations import FIXTURES, draw, seeds
from fuzz.rounds import FINDINGS, Fuzzer, main

#: Where other people's files are, if they are there.
WILD = Path(os.environ.get("TORCHLIFT_SHARED", FIXTURES.parents[1] / "shared")) / "wild"


def exercise(data: bytes) -> bool:
    """Inspect, convert, check, summarize, save and write back the model in the bytes of a `.t7`.

    Returns:
        Whether it could be converted.

    Raises:
        Exception: Any exception but a TorchliftError, or one that lack of memory caused.
    """
    with warnings.catch_warnings(), tempfile.TemporaryDirectory() as folder:
        warnings.simplefilter("ignore")
        file = Path(folder) / "model.t7"
        file.write_bytes(data)
        inspect(file)
        try:
            conversion = find.load_conversion(file)
            found = self_check(conversion)
            check_memory(*(layer.reason for layer in found.layers))
            model = open_model(file)
        except TorchliftError as error:
            check_error(error)
            return False
        try:
            save(model, Path(folder) / "saved")
            load(Path(folder) / "saved")
            t7.dumps(to_torch7(model.module))
            if model.input_shape is not None:
                summarize(model.module, model.input_shape)
        except TorchliftError as error:
            check_error(error)
        return True


def check_error(error: TorchliftError) -> None:
    """Check that an error says something, and does not hide that memory ran out."""
    assert str(error), "an error without a message"
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, MemoryError):
            raise cause
        check_memory(str(cause))
        cause = cause.__cause__ or cause.__context__


def check_memory(*texts: str) -> None:
    """Raise a MemoryError for the words of PyTorch when memory runs out."""
    for text in texts:
        if "allocate memory" in text or "Unable to allocate" in text:
            raise MemoryError(text)


if __name__ == "__main__":
    torch.set_num_threads(1)
    corpus = seeds(FIXTURES, WILD)

    def draw_module(rng: random.Random) -> bytes:
        """Return a mutated module of the corpus."""
        return draw(rng, corpus)

    # What PyTorch imports and reserves at the first use is not the input's.
    exercise(t7.dumps(t7.load(FIXTURES / "digits" / "digits-lenet5.t7")))
    main(
        Fuzzer(
            script=__file__,
            suffix=".t7",
            findings=FINDINGS / "modules",
            draw=draw_module,
            exercise=exercise,
            inputs=3_000,
            seconds=10,
            memory=200 << 20,
            memory_factor=20,
        )
    )
