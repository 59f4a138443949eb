"""`lab lenet-pytorch`: LeNet on MNIST, from the loaders to its certainty about test pictures.

The lab trains Caffe's LeNet with Adam, a learning rate of 0.001 and batches of 64 for ten epochs,
on three quarters of the training pictures; the last quarter validates.
"""

from __future__ import annotations

from ..reports import Figure, Question, Section, Step, Table, Text
from .data import LabData, prepare_data
from .figures import confusion_figure, predicted_samples, training_samples
from .lab import Lab
from .options import LabOptions
from .steps import Steps
from .tables import class_table, epoch_table, formula_table, layer_table, parts_table, shape_words

#: Pictures of the small lab, of all parts together.
_SMALL = 12_000


def _sections(steps: Steps, options: LabOptions) -> list[Section]:
    data = prepare_data(steps, options, "MNIST", val=0.25, limit=None if options.full else _SMALL)
    summarized = steps.run(
        "summary",
        "lenet",
        input=f"{data.step.result['shape'][0]}x28x28",
        classes=len(data.step.result["classes"]),
        formulas=True,
    )
    trained = steps.run(
        "train",
        "lenet",
        data.word,
        optimizer="adamw",
        weight_decay=0,
        lr=0.001,
        schedule="constant",
        batch_size=64,
        epochs=options.sized(5, 10),
        seed=options.seed,
        device=options.device,
        output=steps.path("run"),
        resume="auto",
    )
    return [
        _data(steps, options, data),
        _network(summarized),
        _training(steps, trained),
        *_test(steps, options, data, trained),
    ]


def _data(steps: Steps, options: LabOptions, data: LabData) -> Section:
    return Section(
        "The data",
        [
            Text(
                "Three loaders feed the network: one shuffles what is learnt from, one reads what "
                "decides which epoch was best, and one what the result is measured on. A quarter "
                "of the training pictures is kept for validation, each class in its share."
            ),
            parts_table(data),
            training_samples(steps, options, data),
        ],
    )


def _network(summarized: Step) -> Section:
    found = summarized.result
    windows = [layer for layer in found["layers"] if layer["kernel_size"]]
    agree = sum(layer["formula"] is not None for layer in windows)
    before = next(layer for layer in found["layers"] if layer["class_name"] == "Flatten")
    shape, count = before["input_shape"], before["output_shape"][0]
    return Section(
        "The network",
        [
            Text(
                "Twice a convolution of 5×5, a ReLU and a maximum over 2×2; then a hidden layer "
                "of 500 units, and one output for each class."
            ),
            layer_table(
                "The way of one picture through LeNet. Multiply-adds are for one picture.",
                summarized,
            ),
            Question(
                "How large is the output of a convolution or a pooling?",
                [
                    Text(
                        "A window of *k* elements, *d* apart, that moves by *s* over *n* elements "
                        "with *p* of padding at either end stands in ⌊(n + 2p − d(k − 1) − 1)/s⌋ "
                        f"+ 1 places. For {agree} of the network's {len(windows)} convolutions "
                        "and poolings this gives the size that the layer itself gives:",
                        [summarized],
                    ),
                    formula_table("The formula, and what comes out of the real layer.", summarized),
                ],
            ),
            Question(
                f"Why has the first linear layer {count} inputs?",
                [
                    Text(
                        f"It takes all that the last pooling gives, {shape_words(shape)}, "
                        f"as one row of {count} numbers. Another size of picture needs another "
                        "layer here.",
                        [summarized],
                    )
                ],
            ),
        ],
    )


def _training(steps: Steps, trained: Step) -> Section:
    curves = steps.run(
        "plot", "curves", steps.path("run"), titles="LeNet", output=steps.path("curves.png")
    )
    return Section(
        "Training",
        [
            Text(
                "Adam with a learning rate of 0.001 and batches of 64. The validation loss is "
                "measured after each epoch, and the network of the best epoch is kept. "
                f"TensorBoard shows the same numbers: `tensorboard --logdir {steps.path('run')}`."
            ),
            epoch_table("Each epoch.", trained),
            Figure(
                "Loss and accuracy by epoch.",
                "two charts of lines, loss falling and accuracy rising with the epochs",
                steps.path("curves.png"),
                [curves],
            ),
        ],
    )


def _test(steps: Steps, options: LabOptions, data: LabData, trained: Step) -> list[Section]:
    model = steps.path("run/model")
    evaluated = steps.run("evaluate", model, data.word, output=steps.path("test"))
    confusion = confusion_figure(steps, steps.path("test"))
    certain = predicted_samples(steps, options, data, model)
    before, after = trained.result["evaluation"], evaluated.result
    return [
        Section(
            "Save and load",
            [
                Text(
                    f"The training ended by saving the network to `{model}`. Read again from "
                    "there, it gives the same results:"
                ),
                Table(
                    "The test part, by the network in memory and by the one that was loaded.",
                    ["network", "accuracy", "correct", "loss"],
                    [
                        [name, found["accuracy"], found["correct"], found["loss"]]
                        for name, found in (("trained", before), ("loaded", after))
                    ],
                    [trained, evaluated],
                ),
            ],
        ),
        Section(
            "Test",
            [
                Text(
                    f"The network is right about {after['correct']:,} of {after['count']:,} test "
                    f"pictures, {after['accuracy']:.2%}.",
                    [evaluated],
                ),
                class_table("Each class of the test part.", evaluated),
                confusion,
                certain,
            ],
        ),
    ]


LENET_PYTORCH = Lab(
    "lenet-pytorch",
    "LeNet in PyTorch",
    "A convolutional network learns handwritten characters: loaders, shapes, training, certainty.",
    _sections,
)
