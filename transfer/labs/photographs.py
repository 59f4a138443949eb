"""The chapters of `lab mnist-features` about a photograph: known filters, and AlexNet's maps."""

from __future__ import annotations

from typing import Any

from ..errors import LabError
from ..reports import Cell, Question, Section, Table, Text
from .figures import plotted
from .options import LabOptions
from .steps import Steps
from .tables import formula_table, shape_words

#: Filters with known numbers, and which of them are looked at together.
_FILTERS = "python:torchlift.transfer.networks.photo_filters:photo_filters"
_KERNELS = "blur,sharpen,outline,horizontal_edges,vertical_edges"
_STEPS = "no_padding,vertical_edges,padding_2,stride_2,stride_4"
_POOLINGS = "max_pool_2,average_pool_2,max_pool_8,average_pool_8"

_ALEXNET = "python:torchlift.transfer.networks:alexnet_owt_bn"


def photograph_section(steps: Steps, options: LabOptions) -> Section:
    """Filters with known numbers, paddings, strides and poolings on a photograph."""
    photo = options.photo or "china"
    figures = [
        plotted(
            steps,
            f"photo-{name}.png",
            caption,
            f"the photograph and, beside it, what {alt} makes of it",
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
                "A mean, a sharpening, an outline, and Sobel's two filters. Above each map stands "
                "its range: what is no longer a brightness may be negative.",
                "each filter",
            ),
            (
                "strides",
                _STEPS,
                "The same filter with other padding and stride. Zeros around the photograph look "
                "like an edge to it.",
                "the filter with each padding and stride",
            ),
            (
                "poolings",
                _POOLINGS,
                "Maximum and mean of 2×2 and 8×8. The maximum keeps what is bright and small, the "
                "mean what is large.",
                "each pooling",
            ),
        )
    ]
    height, width, _ = figures[0].steps[0].result["input"]
    walked = steps.run("summary", _FILTERS, input=f"1x{height}x{width}", formulas=True)
    kernels, strides, poolings = figures
    return Section(
        "Convolutions on a photograph",
        [
            Text(
                "A convolution lays a small filter on every place of a picture and adds up the "
                "products. Networks learn their filters; these are known."
            ),
            kernels,
            strides,
            poolings,
            Question(
                "How large is what comes out?",
                [
                    Text(
                        "Without padding a filter of 3×3 loses the border, with 1 the size stays, "
                        "with 2 it grows. A stride of *s* leaves every *s*-th place, and a "
                        "pooling one number of each window."
                    ),
                    formula_table("The formula, and what comes out of the real layer.", walked),
                ],
            ),
        ],
    )


def alexnet_section(steps: Steps, options: LabOptions) -> Section:
    """AlexNet's filters, and its first two layers' maps before and after the ReLU.

    Raises:
        LabError: when `--model` is a network without two convolutions.
    """
    model, photo = options.model or _ALEXNET, options.photo or "china"
    opening = {"labels": options.labels, "mean_std": options.mean_std} if options.model else {}
    if options.model is None:
        steps.note(
            "No pretrained AlexNet was given (`--model alexnet.t7 --mean-std …`): the one here "
            "has its layers and random numbers. Its maps show what a layer does to a picture, not "
            "what training makes of it."
        )
    walked = steps.run("summary", model, **opening)
    first, second = _convolutions(walked.result["layers"])
    filters = plotted(
        steps,
        "alexnet-filters.png",
        "The filters of the first convolution"
        + (", which nobody has trained." if options.model is None else "."),
        "a grid of small coloured pictures",
        "filters",
        model,
        titles="AlexNet",
        **opening,
    )
    first_maps, second_maps = (
        plotted(
            steps,
            f"alexnet-maps-{number}.png",
            f"The {said} convolution before and after its ReLU, on one scale.",
            "two grids of feature maps of the photograph",
            "feature-maps",
            model,
            image=photo,
            layers=",".join(layers),
            **opening,
        )
        for number, said, layers in ((1, "first", first), (2, "second", second))
    )
    rows: list[list[Cell]] = [
        [found["layer"], found["class"], shape_words(found["shape"]), *_range(found)]
        for maps in (first_maps, second_maps)
        for found in maps.steps[0].result["layers"]
    ]
    return Section(
        "AlexNet looks at a photograph",
        [
            filters,
            first_maps,
            second_maps,
            Question(
                "What does the ReLU do to the maps?",
                [
                    Text(
                        "It sets what is negative to 0 and leaves the rest: the maps lose one of "
                        "their two sides, and the network its linearity."
                    ),
                    Table(
                        "The numbers of the maps; the share of those that are exactly 0.",
                        ["layer", "class", "shape", "lowest", "highest", "mean", "zeros"],
                        rows,
                        [*first_maps.steps, *second_maps.steps],
                    ),
                ],
            ),
        ],
    )


def _convolutions(layers: list[dict[str, Any]]) -> list[tuple[str, str]]:
    """The names of the first two convolutions, each with that of the ReLU behind it.

    Raises:
        LabError: when the network does not have two of them.
    """
    pairs, last = list[tuple[str, str]](), None
    for layer in layers:
        if layer["class_name"] == "Conv2d":
            last = layer["name"]
        elif "ReLU" in layer["class_name"] and last is not None:
            pairs.append((last, layer["name"]))
            last = None
    if len(pairs) < 2:
        raise LabError("--model: a network with two convolutions was expected, a ReLU behind each")
    return pairs[:2]


def _range(found: dict[str, Any]) -> list[Cell]:
    return [found[name] for name in ("lowest", "highest", "mean", "zeros")]
