"""Twenty networks in five runtimes: `make runtimes`, which writes `docs/runtimes.md`.

Each network is exported in float32, float16, int8 and with all of its preprocessing, and each file
is checked in each runtime as `torchlift check --runtime` does. `--runtime-python` and
`--onnxruntime-web` name the runtimes that are installed elsewhere. What was computed stays in
`--cache`, so that a run which was stopped goes on.
"""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from measure import table
from runtime_networks import MODELS, network

from torchlift.converters.errors import TorchliftError
from torchlift.converters.onnx import PROFILES, InstalledRuntime, export, find_runtimes, quantize
from torchlift.converters.onnx.checker.check_inputs import CheckInputs
from torchlift.converters.onnx.checker.pair import ExportPair
from torchlift.converters.onnx.checker.report import RuntimeResult
from torchlift.converters.onnx.checker.runtime_checks import check_runtimes
from torchlift.converters.onnx.runtimes.installed import RUNTIMES
from torchlift.converters.saved import SavedModel

ROOT = Path(__file__).resolve().parent.parent

#: How many images a runtime is given.
COUNT = 20

#: The kinds of files, with the options of `export`; int8 is quantized from fp32.
KINDS: dict[str, dict[str, bool]] = {
    "fp32": {},
    "fp16": {"fp16": True},
    "int8": {},
    "baked": {"bake_resize": True},
}

_TEXT = """# Runtimes

`make runtimes` writes this page: {count} networks, each exported in float32 (fp32), in float16
(`--fp16`), in int8 (`quantize`) and with all of its preprocessing in the graph (`--bake-resize`),
in {runtimes}.

Each cell is what [`check --runtime`](checks.md#other-runtimes) finds: the largest error, relative
to the largest output that PyTorch computes in float32, and how many of the examples have the same
predicted class. Files of the first three kinds run {examples} examples in batches of 1, 2, 7 and
10; baked ones run images of odd sizes, one by one. **no** in front of a cell is a failed check,
with the reason in the [notes](#notes). The limits are those of [Checks](checks.md): 1e-4 for
fp32, 1e-3 for baked, 1e-2 for fp16, 0.2 for int8. Networks without (Torch7) have weights from a
seed.

{table}

## Notes

{notes}
"""


def files(model: SavedModel, inputs: Any, folder: Path) -> Iterator[tuple[str, Path, str]]:
    """Yield each kind of file, its path, and why it was not written, or an empty text."""
    for kind, options in KINDS.items():
        path, problem = folder / f"{kind}.onnx", ""
        try:
            if kind == "int8":
                if model.output_kind == "features":
                    raise TorchliftError("no classifier: there is no accuracy to keep")
                quantize(folder / "fp32.onnx", path, inputs, max_drop=0.05, overwrite=True)
            else:
                export(model, path, overwrite=True, **options)
        except TorchliftError as error:
            problem = f"not written: {str(error).replace(str(folder), '').lstrip('/')}"
        yield kind, path, problem


def run(name: str, cache: Path, runtimes: Sequence[InstalledRuntime]) -> dict[str, Any]:
    """Return for each kind of file why it was not written, or what each runtime computed."""
    folder = cache / re.sub(r"\W+", "-", name).strip("-")
    done = folder / "results.json"
    if done.is_file():
        found: dict[str, Any] = json.loads(done.read_text(encoding="utf-8"))
        return found
    folder.mkdir(parents=True, exist_ok=True)
    model, inputs = network(name)
    results: dict[str, Any] = {}
    for kind, path, problem in files(model, inputs, folder):
        print(name, kind, problem, flush=True)
        results[kind] = problem or [asdict(one) for one in _check(model, path, inputs, runtimes)]
    done.write_text(json.dumps(results, indent=1), encoding="utf-8")
    return results


def _check(
    model: SavedModel, path: Path, inputs: Any, runtimes: Sequence[InstalledRuntime]
) -> list[RuntimeResult]:
    pair = ExportPair.open(model, path)
    profile = {"fp32": "fp32-cpu"}.get(pair.metadata.precision or "fp32", pair.metadata.precision)
    taken = None if inputs is None else inputs[:COUNT]
    if pair.takes_image:
        return check_runtimes(pair, (), None, PROFILES[str(profile)], runtimes)
    batches = CheckInputs(pair, taken, seed=0)
    pair = pair.with_kind_of_outputs(next(iter(batches)).model)
    return check_runtimes(pair, batches, taken, PROFILES[str(profile)], runtimes)


class Notes:
    """The reasons of cells, each once."""

    def __init__(self) -> None:
        self.texts: list[str] = []

    def add(self, text: str) -> str:
        """Return the number that stands for a text, as a link."""
        if text not in self.texts:
            self.texts.append(text)
        return f"[{self.texts.index(text) + 1}](#notes)"


def page(results: dict[str, dict[str, Any]]) -> str:
    """Return the page."""
    notes, rows, versions = Notes(), [], {}
    for name, kinds in results.items():
        for kind, found in kinds.items():
            title = name if kind == "fp32" else ""
            if isinstance(found, str):
                cells = [f"{notes.add(found)}"] + [""] * (len(RUNTIMES) - 1)
            else:
                cells = [_cell(result, notes) for result in found]
                versions |= {one["runtime"]: one["version"] for one in found if one["version"]}
            rows.append([title, kind, *cells])
    listed = [f"{name} {versions.get(name, '')}".strip() for name in RUNTIMES]
    return _TEXT.format(
        count=len(results),
        runtimes=", ".join(listed),
        examples=COUNT,
        table=table(["network", "file", *RUNTIMES], rows),
        notes="\n".join(f"{index}. {text}" for index, text in enumerate(notes.texts, 1)),
    )


def _cell(result: dict[str, Any], notes: Notes) -> str:
    numbers = []
    if result["error"] is not None:
        numbers.append(f"{result['error']:.1e}")
    if result["agreeing"] is not None:
        numbers.append(f"{result['agreeing']}/{result['count']}")
    if result["passed"]:
        return ", ".join(numbers)
    reason = _problem(result)
    if not reason.startswith(result["runtime"]):
        reason = f"{result['runtime']} {reason}"
    return " ".join(["**no**", ", ".join(numbers), notes.add(reason)]).replace("  ", " ")


def _problem(result: dict[str, Any]) -> str:
    """Return what is wrong, without the numbers of one network."""
    if result["version"] and result["error"] is None:
        return str(result["problem"]).replace("|", "\\|")
    node = result["node"]
    operator = re.search(r"\((\w+), error", node) if node else None
    text = f"computes {operator[1]} otherwise" if operator else str(result["problem"])
    return text + (f"; with {result['cure']} it passes" if result["cure"] else "")


def main() -> None:
    """Run what is not in the cache yet, and write the page."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runtime-python", help="a Python that has OpenVINO and OpenCV")
    parser.add_argument("--onnxruntime-web", help="the folder of the npm package")
    parser.add_argument("--cache", type=Path, default=ROOT / "build" / "runtimes")
    parser.add_argument("--only", help="a part of a network's name: no page is written")
    options = parser.parse_args()
    runtimes = find_runtimes(RUNTIMES, options.runtime_python, options.onnxruntime_web)
    names = [name for name in MODELS if (options.only or "") in name]
    results = {name: run(name, options.cache, runtimes) for name in names}
    if options.only is None:
        (ROOT / "docs" / "runtimes.md").write_text(page(results), encoding="utf-8")


if __name__ == "__main__":
    main()
