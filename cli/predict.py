"""`torchlift predict`."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from itertools import chain, islice, zip_longest
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from rich.console import Group
from rich.table import Table

from ..converters.errors import TorchliftError
from .model_options import AS_THE_GRAPH_TELLS, FILE_DEFAULTS, ModelOptions, OutputOptions, Provider
from .outputs import output_suffix
from .progress import progress
from .result import CommandResult, as_number, table
from .signals import said_when_stopped
from .terminal import console, printable
from .values import Count

if TYPE_CHECKING:
    from ..converters.inference import Classifier, Prediction
    from ..converters.inference.partial_results import Done


def predict(
    model: str,
    inputs: list[str],
    *,
    top: Count = 5,
    provider: Provider = "auto",
    output: str | None = None,
    overwrite: bool = False,
    resume: Literal["never", "auto"] = "never",
    batch_size: Count = 32,
    model_options: ModelOptions = FILE_DEFAULTS,
    output_options: OutputOptions = AS_THE_GRAPH_TELLS,
) -> CommandResult:
    """Classify images.

    An image that cannot be read is reported and the others are classified all the same; the exit
    code is 1 then. With --output any number of images takes little memory; while it runs, and if
    it is stopped, the results are in OUTPUT.partial, and --resume auto goes on from there.

    Args:
        model: A .t7 file, a saved model's folder or an .onnx file; torchvision:NAME; or
            python:package.module:function.
        inputs: Images, folders of images, .t7 or .npz datasets, or sklearn:digits; china and flower
            are two photographs that come with scikit-learn.
        top: How many classes to list for each image.
        provider: What to run on: auto, cpu, cuda, or tensorrt for an .onnx file.
        output: A file for the results instead of the screen, in .csv, .jsonl or .parquet.
        overwrite: Replace a file that is there.
        resume: auto goes on where a run that was stopped has ended, if there was one.
        batch_size: How many images are run together.
        model_options: How to open the model.
        output_options: What an .onnx file of another program gives.
    """
    if output is not None:
        output_suffix(output, [".csv", ".jsonl", ".parquet"])
    from ..converters.inference import Classifier
    from ..converters.inference.results import as_json, document, open_results

    results: list[dict[str, Any]] = []
    unreadable: list[dict[str, str]] = []
    facts = {"model": model, "top": top, **asdict(model_options), **output_options.given_output()}
    if output is None:
        opened: Any = nullcontext(lambda *image: results.append(as_json(*image)))
    else:
        facts["fingerprint"] = _fingerprint(model)
        opened = open_results(output, overwrite, resume=resume, facts=facts)
    with opened as write, said_when_stopped(lambda: _how_to_resume(output)):
        predictor = model_options.predictor(model, provider, output_options)
        classifier = Classifier(predictor, batch_size=batch_size)
        if classifier.note:
            console(stderr=True).print(classifier.note)
        done: list[Done] = getattr(write, "done", [])
        sources = [_open_input(classifier, name, top) for name in inputs]
        total = sum(len(source.names) for source in sources)
        _check_resumable(done, chain.from_iterable(source.names for source in sources), output)
        unreadable += [{"input": one.name, "problem": one.problem} for one in done if one.problem]
        with progress(total) as advance:
            advance(len(done))
            for name, predictions, problem in _results(sources, len(done)):
                write(name, predictions, problem)
                if problem:
                    unreadable.append({"input": name, "problem": problem})
                    print(f"torchlift: {printable(' '.join(problem.split()))}", file=sys.stderr)
                advance(1)
    count = total - len(unreadable)
    lines = [f"{len(unreadable):,} of {total:,} images could not be read"] if unreadable else []
    metadata = {"model": model, "provider": classifier.provider}
    if output is None:
        data = document(**metadata, results=results)
        return CommandResult(data, Group(_table(results), *lines), not unreadable)
    written = {"files": [output], "count": count, "unreadable": unreadable}
    wrote = f"{count:,} images classified on {classifier.provider}: {output}"
    return CommandResult({**metadata, **written}, Group(wrote, *lines), not unreadable)


#: A name, its predictions, and why it has none.
_Result = tuple[str, "list[Prediction]", str]


@dataclass(frozen=True)
class _Input:
    """The images of one input.

    Attributes:
        names: Their names.
        results: Returns the results from an image on, counted from 0.
    """

    names: Sequence[str]
    results: Callable[[int], Iterable[_Result]]


def _open_input(classifier: Classifier, name: str, top: int) -> _Input:
    from ..converters.images import find_images, local_path
    from ..converters.images.files import list_folder
    from ..converters.inference import predict_array, predict_files
    from ..transfer.data import Dataset, open_data, read_dataset
    from ..transfer.data.readers.torch7 import is_torch7_file
    from ..transfer.plots.photographs import PHOTOGRAPHS, photograph

    path = local_path(name)
    suffix = path.suffix.lower()
    if name in PHOTOGRAPHS and not Path(name).exists():
        return _Input(
            [name],
            lambda start: [(name, classifier.predict(photograph(name), top)[0], "")][start:],
        )
    is_torch7 = suffix == ".t7" or is_torch7_file(path)
    if is_torch7 or suffix == ".npz" or name == "sklearn:digits":
        # Images of a .t7 need no labels here.
        data = read_dataset(path) if is_torch7 else open_data(name)
        assert isinstance(data, Dataset)
        images = data.images
        names = [f"{name}[{index}]" for index in range(1, len(images) + 1)]
        return _Input(
            names,
            lambda start: (
                (one, found, "")
                for one, found in zip(
                    names[start:], predict_array(classifier, images[start:], top), strict=True
                )
            ),
        )
    if not path.exists():
        return _Input([name], lambda start: [(name, [], f"{name}: no such file")][start:])
    if path.is_dir() and (left_out := list_folder(path).note()):
        console(stderr=True).print(f"note: {name}: {left_out}")
    files = find_images([name])
    return _Input(
        list(map(str, files)),
        lambda start: (
            (str(one.file), one.predictions, one.problem)
            for one in predict_files(classifier, files[start:], top)
        ),
    )


def _results(sources: Sequence[_Input], start: int) -> Iterator[_Result]:
    """Yield the results of all inputs but for the first `start` images."""
    for source in sources:
        if start < len(source.names):
            yield from source.results(start)
        start = max(start - len(source.names), 0)


def _check_resumable(done: Sequence[Done], names: Iterable[str], output: str | None) -> None:
    from ..converters.inference.results import plain_name

    for number, (one, name) in enumerate(zip_longest(done, islice(names, len(done))), 1):
        if name is None or one.name != plain_name(name):
            raise TorchliftError(
                f"{output}.partial holds the results of other images: number {number} is "
                f"{one.name}, now {name}; overwrite=True starts again"
            )


def _fingerprint(model: str) -> list[str] | None:
    """Return the SHA-256 of each file of a model; None of a network that is no file."""
    path = Path(model)
    if not path.exists():
        return None
    files = [path] if path.is_file() else sorted(file for file in path.iterdir() if file.is_file())
    digests = []
    for file in files:
        with file.open("rb") as stream:
            digests.append(hashlib.file_digest(stream, "sha256").hexdigest())
    return digests


def _how_to_resume(output: str | None) -> str:
    if output is None or not Path(f"{output}.partial").exists():
        return ""
    return f"the results so far are in {output}.partial; --resume auto goes on from there"


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
