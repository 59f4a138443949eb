"""`lab cifar2`: airplane or bird, and the effects of width, depth, norms and skip connections.

Chapter 8 of "Deep Learning with PyTorch" (Stevens, Antiga, Viehmann, 2020) changes one small
network in one way at a time. It trains each variant by plain SGD for 100 epochs, with batches of
64 and a learning rate of 0.01.
"""

from __future__ import annotations

import math

from ..reports import Cell, Figure, Section, Table, Text
from .cifar2_answers import CHANGES, Run, answers_section, mistakes_section
from .data import LabData, prepare_data
from .figures import plotted, training_samples
from .lab import Lab
from .options import LabOptions
from .steps import Steps, Word
from .tables import class_table, epoch_table, layer_table, splits_table

#: The networks of each figure.
_SHALLOW = ("tanhnet", "net_width", "net_dropout", "net_batch_norm")
_DEEP = ("net_depth", "net_res", "net_res_deep_shared", "net_res_deep", "net_res_deep_projected")


def _sections(steps: Steps, options: LabOptions) -> list[Section]:
    data = prepare_data(
        steps,
        options,
        "CIFAR-10",
        val_fraction=0.2,
        classes="airplane,bird",
        digit_classes="3,8",
    )
    runs = {network: _train(steps, options, data, network) for network in CHANGES}
    return [
        _data(steps, options, data),
        _base_network(steps, data, runs["tanhnet"]),
        _comparison(steps, data, runs),
        answers_section(runs),
        mistakes_section(steps, data),
    ]


def _train(steps: Steps, options: LabOptions, data: LabData, network: str) -> Run:
    # With 8 epochs instead of 100, larger steps that shrink towards the end reach a similar result.
    schedule: dict[str, Word] = {"batch_size": 32, "momentum": 0.9, "schedule": "cosine"}
    if options.full:
        schedule = {"batch_size": 64, "momentum": 0, "schedule": "constant"}
    trained = steps.run(
        "train",
        network,
        data.path,
        **schedule,
        lr=0.01,
        weight_decay=0,
        epochs=options.epoch_count(8, 100),
        seed=options.seed,
        device=options.device,
        output=steps.path(network),
        resume="auto",
    )
    evaluated = steps.run("evaluate", steps.path(f"{network}/model"), data.path, split="train")
    return Run(network, trained, evaluated)


def _data(steps: Steps, options: LabOptions, data: LabData) -> Section:
    return Section(
        "Two classes",
        [
            Text(
                f"Of all classes, only {' and '.join(data.class_names)} are used. A "
                "fifth of the training images is the validation split."
            ),
            splits_table(data),
            training_samples(steps, options, data),
        ],
    )


def _base_network(steps: Steps, data: LabData, run: Run) -> Section:
    shape = "x".join(map(str, data.image_shape))
    summarized = steps.run("summary", run.network, input=shape, classes=2)
    tested = steps.run("evaluate", steps.path(f"{run.network}/model"), data.path, split="test")
    return Section(
        "The lab's network",
        [
            Text(
                "Two convolutions with tanh, two pooling layers, and a hidden layer of 32 units. "
                f"It ran on {tested.result['provider']}.",
                [tested],
            ),
            layer_table("The layers of the network. Shapes are for one image.", summarized),
            epoch_table("Each epoch; the network of the best epoch is kept.", run.trained),
            class_table("Accuracy of each class on the test split.", tested),
        ],
    )


def _comparison(steps: Steps, data: LabData, runs: dict[str, Run]) -> Section:
    rows: list[list[Cell]] = [
        [
            CHANGES[name],
            name,
            run.parameters,
            run.train_accuracy,
            run.val_accuracy,
            run.test_accuracy,
            run.seconds,
        ]
        for name, run in runs.items()
    ]
    return Section(
        "One change at a time",
        [
            Table(
                "All networks, trained in the same way. Accuracy is that of the epoch with the "
                "best validation accuracy; the time is that of all epochs.",
                [
                    *("change", "network", "parameters"),
                    *("training", "validation", "test", "seconds"),
                ],
                rows,
                [step for run in runs.values() for step in run.steps],
            ),
            _uncertainty(data, runs["tanhnet"]),
            _curves(steps, _SHALLOW, "plain", "The lab's network, wider, and regularized."),
            _curves(steps, _DEEP, "deep", "Deeper networks, with and without skip connections."),
        ],
    )


def _uncertainty(data: LabData, run: Run) -> Text:
    """Return a sentence about the standard deviation of an accuracy, a binomial proportion."""
    counts, accuracy = data.counts, run.test_accuracy
    val, test = (math.sqrt(accuracy * (1 - accuracy) / counts[split]) for split in ("val", "test"))
    return Text(
        f"The standard deviation of an accuracy is {val:.3f} with {counts['val']:,} validation "
        f"images, and {test:.3f} with {counts['test']:,} test images. A smaller difference may be "
        "chance.",
        [data.step, run.trained],
    )


def _curves(steps: Steps, networks: tuple[str, ...], name: str, caption: str) -> Figure:
    return plotted(
        steps,
        f"curves-{name}.png",
        caption,
        "two line charts: loss and accuracy by epoch, a color for each network",
        "curves",
        *(steps.path(network) for network in networks),
        titles=",".join(networks),
    )


CIFAR2 = Lab(
    "cifar2",
    "Airplane or bird",
    "A small network with tanh, changed in one way at a time: width, dropout, batch "
    "normalization, depth, skip connections.",
    _sections,
)
