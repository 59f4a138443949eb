"""`torchlift predict`."""

from __future__ import annotations

import glob
import hashlib
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass
from itertools import chain, islice, zip_longest
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from rich.console import Group
from rich.table import Table

from ..converters.errors import TorchliftError
from .errors import UsageError
from .model_options import AS_THE_GRAPH_TELLS, FILE_DEFAULTS, ModelOptions, ScoreOptions
from .outputs import output_suffix
from .predict_vectors import gives_features, predict_vectors
from .progress import progress
from .result import CommandResult, as_number, table
from .signals import said_when_stopped
from .terminal import console, printable
from .values import Count, Provider, in_precision

if TYPE_CHECKING:
    from ..converters.inference import Classifier, Prediction
    from ..converters.inference.partial_results import Done
    from ..converters.inference.processes import Process

#: Takes the name of an image, its predictions, and why it has none.
Write = Callable[[str, "Sequence[Prediction]", str], None]


def predict(
    model: str,
    inputs: list[str],
    *,
    top: Count = 5,
    provider: Provider = "auto",
    precision: Literal["f32", "bf16"] | None = None,
    output: str | None = None,
    overwrite: bool = False,
    resume: Literal["never", "auto"] = "never",
    batch_size: Count = 32,
    model_options: ModelOptions = FILE_DEFAULTS,
    score_options: ScoreOptions = AS_THE_GRAPH_TELLS,
) -> CommandResult:
    """Classify images; of a network that gives features, print each image's vector.

    An image that cannot be read is reported and the others are classified all the same; the exit
    code is 1 then. With --output any number of images takes little memory; while it runs, and if
    it is stopped, the results are in OUTPUT.partial, and --resume auto goes on from there. Under
    torchrun all processes share the work, and the file has the bytes that one process writes.

    Args:
        model: A .t7 file, a saved model's folder or an .onnx file; hf:FOLDER or hf:ORG/NAME;
            torchvision:NAME or timm:NAME; or python:package.module:function.
        inputs: Images, folders of images, .t7 or .npz datasets, or sklearn:digits; china and flower
            are two photographs that come with scikit-learn.
        top: How many classes to list for each image.
        provider: What to run on: auto, cpu, cuda or cuda:1; tensorrt or openvino for an .onnx
            file.
        precision: What OpenVINO computes in: f32 (as it does here by default) or bf16.
        output: A file for the results instead of the screen, in .csv, .jsonl or .parquet.
        overwrite: Replace a file that is there.
        resume: auto goes on where a run that was stopped has ended, if there was one.
        batch_size: How many images are run together.
        model_options: How to open the model.
        score_options: What an .onnx file of another program gives.
    """
    if output is not None:
        output_suffix(output, [".csv", ".jsonl", ".parquet"])
    from ..converters.inference import Classifier
    from ..converters.inference.processes import joined_process
    from ..converters.inference.results import document

    facts = {"model": model, "top": top, **asdict(model_options), **score_options.given_output()}
    if output is not None:
        facts["fingerprint"] = _fingerprint(model)
    results: list[dict[str, Any]] = []
    with joined_process() as process:
        if process.world_size > 1 and output is None:
            raise UsageError("several processes need --output FILE for their results")
        opened = _open_output(output, process, overwrite, resume, facts, results)
        with opened as write, said_when_stopped(lambda: _how_to_resume(output)):
            predictor = model_options.predictor(
                model, in_precision(provider, precision), score_options
            )
            if output is None and gives_features(predictor):
                return predict_vectors(model, predictor, inputs)
            classifier = Classifier(predictor, batch_size=batch_size)
            if classifier.note and process.is_first:
                console(stderr=True).print(classifier.note)
            sources = [_open_input(classifier, name, top, process.is_first) for name in inputs]
            unreadable = _classify(sources, batch_size, process, write, output)
        unreadable = list(chain.from_iterable(process.gather(unreadable)))
    if not process.is_first:
        sys.exit(0)  # One report for all.
    total = sum(len(source.names) for source in sources)
    count = total - len(unreadable)
    lines = [f"{len(unreadable):,} of {total:,} images could not be read"] if unreadable else []
    metadata = {"model": model, "provider": classifier.provider}
    if output is None:
        data = document(**metadata, results=results)
        shown = [_table(results)] if count else []
        return CommandResult(data, Group(*shown, *lines), not unreadable)
    written = {"files": [output], "count": count, "unreadable": unreadable}
    wrote = f"{count:,} images classified on {classifier.provider}: {output}"
    return CommandResult({**metadata, **written}, Group(wrote, *lines), not unreadable)


