"""`lab blitz`: "Deep Learning with Torch: a 60-minute blitz" (S. Chintala, 2015).

LeNet-5 on 10,000 CIFAR-10 images with nn.StochasticGradient (`StochasticGradient.lua`): plain SGD
with a batch size of 1, a learning rate of 0.001, and five epochs in one random order.
"""

from __future__ import annotations

from typing import Any

from ..reports import Cell, Question, Section, Step, Table, Text
from .data import LabData, prepare_data
from .figures import confusion_figure, curves_figure, predicted_samples, training_samples
from .lab import Lab
from .options import LabOptions
from .steps import Steps
from .tables import class_table, epoch_table, layer_table, splits_table

#: The lab's learning rate, for a batch size of 1.
_LR = 0.001

#: The batch size of the small lab. The learning rate grows with it.
_SMALL_BATCH = 4


def _sections(steps: Steps, options: LabOptions) -> list[Section]:
    limit = None if options.full else 12_000
    data = prepare_data(steps, options, "CIFAR-10", val_fraction=0, limit=limit)
    summarized = steps.run(
        "summary",
        "lenet5",
        input="x".join(map(str, data.image_shape)),
        classes=len(data.class_names),
    )
    untrained = _train(steps, options, data, 0, "untrained")
    trained = _train(steps, options, data, options.epoch_count(5, 5), "run")
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
        data.path,
        sampling="shuffle-once",
        momentum=0,
        weight_decay=0,
        schedule="constant",
        lr=batch * _LR,
        batch_size=batch,
        val_fraction=0,
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
            Text(f"Notes on the dataset:\n{notes}", [data.step]),
            splits_table(data),
            training_samples(steps, options, data),
        ],
    )


def _network(steps: Steps, summarized: Step) -> Section:
    inspected = steps.run("inspect", steps.path("run/model"))
    preprocessing = inspected.result["preprocessing"]
    channels = ["red", "green", "blue"] if preprocessing["color"] == "RGB" else ["gray"]
    rows: list[list[Cell]] = [
        [channel, mean, std]
        for channel, mean, std in zip(
            channels, preprocessing["mean"], preprocessing["std"], strict=True
        )
    ]
    return Section(
        "The network",
        [
            Text(
                "LeNet-5, with max pooling and ReLU instead of LeCun's subsampling and tanh: "
                f"{summarized.result['parameters']:,} parameters.",
                [summarized],
            ),
            layer_table("The layers of LeNet-5. Shapes are for one image.", summarized),
            Text(
                "Each channel is normalized: its mean is subtracted, and the difference divided "
                "by its standard deviation. Both are computed from the training images only and "
                "saved with the network, which uses them for the test images too."
            ),
            Table(
                "Mean and standard deviation of each channel, for pixels from 0 to "
                f"{preprocessing['value_range']}.",
                ["channel", "mean", "standard deviation"],
                rows,
                [inspected],
            ),
        ],
    )


def _training(steps: Steps, options: LabOptions, trained: Step) -> Section:
    curves = curves_figure(steps, "LeNet-5")
    update = (
        "The batch size is 1, as in the lab."
        if options.full
        else f"The batch size is {_SMALL_BATCH}, and the learning rate {_SMALL_BATCH} times the "
        "lab's; `--full` uses the lab's own batch size of 1."
    )
    return Section(
        "Training",
        [
            Text(
                "`nn.StochasticGradient` subtracts the gradient times the learning rate: no "
                "momentum, no weight decay, no schedule. It shuffles the images once and keeps "
                f"this order in all epochs. {update}"
            ),
            epoch_table(
                "Loss and accuracy on the training images, measured during each epoch.", trained
            ),
            curves,
        ],
    )


def _test(
    steps: Steps, options: LabOptions, data: LabData, untrained: Step, trained: Step
) -> Section:
    model = steps.path("run/model")
    evaluated = steps.run("evaluate", model, data.path, output=steps.path("test"))
    confusion = confusion_figure(steps, steps.path("test"))
    samples = predicted_samples(steps, options, data, model)
    classes = evaluated.result["classes"]
    chance = 1 / len(classes)
    before = untrained.result["evaluation"]
    after = evaluated.result
    return Section(
        "Test",
        [
            Question(
                "How accurate is the network, compared with chance?",
                [
                    Text(
                        f"A random guess among {len(classes)} classes is right {chance:.0%} of "
                        "the time."
                    ),
                    Table(
                        "Results on the test split, before and after training.",
                        ["network", "accuracy", "correct", "images", "loss"],
                        [_row("untrained", before), _row("trained", after)],
                        [untrained, evaluated],
                    ),
                ],
            ),
            Question(
                "Which classes does it recognize best and worst?",
                [
                    Text(_extremes(after), [evaluated]),
                    class_table("Accuracy of each class on the test split.", evaluated),
                    confusion,
                ],
            ),
            samples,
        ],
    )


def _row(name: str, result: dict[str, Any]) -> list[Cell]:
    return [name, *(result[key] for key in ("accuracy", "correct", "count", "loss"))]


def _extremes(evaluation: dict[str, Any]) -> str:
    """Return a sentence about the best class, the worst class and the most frequent mistake."""
    classes, confusion = evaluation["classes"], evaluation["confusion"]
    order = sorted(classes, key=lambda row: row["accuracy"])
    mistakes = [
        (count, classes[true]["label"], classes[predicted]["label"])
        for true, counts in enumerate(confusion)
        for predicted, count in enumerate(counts)
        if true != predicted
    ]
    count, true_class, predicted_class = max(mistakes)
    return (
        f"The best class is *{order[-1]['label']}* with {order[-1]['accuracy']:.1%}, the worst "
        f"*{order[0]['label']}* with {order[0]['accuracy']:.1%}. The most frequent mistake is to "
        f"classify *{true_class}* as *{predicted_class}*, {count:,} times."
    )


BLITZ = Lab(
    "blitz",
    "Deep Learning with Torch: a 60-minute blitz",
    "LeNet-5 on CIFAR-10, trained by plain gradient descent as in `nn.StochasticGradient`.",
    _sections,
)
