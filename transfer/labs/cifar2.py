"""`lab cifar2`: airplane or bird, and what width, depth, norms and skip connections do to it.

Chapter 8 of "Deep Learning with PyTorch" (Stevens, Antiga, Viehmann, 2020) changes one small
network in one way at a time. It trains each by plain SGD, batches of 64 and a learning rate of
0.01, for 100 epochs.
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
from .tables import class_table, epoch_table, layer_table, parts_table

#: Each network, and in what it differs from those before it.
_CHANGES = {
    "tanhnet": "the lab's network",
    "net_width": "twice the filters",
    "net_dropout": "wide, Dropout2d of 0.4",
    "net_batch_norm": "wide, batch normalization",
    "net_depth": "a third convolution, ReLU",
    "net_res": "deep, a skip connection",
    "net_res_deep_shared": "one residual block ten times",
    "net_res_deep": "ten residual blocks",
    "net_res_deep_projected": "ten, 1×1 projection halfway",
}

#: The networks that are drawn together.
_PLAIN = ("tanhnet", "net_width", "net_dropout", "net_batch_norm")
_DEEP = ("net_depth", "net_res", "net_res_deep_shared", "net_res_deep", "net_res_deep_projected")


@dataclass(frozen=True)
class _Trial:
    """A network and what came of it: its training, and its saved model on the training part."""

    network: str
    trained: Step
    relearnt: Step

    @property
    def steps(self) -> list[Step]:
        return [self.trained, self.relearnt]

    @property
    def parameters(self) -> int:
        return self.trained.result["parameters"]

    @property
    def seconds(self) -> float:
        return sum(self.trained.result["seconds"])

    @property
    def train_accuracy(self) -> float:
        return self.relearnt.result["accuracy"]

    @property
    def val_accuracy(self) -> float | None:
        """Of the epoch whose network was kept; None where there was no epoch."""
        kept = self.trained.result["evaluation"]["epoch"]
        return self.trained.result["history"][kept - 1]["val_accuracy"] if kept else None

    @property
    def test_accuracy(self) -> float:
        return self.trained.result["evaluation"]["accuracy"]


def _sections(steps: Steps, options: LabOptions) -> list[Section]:
    data = prepare_data(
        steps, options, "CIFAR-10", val=0.2, classes="airplane,bird", digit_classes="3,8"
    )
    trials = {network: _trial(steps, options, data, network) for network in _CHANGES}
    return [
        _data(steps, options, data),
        _first(steps, data, trials["tanhnet"]),
        _comparison(steps, data, trials),
        _answers(trials),
        _mistakes(steps, data),
    ]


def _trial(steps: Steps, options: LabOptions, data: LabData, network: str) -> _Trial:
    # Few epochs need longer steps than the lab's hundred, and shorter ones at their end.
    pace: dict[str, Word] = {"batch_size": 32, "momentum": 0.9, "schedule": "cosine"}
    if options.full:
        pace = {"batch_size": 64, "momentum": 0, "schedule": "constant"}
    trained = steps.run(
        "train",
        network,
        data.word,
        **pace,
        lr=0.01,
        weight_decay=0,
        epochs=options.sized(8, 100),
        seed=options.seed,
        device=options.device,
        output=steps.path(network),
        resume="auto",
    )
    relearnt = steps.run("evaluate", steps.path(f"{network}/model"), data.word, split="train")
    return _Trial(network, trained, relearnt)


def _data(steps: Steps, options: LabOptions, data: LabData) -> Section:
    return Section(
        "Two classes",
        [
            Text(
                f"Of all classes {' and '.join(data.step.result['classes'])} are kept, and "
                "numbered anew. A fifth of the training pictures is kept for validation."
            ),
            parts_table(data),
            training_samples(steps, options, data),
        ],
    )


def _first(steps: Steps, data: LabData, trial: _Trial) -> Section:
    shape = "x".join(map(str, data.step.result["shape"]))
    summarized = steps.run("summary", trial.network, input=shape, classes=2)
    tested = steps.run("evaluate", steps.path(f"{trial.network}/model"), data.word, split="test")
    return Section(
        "The lab's network",
        [
            Text(
                f"Two convolutions with tanh, two poolings, a hidden layer of 32 units; it ran on "
                f"{tested.result['provider']}.",
                [tested],
            ),
            layer_table("The way of one picture through the network.", summarized),
            epoch_table("Each epoch; the network of the best one is kept.", trial.trained),
            class_table("Each class of the test part.", tested),
        ],
    )


def _comparison(steps: Steps, data: LabData, trials: dict[str, _Trial]) -> Section:
    rows: list[list[Cell]] = [
        [
            _CHANGES[name],
            name,
            trial.parameters,
            trial.train_accuracy,
            trial.val_accuracy,
            trial.test_accuracy,
            trial.seconds,
        ]
        for name, trial in trials.items()
    ]
    return Section(
        "One change at a time",
        [
            Table(
                "Each network after the same training. Accuracy is that of the epoch that was "
                "best on the validation part; the time is that of all epochs.",
                [
                    *("change", "network", "parameters"),
                    *("training", "validation", "test", "seconds"),
                ],
                rows,
                [step for trial in trials.values() for step in trial.steps],
            ),
            _scatter(data, trials["tanhnet"]),
            _curves(steps, _PLAIN, "plain", "The lab's network, wider, and regularized."),
            _curves(steps, _DEEP, "deep", "Deeper networks, with skip connections and without."),
        ],
    )


def _scatter(data: LabData, trial: _Trial) -> Text:
    """How much of a difference is chance: the standard deviation of a share."""
    counts, accuracy = data.step.result["splits"], trial.test_accuracy
    val, test = (math.sqrt(accuracy * (1 - accuracy) / counts[part]) for part in ("val", "test"))
    return Text(
        f"Among {counts['val']:,} validation pictures accuracy scatters by {val:.3f}, among "
        f"{counts['test']:,} test pictures by {test:.3f}: what is no larger may be chance.",
        [data.step, trial.trained],
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
        "two charts of lines: loss and accuracy by epoch, a colour for each network",
        steps.path(f"curves-{name}.png"),
        [drawn],
    )


def _answers(trials: dict[str, _Trial]) -> Section:
    shared, separate = trials["net_res_deep_shared"], trials["net_res_deep"]
    block = (separate.parameters - shared.parameters) // 9
    return Section(
        "What each change did",
        [
            Question(
                "Do more filters help?",
                [_compared(trials, "tanhnet", "net_width")],
            ),
            Question(
                "What do Dropout2d and batch normalization do to the same wide network?",
                [
                    _compared(trials, "net_width", "net_dropout"),
                    _compared(trials, "net_width", "net_batch_norm"),
                ],
            ),
            Question(
                "What does a skip connection add?",
                [
                    _compared(trials, "net_depth", "net_res"),
                    Text(
                        "It adds what went into the third convolution to what comes out of it, "
                        "and has no parameters."
                    ),
                ],
            ),
            Question(
                "How can ten blocks have so few parameters?",
                [
                    Text(
                        "The lab multiplies a list of one block by ten. That repeats the block "
                        "itself: ten layers share the weights of one, and each update changes all "
                        f"of them. Blocks of their own have {separate.parameters:,} parameters "
                        f"instead of {shared.parameters:,}, {block:,} more for each of nine.",
                        [shared.trained, separate.trained],
                    ),
                    _compared(trials, "net_res_deep_shared", "net_res_deep"),
                    Text(
                        "The batch normalization is shared as well. It meets ten different inputs "
                        "in a pass, and its running statistics, the mean of all, fit none of them. "
                        "Accuracy in the last epoch on the training part, with each batch's own "
                        "statistics, and on the validation part, with the running ones: "
                        f"{_gap(shared)} with the shared block, {_gap(separate)} with ten.",
                        [shared.trained, separate.trained],
                    ),
                ],
            ),
            Question(
                "How does a block go from 32 to 64 filters?",
                [
                    Text(
                        "Its input no longer fits its output, so that the skip connection cannot "
                        "just add it. A convolution of 1×1 with a stride of 2 projects it (He et "
                        "al., 2016, option B)."
                    ),
                    _compared(trials, "net_res_deep", "net_res_deep_projected"),
                ],
            ),
        ],
    )


def _compared(trials: dict[str, _Trial], before: str, after: str) -> Text:
    """Two networks side by side, in a sentence."""
    one, other = trials[before], trials[after]
    return Text(
        f"From *{_CHANGES[before]}* to *{_CHANGES[after]}*: validation accuracy "
        f"{_change(one.val_accuracy, other.val_accuracy)}, training accuracy "
        f"{_change(one.train_accuracy, other.train_accuracy)}, {one.parameters:,} → "
        f"{other.parameters:,} parameters, {one.seconds:.1f} → {other.seconds:.1f} seconds.",
        [*one.steps, *other.steps],
    )


def _gap(trial: _Trial) -> str:
    """Accuracy on the training and on the validation part, in the last epoch."""
    history = trial.trained.result["history"]
    if not history:
        return "nothing, untrained"
    return f"{history[-1]['train_accuracy']:.1%} and {history[-1]['val_accuracy']:.1%}"


def _change(before: float | None, after: float | None) -> str:
    return "not measured" if before is None or after is None else f"{before:.3f} → {after:.3f}"


def _mistakes(steps: Steps, data: LabData) -> Section:
    shape = "x".join(map(str, data.step.result["shape"]))
    walked = steps.run("summary", "net_res_deep", input=shape, classes=2)
    block = [layer for layer in walked.result["layers"] if layer["name"].startswith("3.0.")]
    convolution = next(layer for layer in block if layer["class_name"] == "Conv2d")
    maps = convolution["output_shape"][0]
    with_bias = convolution["parameters"] + maps
    return Section(
        "The lab's own mistakes",
        [
            Text(
                '- `bias="False"`: a text that is not empty counts as true, so that the '
                "convolution before the batch normalization kept a bias, which the normalization "
                f"takes away again. With `bias=False` it has {convolution['parameters']:,} "
                f"parameters instead of {with_bias:,}.\n"
                "- `conv3d`: `nn.Conv3d` slides over three axes, and refuses pictures, which have "
                "two. Here the third convolution is a `Conv2d` like the others.\n"
                "- `n_blocks * [ResBlock(...)]`: one block ten times (see above). Both are in the "
                "table: as the lab wrote it, and as it meant it.",
                [walked],
            )
        ],
    )


CIFAR2 = Lab(
    "cifar2",
    "Airplane or bird",
    "A small network with tanh, then one change at a time: width, dropout, batch normalization, "
    "depth, skip connections.",
    _sections,
)
