"""The kinds of plots that `torchlift plot` draws."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..converters.errors import TorchliftError
from ..transfer.formatting import format_bytes
from .errors import UsageError
from .model_options import FILE_DEFAULTS, ModelOptions
from .plot_options import PlotRequest, PlotResult

if TYPE_CHECKING:
    import numpy as np

    from ..transfer.evaluation import Evaluation
    from ..transfer.plots.mosaic import Panel
    from ..transfer.plots.tensors import Weights

#: Images of a grid, unless --limit asks for more.
_SAMPLES = 12


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
    samples, notes = samples_of(data, predictor, request.data_options.match_classes)
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
    if request.plot_options.augmented:
        from ..transfer.plots.augmented import with_augmented

        samples = with_augmented(samples, request.augmentation, request.data_options.seed)
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
    predictor = request.model_options.predictor(request.source, "auto")
    result = evaluate(predictor, data, match_classes=request.data_options.match_classes)
    return replace(result, notes=[*data.notes, *result.notes])


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
