"""`torchlift evaluate`."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from rich.console import Group
from rich.table import Table

from ..converters.overwriting import check_output_folder
from .data_options import ALL_DATA, DataOptions
from .errors import UsageError
from .model_options import (
    AS_THE_GRAPH_TELLS,
    FILE_DEFAULTS,
    ModelOptions,
    ScoreOptions,
    run_plugin,
)
from .progress import progress
from .result import CommandResult, table
from .values import Count, Provider, in_precision

if TYPE_CHECKING:
    from ..transfer.data import Dataset, ImageFiles
    from ..transfer.evaluation import Evaluation

#: A table of so many classes has a row for each; a longer one only for those that have images.
_ALL_ROWS = 100


def evaluate(
    model: str,
    data: str,
    *,
    output: str | None = None,
    overwrite: bool = False,
    batch_size: Count = 64,
    provider: Provider = "auto",
    precision: Literal["f32", "bf16"] | None = None,
    vocab: str | None = None,
    model_options: ModelOptions = FILE_DEFAULTS,
    score_options: ScoreOptions = AS_THE_GRAPH_TELLS,
    data_options: DataOptions = ALL_DATA,
) -> CommandResult:
    """Evaluate a classifier on labeled images, or a language model on a text.

    The data is a .t7 or .npz file, a folder with a sub-folder of images for each class, the
    files of CIFAR-10/100 or MNIST or their folder, or sklearn:digits. If the data has a test split
    of its own, that split is used, unless --split names another. Of a classifier the accuracy and
    calibration are measured; of a model of characters or words, such as char-rnn's, the loss of
    each token of a text, in nats, and the perplexity.

    Args:
        model: A .t7 file, a saved model's folder or an .onnx file; hf:FOLDER or hf:ORG/NAME;
            torchvision:NAME or timm:NAME; or python:package.module:function.
        data: Labeled images, such as a .t7 with {data=N×C×H×W, label=N}; or a .txt.
        output: A folder for the results: JSON, CSV and plots (confusion, calibration, mistakes).
        overwrite: Replace the results of an earlier evaluation.
        batch_size: How many images are run together.
        provider: What to run on: auto, cpu, cuda or cuda:1; tensorrt or openvino for an .onnx
            file.
        precision: What OpenVINO computes in: f32 (as it does here by default) or bf16.
        vocab: For a text: a .t7 with the vocabulary where the model has none, with :PATH behind it
            for a value in it.
        model_options: How to open the model.
        score_options: What an .onnx file of another program gives.
        data_options: Which images are used.
    """
    if Path(data).suffix.lower() == ".txt":
        if score_options != AS_THE_GRAPH_TELLS:
            raise UsageError(f"{data} is a text: leave out --output-kind and --output-name")
        if output is not None:
            raise UsageError("results of a text are printed: leave out --output")
        return evaluate_text(model, data, in_precision(provider, precision), vocab, model_options)
    if vocab is not None:
        raise UsageError(f"--vocab is for a text in .txt, not for {data}")
    from ..transfer.data import test_split
    from ..transfer.evaluation import evaluate as evaluate_on
    from ..transfer.evaluation.files import EVALUATION

    target = None if output is None else check_output_folder(output, EVALUATION, overwrite)
    predictor = model_options.predictor(model, in_precision(provider, precision), score_options)
    images = data_options.open(data)
    if data_options.split is None:
        images = test_split(images)
    result = evaluate_on(predictor, images, batch_size, data_options.match_classes)
    files = [] if target is None else _write(result, images, target)
    notes = [*images.notes, *result.notes, *([predictor.note] if predictor.note else [])]
    metadata = {
        "model": model,
        "data": data,
        "provider": predictor.provider,
        **result.to_json(),
        "notes": notes,
        "files": [str(file) for file in files],
    }
    view = Group(
        f"accuracy {result.accuracy:.4g} ({result.correct:,} of {result.count:,}), "
        f"top-5 {result.top5_accuracy:.4g}, loss {result.loss:.4g}, on {predictor.provider}",
        f"mean of the classes: precision {result.precision:.4g}, recall {result.recall:.4g}, "
        f"F1 {result.f1:.4g}; calibration error {result.ece:.4f} ({len(result.bins)} bins)",
        "",
        class_table(result),
        *(f"note: {note}" for note in notes),
        *(f"wrote {file!s}" for file in files),
    )
    return CommandResult(metadata, view)


def evaluate_text(
    model: str, data: str, provider: str, vocab: str | None, model_options: ModelOptions
) -> CommandResult:
    """Evaluate a language model on a text."""
    from ..converters.inference.errors import InferenceError
    from ..converters.inference.text import Tokenizer, open_language_model, text_loss

    others = replace(model_options, at=None, plugin=None)
    if others != FILE_DEFAULTS:
        raise UsageError(f"{data} is a text: of a model's options it takes --at and --plugin only")
    run_plugin(model_options.plugin)
    text = Path(data).read_bytes()
    opened = open_language_model(model, provider, vocab=vocab, at=model_options.at)
    try:
        tokens = Tokenizer(opened.vocabulary).encode(text)
        with progress(len(tokens)) as advance:
            result = text_loss(opened, tokens, advance)
    except InferenceError as error:
        raise InferenceError(f"{data}: {error}") from None
    found = {"tokens": result.tokens, "loss": result.loss, "perplexity": result.perplexity}
    view = (
        f"loss {result.loss:.6g} nats a token, perplexity {result.perplexity:.6g} "
        f"({result.tokens:,} tokens, on {opened.provider})"
    )
    return CommandResult(found, view)


def _write(result: Evaluation, images: Dataset | ImageFiles, target: Path) -> list[Path]:
    """Write the results and their figures to a folder, all at once."""
    from ..converters.files import atomic_path
    from ..transfer.evaluation import write_evaluation
    from ..transfer.plots.evaluation import save_evaluation_figures

    with atomic_path(target) as folder:
        written = [
            *write_evaluation(result, folder),
            *save_evaluation_figures(result, folder, images),
        ]
    return [target / file.name for file in written]


def class_table(result: Evaluation) -> Table:
    """Return the results of each class as a table."""
    numbers = ("accuracy", "precision", "F1", "correct", "images")
    classes = table("class", *numbers, right=numbers)
    shown = [part for part in result.classes if part.count or len(result.classes) <= _ALL_ROWS]
    for part in shown:
        scores = (
            f"{value:.3f}" if there else "–"
            for value, there in (
                (part.accuracy, part.count),
                (part.precision, part.predicted),
                (part.f1, part.count or part.predicted),
            )
        )
        classes.add_row(part.label, *scores, f"{part.correct:,}", f"{part.count:,}")
    left_out = len(result.classes) - len(shown)
    if left_out:
        predicted = result.count - sum(part.predicted for part in shown)
        classes.caption = f"{left_out:,} classes without images, predicted {predicted:,} times"
    return classes
