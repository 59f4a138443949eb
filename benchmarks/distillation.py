"""What a teacher is worth: `python benchmarks/distillation.py`, about a minute.

A linear classifier learns from 300 handwritten digits, alone and with the LeNet-5 that Torch7
trained, five times each. The table goes into `docs/finetuning.md` by hand.
"""

from __future__ import annotations

import json
import tempfile
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path

import numpy as np
from measure import table

from torchlift.cli.main import main as torchlift

DIGITS = Path(__file__).resolve().parent.parent / "fixtures" / "digits"
SEEDS = range(5)


def accuracy(*words: str) -> float:
    """Return the test accuracy of a training."""
    with tempfile.TemporaryDirectory() as folder, redirect_stdout(StringIO()) as printed:
        line = ["train", "softmax", str(DIGITS / "digits-train.t7")]
        line += ["--test-data", str(DIGITS / "digits-test.t7"), "--limit", "300"]
        line += ["--val-fraction", "0", "--epochs", "10", "--batch-size", "32", "--json"]
        if torchlift([*line, "--tracker", "none", "-o", f"{folder}/run", *words]):
            raise SystemExit(1)
    return float(json.loads(printed.getvalue())["evaluation"]["accuracy"])


def main() -> None:
    """Train, and print the mean accuracies and their difference."""
    with tempfile.TemporaryDirectory() as folder:
        teacher = f"{folder}/teacher"
        scale = ["--mean-std", str(DIGITS / "digits_meanStd.t7")]
        with redirect_stdout(StringIO()):
            torchlift(["convert", str(DIGITS / "digits-lenet5-bn.t7"), teacher, *scale])
        alone = np.array([accuracy("--seed", str(seed)) for seed in SEEDS])
        taught = np.array([accuracy("--seed", str(seed), "--teacher", teacher) for seed in SEEDS])
    gains = taught - alone
    error = gains.std(ddof=1) / len(gains) ** 0.5
    rows = [
        ["alone", f"{alone.mean():.3f}"],
        ["with the teacher", f"{taught.mean():.3f}"],
        ["difference", f"{gains.mean():.3f}, with a standard error of {error:.3f}"],
    ]
    print(table([f"seeds {SEEDS[0]} to {SEEDS[-1]}", "test accuracy"], rows))


if __name__ == "__main__":
    main()
