"""`lab mnist-features`: what the units of small networks look for, and what convolutions see.

The lab trains a logistic regression and 30 hidden units on 2,000 digits with Adam, looks at the
weights of each unit, then at feature maps: of filters with known numbers, of a small convolutional
network, of AlexNet.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ..reports import Cell, Figure, Question, Section, Step, Table, Text
from .data import LabData, prepare_data
from .errors import LabError
from .lab import Lab
from .options import LabOptions
from .steps import Steps, Word
from .tables import formula_table, layer_table, parts_table, shape_words

#: Two fifths are learnt from and two decide: 2,000 each of a source without a test part.
_PICTURES, _VAL, _TEST = 5_000, 0.4, 0.2

#: Filters with known numbers, and which of them are looked at together.
_FILTERS = "python:torchlift.transfer.networks.photo_filters:photo_filters"
_KERNELS = "blur,sharpen,outline,horizontal_edges,vertical_edges"
_STEPS = "no_padding,vertical_edges,padding_2,stride_2,stride_4"
_POOLINGS = "max_pool_2,average_pool_2,max_pool_8,average_pool_8"

_ALEXNET = "python:torchlift.transfer.networks:alexnet_owt_bn"


@dataclass(frozen=True)
class Recipe:
    """A network, and how it is trained with Adam.

    Attributes:
        network: its name for `train`.
        title: what the lab calls it.
        lr: learning rate.
        epochs: of the small lab, and of the full one.
    """

    network: str
    title: str
    lr: float
    epochs: tuple[int, int]


_LOGISTIC = Recipe("logistic", "logistic regression", 0.001, (20, 50))
_MLP = Recipe("mlp30", "30 hidden units", 0.003, (20, 50))
_CNN = Recipe("small_cnn", "4 and 8 filters", 0.003, (20, 50))


def _sections(steps: Steps, options: LabOptions) -> list[Section]:
    data = prepare_data(steps, options, "MNIST", val=_VAL, test=_TEST, limit=_PICTURES)
    runs = {recipe: _train(steps, options, data, recipe) for recipe in (_LOGISTIC, _MLP, _CNN)}
    return [
        _data(steps, options, data),
        _learning(steps, data, runs),
        _units(steps, options, data),
        _photograph(steps, options),
        _small_cnn(steps, options, data),
        _alexnet(steps, options),
    ]


def _train(
    steps: Steps, options: LabOptions, data: LabData, recipe: Recipe, untrained: bool = False
) -> Step:
    """One training with Adam; or the network as it begins."""
    return steps.run(
        "train",
        recipe.network,
        data.word,
        optimizer="adamw",
        weight_decay=0,
        lr=recipe.lr,
        schedule="constant",
        batch_size=32,
        epochs=0 if untrained else options.sized(*recipe.epochs),
        seed=options.seed,
        device=options.device,
        output=steps.path(f"{recipe.network}-before" if untrained else recipe.network),
        resume="auto",
    )


def _data(steps: Steps, options: LabOptions, data: LabData) -> Section:
    figure = _figure(
        steps,
        "samples.png",
        "Training pictures, drawn by seed, with their labels.",
        "a grid of characters, the label above each",
        "samples",
        data.word,
        part="train",
        limit=12,
        seed=options.seed,
    )
    return Section("The data", [figure, parts_table(data)])


def _learning(steps: Steps, data: LabData, runs: dict[Recipe, Step]) -> Section:
    rows: list[list[Cell]] = []
    for recipe, trained in runs.items():
        kept = trained.result["evaluation"]
        best = next(row for row in trained.result["history"] if row["epoch"] == kept["epoch"])
        rows.append(
            [
                recipe.title,
                kept["epoch"],
                best["train_accuracy"],
                best.get("val_accuracy"),
                kept["accuracy"],
            ]
        )
    count = data.step.result["parts"]["train"]
    curves = _figure(
        steps,
        "curves.png",
        "Loss and accuracy by epoch.",
        "two charts of lines, losses falling and accuracies rising with the epochs",
        "curves",
        *(steps.path(recipe.network) for recipe in runs),
        titles=",".join(recipe.title for recipe in runs),
    )
    return Section(
        "Learning curves",
        [
            Text(
                f"Three networks learn {count:,} pictures with Adam, 32 at a time: a logistic "
                "regression, a network with 30 hidden units, and a convolutional one with 4 and 8 "
                "filters. Of each, the epoch with the best validation accuracy is kept.",
                [data.step],
            ),
            Table(
                "Accuracy of the epoch that is kept, on each part.",
                ["network", "epoch", "training", "validation", "test"],
                rows,
                list(runs.values()),
            ),
            curves,
        ],
    )


def _units(steps: Steps, options: LabOptions, data: LabData) -> Section:
    bright = "Where a weight is bright, a bright pixel speaks for the {}; where it is dark, against"
    _train(steps, options, data, _MLP, untrained=True)
    return Section(
        "What a unit looks for",
        [
            Text(
                "A unit of the first layer has one weight for each pixel. Laid out as the picture "
                "is, they show what the unit looks for."
            ),
            _figure(
                steps,
                "logistic-weights.png",
                f"Logistic regression, a unit for each class. {bright.format('class')}.",
                "a picture of weights for each class",
                "weights",
                steps.path("logistic/model"),
                titles=_LOGISTIC.title,
            ),
            _figure(
                steps,
                "mlp30-weights.png",
                f"The 30 hidden units, before and after training. {bright.format('unit')}.",
                "two grids of 30 pictures of weights, noise on the left, strokes on the right",
                "weights",
                steps.path("mlp30-before/model"),
                steps.path("mlp30/model"),
                titles="before,after",
            ),
        ],
    )


def _photograph(steps: Steps, options: LabOptions) -> Section:
    photo = options.photo or "china"
    figures = [
        _figure(
            steps,
            f"photo-{name}.png",
            caption,
            f"the photograph and, beside it, what {alt} makes of it",
            "feature-maps",
            _FILTERS,
            picture=photo,
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


def _small_cnn(steps: Steps, options: LabOptions, data: LabData) -> Section:
    walked = steps.run("summary", steps.path("small_cnn/model"))
    _train(steps, options, data, _CNN, untrained=True)
    layers = [row["name"] for row in walked.result["layers"] if len(row["output_shape"]) == 3]
    return Section(
        "A small convolutional network",
        [
            layer_table("The way of one picture through the network.", walked),
            _figure(
                steps,
                "cnn-filters.png",
                "Its 4 first filters, before and after training.",
                "two grids of four filters of 3×3",
                "filters",
                steps.path("small_cnn-before/model"),
                steps.path("small_cnn/model"),
                titles="before,after",
            ),
            _figure(
                steps,
                "cnn-maps.png",
                "One digit on its way: each convolution, its ReLU, its pooling. Blue is negative, "
                "which the ReLU sets to 0.",
                "feature maps of a digit, four of each layer first, then eight",
                "feature-maps",
                steps.path("small_cnn/model"),
                picture=data.word,
                part="test",
                layers=",".join(layers),
            ),
            _figure(
                steps,
                "cnn-samples.png",
                "Test pictures with the classes that the network holds likeliest. The right one "
                "is dark.",
                "a grid of characters, bars of probabilities beside each",
                "samples",
                data.word,
                part="test",
                limit=12,
                seed=options.seed,
                model=steps.path("small_cnn/model"),
            ),
        ],
    )


def _alexnet(steps: Steps, options: LabOptions) -> Section:
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
    filters = _figure(
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
        _figure(
            steps,
            f"alexnet-maps-{number}.png",
            f"The {said} convolution before and after its ReLU, on one scale.",
            "two grids of feature maps of the photograph",
            "feature-maps",
            model,
            picture=photo,
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


def _figure(
    steps: Steps, name: str, caption: str, alt: str, *words: Word, **options: Word | None
) -> Figure:
    """A picture that `plot` draws for the report."""
    drawn = steps.run("plot", *words, output=steps.path(name), **options)
    return Figure(caption, alt, steps.path(name), [drawn])


MNIST_FEATURES = Lab(
    "mnist-features",
    "Visualising weights and features",
    "What the units of small networks look for, what convolutions make of a photograph, and what "
    "AlexNet sees.",
    _sections,
)
