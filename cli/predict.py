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
from rich.markup import escape
from rich.table import Table

from .model_options import FILE_DEFAULTS, ModelOptions
from .progress import progress
from .result import CommandResult, console, table

if TYPE_CHECKING:
    from ..converters.inference import Classifier, Prediction


def predict(
    model: str,
    inputs: list[str],
    *,
    top: int = 5,
    provider: str = "auto",
    output: str | None = None,
    overwrite: bool = False,
    batch_size: int = 32,
    model_options: ModelOptions = FILE_DEFAULTS,
) -> CommandResult:
    """Name what images show.

    An image that cannot be read is named and stops no other; the exit code is 1 then. With
    --output any number of images takes little memory; while it runs, and if it is stopped, the
    results are in OUTPUT.partial.

    Args:
        model: A .t7 file, a saved model's folder or an .onnx file; torchvision:NAME; or
            python:package.module:function.
        inputs: Images, folders of images, or .t7 datasets; china and flower are photographs
            that are always there.
        top: How many classes to name.
        provider: What to run on: auto, cpu or cuda.
        output: A file for the results instead of the screen, in .csv, .jsonl or .parquet.
        overwrite: Replace a file that is there.
        batch_size: How many images are run together.
        model_options: How to open the model.
    """
    from ..converters.inference import Classifier
    from ..converters.inference.results import as_json, open_results

    results: list[dict[str, Any]] = []
    unread: list[dict[str, str]] = []
    keep = nullcontext(lambda *image: results.append(as_json(*image)))
    with keep if output is None else open_results(output, overwrite) as write:
        classifier = Classifier(model_options.predictor(model, provider), batch_size=batch_size)
        if classifier.note:
            console(stderr=True).print(escape(classifier.note))
        sources = [_source(classifier, place, top) for place in inputs]
        total = sum(source.count for source in sources)
        with progress(total) as advance:
            for name, predictions, problem in chain(*(source.images for source in sources)):
                write(name, predictions, problem)
                if problem:
                    unread.append({"input": name, "problem": problem})
                    print(f"torchlift: {' '.join(problem.split())}", file=sys.stderr)
                advance(1)
    summary = f"{len(unread):,} of {total:,} images could not be read" if unread else ""
    if output is None:
        listed = {"provider": classifier.provider, "results": results}
        return CommandResult(listed, Group(_listed(results), *filter(None, [summary])), not unread)
    facts = {
        "provider": classifier.provider,
        "output": output,
        "count": total - len(unread),
        "unreadable": unread,
    }
    wrote = f"{total - len(unread):,} images named on {classifier.provider}: {escape(output)}"
    return CommandResult(facts, Group(wrote, *filter(None, [summary])), not unread)


@dataclass(frozen=True)
class _Source:
    """Images of one input.

    Attributes:
        count: how many there are.
        images: what each is called, what it shows, and why that cannot be told.
    """

    count: int
    images: Iterator[tuple[str, list[Prediction], str]]


def _source(classifier: Classifier, place: str, top: int) -> _Source:
    from ..converters.images.files import find_images, local_path
    from ..converters.inference.stream import predict_array, predict_files
    from ..transfer.data import read_dataset
    from ..transfer.plots.photographs import PHOTOGRAPHS, photograph

    if place in PHOTOGRAPHS:
        return _Source(1, iter([(place, classifier.predict(photograph(place), top)[0], "")]))
    if Path(place).suffix.lower() == ".t7":
        images = read_dataset(local_path(place)).images
        named = enumerate(predict_array(classifier, images, top), 1)
        return _Source(len(images), ((f"{place}[{index}]", found, "") for index, found in named))
    files = find_images([place])
    found = predict_files(classifier, files, top)
    return _Source(len(files), ((str(one.file), one.predictions, one.problem) for one in found))


def _listed(results: list[dict[str, Any]]) -> Table:
    view = table("input", "label", "probability", right=("probability",))
    for result in results:
        for place, prediction in enumerate(result["predictions"]):
            view.add_row(
                "" if place else escape(result["input"]),
                escape(prediction["label"]),
                f"{prediction['probability']:.4f}",
            )
    return view