def _open_output(
    output: str | None,
    process: Process,
    overwrite: bool,
    resume: Literal["never", "auto"],
    facts: dict[str, Any],
    results: list[dict[str, Any]],
) -> AbstractContextManager[Write]:
    """Return what takes the results: a list for the screen, a file, or this process's shard."""
    from ..converters.inference.result_shards import open_shard
    from ..converters.inference.results import as_json, open_results

    if output is None:
        return nullcontext(lambda *image: results.append(as_json(*image)))
    if process.world_size == 1:
        return open_results(output, overwrite, resume=resume, facts=facts)
    return open_shard(
        Path(output), process, overwrite=overwrite, resume=resume == "auto", facts=facts
    )


def _classify(
    sources: Sequence[_Input],
    batch_size: int,
    process: Process,
    write: Write,
    output: str | None,
) -> list[dict[str, str]]:
    """Write the results of this process's images, and return those that could not be read."""
    from ..converters.inference.result_shards import shard_of

    own = shard_of([len(source.names) for source in sources], batch_size, process)
    names = islice(chain.from_iterable(source.names for source in sources), own.start, own.stop)
    done: list[Done] = getattr(write, "done", [])
    _check_resumable(done, names, output)
    unreadable = [{"input": one.name, "problem": one.problem} for one in done if one.problem]
    with progress(len(own), shown=process.world_size == 1) as advance:
        advance(len(done))
        for name, predictions, problem in _results(sources, own[len(done) :], batch_size):
            write(name, predictions, problem)
            if problem:
                unreadable.append({"input": name, "problem": problem})
                print(f"torchlift: {printable(' '.join(problem.split()))}", file=sys.stderr)
            advance(1)
    return unreadable


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


def _open_input(classifier: Classifier, name: str, top: int, is_first: bool) -> _Input:
    from ..converters.images import local_path
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
    # Names, since a path takes five times the memory.
    files = _names_in(path, is_first) if path.is_dir() else [str(path)]
    return _Input(
        files,
        lambda start: (
            (str(one.file), one.predictions, one.problem)
            for one in predict_files(classifier, files[start:], top)
        ),
    )


def _names_in(folder: Path, is_first: bool) -> list[str]:
    from ..converters.images.files import list_folder, no_images

    content = list_folder(folder)
    if is_first and (left_out := content.note()):
        console(stderr=True).print(f"note: {folder}: {left_out}")
    if not content.images:
        raise no_images(folder)
    return list(map(str, content.images))


def _results(sources: Sequence[_Input], wanted: range, batch_size: int) -> Iterator[_Result]:
    """Yield the results of some images, those of all inputs counted from 0.

    Batches begin where they do for all images: what an image gets may depend a little, by the last
    digit, on those that run with it.
    """
    first = 0
    for source in sources:
        begin = max(wanted.start - first, 0)
        end = min(wanted.stop - first, len(source.names))
        if begin < end:
            skipped = begin % batch_size
            yield from islice(source.results(begin - skipped), skipped, end - begin + skipped)
        first += len(source.names)


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
    files = [Path(model)]
    if not files[0].is_file():
        # These import torch, which an .onnx file does not need.
        from ..converters.saved.card import CARD
        from ..converters.saved.hub import model_path

        path = model_path(model)
        if not path.exists():
            return None
        files = sorted(path.iterdir()) if path.is_dir() else [path]
        # What a README.md says does not change a result.
        files = [file for file in files if file.is_file() and file.name != CARD]
    digests = []
    for file in files:
        with file.open("rb") as stream:
            digests.append(hashlib.file_digest(stream, "sha256").hexdigest())
    return digests


def _how_to_resume(output: str | None) -> str:
    if output is None:
        return ""
    found = sorted(Path(output).parent.glob(f"{glob.escape(Path(output).name)}.*partial"))
    if not found:
        return ""
    return f"the results so far are in {found[0]}; --resume auto goes on from there"


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
