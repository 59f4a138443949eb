"""`lab lenet-pytorch`: LeNet on MNIST, from the data loaders to the probabilities of predictions.

The lab trains Caffe's LeNet with Adam, a learning rate of 0.001 and batches of 64 for ten epochs.
A quarter of the training images is the validation split.
"""

from __future__ import annotations

from ..reports import Question, Section, Step, Table, Text
from .data import LabData, prepare_data
from .figures import confusion_figure, curves_figure, predicted_samples, training_samples
from .lab import Lab
from .options import LabOptions
from .steps import Steps
from .tables import class_table, epoch_table, formula_table, layer_table, shape_text, splits_table

#: The number of images of the small lab, in all splits together.
_SMALL = 12_000


def _sections(steps: Steps, options: LabOptions) -> list[Section]:
    limit = None if options.full else _SMALL
    data = prepare_data(steps, options, "MNIST", val_fraction=0.25, limit=limit)
    summarized = steps.run(
        "summary",
        "lenet",
        input=f"{data.image_shape[0]}x28x28",
        classes=len(data.class_names),
        formulas=True,
    )
    trained = steps.run(
        "train",
        "lenet",
        data.path,
        optimizer="adamw",
        weight_decay=0,
        lr=0.001,
        schedule="constant",
        batch_size=64,
        epochs=options.epoch_count(5, 10),
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
                "There are three data loaders. The first shuffles the training split, the second "
                "reads the validation split, which decides which epoch is best, and the third "
                "reads the test split, which measures the result. The validation split is a "
                "quarter of the training images, stratified by class."
            ),
            splits_table(data),
            training_samples(steps, options, data),
        ],
    )


def _network(summarized: Step) -> Section:
    layers = summarized.result["layers"]
    windows = [layer for layer in layers if layer["kernel_size"]]
    agree = sum(layer["formula"] is not None for layer in windows)
    flatten = next(layer for layer in layers if layer["torch_class"] == "Flatten")
    shape, count = flatten["input_shape"], flatten["output_shape"][0]
    return Section(
        "The network",
        [
            Text(
                "Two blocks of a 5×5 convolution, a ReLU and 2×2 max pooling; then a hidden layer "
                "of 500 units, and one output for each class."
            ),
            layer_table(
                "The layers of LeNet. Shapes and multiply-adds are for one image.",
                summarized,
            ),
            Question(
                "How large is the output of a convolution or pooling layer?",
                [
                    Text(
                        "A window with a kernel of *k* elements, a dilation of *d* and a stride of "
                        "*s* has ⌊(n + 2p − d(k − 1) − 1)/s⌋ + 1 positions on *n* elements with a "
                        f"padding of *p* at either end. For {agree} of the network's "
                        f"{len(windows)} convolution and pooling layers, the formula gives the "
                        "output size of the real layer:",
                        [summarized],
                    ),
                    formula_table(
                        "The formula, and the output shape of the real layer.", summarized
                    ),
                ],
            ),
            Question(
                f"Why does the first linear layer have {count} inputs?",
                [
                    Text(
                        f"Its input is the output of the last pooling layer, {shape_text(shape)}, "
                        f"flattened to {count} values. Images of another size need another linear "
                        "layer.",
                        [summarized],
                    )
                ],
            ),
        ],
    )


def _training(steps: Steps, trained: Step) -> Section:
    curves = curves_figure(steps, "LeNet")
    return Section(
        "Training",
        [
            Text(
                "Adam with a learning rate of 0.001 and batches of 64. The validation loss is "
                "measured after each epoch, and the network of the best epoch is kept. "
                f"`tensorboard --logdir {steps.path('run')}` shows the same curves."
            ),
            epoch_table("Each epoch.", trained),
            curves,
        ],
    )


def _test(steps: Steps, options: LabOptions, data: LabData, trained: Step) -> list[Section]:
    model = steps.path("run/model")
    evaluated = steps.run("evaluate", model, data.path, output=steps.path("test"))
    confusion = confusion_figure(steps, steps.path("test"))
    predictions = predicted_samples(steps, options, data, model)
    before, after = trained.result["evaluation"], evaluated.result
    return [
        Section(
            "Save and load",
            [
                Text(
                    f"At its end, the training saved the network to `{model}`. The loaded network "
                    "gives the same results:"
                ),
                Table(
                    "Results on the test split: the network in memory and the loaded network.",
                    ["network", "accuracy", "correct", "loss"],
                    [
                        [name, result["accuracy"], result["correct"], result["loss"]]
                        for name, result in (("trained", before), ("loaded", after))
                    ],
                    [trained, evaluated],
                ),
            ],
        ),
        Section(
            "Test",
            [
                Text(
                    f"The network classifies {after['correct']:,} of {after['count']:,} test "
                    f"images correctly: {after['accuracy']:.2%}.",
                    [evaluated],
                ),
                class_table("Accuracy of each class on the test split.", evaluated),
                confusion,
                predictions,
            ],
        ),
    ]


LENET_PYTORCH = Lab(
    "lenet-pytorch",
    "LeNet in PyTorch",
    "A convolutional network for handwritten digits: loaders, shapes, training, probabilities.",
    _sections,
)
