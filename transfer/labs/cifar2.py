"""`lab cifar2`: airplane or bird, and the effects of width, depth, norms and skip connections.

Chapter 8 of "Deep Learning with PyTorch" (Stevens, Antiga, Viehmann, 2020) changes one small
network in one way at a time. It trains each variant by plain SGD for 100 epochs, with batches of
64 and a learning rate of 0.01.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from ..reports import Cell, Figure, Question, Section, Step, Table, Text
from .data import LabData, prepare_data
from .figures import training_samples
from .lab import Lab
from .options import LabOptions
from .steps import Steps, Word
from .tables import class_table, epoch_table, layer_table, splits_table

#: Each network, and how it differs from those before it.
_CHANGES = {
    "tanhnet": "the lab's network",
    "net_width": "twice the filters",
    "net_dropout": "wide, Dropout2d of 0.4",
    "net_batch_norm": "wide, batch normalization",
    "net_depth": "a third convolution, ReLU",
    "net_res": "deep, a skip connection",
    "net_res_deep_shared": "one residual block, used ten times",
    "net_res_deep": "ten residual blocks",
    "net_res_deep_projected": "ten blocks, 1×1 projection halfway",
}

#: The networks of each figure.
_SHALLOW = ("tanhnet", "net_width", "net_dropout", "net_batch_norm")
_DEEP = ("net_depth", "net_res", "net_res_deep_shared", "net_res_deep", "net_res_deep_projected")


@dataclass(frozen=True)
class _Run:
    """A trained network: its training, and the evaluation of its saved model on the train split."""

    network: str
    trained: Step
    evaluated: Step

    @property
    def steps(self) -> list[Step]:
        return [self.trained, self.evaluated]

    @property
    def parameters(self) -> int:
        return int(self.trained.result["parameters"])

    @property
    def seconds(self) -> float:
        return float(sum(self.trained.result["epoch_seconds"]))

    @property
    def train_accuracy(self) -> float:
        return float(self.evaluated.result["accuracy"])

    @property
    def val_accuracy(self) -> float | None:
        """The accuracy of the epoch that was kept; None without any epoch."""
        epoch = self.trained.result["evaluation"]["epoch"]
        return float(self.trained.result["history"][epoch - 1]["val_accuracy"]) if epoch else None

    @property
    def test_accuracy(self) -> float:
        return float(self.trained.result["evaluation"]["accuracy"])


def _sections(steps: Steps, options: LabOptions) -> list[Section]:
    data = prepare_data(
        steps,
        options,
        "CIFAR-10",
        val_fraction=0.2,
        classes="airplane,bird",
        digit_classes="3,8",
    )
    runs = {network: _train(steps, options, data, network) for network in _CHANGES}
    return [
        _data(steps, options, data),
        _base_network(steps, data, runs["tanhnet"]),
        _comparison(steps, data, runs),
        _answers(runs),
        _mistakes(steps, data),
    ]


def _train(steps: Steps, options: LabOptions, data: LabData, network: str) -> _Run:
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
    return _Run(network, trained, evaluated)


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


def _base_network(steps: Steps, data: LabData, run: _Run) -> Section:
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


def _comparison(steps: Steps, data: LabData, runs: dict[str, _Run]) -> Section:
    rows: list[list[Cell]] = [
        [
            _CHANGES[name],
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


def _uncertainty(data: LabData, run: _Run) -> Text:
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
    drawn = steps.run(
        "plot",
        "curves",
        *(steps.path(network) for network in networks),
        titles=",".join(networks),
        output=steps.path(f"curves-{name}.png"),
    )
    return Figure(
        caption,
        "two line charts: loss and accuracy by epoch, a color for each network",
        steps.path(f"curves-{name}.png"),
        [drawn],
    )


def _answers(runs: dict[str, _Run]) -> Section:
    shared, separate = runs["net_res_deep_shared"], runs["net_res_deep"]
    block = (separate.parameters - shared.parameters) // 9
    return Section(
        "The effect of each change",
        [
            Question(
                "Do more filters help?",
                [_compared(runs, "tanhnet", "net_width")],
            ),
            Question(
                "What do Dropout2d and batch normalization do to the same wide network?",
                [
                    _compared(runs, "net_width", "net_dropout"),
                    _compared(runs, "net_width", "net_batch_norm"),
                ],
            ),
            Question(
                "What does a skip connection add?",
                [
                    _compared(runs, "net_depth", "net_res"),
                    Text(
                        "It adds the input of the third convolution to its output, and has no "
                        "parameters."
                    ),
                ],
            ),
            Question(
                "Why do ten blocks have so few parameters?",
                [
                    Text(
                        "The lab multiplies a list of one block by ten. This repeats the same "
                        "block object: ten layers share one set of weights, and each update "
                        f"changes all of them. Ten separate blocks have {separate.parameters:,} "
                        f"parameters instead of {shared.parameters:,}: {block:,} more for each of "
                        "nine blocks.",
                        [shared.trained, separate.trained],
                    ),
                    _compared(runs, "net_res_deep_shared", "net_res_deep"),
                    Text(
                        "The batch normalization is shared too. It sees ten different inputs in "
                        "one pass, and its running statistics, the mean over all of them, fit "
                        "none. Accuracy in the last epoch on the training split, with the "
                        "statistics of each batch, and on the validation split, with the running "
                        f"statistics: {_gap(shared)} with the shared block, {_gap(separate)} with "
                        "ten separate blocks.",
                        [shared.trained, separate.trained],
                    ),
                ],
            ),
            Question(
                "How does a block go from 32 to 64 filters?",
                [
                    Text(
                        "Its input and output have different shapes, so the skip connection cannot "
                        "simply add them. A 1×1 convolution with a stride of 2 projects the input "
                        "(He et al., 2016, option B)."
                    ),
                    _compared(runs, "net_res_deep", "net_res_deep_projected"),
                ],
            ),
        ],
    )


def _compared(runs: dict[str, _Run], before: str, after: str) -> Text:
    """Return a sentence that compares two networks."""
    first, second = runs[before], runs[after]
    return Text(
        f"From *{_CHANGES[before]}* to *{_CHANGES[after]}*: validation accuracy "
        f"{_change(first.val_accuracy, second.val_accuracy)}, training accuracy "
        f"{_change(first.train_accuracy, second.train_accuracy)}, {first.parameters:,} → "
        f"{second.parameters:,} parameters, {first.seconds:.1f} → {second.seconds:.1f} seconds.",
        [*first.steps, *second.steps],
    )


def _gap(run: _Run) -> str:
    """Return the training and validation accuracy of the last epoch."""
    history = run.trained.result["history"]
    if not history:
        return "not measured"
    return f"{history[-1]['train_accuracy']:.1%} and {history[-1]['val_accuracy']:.1%}"


def _change(before: float | None, after: float | None) -> str:
    return "not measured" if before is None or after is None else f"{before:.3f} → {after:.3f}"


def _mistakes(steps: Steps, data: LabData) -> Section:
    shape = "x".join(map(str, data.image_shape))
    summarized = steps.run("summary", "net_res_deep", input=shape, classes=2)
    block = [
        layer for layer in summarized.result["layers"] if layer["torch_path"].startswith("3.0.")
    ]
    convolution = next(layer for layer in block if layer["torch_class"] == "Conv2d")
    maps = convolution["output_shape"][0]
    with_bias = convolution["parameters"] + maps
    return Section(
        "Mistakes in the lab",
        [
            Text(
                '- `bias="False"`: a non-empty string is true, so the convolution before the '
                "batch normalization kept a bias, which the normalization cancels. With "
                f"`bias=False`, it has {convolution['parameters']:,} parameters instead of "
                f"{with_bias:,}.\n"
                "- `conv3d`: `nn.Conv3d` has three spatial axes and raises an error for images. "
                "Here, the third convolution is a `Conv2d` like the others.\n"
                "- `n_blocks * [ResBlock(...)]`: the same block ten times (see above). The table "
                "has both versions: as the lab wrote it, and as it was meant.",
                [summarized],
            )
        ],
    )


CIFAR2 = Lab(
    "cifar2",
    "Airplane or bird",
    "A small network with tanh, changed in one way at a time: width, dropout, batch "
    "normalization, depth, skip connections.",
    _sections,
)
