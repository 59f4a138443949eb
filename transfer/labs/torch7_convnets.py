"""`lab torch7-convnets`: four networks on CIFAR-10, and what is in AlexNet's file.

The lab's recipes: SGD with momentum 0.9 and nothing else (no weight decay, one learning rate all
the time), batches drawn with replacement. The momentum is without the dampening that Torch7's
`optim.sgd` has by default: weights that grew in Torch7 itself say so (`docs/labs.md`).
"""

from __future__ import annotations

from dataclasses import dataclass

from ..reports import Cell, Figure, Section, Step, Table, Text
from .data import LabData, prepare_data
from .figures import training_samples
from .lab import Lab
from .options import LabOptions
from .pretrained import pretrained_sections
from .steps import Steps
from .tables import parts_table

#: Pictures of the small lab.
_SMALL = 10_000

#: Share of the pictures that is kept for validation: 10,000 of the 50,000.
_VALIDATION = 0.2


@dataclass(frozen=True)
class Recipe:
    """How the lab trains a network.

    Attributes:
        network: its name for `train`.
        title: what the lab calls it.
        lr: learning rate.
        batch_size: pictures in an update.
        epochs: passes over the training pictures.
        torch7: validation accuracy that Torch7 itself reached with this.
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

#: A fifth of the pictures: so many more epochs come nearer to the lab's number of updates.
_SMALL_FACTOR = 2


def _sections(steps: Steps, options: LabOptions) -> list[Section]:
    full = options.full
    data = prepare_data(steps, options, "CIFAR-10", val=_VALIDATION, limit=None if full else _SMALL)
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
    """One training by the lab's recipe; or the network as it begins."""
    epochs = options.sized(_SMALL_FACTOR * recipe.epochs, recipe.epochs)
    name = f"{recipe.network}-before" if untrained else recipe.network
    return steps.run(
        "train",
        recipe.network,
        data.word,
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
    described = steps.run("inspect", steps.path("softmax/model"))
    preprocessing = described.result["preprocessing"]
    rows: list[list[Cell]] = [
        [name, mean, std]
        for name, mean, std in zip(
            ("red", "green", "blue") if len(preprocessing["mean"]) == 3 else ("grey",),
            preprocessing["mean"],
            preprocessing["std"],
            strict=True,
        )
    ]
    return Section(
        "The data",
        [
            training_samples(steps, options, data),
            parts_table(data),
            Text(
                "Each channel is normalised: less its mean, divided by its standard deviation. "
                "Both are measured on the training part alone, and travel with each model."
            ),
            Table(
                "Mean and standard deviation of each channel, of pixels from 0 to "
                f"{preprocessing['value_range']:g}.",
                ["channel", "mean", "standard deviation"],
                rows,
                [described],
            ),
        ],
    )


def _results(steps: Steps, options: LabOptions, data: LabData, runs: dict[Recipe, Step]) -> Section:
    curves = steps.run(
        "plot",
        "curves",
        *(steps.path(recipe.network) for recipe in runs),
        titles=",".join(recipe.title for recipe in runs),
        output=steps.path("curves.png"),
    )
    best = max(runs, key=lambda recipe: _best(runs[recipe])["val_accuracy"])
    confusion = steps.run(
        "plot", "confusion", steps.path(best.network), output=steps.path("confusion.png")
    )
    order = sorted(runs, key=lambda recipe: _best(runs[recipe])["val_accuracy"])
    return Section(
        "Four networks",
        [
            _recipe_table(steps, options, data, runs),
            _results_table(options, data, runs),
            Text(
                "From the least to the most accurate on the validation part: "
                f"{', '.join(recipe.title for recipe in order)}.",
                list(runs.values()),
            ),
            Figure(
                "Loss and accuracy of each network by epoch.",
                "charts of lines, one for each network",
                steps.path("curves.png"),
                [curves],
            ),
            Figure(
                f"What {best.title} takes for what, on the test part: rows are what the pictures "
                "show, columns what they are called.",
                "a matrix of counts, dark on its diagonal",
                steps.path("confusion.png"),
                [confusion],
            ),
        ],
    )


def _recipe_table(
    steps: Steps, options: LabOptions, data: LabData, runs: dict[Recipe, Step]
) -> Table:
    """The networks, and how each was trained."""
    shape = "x".join(map(str, data.step.result["shape"]))
    classes = len(data.step.result["classes"])
    counted = {
        recipe: steps.run("summary", recipe.network, input=shape, classes=classes)
        for recipe in runs
    }
    return Table(
        "The networks, and how each was trained: SGD with momentum 0.9, batches drawn with "
        "replacement, and the same learning rate all the time.",
        ["network", "parameters", "learning rate", "batch", "epochs"],
        [
            [
                recipe.title,
                counted[recipe].result["parameters"],
                f"{recipe.lr:g}",
                recipe.batch_size,
                len(run.result["history"]),
            ]
            for recipe, run in runs.items()
        ],
        [*runs.values(), *counted.values()],
    )


def _results_table(options: LabOptions, data: LabData, runs: dict[Recipe, Step]) -> Table:
    """Loss and accuracy of each network; beside Torch7's where the settings are the lab's."""
    compared = options.full and not data.is_digits
    rows = list[list[Cell]]()
    for recipe, run in runs.items():
        found = _best(run)
        rows.append(
            [
                recipe.title,
                found["train_loss"],
                found["train_accuracy"],
                found["val_loss"],
                found["val_accuracy"],
                run.result["evaluation"]["accuracy"],
                *([recipe.torch7] if compared else []),
            ]
        )
    header = ["network", "loss", "accuracy", "validation loss", "validation accuracy"]
    header += ["test accuracy", *(["Torch7's validation accuracy"] if compared else [])]
    caption = "Loss and accuracy of each network, in its best epoch by validation accuracy."
    return Table(caption, header, rows, list(runs.values()))


def _best(run: Step) -> dict[str, float]:
    """The results of the epoch that was kept."""
    history: list[dict[str, float]] = run.result["history"]
    epoch = run.result["evaluation"]["epoch"]
    return next(row for row in history if row["epoch"] == epoch)


def _filters(steps: Steps, options: LabOptions, data: LabData) -> Section:
    parts: list[Text | Figure] = [
        Text(
            "The filters of the first convolution before and after training, on one scale. Where "
            "a filter has learnt something, noise has given way to edges and colours."
        )
    ]
    for recipe in RECIPES[2:]:
        _train(steps, options, data, recipe, untrained=True)
        image = steps.path(f"{recipe.network}-filters.png")
        drawn = steps.run(
            "plot",
            "filters",
            steps.path(f"{recipe.network}-before/model"),
            steps.path(f"{recipe.network}/model"),
            titles="before,after",
            output=image,
        )
        caption = f"{recipe.title}: its first filters before and after training."
        parts.append(Figure(caption, "two grids of small pictures", image, [drawn]))
    image = steps.path("softmax-weights.png")
    drawn = steps.run("plot", "weights", steps.path("softmax/model"), output=image)
    parts.append(
        Figure(
            "The linear classifier has one picture for each class: where it is bright, bright "
            "pixels speak for the class.",
            "a picture of weights for each class",
            image,
            [drawn],
        )
    )
    return Section("What the first layers look for", parts)


TORCH7_CONVNETS = Lab(
    "torch7-convnets",
    "ConvNets using Torch",
    "From a linear classifier to convolutions with batch normalization on small pictures; then "
    "what is in the file of a pretrained AlexNet, and what can be built on it.",
    _sections,
)
