"""`lab torch7-convnets`: four networks on CIFAR-10, the contents of an AlexNet file, and transfer.

All networks are trained with SGD: momentum 0.9, no weight decay, a constant learning rate, batches
drawn with replacement. Unlike the default of Torch7's `optim.sgd`, the momentum has no dampening;
the norms of weights that Torch7 trained confirm this (`docs/labs.md`).
"""

from __future__ import annotations

from dataclasses import dataclass

from ..reports import Cell, Figure, Section, Step, Table, Text
from .data import LabData, prepare_data
from .figures import plotted, training_samples
from .lab import Lab
from .options import LabOptions
from .pretrained import pretrained_sections
from .steps import Steps
from .tables import splits_table

#: The number of images in the small lab.
_SMALL = 10_000

#: The fraction of the training images in the validation split: 10,000 of 50,000.
_VAL_FRACTION = 0.2


@dataclass(frozen=True)
class Recipe:
    """A network and its training.

    Attributes:
        network: Its name for `train`.
        title: Its name in the report.
        lr: The learning rate.
        batch_size: The number of images in a batch.
        epochs: The number of epochs.
        torch7: The validation accuracy that Torch7 reached with this training.
    """

    network: str
    title: str
    lr: float
    batch_size: int
    epochs: int
    torch7: float


RECIPES = (
    Recipe("softmax", "linear softmax", 0.001, 64, 3, 0.373),
    Recipe("two_layer", "two layers", 0.001, 64, 3, 0.484),
    Recipe("convnet", "ConvNet", 0.01, 32, 5, 0.583),
    Recipe("convnet_bn", "ConvNet with BatchNorm", 0.02, 32, 5, 0.619),
)

#: The small lab has a fifth of the images. This many times the epochs partly make up for the
#: smaller number of updates.
_SMALL_FACTOR = 2


def _sections(steps: Steps, options: LabOptions) -> list[Section]:
    data = prepare_data(
        steps,
        options,
        "CIFAR-10",
        val_fraction=_VAL_FRACTION,
        limit=None if options.full else _SMALL,
    )
    runs = {recipe: _train(steps, options, data, recipe) for recipe in RECIPES}
    return [
        _data(steps, options, data),
        _results(steps, options, data, runs),
        _filters(steps, options, data),
        *pretrained_sections(steps, options, data),
    ]


def _train(
    steps: Steps, options: LabOptions, data: LabData, recipe: Recipe, untrained: bool = False
) -> Step:
    """Train a network, or save it untrained."""
    epochs = options.epoch_count(_SMALL_FACTOR * recipe.epochs, recipe.epochs)
    name = f"{recipe.network}-before" if untrained else recipe.network
    return steps.run(
        "train",
        recipe.network,
        data.path,
        epochs=0 if untrained else epochs,
        batch_size=recipe.batch_size,
        sampling="replacement",
        lr=recipe.lr,
        momentum=0.9,
        dampening=0,
        weight_decay=0,
        schedule="constant",
        seed=options.seed,
        device=options.device,
        output=steps.path(name),
        resume="auto",
    )


def _data(steps: Steps, options: LabOptions, data: LabData) -> Section:
    inspected = steps.run("inspect", steps.path("softmax/model"))
    preprocessing = inspected.result["preprocessing"]
    rows: list[list[Cell]] = [
        [channel, mean, std]
        for channel, mean, std in zip(
            ("red", "green", "blue") if len(preprocessing["mean"]) == 3 else ("gray",),
            preprocessing["mean"],
            preprocessing["std"],
            strict=True,
        )
    ]
    return Section(
        "The data",
        [
            training_samples(steps, options, data),
            splits_table(data),
            Text(
                "Each channel is normalized: its mean is subtracted, and the difference divided "
                "by its standard deviation. Both are computed from the training split only and "
                "saved with each model."
            ),
            Table(
                "Mean and standard deviation of each channel, for pixels from 0 to "
                f"{preprocessing['value_range']:g}.",
                ["channel", "mean", "standard deviation"],
                rows,
                [inspected],
            ),
        ],
    )


