"""`lab lenet-pytorch`: LeNet on MNIST, from the loaders to its certainty about test pictures."""

from __future__ import annotations

from ..reports import Section, Table, Text
from .data import prepare_data
from .lab import Lab
from .options import LabOptions
from .steps import Steps


def _sections(steps: Steps, options: LabOptions) -> list[Section]:
    data = prepare_data(steps, options, "MNIST", val=0.25, limit=None if options.full else 12_000)
    trained = steps.run(
        "train",
        "lenet5",
        data.word,
        epochs=options.sized(5, 10),
        output=steps.path("run"),
        resume="auto",
        device=options.device,
        seed=options.seed,
    )
    parts = data.step.result["parts"]
    return [
        Section(
            "The data",
            [
                Text(
                    f"{parts['train']:,} pictures to learn from, {parts['val']:,} to validate on, "
                    f"{parts['test']:,} to test with.",
                    [data.step],
                ),
            ],
        ),
        Section(
            "Training",
            [
                Table(
                    "Loss and accuracy after each epoch.",
                    ["epoch", "loss", "accuracy", "val. loss", "val. accuracy"],
                    [
                        [
                            int(row["epoch"]),
                            row["train_loss"],
                            row["train_accuracy"],
                            row["val_loss"],
                            row["val_accuracy"],
                        ]
                        for row in trained.result["history"]
                    ],
                    [trained],
                )
            ],
        ),
    ]


LENET_PYTORCH = Lab(
    "lenet-pytorch",
    "LeNet in PyTorch",
    "A convolutional network for handwritten characters: data, shapes, training, certainty.",
    _sections,
)
