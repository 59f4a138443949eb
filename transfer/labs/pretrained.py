"""The second half of `lab torch7-convnets`: the AlexNet file, similar networks, and transfer.

Without the file of a pretrained AlexNet, the lab writes one with the same layers and random
weights; its memory, shapes and sizes are the same. The transfer then starts from a small network
that Torch7 trained, whose file is part of torchlift.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ..reports import Cell, Figure, Section, Step, Table, Text
from .alexnet_file import memory_section, relatives_section, shape_section
from .data import LabData
from .options import LabOptions
from .steps import Steps
from .tables import shape_text

_FIXTURES = Path(__file__).parents[2] / "fixtures"

#: The layer whose output the lab uses as features: the last ReLU of AlexNet.
_LAYER = "get(2):get(9)"

#: The number of images whose features the small lab extracts with AlexNet.
_SMALL = 200


@dataclass(frozen=True)
class _Model:
    """A Torch7 network, with the files that its lab keeps beside it.

    Attributes:
        file: The `.t7` of the network.
        options: Options of the commands that open it: labels and preprocessing.
        layer: The layer whose output is used as features.
        title: The name of the network in the report.
    """

    file: str
    options: dict[str, str | None]
    layer: str
    title: str


def pretrained_sections(steps: Steps, options: LabOptions, data: LabData) -> list[Section]:
    """Return the chapters about AlexNet.

    Args:
        steps: The steps of the lab.
        options: The options of the lab; `model`, `labels` and `mean_std` describe a pretrained
            AlexNet.
        data: The dataset that a network is transferred to.
    """
    alexnet = _alexnet(steps, options)
    pretrained = alexnet if options.model else _shipped(data)
    plugin = alexnet.options.get("plugin")
    return [
        _classify(steps, options, alexnet),
        memory_section(steps, alexnet.file, plugin),
        shape_section(steps, alexnet.file, plugin),
        relatives_section(steps),
        _transfer(steps, options, data, alexnet, pretrained),
    ]


def _alexnet(steps: Steps, options: LabOptions) -> _Model:
    """Return the AlexNet that the user named, or one with random weights."""
    if options.model:
        return _Model(options.model, options.model_options, _LAYER, "AlexNet")
    file = steps.path("alexnet.t7")
    steps.run("convert", "python:torchlift.transfer.networks:alexnet_owt_bn", file, overwrite=True)
    steps.note(
        "No pretrained AlexNet was given (`model=alexnet.t7`, `labels=…`, `mean_std=…`). The "
        "AlexNet in this report has the same layers and file size, but random weights: its "
        "memory, shapes and speed are real, its predictions mean nothing. The transfer at the "
        "end starts from a small network that Torch7 trained."
    )
    mean_std = str(_FIXTURES / "cifar/cifar_meanStd.t7")
    return _Model(str(file), {"mean_std": mean_std}, _LAYER, "AlexNet")


def _shipped(data: LabData) -> _Model:
    """Return a network that Torch7 trained on the digits or on CIFAR-10."""
    folder, name = (
        ("digits", "digits-lenet5-bn") if data.is_digits else ("cifar", "cifar-convnet-bn")
    )
    return _Model(
        str(_FIXTURES / folder / f"{name}.t7"),
        {
            "labels": str(_FIXTURES / folder / f"{folder}_classes.t7"),
            "mean_std": str(_FIXTURES / folder / f"{folder}_meanStd.t7"),
        },
        "penultimate",
        "the network that Torch7 trained",
    )


def _classify(steps: Steps, options: LabOptions, alexnet: _Model) -> Section:
    photo = options.photo or "china"
    predicted = steps.run("predict", alexnet.file, photo, top=5, **alexnet.options)
    filters = steps.path("alexnet-filters.png")
    plugin = alexnet.options.get("plugin")
    drawn = steps.run("plot", "filters", alexnet.file, output=filters, plugin=plugin)
    rows: list[list[Cell]] = [
        [prediction["label"], prediction["probability"]]
        for prediction in predicted.result["results"][0]["predictions"]
    ]
    random = "" if options.model else " Its weights are random, so the predictions are guesses."
    return Section(
        "AlexNet",
        [
            Text(
                "AlexNet-OWT-BN is read from its `.t7`; class names, mean and standard deviation "
                f"come from separate files.{random}"
            ),
            Table(
                f"The five most probable classes of `{photo}`.",
                ["class", "probability"],
                rows,
                [predicted],
            ),
            Figure(
                "The 64 filters of its first convolution, 11×11."
                + ("" if options.model else " Untrained filters are noise."),
                "a grid of 64 small images",
                filters,
                [drawn],
            ),
        ],
    )


def _transfer(
    steps: Steps, options: LabOptions, data: LabData, alexnet: _Model, pretrained: _Model
) -> Section:
    limit = options.limit or (None if options.full else _SMALL)
    parts: list[Text | Table | Figure] = []
    if pretrained is not alexnet:
        extracted = _extract(steps, options, alexnet, data, "train", _SMALL, "alexnet-features")
        shape = extracted.result["features"][0]["shape"]
        parts += [
            Text(
                f"Layer `{alexnet.layer}` of AlexNet gives {shape_text(shape[1:])} features for "
                f"each image. Those of {shape[0]:,} images were written as a `.t7` in "
                f"{extracted.seconds:.1f} seconds. They come from random weights, so the rest of "
                f"this chapter uses {pretrained.title}.",
                [extracted],
            )
        ]
        limit = options.limit
    train = _extract(steps, options, pretrained, data, "train", limit, "features-train")
    test = _extract(steps, options, pretrained, data, "test", limit, "features-test")
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
        pretrained.file,
        data.path,
        **pretrained.options,
        limit=limit,
        head="zeros",
        freeze="all-but-head",
        unfreeze_at=2,
        epochs=options.epoch_count(3, 3),
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
    best = next(row for row in tuned.result["history"] if row["epoch"] == result["epoch"])
    features = train.result["features"][0]["shape"][1:]
    rows.append(["fine-tuned, new last layer", None, best["val_accuracy"], result["accuracy"]])
    parts += [
        Text(
            f"The features of {pretrained.title} (`{pretrained.layer}`, {shape_text(features)} "
            "values an image) are written to a `.t7` for all images. A network of two layers and "
            "a logistic regression are trained on these features. Then the pretrained network is "
            "fine-tuned: a new linear layer replaces its last layers, is trained alone for one "
            "epoch, and together with all other layers after that."
        ),
        Table(
            "Accuracy of the classifiers that use the pretrained network.",
            ["classifier", "features", "validation accuracy", "test accuracy"],
            rows,
            [train, test, probed, tuned],
        ),
    ]
    if pretrained is not alexnet:
        parts.append(
            Text(
                "This network was trained on the same classes, and probably on the same images: "
                "the table demonstrates the method, not how well features transfer."
            )
        )
    return Section("Transfer", parts)


#: The names of the probes in the report.
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
        data.path,
        steps.path(f"{name}.t7"),
        layers=model.layer,
        split=split,
        limit=limit,
        seed=options.seed,
        **model.options,
        overwrite=True,
    )
