"""`torchlift predict`."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Group
from rich.table import Table

from .model_options import FILE_DEFAULTS, ModelOptions, Provider
from .outputs import output_suffix
from .progress import progress
from .result import CommandResult, as_number, table
from .terminal import console, printable
from .values import Count

if TYPE_CHECKING:
    from ..converters.inference import Classifier, Prediction


def predict(
    model: str,
    inputs: list[str],
    *,
    top: Count = 5,
    provider: Provider = "auto",
    output: str | None = None,
    overwrite: bool = False,
    batch_size: Count = 32,
    model_options: ModelOptions = FILE_DEFAULTS,
) -> CommandResult:
    """Classify images.

    An image that cannot be read is reported and the others are classified all the same; the exit
    code is 1 then. With --output any number of images takes little memory; while it runs, and if
    it is stopped, the results are in OUTPUT.partial.

    Args:
        model: A .t7 file, a saved model's folder or an .onnx file; torchvision:NAME; or
            python:package.module:function.
        inputs: Images, folders of images, .t7 or .npz datasets, or sklearn:digits; china and flower
            are two photographs that come with scikit-learn.
        top: How many classes to list for each image.
        provider: What to run on: auto, cpu, cuda, or tensorrt for an .onnx file.
        output: A file for the results instead of the screen, in .csv, .jsonl or .parquet.
        overwrite: Replace a file that is there.
        batch_size: How many images are run together.
        model_options: How to open the model.
    """
    if output is not None:
        output_suffix(output, [".csv", ".jsonl", ".parquet"])
    from ..converters.inference import Classifier
    from ..converters.inference.results import as_json, open_results

    results: list[dict[str, Any]] = []
    unreadable: list[dict[str, str]] = []
    in_memory = nullcontext(lambda *image: results.append(as_json(*image)))
    with in_memory if output is None else open_results(output, overwrite) as write:
        classifier = Classifier(model_options.predictor(model, provider), batch_size=batch_size)
        if classifier.note:
            console(stderr=True).print(classifier.note)
        sources = [_open_input(classifier, name, top) for name in inputs]
        total = sum(source.count for source in sources)
        with progress(total) as advance:
            for name, predictions, problem in chain(*(source.results for source in sources)):
                write(name, predictions, problem)
                if problem:
                    unreadable.append({"input": name, "problem": problem})
                    print(f"torchlift: {printable(' '.join(problem.split()))}", file=sys.stderr)
                advance(1)
    count = total - len(unreadable)
    lines = [f"{len(unreadable):,} of {total:,} images could not be read"] if unreadable else []
    metadata = {"model": model, "provider": classifier.provider}
    if output is None:
        data = {**metadata, "results": results}
        return CommandResult(data, Group(_table(results), *lines), not unreadable)
    written = {"files": [output], "count": count, "unreadable": unreadable}
    wrote = f"{count:,} images classified on {classifier.provider}: {output}"
    return CommandResult({**metadata, **written}, Group(wrote, *lines), not unreadable)


@dataclass(frozen=True)
class _Input:
    """The images of one input.

    Attributes:
        count: how many there are.
        results: for each, its name, its predictions, and why it has none.
    """

    count: int
    results: Iterator[tuple[str, list[Prediction], str]]


def _open_input(classifier: Classifier, name: str, top: int) -> _Input:
    from ..converters.images import find_images, local_path
    from ..converters.images.files import list_folder
    from ..converters.inference import predict_array, predict_files
    from ..transfer.data import Dataset, open_data, read_dataset
    from ..transfer.plots.photographs import PHOTOGRAPHS, photograph

    path = local_path(name)
    suffix = path.suffix.lower()
    if name in PHOTOGRAPHS and not Path(name).exists():
        return _Input(1, iter([(name, classifier.predict(photograph(name), top)[0], "")]))
    if suffix in (".t7", ".npz") or name == "sklearn:digits":
        # Images of a .t7 need no labels here.
        data = read_dataset(path) if suffix == ".t7" else open_data(name)
        assert isinstance(data, Dataset)
        images = data.images
        numbered = enumerate(predict_array(classifier, images, top), 1)
        return _Input(len(images), ((f"{name}[{index}]", found, "") for index, found in numbered))
    if not path.exists():
        return _Input(1, iter([(name, [], f"{name}: no such file")]))
    if path.is_dir() and (left_out := list_folder(path).note()):
        console(stderr=True).print(f"note: {name}: {left_out}")
    files = find_images([name])
    predicted = predict_files(classifier, files, top)
    return _Input(len(files), ((str(one.file), one.predictions, one.problem) for one in predicted))


def _table(results: list[dict[str, Any]]) -> Table:
    view = table("input", "label", "probability", right=("probability",))
    for result in results:
        for place, prediction in enumerate(result["predictions"]):
            view.add_row(
                "" if place else result["input"],
                prediction["label"],
                as_number(prediction["probability"], ".4f"),
            )
    return view
