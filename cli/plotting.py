"""The kinds of plots that `torchlift plot` draws."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from ..converters.errors import TorchliftError
from .data_options import DataOptions
from .errors import UsageError
from .model_options import FILE_DEFAULTS, ModelOptions
from .values import CountOrZero

if TYPE_CHECKING:
    import numpy as np
    from matplotlib.figure import Figure

    from ..transfer.evaluation import Evaluation
    from ..transfer.plots.mosaic import Panel
    from ..transfer.plots.tensors import Weights

#: Images of a grid, unless --limit asks for more.
_SAMPLES = 12


@dataclass(frozen=True)
class PlotOptions:
    """How to draw it.

    Attributes:
        layers: Names with commas between: PyTorch's (1.8) or Lua paths (get(2):get(9)); of an .onnx
            file also values' names. By default the first convolution (and what follows it, for
            feature-maps), or the first linear layer.
        titles: The title of each source in the plot, with commas between.
        scale: One color scale for all that is compared, or one for each tile.
        shape: Shape of the image that a linear layer takes, such as 28x28 or 3x32x32.
        image: The input of the network: an image file, a dataset (see --index), or china or flower,
            two photographs that come with scikit-learn.
        index: Index of the image in a dataset, from 0.
        model: The model whose predictions are drawn beside the samples.
        data: Labeled images that a model is evaluated on.
        arrays: An .npz file for the values of filters, weights or feature maps.
    """

    layers: list[str] | None = None
    titles: list[str] | None = None
    scale: Literal["together", "each"] = "together"
    shape: tuple[int, ...] | None = None
    image: str | None = None
    index: CountOrZero = 0
    model: str | None = None
    data: str | None = None
    arrays: str | None = None


@dataclass(frozen=True)
class PlotResult:
    """A plot and the values behind it.

    Attributes:
        figure: the plot.
        data: its values, as JSON.
        lines: for people.
        notes: what was assumed or left out.
        arrays: the arrays that it shows.
    """

    figure: Figure
    data: dict[str, Any]
    lines: Sequence[str] = ()
    notes: Sequence[str] = ()
    arrays: dict[str, np.ndarray] = field(default_factory=dict)


@dataclass(frozen=True)
class PlotRequest:
    """The arguments of the command: sources, and all options."""

    sources: Sequence[str]
    plot_options: PlotOptions
    model_options: ModelOptions
    data_options: DataOptions

    @property
    def layers(self) -> list[str]:
        """The names of the layers."""
        return self.plot_options.layers or []

    @property
    def titles(self) -> list[str]:
        """The title of each source."""
        titles = self.plot_options.titles
        if titles and len(titles) != len(self.sources):
            raise UsageError(
                f"{len(titles)} --titles for {len(self.sources)} sources: give one for each"
            )
        return titles or [_title(source) for source in self.sources]

    @property
    def source(self) -> str:
        """The only source."""
        if len(self.sources) > 1:
            raise UsageError(f"{len(self.sources)} sources: this kind of plot takes one")
        return self.sources[0]


def draw_filters(request: PlotRequest) -> PlotResult:
    """Draw the kernels of convolutions."""
    from ..transfer.plots.weights import filter_panel

    def panel(title: str, weights: Weights, name: str, array: np.ndarray) -> tuple[Panel, str]:
        outputs, inputs, *kernel = array.shape
        shape = "×".join(map(str, [inputs, *kernel]))
        return filter_panel(f"{title}, layer {name}: {outputs} of {shape}", array)

    return _draw_weights(request, 4, panel)


def draw_units(request: PlotRequest) -> PlotResult:
    """Draw the weights of each unit of linear layers as images."""
    from ..transfer.plots.weights import image_shape, unit_panel

    def panel(title: str, weights: Weights, name: str, array: np.ndarray) -> tuple[Panel, str]:
        units, inputs = array.shape
        shape = _image_shape(request.plot_options.shape) or image_shape(inputs, weights.input_shape)
        size = "×".join(map(str, shape))
        last = [layer for layer, held in weights.layers.items() if held.ndim == 2][-1]
        labels = weights.labels if name == last else None
        return unit_panel(f"{title}, layer {name}: {units} of {size}", array, shape, labels)

    return _draw_weights(request, 2, panel)


def draw_feature_maps(request: PlotRequest) -> PlotResult:
    """Draw the outputs of layers for one image."""
    from ..transfer.plots.activations import layers_of, layers_of_file
    from ..transfer.plots.feature_maps import draw_feature_maps
    from ..transfer.plots.photographs import open_image

    plot_options = request.plot_options
    if plot_options.image is None:
        raise UsageError("feature-maps need an image: --image FILE")
    if _is_onnx(request.source, request.model_options):
        layers, notes = layers_of_file(request.source, request.layers), []
    else:
        model = request.model_options.model(request.source)
        layers, notes = layers_of(model, request.layers), model.notes
    image = open_image(plot_options.image, plot_options.index, request.data_options.open)
    seen, found = layers.run(image)
    layer_data = [
        {
            "layer": one.name,
            "torch_class": one.kind,
            **_statistics(one.values),
        }
        for one in found
    ]
    return PlotResult(
        draw_feature_maps(seen, found, plot_options.scale == "together"),
        {
            "image": plot_options.image,
            "input_shape": [seen.shape[-1], *seen.shape[:-1]],
            "layers": layer_data,
        },
        [one.title for one in found],
        [*notes, *filter(None, [layers.note])],
        {"image": seen, **{one.name: one.values for one in found}},
    )


def draw_curves(request: PlotRequest) -> PlotResult:
    """Draw loss and accuracy of runs by epoch."""
    from ..transfer.plots.curves import draw_curves, read_curve

    pairs = zip(request.sources, request.titles, strict=True)
    curves = [read_curve(source, title) for source, title in pairs]
    return PlotResult(draw_curves(curves), {"runs": [asdict(curve) for curve in curves]})


def draw_samples(request: PlotRequest) -> PlotResult:
    """Draw images of a dataset, with the predictions of a classifier."""
    from ..transfer.plots.predictions import samples_of
    from ..transfer.plots.samples import draw_samples

    data = replace(request.data_options, limit=request.data_options.limit or _SAMPLES).open(
        request.source
    )
    model = request.plot_options.model
    predictor = None if model is None else request.model_options.predictor(model, "auto")
    samples, notes = samples_of(data, predictor)
    ids = range(len(data)) if data.ids is None else data.ids.tolist()
    sample_data = [
        {
            "image": str(name),
            "label": sample.true_class,
            "predictions": [
                {"label": label, "probability": probability}
                for label, probability in sample.predictions
            ],
        }
        for name, sample in zip(ids, samples, strict=True)
    ]
    return PlotResult(draw_samples(samples), {"samples": sample_data}, notes=[*data.notes, *notes])


def draw_confusion(request: PlotRequest) -> PlotResult:
    """Draw a confusion matrix."""
    from ..transfer.plots.evaluation import confusion_of

    result = _evaluation(request)
    labels = [part.label for part in result.classes]
    data = {"accuracy": result.accuracy, "labels": labels, "confusion": result.confusion}
    line = f"accuracy {result.accuracy:.4g} ({result.correct:,} of {result.count:,})"
    return PlotResult(confusion_of(result), data, [line], result.notes)


def draw_sizes(request: PlotRequest) -> PlotResult:
    """Draw the sizes of layers."""
    from ..transfer.plots.sizes import (
        draw_sizes,
        format_bytes,
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
    whole = sum(layer.bytes for layer in layers)
    line = f"{request.titles[0]}: {parameters:,} parameters, {format_bytes(whole)}"
    data = {"parameters": parameters, "bytes": whole, "layers": [one.to_json() for one in layers]}
    return PlotResult(draw_sizes(layers, line), data, [line])


def _draw_weights(
    request: PlotRequest, rank: int, panel_of: Callable[..., tuple[Panel, str]]
) -> PlotResult:
    """Draw weights of each source; the same layer of all sources has one scale."""
    from ..transfer.plots.mosaic import draw_panels

    opened = [_weights(source, request.model_options) for source in request.sources]
    notes = [note for weights in opened for note in weights.notes]
    groups, layer_data, arrays = [], [], {}
    layers: Sequence[str | None] = request.layers or [None]
    for layer in layers:
        group = []
        for title, weights in zip(request.titles, opened, strict=True):
            name, array = weights.of(layer, rank)
            panel, left_out = panel_of(title, weights, name, array)
            group.append(panel)
            notes += [f"{panel.title}: {left_out} are shown"] if left_out else []
            layer_data.append({"title": title, "layer": name, **_statistics(array)})
            arrays[f"{title}/{name}"] = array
        groups.append(group)
    figure = draw_panels(groups, request.plot_options.scale == "together")
    lines = [panel.title for group in groups for panel in group]
    return PlotResult(figure, {"layers": layer_data}, lines, notes, arrays)


def _weights(source: str, model_options: ModelOptions) -> Weights:
    from ..transfer.plots.tensors import weights_of, weights_of_file

    if _is_onnx(source, model_options):
        return weights_of_file(source)
    return weights_of(model_options.model(source))


def _evaluation(request: PlotRequest) -> Evaluation:
    """Return the results in a file or folder, or those of a model on data."""
    from ..transfer.data import test_split
    from ..transfer.evaluation import evaluate, read_evaluation

    source = Path(request.source)
    file = source / "evaluation.json" if source.is_dir() else source
    if request.plot_options.data is None:
        if file.suffix != ".json" or not file.is_file():
            raise TorchliftError(
                f"{source} holds no evaluation.json; for a model, name the images too: --data DATA"
            )
        return read_evaluation(file)
    data = request.data_options.open(request.plot_options.data)
    data = test_split(data) if request.data_options.split is None else data
    return evaluate(request.model_options.predictor(request.source, "auto"), data)


def _title(source: str) -> str:
    """Return the title of a source; a run keeps its network in a folder `model`."""
    path = Path(source)
    if path.name in ("model", "metrics.csv"):
        return path.resolve().parent.name
    if not path.exists():
        return source.rpartition(":")[2]
    return path.resolve().stem if path.is_file() else path.resolve().name


def _image_shape(shape: tuple[int, ...] | None) -> tuple[int, int, int] | None:
    """Return (C, H, W) of --shape, which may leave out a single channel."""
    if shape is None:
        return None
    if len(shape) not in (2, 3):
        raise UsageError("--shape: a shape such as 28x28 or 3x32x32 was expected")
    channels, height, width = (1, *shape) if len(shape) == 2 else shape
    return channels, height, width


def _is_onnx(source: str, model_options: ModelOptions) -> bool:
    if Path(source).suffix.lower() != ".onnx":
        return False
    if model_options != FILE_DEFAULTS:
        raise TorchliftError(f"{source}: options for opening a model do not apply to an .onnx file")
    return True


def _statistics(array: np.ndarray) -> dict[str, Any]:
    """Return statistics of an array; `zeros` is the fraction of its values that are 0."""
    return {
        "shape": list(array.shape),
        "lowest": float(array.min()),
        "highest": float(array.max()),
        "average": float(array.mean()),
        "deviation": float(array.std()),
        "zeros": float((array == 0).mean()),
    }
