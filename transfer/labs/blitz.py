"""`lab blitz`: "Deep Learning with Torch: a 60-minute blitz" (S. Chintala, 2015).

LeNet-5 on 10,000 CIFAR-10 pictures with nn.StochasticGradient (`StochasticGradient.lua`): plain
SGD, one picture an update, a learning rate of 0.001, five epochs in one random order.
"""

from __future__ import annotations

from typing import Any

from ..reports import Cell, Figure, Question, Section, Step, Table, Text
from .data import LabData, prepare_data
from .figures import confusion_figure, predicted_samples, training_samples
from .lab import Lab
from .options import LabOptions
from .steps import Steps
from .tables import class_table, epoch_table, layer_table, parts_table

#: The lab's own, for updates of one picture.
_RATE = 0.001

#: Pictures an update in the small lab. The rate grows with them, so that an epoch goes as far.
_SMALL_BATCH = 4


def _sections(steps: Steps, options: LabOptions) -> list[Section]:
    data = prepare_data(steps, options, "CIFAR-10", val=0, limit=None if options.full else 12_000)
    channels, height, width = data.step.result["shape"]
    summarized = steps.run(
        "summary",
        "lenet5",
        input=f"{channels}x{height}x{width}",
        classes=len(data.step.result["classes"]),
    )
    untrained = _train(steps, options, data, 0, "untrained")
    trained = _train(steps, options, data, options.sized(5, 5), "run")
    return [
        _data(steps, options, data),
        _network(steps, summarized),
        _training(steps, options, trained),
        _test(steps, options, data, untrained, trained),
    ]


def _train(steps: Steps, options: LabOptions, data: LabData, epochs: int, run: str) -> Step:
    batch = 1 if options.full else _SMALL_BATCH
    return steps.run(
        "train",
        "lenet5",
        data.word,
        sampling="shuffle-once",
        momentum=0,
        weight_decay=0,
        schedule="constant",
        lr=batch * _RATE,
        batch_size=batch,
        val=0,
        epochs=epochs,
        seed=options.seed,
        device=options.device,
        threads=1,
        output=steps.path(run),
        resume="auto",
    )


def _data(steps: Steps, options: LabOptions, data: LabData) -> Section:
    notes = "".join(f"\n- {note}" for note in data.step.result["notes"])
    return Section(
        "The data",
        [
            Text(f"What was found in the files:\n{notes}", [data.step]),
            parts_table(data),
            training_samples(steps, options, data),
        ],
    )


def _network(steps: Steps, summarized: Step) -> Section:
    inspected = steps.run("inspect", steps.path("run/model"))
    reading = inspected.result["preprocessing"]
    pairs = zip(reading["mean"], reading["std"], strict=True)
    names = ["red", "green", "blue"] if reading["color"] == "RGB" else ["grey"]
    return Section(
        "The network",
        [
            Text(
                "LeNet-5, with maximum pooling and ReLU for LeCun's subsampling and tanh: "
                f"{summarized.result['parameters']:,} parameters.",
                [summarized],
            ),
            layer_table("The way of one picture through LeNet-5.", summarized),
            Text(
                "Each channel is brought to a mean of 0 and a standard deviation of 1 on the "
                "training pictures. The numbers are saved with the network, and the test pictures "
                "are treated with the same ones: they are not looked at before."
            ),
            Table(
                "What is subtracted from each channel, and what it is divided by then, for "
                f"pixels from 0 to {reading['value_range']}.",
                ["channel", "mean", "standard deviation"],
                [[name, mean, std] for name, (mean, std) in zip(names, pairs, strict=True)],
                [inspected],
            ),
        ],
    )


def _training(steps: Steps, options: LabOptions, trained: Step) -> Section:
    curves = steps.run(
        "plot", "curves", steps.path("run"), titles="LeNet-5", output=steps.path("curves.png")
    )
    update = (
        "One picture makes an update, as in the lab."
        if options.full
        else f"{_SMALL_BATCH} pictures make an update, with {_SMALL_BATCH} times the lab's "
        "learning rate; `--full` makes one of each picture, as the lab does."
    )
    return Section(
        "Training",
        [
            Text(
                "`nn.StochasticGradient` subtracts the gradient times the learning rate: no "
                "momentum, no weight decay, no schedule. It draws one order of the pictures and "
                f"keeps it for all epochs. {update}"
            ),
            epoch_table("Loss and accuracy on the training pictures, as they were seen.", trained),
            Figure(
                "Loss and accuracy by epoch.",
                "two charts of lines, loss falling and accuracy rising with the epochs",
                steps.path("curves.png"),
                [curves],
            ),
        ],
    )


def _test(
    steps: Steps, options: LabOptions, data: LabData, untrained: Step, trained: Step
) -> Section:
    model = steps.path("run/model")
    evaluated = steps.run("evaluate", model, data.word, output=steps.path("test"))
    confusion = confusion_figure(steps, steps.path("test"))
    samples = predicted_samples(steps, options, data, model)
    classes = evaluated.result["classes"]
    before = untrained.result["evaluation"]
    after = evaluated.result
    return Section(
        "Test",
        [
            Question(
                "How often is the network right, and how often by chance?",
                [
                    Text(f"Guessing among {len(classes)} classes is right 1 time in as many."),
                    Table(
                        "The test part, before and after the training.",
                        ["network", "accuracy", "correct", "images", "loss"],
                        [_row("untrained", before), _row("trained", after)],
                        [untrained, evaluated],
                    ),
                ],
            ),
            Question(
                "Which classes does it know, and which not?",
                [
                    Text(_extremes(after), [evaluated]),
                    class_table("Each class of the test part.", evaluated),
                    confusion,
                ],
            ),
            samples,
        ],
    )


def _row(name: str, found: dict[str, Any]) -> list[Cell]:
    return [name, *(found[key] for key in ("accuracy", "correct", "count", "loss"))]


def _extremes(evaluation: dict[str, Any]) -> str:
    """The best and the worst class, and the most frequent mistake."""
    classes, confusion = evaluation["classes"], evaluation["confusion"]
    order = sorted(classes, key=lambda each: each["recall"])
    mistakes = [
        (count, classes[row]["label"], classes[column]["label"])
        for row, counts in enumerate(confusion)
        for column, count in enumerate(counts)
        if row != column
    ]
    count, right, called = max(mistakes)
    return (
        f"Best is *{order[-1]['label']}* with {order[-1]['recall']:.1%}, worst "
        f"*{order[0]['label']}* with {order[0]['recall']:.1%}. The most frequent mistake is to "
        f"call *{right}* *{called}*, {count:,} times."
    )


BLITZ = Lab(
    "blitz",
    "Deep Learning with Torch: a 60-minute blitz",
    "LeNet-5 learns CIFAR-10 by plain gradient descent, as `nn.StochasticGradient` does it.",
    _sections,
)
