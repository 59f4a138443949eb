"""What `torchlift plot` draws, kind by kind."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from ..converters.errors import TorchliftError
from .data_options import DataOptions
from .model_options import FILE_DEFAULTS, ModelOptions

if TYPE_CHECKING:
    import numpy as np
    from matplotlib.figure import Figure

    from ..transfer.evaluation import Evaluation
    from ..transfer.plots.mosaic import Panel
    from ..transfer.plots.tensors import Weights

#: Pictures of a grid, unless more are asked for.
_SAMPLES = 12


@dataclass(frozen=True)
class PlotOptions:
    """How a picture is drawn.

    Attributes:
        layers: Names with commas between: PyTorch's (1.8) or Lua paths (get(2):get(9)); of an .onnx
            file also values' names. By default the first convolution (and what follows it, for
            feature-maps), or the first linear layer.
        titles: What each source is called in the picture, with commas between.
        scale: One scale of colours for all that is compared, or each tile its own.
        shape: Of the picture that a linear layer takes, such as 28x28 or 3x32x32.
        image: What the network is shown: an image file, a dataset (see --index), or china or
            flower, two photographs that are always there.
        index: Of the image in a dataset, from 0.
        model: Whose predictions are drawn beside the samples.
        data: Labelled pictures that a model is evaluated on.
        arrays: A file in .npz for the numbers of filters, weights or feature maps.
    """

    layers: str | None = None
    titles: str | None = None
    scale: Literal["together", "each"] = "together"
    shape: str | None = None
    image: str | None = None
    index: int = 0
    model: str | None = None
    data: str | None = None
    arrays: str | None = None


@dataclass(frozen=True)
class PlotResult:
    """A picture, and the numbers behind it.

    Attributes:
        figure: the picture.
        facts: the numbers, as JSON values.
        lines: for people.
        notes: what was assumed or left out.
        arrays: the whole arrays that it shows.
    """

    figure: Figure
    facts: dict[str, Any]
    lines: Sequence[str] = ()
    notes: Sequence[str] = ()
    arrays: dict[str, np.ndarray] = field(default_factory=dict)


@dataclass(frozen=True)
class PlotRequest:
    """What a command line asks for: sources, and all options."""

    sources: Sequence[str]
    plot_options: PlotOptions
    model_options: ModelOptions
    data_options: DataOptions

    @property
    def layers(self) -> list[str]:
        """The names of the layers."""
        return _words(self.plot_options.layers)

    @property
    def titles(self) -> list[str]:
        """What each source is called."""
        titles = _words(self.plot_options.titles)
        if titles and len(titles) != len(self.sources):
            raise TorchliftError(
                f"{len(titles)} --titles for {len(self.sources)} sources: give one for each"
            )
        return titles or [_title(source) for source in self.sources]

    @property
    def source(self) -> str:
        """The only source."""
        if len(self.sources) > 1:
            raise TorchliftError(f"{len(self.sources)} sources: this kind of picture is of one")
        return self.sources[0]


def draw_filters(request: PlotRequest) -> PlotResult:
    """The filters of convolutions."""
    from ..transfer.plots.weights import filter_panel

    def panel(title: str, weights: Weights, name: str, array: np.ndarray) -> tuple[Panel, str]:
        outputs, inputs, *kernel = array.shape
        shape = "×".join(map(str, [inputs, *kernel]))
        return filter_panel(f"{title}, layer {name}: {outputs} of {shape}", array)

    return _draw_weights(request, 4, panel)


def draw_units(request: PlotRequest) -> PlotResult:
    """The units of linear layers, as the pictures that they look for."""
    from ..transfer.plots.weights import image_shape, unit_panel

    def panel(title: str, weights: Weights, name: str, array: np.ndarray) -> tuple[Panel, str]:
        units, inputs = array.shape
        shape = _shape(request.plot_options.shape) or image_shape(inputs, weights.input_shape)
        said = "×".join(map(str, shape))
        last = [layer for layer, held in weights.layers.items() if held.ndim == 2][-1]
        labels = weights.labels if name == last else None
        return unit_panel(f"{title}, layer {name}: {units} of {said}", array, shape, labels)

    return _draw_weights(request, 2, panel)


def draw_feature_maps(request: PlotRequest) -> PlotResult:
    """What layers make of a picture."""
    from ..transfer.plots.activations import layers_of, layers_of_file
    from ..transfer.plots.feature_maps import draw_feature_maps
    from ..transfer.plots.photographs import open_image

    plot_options = request.plot_options
    if plot_options.image is None:
        raise TorchliftError("feature-maps are of a picture: name it, --image FILE")
    if _is_onnx(request.source, request.model_options):
        layers, notes = layers_of_file(request.source, request.layers), []
    else:
        model = request.model_options.model(request.source)
        layers, notes = layers_of(model, request.layers), model.notes
    image = open_image(plot_options.image, plot_options.index, request.data_options.open)
    seen, found = layers.look_at(image)
    facts = [
        {
            "layer": one.name,
            "class": one.kind,
            "shape": list(one.values.shape),
            **_facts(one.values),
        }
        for one in found
    ]
    return PlotResult(
        draw_feature_maps(seen, found, plot_options.scale == "together"),
        {"image": plot_options.image, "input": list(seen.shape), "layers": facts},
        [one.title for one in found],
        [*notes, *filter(None, [layers.note])],
        {"image": seen, **{one.name: one.values for one in found}},
    )


def draw_curves(request: PlotRequest) -> PlotResult:
    """Loss and accuracy of runs."""
    from ..transfer.plots.curves import draw_curves, read_curve

    pairs = zip(request.sources, request.titles, strict=True)
    curves = [read_curve(source, title) for source, title in pairs]
    return PlotResult(draw_curves(curves), {"runs": [asdict(curve) for curve in curves]})


def draw_samples(request: PlotRequest) -> PlotResult:
    """Pictures of a dataset, and what a classifier makes of them."""
    from ..transfer.plots.predictions import samples_of
    from ..transfer.plots.samples import draw_samples

    data = replace(request.data_options, limit=request.data_options.limit or _SAMPLES).open(
        request.source
    )
    model = request.plot_options.model
    predictor = None if model is None else request.model_options.predictor(model, "auto")
    samples, notes = samples_of(data, predictor)
    ids = range(len(data)) if data.ids is None else data.ids.tolist()
    facts = [
        {"id": name, "label": sample.right, "predictions": dict(sample.predictions)}
        for name, sample in zip(ids, samples, strict=True)
    ]
    return PlotResult(draw_samples(samples), {"samples": facts}, notes=[*data.notes, *notes])


def draw_confusion(request: PlotRequest) -> PlotResult:
    """What a classifier takes for what."""
    from ..transfer.plots.evaluation import confusion_of

    result = _evaluation(request)
    labels = [part.label for part in result.classes]
    facts = {"accuracy": result.accuracy, "labels": labels, "confusion": result.confusion}
    line = f"accuracy {result.accuracy:.4g} ({result.correct:,} of {result.count:,})"
    return PlotResult(confusion_of(result), facts, [line], result.notes)


def draw_sizes(request: PlotRequest) -> PlotResult:
    """The sizes of layers."""
    from ..transfer.plots.sizes import (
        draw_sizes,
        in_words,
        sizes_in_network,
        sizes_in_onnx,
        sizes_in_t7,
    )

    source = request.source
    if _is_onnx(source, request.model_options):
        layers = sizes_in_onnx(source)
    elif Path(source).is_file() and request.model_options == FILE_DEFAULTS:
        layers = sizes_in_t7(source)
    else:
        layers = sizes_in_network(request.model_options.model(source))
    parameters = sum(layer.parameters for layer in layers)
    whole = sum(sum(layer.bytes.values()) for layer in layers)
    line = f"{request.titles[0]}: {parameters:,} parameters, {in_words(whole)}"
    facts = {"parameters": parameters, "bytes": whole, "layers": [asdict(one) for one in layers]}
    return PlotResult(draw_sizes(layers, line), facts, [line])


def _draw_weights(
    request: PlotRequest, rank: int, panel_of: Callable[..., tuple[Panel, str]]
) -> PlotResult:
    """Weights of each source, layer by layer; the same layer of all sources has one scale."""
    from ..transfer.plots.mosaic import draw_panels

    opened = [_weights(source, request.model_options) for source in request.sources]
    notes = [note for weights in opened for note in weights.notes]
    groups, facts, arrays = [], [], {}
    wanted: Sequence[str | None] = request.layers or [None]
    for layer in wanted:
        group = []
        for title, weights in zip(request.titles, opened, strict=True):
            name, array = weights.of(layer, rank)
            panel, left_out = panel_of(title, weights, name, array)
            group.append(panel)
            notes += [f"{panel.title}: {left_out} are shown"] if left_out else []
            facts.append({"source": title, "layer": name, **_facts(array)})
            arrays[f"{title}/{name}"] = array
        groups.append(group)
    figure = draw_panels(groups, request.plot_options.scale == "together")
    lines = [panel.title for group in groups for panel in group]
    return PlotResult(figure, {"layers": facts}, lines, notes, arrays)


def _weights(source: str, model_options: ModelOptions) -> Weights:
    from ..transfer.plots.tensors import weights_of, weights_of_file

    if _is_onnx(source, model_options):
        return weights_of_file(source)
    return weights_of(model_options.model(source))


def _evaluation(request: PlotRequest) -> Evaluation:
    """The results in a file or folder, or those of a model on data."""
    from ..transfer.data import test_split
    from ..transfer.evaluation import evaluate, read_evaluation

    source = Path(request.source)
    file = source / "evaluation.json" if source.is_dir() else source
    if request.plot_options.data is None:
        if file.suffix != ".json" or not file.is_file():
            raise TorchliftError(
                f"{source} holds no evaluation.json; of a model, name the pictures too: --data DATA"
            )
        return read_evaluation(file)
    data = request.data_options.open(request.plot_options.data)
    data = test_split(data) if request.data_options.split is None else data
    return evaluate(request.model_options.predictor(request.source, "auto"), data)


def _words(text: str | None) -> list[str]:
    return [] if text is None else [word.strip() for word in text.split(",")]


def _title(source: str) -> str:
    """What a source is called; a run keeps its network in a folder `model`."""
    path = Path(source)
    if path.name in ("model", "metrics.csv"):
        return path.resolve().parent.name
    if not path.exists():
        return source.rpartition(":")[2]
    return path.resolve().stem if path.is_file() else path.resolve().name


def _shape(text: str | None) -> tuple[int, int, int] | None:
    if text is None:
        return None
    if not re.fullmatch(r"(\d+x)?\d+x\d+", text):
        raise TorchliftError(f"--shape {text}: a shape such as 28x28 or 3x32x32 was expected")
    *channels, height, width = (int(size) for size in text.split("x"))
    return (*(channels or [1]), height, width)  # type: ignore[return-value]  # three numbers


def _is_onnx(source: str, model_options: ModelOptions) -> bool:
    if Path(source).suffix.lower() != ".onnx":
        return False
    if model_options != FILE_DEFAULTS:
        raise TorchliftError(f"{source}: an .onnx file is taken as it is, with what it says")
    return True


def _facts(array: np.ndarray) -> dict[str, Any]:
    """An array in a few numbers; `zeros` is the probability of them that is 0."""
    return {
        "shape": list(array.shape),
        "lowest": float(array.min()),
        "highest": float(array.max()),
        "mean": float(array.mean()),
        "deviation": float(array.std()),
        "zeros": float((array == 0).mean()),
    }
