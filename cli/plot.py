"""`torchlift plot`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal, get_args

from rich.console import Group

from ..transfer.data.augmentation import Augmentation
from . import plotting
from .data_options import ALL_DATA, DataOptions, given_options
from .errors import UsageError
from .model_options import FILE_DEFAULTS, ModelOptions
from .outputs import output_suffix
from .plot_options import PlotOptions, PlotRequest, PlotResult
from .result import CommandResult

Kind = Literal["filters", "feature-maps", "weights", "curves", "samples", "confusion", "sizes"]

_PLAIN, _UNCHANGED = PlotOptions(), Augmentation()
_OF_A_MODEL = tuple(asdict(FILE_DEFAULTS))
_OF_DATA = tuple(asdict(ALL_DATA))
#: Mixing needs two images.
_OF_AUGMENTATION = tuple(name for name in asdict(_UNCHANGED) if name not in ("mixup", "cutmix"))
_OF_IMAGES = tuple(name for name in _OF_DATA if name != "match_classes")

#: What draws each kind, and the options that it takes.
_KINDS: dict[str, tuple[Callable[[PlotRequest], PlotResult], Sequence[str]]] = {
    "filters": (plotting.draw_filters, ("layers", "titles", "scale", "arrays", *_OF_A_MODEL)),
    "feature-maps": (
        plotting.draw_feature_maps,
        ("layers", "image", "index", "scale", "arrays", *_OF_A_MODEL, *_OF_IMAGES),
    ),
    "weights": (
        plotting.draw_units,
        ("layers", "titles", "scale", "shape", "arrays", *_OF_A_MODEL),
    ),
    "curves": (plotting.draw_curves, ("titles",)),
    "samples": (
        plotting.draw_samples,
        ("model", "augmented", *_OF_A_MODEL, *_OF_DATA, *_OF_AUGMENTATION),
    ),
    "confusion": (plotting.draw_confusion, ("data", *_OF_A_MODEL, *_OF_DATA)),
    "sizes": (plotting.draw_sizes, ("titles", *_OF_A_MODEL)),
}


def plot(
    kind: Kind,
    sources: list[str],
    *,
    output: str | None = None,
    overwrite: bool = False,
    plot_options: PlotOptions = _PLAIN,
    model_options: ModelOptions = FILE_DEFAULTS,
    data_options: DataOptions = ALL_DATA,
    augmentation: Augmentation = _UNCHANGED,
) -> CommandResult:
    """Plot a network, a dataset or results, as PNG or SVG.

    filters MODEL…: the kernels of convolutions; of several models, such as one before and after its
    training, side by side on one scale (--layers, --titles, --scale).

    feature-maps MODEL --image FILE: the outputs of layers for one image (--layers, --index,
    --scale).

    weights MODEL…: the weights of each unit of a linear layer as an image (--layers, --shape).

    curves RUN…: loss and accuracy by epoch, of folders that train wrote (--titles).

    samples DATA: labeled images (--limit); with --model, its most probable classes; with
    --augmented and options of augmentation, five changed versions of each.

    confusion RESULTS: true classes against predicted classes, of a folder that evaluate --output or
    train wrote; or of a model with --data.

    sizes MODEL: parameters and bytes of each layer; of a .t7 also of gradients and buffers.

    A model is a .t7 file, a saved model's folder, an .onnx file, torchvision:NAME,
    timm:NAME, hf:FOLDER or python:package.module:function. The same command gives the same bytes.

    Args:
        kind: What to draw.
        sources: Models, runs, data or results, as above.
        output: The plot, in .png or .svg; by default KIND.png, here.
        overwrite: Replace files that are there.
        plot_options: How to draw it.
        model_options: How to open a model.
        data_options: Which images of a dataset are used.
        augmentation: How samples are changed, as by train and finetune.
    """
    target, arrays = Path(output or f"{kind}.png"), plot_options.arrays
    output_suffix(str(target), [".png", ".svg"])
    if arrays is not None:
        output_suffix(arrays, [".npz"])
    from ..converters.files import check_output
    from ..transfer.plots.figures import save_figure

    draw, taken = _KINDS[kind]
    given = [
        *given_options(plot_options, _PLAIN),
        *given_options(model_options, FILE_DEFAULTS),
        *given_options(data_options, ALL_DATA),
        *given_options(augmentation, _UNCHANGED),
    ]
    _check_options(kind, taken, given)
    target.parent.mkdir(parents=True, exist_ok=True)
    check_output(target, overwrite)
    if arrays is not None:
        check_output(arrays, overwrite)
    drawn = draw(PlotRequest(sources, plot_options, model_options, data_options, augmentation))
    files = [save_figure(drawn.figure, target)]
    if arrays is not None:
        files.append(_save_arrays(arrays, drawn))
    notes = list(dict.fromkeys(drawn.notes))
    written = [str(file) for file in files]
    data = {"plot_kind": kind, "files": written, **drawn.data, "notes": notes}
    view = Group(
        *drawn.lines,
        *(f"note: {note}" for note in notes),
        *(f"wrote {file}" for file in written),
    )
    return CommandResult(data, view)


def _check_options(kind: str, taken: Sequence[str], given: Sequence[str]) -> None:
    """Check that a kind of plot takes the options that were given.

    Raises:
        UsageError: If it does not, or some of them would change nothing.
    """
    foreign = [name for name in given if name not in taken]
    if foreign:
        kinds = [other for other in get_args(Kind) if foreign[0] in _KINDS[other][1]]
        raise UsageError(
            f"plot {kind} takes no --{foreign[0].replace('_', '-')}, which is for "
            f"{' and '.join(kinds) or 'train and finetune'}; torchlift plot --help lists all"
        )
    changes = [name for name in given if name in _OF_AUGMENTATION]
    if changes and "augmented" not in given:
        raise UsageError(f"--{changes[0].replace('_', '-')} changes nothing without --augmented")
    if "augmented" in given and not changes:
        raise UsageError("--augmented needs to know how, such as --flip or --resized-crop 0.3")
    if "augmented" in given and "model" in given:
        raise UsageError("--augmented and --model exclude each other")


def _save_arrays(file: str, drawn: PlotResult) -> Path:
    import numpy as np

    from ..converters.files import atomic_path

    target = Path(file)
    arrays: dict[str, Any] = dict(drawn.arrays)
    # Of a name with other letters than `.npz` numpy would make one with two suffixes.
    with atomic_path(target) as temporary, temporary.open("wb") as stream:
        np.savez(stream, **arrays)
    return target
