"""`lab mnist-features`: weights of small networks as images, and feature maps of convolutions.

The lab trains a logistic regression and 30 hidden units on 2,000 digits with Adam and shows the
weights of each unit. Then it shows feature maps: of fixed filters, of a small convolutional
network, and of AlexNet.
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
from .tables import layer_table, splits_table

#: Of 5,000 images without a test split, a fifth becomes one. Validation gets the fraction that
#: leaves 2,000 images each for training and validation.
_IMAGES, _VAL_FRACTION, _TEST_FRACTION = 5_000, 0.4, 0.2


@dataclass(frozen=True)
class Recipe:
    """A network and its training with Adam.

    Attributes:
        network: Its name for `train`.
        title: Its name in the report.
        lr: The learning rate.
        epochs: The number of epochs in the small and in the full lab.
    """

    network: str
    title: str
    lr: float
    epochs: tuple[int, int]


_LOGISTIC = Recipe("logistic", "logistic regression", 0.001, (20, 50))
_MLP = Recipe("mlp30", "30 hidden units", 0.003, (20, 50))
_CNN = Recipe("small_cnn", "4 and 8 filters", 0.003, (20, 50))


def _sections(steps: Steps, options: LabOptions) -> list[Section]:
    data = prepare_data(
        steps,
        options,
        "MNIST",
        val_fraction=_VAL_FRACTION,
        test_fraction=_TEST_FRACTION,
        limit=_IMAGES,
    )
    runs = {recipe: _train(steps, options, data, recipe) for recipe in (_LOGISTIC, _MLP, _CNN)}
    return [
        _data(steps, options, data),
        _learning_curves(steps, data, runs),
        _units(steps, options, data),
        photograph_section(steps, options),
        _small_cnn(steps, options, data),
        alexnet_section(steps, options),
    ]


def _train(
    steps: Steps, options: LabOptions, data: LabData, recipe: Recipe, untrained: bool = False
) -> Step:
    """Train a network, or save it untrained."""
    return steps.run(
        "train",
        recipe.network,
        data.path,
        optimizer="adamw",
        weight_decay=0,
        lr=recipe.lr,
        schedule="constant",
        batch_size=32,
        epochs=0 if untrained else options.epoch_count(*recipe.epochs),
        seed=options.seed,
        device=options.device,
        output=steps.path(f"{recipe.network}-before" if untrained else recipe.network),
        resume="auto",
    )


def _data(steps: Steps, options: LabOptions, data: LabData) -> Section:
    return Section("The data", [training_samples(steps, options, data), splits_table(data)])


def _learning_curves(steps: Steps, data: LabData, runs: dict[Recipe, Step]) -> Section:
    rows: list[list[Cell]] = []
    for recipe, trained in runs.items():
        evaluation, history = trained.result["evaluation"], trained.result["history"]
        best = next(row for row in history if row["epoch"] == evaluation["epoch"])
        rows.append(
            [
                recipe.title,
                evaluation["epoch"],
                best["train_accuracy"],
                best.get("val_accuracy"),
                evaluation["accuracy"],
            ]
        )
    count = data.counts["train"]
    curves = plotted(
        steps,
        "curves.png",
        "Loss and accuracy by epoch.",
        "two line charts: losses fall and accuracies rise with the epochs",
        "curves",
        *(steps.path(recipe.network) for recipe in runs),
        titles=",".join(recipe.title for recipe in runs),
    )
    return Section(
        "Learning curves",
        [
            Text(
                f"Three networks are trained on {count:,} images with Adam and batches of 32: a "
                "logistic regression, a network with 30 hidden units, and a convolutional network "
                "with 4 and 8 filters. The epoch with the best validation accuracy is kept.",
                [data.step],
            ),
            Table(
                "Accuracy on each split, in the epoch that was kept.",
                ["network", "epoch", "training", "validation", "test"],
                rows,
                list(runs.values()),
            ),
            curves,
        ],
    )


def _units(steps: Steps, options: LabOptions, data: LabData) -> Section:
    caption = (
        "A bright pixel at a bright weight is evidence for the {}, at a dark weight against it."
    )
    _train(steps, options, data, _MLP, untrained=True)
    return Section(
        "The weights of each unit",
        [
            Text(
                "A unit of the first layer has one weight for each pixel. Arranged as an image, "
                "the weights show the pattern that the unit responds to."
            ),
            plotted(
                steps,
                "logistic-weights.png",
                f"Logistic regression, one unit for each class. {caption.format('class')}",
                "the weights of each class as an image",
                "weights",
                steps.path("logistic/model"),
                titles=_LOGISTIC.title,
            ),
            plotted(
                steps,
                "mlp30-weights.png",
                f"The 30 hidden units, before and after training. {caption.format('unit')}",
                "the weights of 30 units as images: noise on the left, strokes on the right",
                "weights",
                steps.path("mlp30-before/model"),
                steps.path("mlp30/model"),
                titles="before,after",
            ),
        ],
    )


def _small_cnn(steps: Steps, options: LabOptions, data: LabData) -> Section:
    summarized = steps.run("summary", steps.path("small_cnn/model"))
    _train(steps, options, data, _CNN, untrained=True)
    layers = [
        row["torch_path"] for row in summarized.result["layers"] if len(row["output_shape"]) == 3
    ]
    return Section(
        "A small convolutional network",
        [
            layer_table("The layers of the network. Shapes are for one image.", summarized),
            plotted(
                steps,
                "cnn-filters.png",
                "The 4 filters of its first convolution, before and after training.",
                "two grids of four 3×3 filters",
                "filters",
                steps.path("small_cnn-before/model"),
                steps.path("small_cnn/model"),
                titles="before,after",
            ),
            plotted(
                steps,
                "cnn-maps.png",
                "Feature maps of one digit after each convolution, ReLU and pooling. Blue values "
                "are negative; the ReLU sets them to 0.",
                "feature maps of a digit: four in each of the first layers, then eight",
                "feature-maps",
                steps.path("small_cnn/model"),
                image=data.path,
                split="test",
                layers=",".join(layers),
            ),
            plotted(
                steps,
                "cnn-samples.png",
                "Test images with the most probable classes. The true class is dark.",
                "a grid of digits, bars of probabilities beside each",
                "samples",
                data.path,
                split="test",
                limit=12,
                seed=options.seed,
                model=steps.path("small_cnn/model"),
            ),
        ],
    )


MNIST_FEATURES = Lab(
    "mnist-features",
    "Visualizing weights and features",
    "The weights of small networks as images, convolutions on a photograph, and the feature maps "
    "of AlexNet.",
    _sections,
)
