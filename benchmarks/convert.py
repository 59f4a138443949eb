"""From a 466 MiB `.t7` to a network that runs: `python benchmarks/convert.py`.

torchlift's `load_model` beside numpy's copy of as many bytes of the same file, the least that any
reader does, and beside OpenCV 4's `readNetFromTorch`, with proof that both networks give the same.
The table goes into `docs/benchmarks.md` (not with `--print`).
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

from measure import installed, machine, measure, megabytes, seconds, table, write_section
from networks import ALEXNET_PARAMETERS

_OPENCV = "opencv-python-headless"

#: Bytes of the weights.
WEIGHTS = 4 * ALEXNET_PARAMETERS

# Importing what `load_model` needs is not measured: its first use is when it is named.
_LOAD_MODEL = "import torchlift; from torchlift.converters import load_model"

_COMPARE = """
import cv2, numpy as np, torch, torchlift
image = np.random.default_rng(1).standard_normal((2, 3, 224, 224), np.float32)
net = cv2.dnn.readNetFromTorch({path!r}, True, True)
net.setInput(image)
theirs = net.forward()
with torch.inference_mode():
    ours = torchlift.load_model({path!r})(torch.from_numpy(image)).numpy()
print(abs(ours - theirs).max() / abs(theirs).max())
"""


def main() -> None:
    """Measure, compare, print and write the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--print", action="store_true", help="do not write docs/benchmarks.md")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path = str(Path(folder) / "alexnet.t7")
        program = f"from pathlib import Path; from networks import *; save_alexnet(Path({path!r}))"
        subprocess.run([sys.executable, "-c", program], check=True, cwd=Path(__file__).parent)
        load = f"load_model({path!r})"
        copy = f"numpy.array(numpy.memmap({path!r}, 'u1', 'r')[1000:][:{WEIGHTS}])"
        statements = {
            "torchlift load_model": (_LOAD_MODEL, load),
            "numpy.array(memmap)": ("import numpy, torch", copy),
        }
        again = [(f"{_LOAD_MODEL}; {load}", load), (f"import numpy, torch; {copy}", copy)]
        agreement = f"{_OPENCV} is not installed (`pip install 'torchlift[bench]'`)."
        if installed(_OPENCV):
            reading = f"cv2.dnn.readNetFromTorch({path!r})"
            statements["OpenCV readNetFromTorch"] = ("import cv2", reading)
            agreement = (
                f"On two random images the networks differ by {largest_difference(path):.1e} "
                "of the largest output."
            )
        *results, second, second_copy = measure([*statements.values(), *again], options.repeats)
        rows = [
            row(name, result.seconds, result.memory, results[0].seconds)
            for name, result in zip(statements, results, strict=True)
        ]
    header = ["", "time", "against torchlift", "extra peak memory", "of the weights' size"]
    text = f"""\
`python benchmarks/convert.py`, on {machine("torch", _OPENCV)}.

AlexNet-OWT-BN at full size ({ALEXNET_PARAMETERS:,} parameters and their gradients), from the
file to a network that runs, in {options.repeats} fresh processes each. The table shows the
shortest time and the largest memory, without imports.

{table(header, rows)}

`load_model` takes {results[0].seconds / results[1].seconds:.2f} times as long as numpy's copy of
the weights' bytes; in a process that has opened the file before, {seconds(second.seconds)}, which
is {second.seconds / second_copy.seconds:.2f} times the copy.

{agreement}
"""
    print(text)
    if not options.print:
        write_section("From a .t7 to a network", text)


def largest_difference(path: str) -> float:
    """Between the outputs of the two networks, relative to the largest output."""
    program = [sys.executable, "-c", _COMPARE.format(path=path)]
    return float(subprocess.run(program, capture_output=True, text=True, check=True).stdout)


def row(name: str, time: float, memory: int, ours: float) -> list[str]:
    """One row of the table."""
    times = [seconds(time), f"{time / ours:,.1f}×"]
    return [name, *times, megabytes(memory), f"{memory / WEIGHTS:.2f}×"]


if __name__ == "__main__":
    main()
