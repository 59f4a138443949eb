"""Two thousand photographs through `predict`: `python benchmarks/predict.py`.

Three rates in turn on the same machine: the bare ONNX Runtime session on arrays that are ready,
reading and preparing the files without a network, and `predict_files` with its results in a file.
The table goes into `docs/benchmarks.md` (not with `--print`).
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import onnxruntime
from measure import machine, table, write_section
from networks import alexnet
from PIL import Image

from torchlift.converters import t7
from torchlift.converters.images import read_image
from torchlift.converters.inference import Classifier, open_results, predict_files, prepare
from torchlift.converters.inference.threads import available_cpus
from torchlift.converters.onnx import export
from torchlift.converters.saved import open_model
from torchlift.converters.t7 import LuaTable

#: Of ImageNet, on the scale from 0 to 1: AlexNet's lab resized by `image.scale`.
_MEAN, _STD = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]

#: What `predict` should reach of the bare session.
_GOAL = 0.85

_BATCH = 32


def main() -> None:
    """Measure, print and write the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=2000, help="photographs")
    parser.add_argument("--rounds", type=int, default=5, help="turns that each rate is taken in")
    parser.add_argument("--provider", default="auto")
    parser.add_argument("--print", action="store_true", help="do not write docs/benchmarks.md")
    options = parser.parse_args()
    with TemporaryDirectory() as name:
        folder = Path(name)
        model = exported_alexnet(folder)
        classifier = Classifier(model, options.provider, _BATCH)
        files = list(photographs(folder, options.count))
        bare = bare_session(model, classifier.provider)
        rates = measured(classifier, bare, files, options.rounds)
        size = sum(file.stat().st_size for file in files) / len(files)
    session, decoding, predict = rates
    # A network on the processor takes turns with decoding; one on a GPU does not.
    shared = classifier.provider == "CPUExecutionProvider"
    limit = 1 / (1 / session + 1 / decoding) if shared else decoding
    rows = [
        ["bare session on ready arrays", rate(session), "1.00"],
        ["reading and preparing alone", rate(decoding), f"{decoding / session:.2f}"],
        ["limit of the cores", rate(limit), f"{limit / session:.2f}"],
        ["`predict_files`, results to CSV", rate(predict), f"{predict / session:.2f}"],
    ]
    text = f"""\
`python benchmarks/predict.py`, on {machine("onnxruntime", "pillow", "numpy")}; \
{available_cpus()} of the processors, {classifier.provider}.

{len(files):,} JPEG files of 500×375 pixels ({size / 1e3:.0f} kB each) through AlexNet-OWT-BN, in \
batches of {_BATCH}, resized by image.scale; {options.rounds} rounds each.

{table(["", "images a second", "of the bare session"], rows)}

{verdict(predict, session, limit, shared)}
"""
    print(text)
    if not options.print:
        write_section("Predicting a folder of photographs", text)


def verdict(predict: float, session: float, limit: float, shared: bool) -> str:
    """Which bound was met, in one sentence."""
    why = "decoding and the network batch_slice the cores" if shared else "decoding"
    if predict >= _GOAL * session:
        return f"Met: {predict / session:.2f} of the bare session (goal {_GOAL})."
    if predict >= 0.95 * min(limit, _GOAL * session):
        return f"Met: the limit of the cores ({why}), of which it reaches {predict / limit:.2f}."
    return (
        f"Not met: {predict / session:.2f} of the bare session (goal {_GOAL}), "
        f"{predict / limit:.2f} of the cores' limit."
    )


def measured(
    classifier: Classifier,
    session: onnxruntime.InferenceSession,
    files: list[Path],
    rounds: int,
) -> tuple[float, float, float]:
    """Measure images a second in turns: the session alone, decoding alone, both."""
    inputs = prepare([read_image(file) for file in files[:_BATCH]], classifier.preprocessing)
    seconds = np.zeros(3)
    with ThreadPoolExecutor(available_cpus()) as pool:
        run_session(session, inputs, _BATCH)
        classifier(inputs)
        for part in np.array_split(np.array(files, object), rounds):
            seconds += [
                timed(lambda part=part: run_session(session, inputs, len(part))),
                timed(lambda part=part: decode(classifier, part, pool)),
                timed(lambda part=part: predict(classifier, part)),
            ]
    alone, decoding, both = len(files) / seconds
    return alone, decoding, both


def bare_session(model: Path, provider: str) -> onnxruntime.InferenceSession:
    """ONNX Runtime and nothing of ours."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = available_cpus()
    return onnxruntime.InferenceSession(model, options, providers=[provider])


def run_session(session: onnxruntime.InferenceSession, inputs: np.ndarray, count: int) -> None:
    """Run the network on ready inputs, `count` images."""
    name = session.get_inputs()[0].name
    for start in range(0, count, _BATCH):
        session.run(None, {name: inputs[: count - start]})


def decode(classifier: Classifier, files: list[Path], pool: ThreadPoolExecutor) -> None:
    """Read and prepare files, on all processors."""
    for _ in pool.map(lambda file: prepare([read_image(file)], classifier.preprocessing), files):
        pass


def predict(classifier: Classifier, files: list[Path]) -> None:
    """Do what `torchlift predict --output results.csv` does."""
    results = Path(files[0]).with_name("results.csv")
    with open_results(results, overwrite=True) as write:
        for found in predict_files(classifier, files):
            write(str(found.file), found.predictions, found.problem)


def timed(work: Callable[[], None]) -> float:
    """Wall time of some work, in seconds."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def exported_alexnet(folder: Path) -> Path:
    """AlexNet-OWT-BN of random weights as an `.onnx` file with its lab's preprocessing."""
    numbers = LuaTable({"mean": LuaTable.from_list(_MEAN), "std": LuaTable.from_list(_STD)})
    t7.save(numbers, folder / "meanStd.t7")
    t7.save(alexnet(), folder / "alexnet.t7")
    target = folder / "alexnet.onnx"
    model = open_model(
        folder / "alexnet.t7", mean_std=folder / "meanStd.t7", resize="image.scale-bilinear"
    )
    export(model, target)
    (folder / "alexnet.t7").unlink()
    return target


def photographs(folder: Path, count: int, seed: int = 0) -> Iterator[Path]:
    """JPEG files with as much to decode as photographs have: soft shapes, edges and grain."""
    rng = np.random.default_rng(seed)
    for index in range(count):
        shapes = Image.fromarray(rng.integers(0, 256, (9, 12, 3), dtype=np.uint8))
        soft = np.asarray(shapes.resize((500, 375), Image.Resampling.BICUBIC), np.float32)
        steps = np.asarray(shapes.resize((500, 375), Image.Resampling.NEAREST), np.float32)
        grain = rng.normal(0, 8, (375, 500, 1))
        pixels = (0.8 * soft + 0.2 * steps + grain).clip(0, 255).astype(np.uint8)
        file = folder / f"{index:04}.jpg"
        Image.fromarray(pixels).save(file, quality=90)
        yield file


def rate(value: float) -> str:
    """Images a second, with three digits."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}"


if __name__ == "__main__":
    main()
