"""`lab mnist-features`: what the units of small networks look for, and what convolutions see.

The lab trains a logistic regression and 30 hidden units on 2,000 digits with Adam, looks at the
weights of each unit, then at feature maps: of filters with known numbers, of a small convolutional
network, of AlexNet.
"""

from __future__ import annotations

from dataclasses import dataclass

from ..reports import Cell, Section, Step, Table, Text
from .data import LabData, prepare_data
from .figures import plotted, training_samples
from .lab import Lab
from .options import LabOptions
from .photographs import alexnet_section, photograph_section
from .steps import Steps
from .tables import layer_table, parts_table

#: Two fifths are learnt from and two decide: 2,000 each of a source without a test part.
_IMAGES, _VAL, _TEST = 5_000, 0.4, 0.2


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
    data = prepare_data(steps, options, "MNIST", val=_VAL, test=_TEST, limit=_IMAGES)
    runs = {recipe: _train(steps, options, data, recipe) for recipe in (_LOGISTIC, _MLP, _CNN)}
    return [
        _data(steps, options, data),
        _learning(steps, data, runs),
        _units(steps, options, data),
        photograph_section(steps, options),
        _small_cnn(steps, options, data),
        alexnet_section(steps, options),
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
    return Section("The data", [training_samples(steps, options, data), parts_table(data)])


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
    count = data.step.result["splits"]["train"]
    curves = plotted(
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
            plotted(
                steps,
                "logistic-weights.png",
                f"Logistic regression, a unit for each class. {bright.format('class')}.",
                "a picture of weights for each class",
                "weights",
                steps.path("logistic/model"),
                titles=_LOGISTIC.title,
            ),
            plotted(
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


def _small_cnn(steps: Steps, options: LabOptions, data: LabData) -> Section:
    walked = steps.run("summary", steps.path("small_cnn/model"))
    _train(steps, options, data, _CNN, untrained=True)
    layers = [row["name"] for row in walked.result["layers"] if len(row["output_shape"]) == 3]
    return Section(
        "A small convolutional network",
        [
            layer_table("The way of one picture through the network.", walked),
            plotted(
                steps,
                "cnn-filters.png",
                "Its 4 first filters, before and after training.",
                "two grids of four filters of 3×3",
                "filters",
                steps.path("small_cnn-before/model"),
                steps.path("small_cnn/model"),
                titles="before,after",
            ),
            plotted(
                steps,
                "cnn-maps.png",
                "One digit on its way: each convolution, its ReLU, its pooling. Blue is negative, "
                "which the ReLU sets to 0.",
                "feature maps of a digit, four of each layer first, then eight",
                "feature-maps",
                steps.path("small_cnn/model"),
                image=data.word,
                split="test",
                layers=",".join(layers),
            ),
            plotted(
                steps,
                "cnn-samples.png",
                "Test pictures with the classes that the network holds likeliest. The right one "
                "is dark.",
                "a grid of characters, bars of probabilities beside each",
                "samples",
                data.word,
                split="test",
                limit=12,
                seed=options.seed,
                model=steps.path("small_cnn/model"),
            ),
        ],
    )


MNIST_FEATURES = Lab(
    "mnist-features",
    "Visualising weights and features",
    "What the units of small networks look for, what convolutions make of a photograph, and what "
    "AlexNet sees.",
    _sections,
)
