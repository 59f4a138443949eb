"""The second half of `lab torch7-convnets`: AlexNet's file, its relatives, and transfer.

Without the file of a pretrained AlexNet one is written that has its layout and random numbers:
what is told of memory, shapes and sizes is the same. The transfer is then from a small network
that Torch7 trained, whose file comes with torchlift.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ..reports import Cell, Figure, Section, Step, Table, Text
from .alexnet_file import memory_section, relatives_section, shape_section
from .data import LabData
from .options import LabOptions
from .steps import Steps
from .tables import shape_words

_FIXTURES = Path(__file__).parents[2] / "fixtures"

#: The features that the lab takes: what the last ReLU of AlexNet gives.
_LAYER = "get(2):get(9)"

#: Pictures whose features the small lab takes from AlexNet.
_SMALL = 200


@dataclass(frozen=True)
class _Model:
    """A network of Torch7's with what its lab keeps beside it.

    Attributes:
        file: its `.t7`.
        labels: names of its classes, if they are known.
        mean_std: its preprocessing.
        layer: whose output is taken for features.
        title: what the report calls it.
    """

    file: str
    labels: str | None
    mean_std: str | None
    layer: str
    title: str

    @property
    def options(self) -> dict[str, str | None]:
        """What a command that opens it is told."""
        return {"labels": self.labels, "mean_std": self.mean_std}


def pretrained_sections(steps: Steps, options: LabOptions, data: LabData) -> list[Section]:
    """The chapters on AlexNet.

    Args:
        steps: of the lab.
        options: of the lab; `model`, `labels` and `mean_std` are those of a pretrained AlexNet.
        data: what is transferred to.
    """
    alexnet = _alexnet(steps, options)
    known = alexnet if options.model else _shipped(data)
    return [
        _classify(steps, options, alexnet),
        memory_section(steps, alexnet.file),
        shape_section(steps, alexnet.file),
        relatives_section(steps),
        _transfer(steps, options, data, alexnet, known),
    ]


def _alexnet(steps: Steps, options: LabOptions) -> _Model:
    """The AlexNet that was given, or one of random numbers."""
    if options.model:
        return _Model(options.model, options.labels, options.mean_std, _LAYER, "AlexNet")
    file = steps.path("alexnet.t7")
    steps.run("convert", "python:torchlift.transfer.networks:alexnet_owt_bn", file, overwrite=True)
    steps.note(
        "No pretrained AlexNet was given (`--model alexnet.t7 --labels … --mean-std …`): the one "
        "here has the same layers and as large a file, but random numbers. What is said of its "
        "memory, shapes and speed holds; what it takes pictures for means nothing. The transfer "
        "at the end is from a small network that Torch7 trained."
    )
    return _Model(str(file), None, str(_FIXTURES / "cifar/cifar_meanStd.t7"), _LAYER, "AlexNet")


def _shipped(data: LabData) -> _Model:
    """A network that Torch7 trained on such data."""
    folder, name = (
        ("digits", "digits-lenet5-bn") if data.is_digits else ("cifar", "cifar-convnet-bn")
    )
    return _Model(
        str(_FIXTURES / folder / f"{name}.t7"),
        str(_FIXTURES / folder / f"{folder}_classes.t7"),
        str(_FIXTURES / folder / f"{folder}_meanStd.t7"),
        "penultimate",
        "the network that Torch7 trained",
    )


def _classify(steps: Steps, options: LabOptions, alexnet: _Model) -> Section:
    photo = options.photo or "china"
    predicted = steps.run("predict", alexnet.file, photo, top=5, **alexnet.options)
    filters = steps.path("alexnet-filters.png")
    drawn = steps.run("plot", "filters", alexnet.file, output=filters)
    rows: list[list[Cell]] = [
        [each["label"], each["probability"]]
        for each in predicted.result["results"][0]["predictions"]
    ]
    random = "" if options.model else " Its numbers are random, so that these are guesses."
    return Section(
        "AlexNet",
        [
            Text(
                "AlexNet-OWT-BN is read from its `.t7`, with class names and mean and standard "
                f"deviation from files of their own.{random}"
            ),
            Table(
                f"The five likeliest classes of `{photo}`.",
                ["class", "probability"],
                rows,
                [predicted],
            ),
            Figure(
                "The 64 filters of its first convolution, 11×11."
                + ("" if options.model else " Untrained ones are noise."),
                "a grid of 64 small pictures",
                filters,
                [drawn],
            ),
        ],
    )


def _transfer(
    steps: Steps, options: LabOptions, data: LabData, alexnet: _Model, known: _Model
) -> Section:
    limit = options.limit or (None if options.full else _SMALL)
    parts: list[Text | Table | Figure] = []
    if known is not alexnet:
        shown = _extract(steps, options, alexnet, data, "train", _SMALL, "alexnet-features")
        shape = next(iter(shown.result["features"].values()))
        parts += [
            Text(
                f"What `{alexnet.layer}` of AlexNet gives for {shape[0]:,} pictures: "
                f"{shape_words(shape[1:])} numbers each, written as a `.t7` in "
                f"{shown.seconds:.1f} seconds. They come from random weights, so that what "
                f"follows is done with {known.title} instead.",
                [shown],
            )
        ]
        limit = options.limit
    learnt = _extract(steps, options, known, data, "train", limit, "features-train")
    tested = _extract(steps, options, known, data, "test", limit, "features-test")
    probed = steps.run(
        "probe",
        steps.path("features-train.t7"),
        test=steps.path("features-test.t7"),
        methods="network,logistic",
        seed=options.seed,
    )
    rows: list[list[Cell]] = [
        [_METHODS[row["method"]], row["dimensions"], row["val_accuracy"], row["test_accuracy"]]
        for row in probed.result["results"]
    ]
    tuned = steps.run(
        "finetune",
        known.file,
        data.word,
        **known.options,
        limit=limit,
        head="zeros",
        freeze="all-but-head",
        unfreeze_at=2,
        epochs=options.sized(3, 3),
        batch_size=32,
        lr=0.01,
        body_lr=0.001,
        weight_decay=0,
        seed=options.seed,
        device=options.device,
        output=steps.path("finetuned"),
        resume="auto",
    )
    result = tuned.result["evaluation"]
    best = next(r for r in tuned.result["history"] if r["epoch"] == result["epoch"])
    features = next(iter(learnt.result["features"].values()))[1:]
    rows.append(["fine-tuned, new last layer", None, best["val_accuracy"], result["accuracy"]])
    parts += [
        Text(
            f"The features of {known.title} ({known.layer}, {shape_words(features)} numbers a "
            "picture) are written for every picture as a `.t7`. A network of two layers learns to "
            "tell the classes by them; logistic regression does so for comparison. Then the "
            "network itself goes on learning: its last layers make room for one new linear layer, "
            "which is trained alone for an epoch, and with all others after that."
        ),
        Table(
            "What is built on it.",
            ["classifier", "features", "validation accuracy", "test accuracy"],
            rows,
            [learnt, tested, probed, tuned],
        ),
    ]
    if known is not alexnet:
        parts.append(
            Text(
                "This network was trained on the same classes, and probably on these very "
                "pictures: it shows how the work is done, not how well features transfer."
            )
        )
    return Section("Transfer", parts)


#: What the report calls the probes.
_METHODS = {"network": "two layers on features", "logistic": "logistic regression on features"}


def _extract(
    steps: Steps,
    options: LabOptions,
    model: _Model,
    data: LabData,
    split: str,
    limit: int | None,
    name: str,
) -> Step:
    return steps.run(
        "extract",
        model.file,
        data.word,
        steps.path(f"{name}.t7"),
        layers=model.layer,
        split=split,
        limit=limit,
        seed=options.seed,
        **model.options,
        overwrite=True,
    )
