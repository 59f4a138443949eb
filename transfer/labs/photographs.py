"""Chapters of `lab mnist-features` about a photograph: fixed filters, and maps of AlexNet."""

from __future__ import annotations

from typing import Any

from ..errors import LabError
from ..reports import Cell, Question, Section, Table, Text
from .figures import plotted
from .options import LabOptions
from .steps import Steps
from .tables import formula_table, shape_text

#: Convolutions with fixed weights, and the layers that share a figure.
_FILTERS = "python:torchlift.transfer.networks.photo_filters:photo_filters"
_KERNELS = "blur,sharpen,outline,horizontal_edges,vertical_edges"
_STRIDES = "no_padding,vertical_edges,padding_2,stride_2,stride_4"
_POOLINGS = "max_pool_2,average_pool_2,max_pool_8,average_pool_8"

_ALEXNET = "python:torchlift.transfer.networks:alexnet_owt_bn"


def photograph_section(steps: Steps, options: LabOptions) -> Section:
    """Return the chapter about fixed filters, padding, stride and pooling on a photograph."""
    photo = options.photo or "china"
    figures = [
        plotted(
            steps,
            f"photo-{name}.png",
            caption,
            f"the photograph, and beside it the output of {alt}",
            "feature-maps",
            _FILTERS,
            image=photo,
            layers=layers,
            scale="each",
        )
        for name, layers, caption, alt in (
            (
                "kernels",
                _KERNELS,
                "Blurring, sharpening, an outline, and the two Sobel filters. Above each map is "
                "its range; values may be negative, because they are no longer brightnesses.",
                "each filter",
            ),
            (
                "strides",
                _STRIDES,
                "The same filter with different padding and stride. The filter sees the zeros "
                "around the photograph as an edge.",
                "the filter with each padding and stride",
            ),
            (
                "poolings",
                _POOLINGS,
                "Maximum and average pooling over 2×2 and 8×8. The maximum keeps small bright "
                "details, the average large areas.",
                "each pooling layer",
            ),
        )
    ]
    # The first filter keeps the size of the photograph.
    _, height, width = figures[0].steps[0].result["layers"][0]["shape"]
    summarized = steps.run("summary", _FILTERS, input=f"1x{height}x{width}", formulas=True)
    kernels, strides, poolings = figures
    return Section(
        "Convolutions on a photograph",
        [
            Text(
                "A convolution moves a small filter over an image and, at every position, adds up "
                "the products of filter weights and pixels. Networks learn their filters; the "
                "filters here are fixed."
            ),
            kernels,
            strides,
            poolings,
            Question(
                "How large is the output?",
                [
                    Text(
                        "With a 3×3 filter, the output is smaller than the input without padding, "
                        "equally large with a padding of 1, and larger with 2. A stride of *s* "
                        "keeps every *s*-th position, and pooling keeps one value of each window."
                    ),
                    formula_table(
                        "The formula, and the output shape of the real layer.", summarized
                    ),
                ],
            ),
        ],
    )


def alexnet_section(steps: Steps, options: LabOptions) -> Section:
    """Return the chapter about AlexNet's filters and the feature maps of its first two layers.

    Raises:
        LabError: When the network of `model` has fewer than two convolutions.
    """
    model, photo = options.model or _ALEXNET, options.photo or "china"
    model_options = options.model_options if options.model else {}
    if options.model is None:
        steps.note(
            "No pretrained AlexNet was given (`model=alexnet.t7`, `mean_std=…`). The AlexNet in "
            "this report has random weights: its feature maps show what each layer does to an "
            "image, not what training changes."
        )
    summarized = steps.run("summary", model, **model_options)
    first, second = _convolutions(summarized.result["layers"])
    filters = plotted(
        steps,
        "alexnet-filters.png",
        "The filters of the first convolution" + (", untrained." if options.model is None else "."),
        "a grid of small color images",
        "filters",
        model,
        titles="AlexNet",
        **model_options,
    )
    first_maps, second_maps = (
        plotted(
            steps,
            f"alexnet-maps-{number}.png",
            f"The {ordinal} convolution before and after its ReLU, on one scale.",
            "two grids of feature maps of the photograph",
            "feature-maps",
            model,
            image=photo,
            layers=",".join(layers),
            **model_options,
        )
        for number, ordinal, layers in ((1, "first", first), (2, "second", second))
    )
    rows: list[list[Cell]] = [
        [layer["layer"], layer["torch_class"], shape_text(layer["shape"]), *_value_range(layer)]
        for maps in (first_maps, second_maps)
        for layer in maps.steps[0].result["layers"]
    ]
    return Section(
        "A photograph in AlexNet",
        [
            filters,
            first_maps,
            second_maps,
            Question(
                "What does the ReLU do to the feature maps?",
                [
                    Text(
                        "It sets negative values to 0 and leaves the others unchanged. This makes "
                        "the network nonlinear."
                    ),
                    Table(
                        "The values of the feature maps; `zeros` is the fraction of exact zeros.",
                        ["layer", "class", "shape", "lowest", "highest", "mean", "zeros"],
                        rows,
                        [*first_maps.steps, *second_maps.steps],
                    ),
                ],
            ),
        ],
    )


def _convolutions(layers: list[dict[str, Any]]) -> list[tuple[str, str]]:
    """Return the names of the first two convolutions, each with that of the ReLU after it.

    Raises:
        LabError: When the network has fewer than two such pairs.
    """
    pairs: list[tuple[str, str]] = []
    convolution: str | None = None
    for layer in layers:
        if layer["torch_class"] == "Conv2d":
            convolution = layer["torch_path"]
        elif "ReLU" in layer["torch_class"] and convolution is not None:
            pairs.append((convolution, layer["torch_path"]))
            convolution = None
    if len(pairs) < 2:
        raise LabError("model=…: the lab needs a network with two convolutions, each with a ReLU")
    return pairs[:2]


def _value_range(layer: dict[str, Any]) -> list[Cell]:
    return [layer[name] for name in ("lowest", "highest", "average", "zeros")]