def _results(steps: Steps, options: LabOptions, data: LabData, runs: dict[Recipe, Step]) -> Section:
    curves = plotted(
        steps,
        "curves.png",
        "Loss and accuracy of each network by epoch.",
        "line charts with a line for each network",
        "curves",
        *(steps.path(recipe.network) for recipe in runs),
        titles=",".join(recipe.title for recipe in runs),
    )
    best = max(runs, key=lambda recipe: _best_epoch(runs[recipe])["val_accuracy"])
    confusion = plotted(
        steps,
        "confusion.png",
        f"Confusion matrix of {best.title} on the test split: true classes in rows, predicted "
        "classes in columns.",
        "a matrix of counts, dark on its diagonal",
        "confusion",
        steps.path(best.network),
    )
    order = sorted(runs, key=lambda recipe: _best_epoch(runs[recipe])["val_accuracy"])
    return Section(
        "Four networks",
        [
            _recipe_table(steps, options, data, runs),
            _results_table(options, data, runs),
            Text(
                "The networks by validation accuracy, lowest first: "
                f"{', '.join(recipe.title for recipe in order)}.",
                list(runs.values()),
            ),
            curves,
            confusion,
        ],
    )


def _recipe_table(
    steps: Steps, options: LabOptions, data: LabData, runs: dict[Recipe, Step]
) -> Table:
    """Return a table with the parameters and the training of each network."""
    shape = "x".join(map(str, data.image_shape))
    classes = len(data.class_names)
    summaries = {
        recipe: steps.run("summary", recipe.network, input=shape, classes=classes)
        for recipe in runs
    }
    return Table(
        "The networks and their training: SGD with momentum 0.9, batches drawn with replacement, "
        "and a constant learning rate.",
        ["network", "parameters", "learning rate", "batch", "epochs"],
        [
            [
                recipe.title,
                summaries[recipe].result["parameters"],
                f"{recipe.lr:g}",
                recipe.batch_size,
                len(run.result["history"]),
            ]
            for recipe, run in runs.items()
        ],
        [*runs.values(), *summaries.values()],
    )


def _results_table(options: LabOptions, data: LabData, runs: dict[Recipe, Step]) -> Table:
    """Return a table of results, with Torch7's own if the settings are those of the lab."""
    with_torch7 = options.full and not data.is_digits
    rows: list[list[Cell]] = []
    for recipe, run in runs.items():
        best = _best_epoch(run)
        rows.append(
            [
                recipe.title,
                best["train_loss"],
                best["train_accuracy"],
                best["val_loss"],
                best["val_accuracy"],
                run.result["evaluation"]["accuracy"],
                *([recipe.torch7] if with_torch7 else []),
            ]
        )
    header = ["network", "loss", "accuracy", "validation loss", "validation accuracy"]
    header += ["test accuracy", *(["Torch7's validation accuracy"] if with_torch7 else [])]
    caption = "Loss and accuracy of each network, in the epoch with the best validation accuracy."
    return Table(caption, header, rows, list(runs.values()))


def _best_epoch(run: Step) -> dict[str, float]:
    """Return the metrics of the epoch that was kept."""
    history: list[dict[str, float]] = run.result["history"]
    epoch = run.result["evaluation"]["epoch"]
    return next(row for row in history if row["epoch"] == epoch)


def _filters(steps: Steps, options: LabOptions, data: LabData) -> Section:
    parts: list[Text | Figure] = [
        Text(
            "The filters of the first convolution before and after training, on one scale. Where "
            "a filter has learned something, edges and colors have replaced the noise."
        )
    ]
    for recipe in RECIPES[2:]:
        _train(steps, options, data, recipe, untrained=True)
        parts.append(
            plotted(
                steps,
                f"{recipe.network}-filters.png",
                f"{recipe.title}: the filters of its first convolution before and after training.",
                "two grids of small images",
                "filters",
                steps.path(f"{recipe.network}-before/model"),
                steps.path(f"{recipe.network}/model"),
                titles="before,after",
            )
        )
    parts.append(
        plotted(
            steps,
            "softmax-weights.png",
            "The weights of the linear classifier, as one image for each class. A bright pixel at "
            "a bright weight is evidence for the class.",
            "the weights of each class as an image",
            "weights",
            steps.path("softmax/model"),
        )
    )
    return Section("The weights of the first layers", parts)


TORCH7_CONVNETS = Lab(
    "torch7-convnets",
    "ConvNets using Torch",
    "From a linear classifier to convolutions with batch normalization on small images; then the "
    "file of a pretrained AlexNet, and transfer learning from it.",
    _sections,
)
