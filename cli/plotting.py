"""What `torchlift plot` draws, kind by kind."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from ..converters.errors import TorchliftError
from .data import DataOptions
from .opening import AS_FOUND, Opening

if TYPE_CHECKING:
    import numpy as np
    from matplotlib.figure import Figure

    from ..transfer.evaluation import Evaluation
    from ..transfer.plots.mosaic import Panel
    from ..transfer.plots.tensors import Weights

#: Pictures of a grid, unless more are asked for.
_SAMPLES = 12


@dataclass(frozen=True)
class Drawing:
    """How a picture is drawn.

    Attributes:
        layers: Names with commas between: PyTorch's (1.8) or Lua paths (get(2):get(9)); of an .onnx
            file also values' names. By default the first convolution (and what follows it, for
            feature-maps), or the first linear layer.
        titles: What each source is called in the picture, with commas between.
        scale: One scale of colours for all that is compared, or each tile its own.
        shape: Of the picture that a linear layer takes, such as 28x28 or 3x32x32.
        picture: What the network is shown: a picture's file, a dataset (see --index), or china or
            flower, two photographs that are always there.
        index: Of the picture in a dataset, from 0.
        model: Whose predictions are drawn beside the samples.
        data: Labelled pictures that a model is evaluated on.
        arrays: A file in .npz for the numbers of filters, weights or feature maps.
    """

    layers: str | None = None
    titles: str | None = None
    scale: Literal["together", "each"] = "together"
    shape: str | None = None
    picture: str | None = None
    index: int = 0
    model: str | None = None
    data: str | None = None
    arrays: str | None = None


@dataclass(frozen=True)
class Drawn:
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
class Asked:
    """What a command line asks for: sources, and all options."""

    sources: Sequence[str]
    drawing: Drawing
    opening: Opening
    choice: DataOptions

    @property
    def layers(self) -> list[str]:
        """The names of the layers."""
        return _words(self.drawing.layers)

    @property
    def titles(self) -> list[str]:
        """What each source is called."""
        titles = _words(self.drawing.titles)
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


def draw_filters(asked: Asked) -> Drawn:
    """The filters of convolutions."""
    from ..transfer.plots.weights import filter_panel

    def panel(title: str, weights: Weights, name: str, array: np.ndarray) -> tuple[Panel, str]:
        outputs, inputs, *kernel = array.shape
        shape = "×".join(map(str, [inputs, *kernel]))
        return filter_panel(f"{title}, layer {name}: {outputs} of {shape}", array)

    return _draw_weights(asked, 4, panel)


def draw_units(asked: Asked) -> Drawn:
    """The units of linear layers, as the pictures that they look for."""
    from ..transfer.plots.weights import picture_shape, unit_panel

    def panel(title: str, weights: Weights, name: str, array: np.ndarray) -> tuple[Panel, str]:
        units, inputs = array.shape
        shape = _shape(asked.drawing.shape) or picture_shape(inputs, weights.input_shape)
        said = "×".join(map(str, shape))
        last = [layer for layer, held in weights.layers.items() if held.ndim == 2][-1]
        labels = weights.labels if name == last else None
        return unit_panel(f"{title}, layer {name}: {units} of {said}", array, shape, labels)

    return _draw_weights(asked, 2, panel)


def draw_feature_maps(asked: Asked) -> Drawn:
    """What layers make of a picture."""
    from ..transfer.plots.activations import layers_of, layers_of_file
    from ..transfer.plots.feature_maps import draw_feature_maps
    from ..transfer.plots.photographs import open_picture

    drawing = asked.drawing
    if drawing.picture is None:
        raise TorchliftError("feature-maps are of a picture: name it, --picture FILE")
    if _is_onnx(asked.source, asked.opening):
        layers, notes = layers_of_file(asked.source, asked.layers), []
    else:
        model = asked.opening.model(asked.source)
        layers, notes = layers_of(model, asked.layers), model.notes
    picture = open_picture(drawing.picture, drawing.index, asked.choice.open)
    seen, found = layers.look_at(picture)
    facts = [
        {
            "layer": one.name,
            "class": one.kind,
            "shape": list(one.values.shape),
            **_facts(one.values),
        }
        for one in found
    ]
    return Drawn(
        draw_feature_maps(seen, found, drawing.scale == "together"),
        {"picture": drawing.picture, "input": list(seen.shape), "layers": facts},
        [one.title for one in found],
        [*notes, *filter(None, [layers.note])],
        {"picture": seen, **{one.name: one.values for one in found}},
    )


def draw_curves(asked: Asked) -> Drawn:
    """Loss and accuracy of runs."""
    from ..transfer.plots.curves import draw_curves, read_curve

    pairs = zip(asked.sources, asked.titles, strict=True)
    curves = [read_curve(source, title) for source, title in pairs]
    return Drawn(draw_curves(curves), {"runs": [asdict(curve) for curve in curves]})


def draw_samples(asked: Asked) -> Drawn:
    """Pictures of a dataset, and what a classifier makes of them."""
    from ..transfer.plots.predictions import samples_of
    from ..transfer.plots.samples import draw_samples

    data = replace(asked.choice, limit=asked.choice.limit or _SAMPLES).open(asked.source)
    model = asked.drawing.model
    predictor = None if model is None else asked.opening.predictor(model, "auto")
    samples, notes = samples_of(data, predictor)
    ids = range(len(data)) if data.ids is None else data.ids.tolist()
    facts = [
        {"id": name, "label": sample.right, "predictions": dict(sample.shares)}
        for name, sample in zip(ids, samples, strict=True)
    ]
    return Drawn(draw_samples(samples), {"samples": facts}, notes=[*data.notes, *notes])


def draw_confusion(asked: Asked) -> Drawn:
    """What a classifier takes for what."""
    from ..transfer.evaluation.drawing import confusion_of

    result = _evaluation(asked)
    labels = [part.label for part in result.classes]
    facts = {"accuracy": result.accuracy, "labels": labels, "confusion": result.confusion}
    line = f"accuracy {result.accuracy:.4g} ({result.correct:,} of {result.count:,})"
    return Drawn(confusion_of(result), facts, [line], result.notes)


def draw_sizes(asked: Asked) -> Drawn:
    """The sizes of layers."""
    from ..transfer.plots.sizes import (
        draw_sizes,
        in_words,
        sizes_in_network,
        sizes_in_onnx,
        sizes_in_t7,
    )

    source = asked.source
    if _is_onnx(source, asked.opening):
        layers = sizes_in_onnx(source)
    elif Path(source).is_file() and asked.opening == AS_FOUND:
        layers = sizes_in_t7(source)
    else:
        layers = sizes_in_network(asked.opening.model(source))
    parameters = sum(layer.parameters for layer in layers)
    whole = sum(sum(layer.bytes.values()) for layer in layers)
    line = f"{asked.titles[0]}: {parameters:,} parameters, {in_words(whole)}"
    facts = {"parameters": parameters, "bytes": whole, "layers": [asdict(one) for one in layers]}
    return Drawn(draw_sizes(layers, line), facts, [line])


def _draw_weights(asked: Asked, rank: int, panel_of: Callable[..., tuple[Panel, str]]) -> Drawn:
    """Weights of each source, layer by layer; the same layer of all sources has one scale."""
    from ..transfer.plots.mosaic import draw_panels

    opened = [_weights(source, asked.opening) for source in asked.sources]
    notes = [note for weights in opened for note in weights.notes]
    groups, facts, arrays = [], [], {}
    wanted: Sequence[str | None] = asked.layers or [None]
    for layer in wanted:
        group = []
        for title, weights in zip(asked.titles, opened, strict=True):
            name, array = weights.of(layer, rank)
            panel, left_out = panel_of(title, weights, name, array)
            group.append(panel)
            notes += [f"{panel.title}: {left_out} are shown"] if left_out else []
            facts.append({"source": title, "layer": name, **_facts(array)})
            arrays[f"{title}/{name}"] = array
        groups.append(group)
    figure = draw_panels(groups, asked.drawing.scale == "together")
    lines = [panel.title for group in groups for panel in group]
    return Drawn(figure, {"layers": facts}, lines, notes, arrays)


def _weights(source: str, opening: Opening) -> Weights:
    from ..transfer.plots.tensors import weights_of, weights_of_file

    if _is_onnx(source, opening):
        return weights_of_file(source)
    return weights_of(opening.model(source))


def _evaluation(asked: Asked) -> Evaluation:
    """The results in a file or folder, or those of a model on data."""
    from ..transfer.data import test_part
    from ..transfer.evaluation import evaluate, read_evaluation

    source = Path(asked.source)
    file = source / "evaluation.json" if source.is_dir() else source
    if asked.drawing.data is None:
        if file.suffix != ".json" or not file.is_file():
            raise TorchliftError(
                f"{source} holds no evaluation.json; of a model, name the pictures too: --data DATA"
            )
        return read_evaluation(file)
    data = asked.choice.open(asked.drawing.data)
    data = test_part(data) if asked.choice.part is None else data
    return evaluate(asked.opening.predictor(asked.source, "auto"), data)


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


def _is_onnx(source: str, opening: Opening) -> bool:
    if Path(source).suffix.lower() != ".onnx":
        return False
    if opening != AS_FOUND:
        raise TorchliftError(f"{source}: an .onnx file is taken as it is, with what it says")
    return True


def _facts(array: np.ndarray) -> dict[str, Any]:
    """An array in a few numbers; `zeros` is the share of them that is 0."""
    return {
        "shape": list(array.shape),
        "lowest": float(array.min()),
        "highest": float(array.max()),
        "mean": float(array.mean()),
        "deviation": float(array.std()),
        "zeros": float((array == 0).mean()),
    }
