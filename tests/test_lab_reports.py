"""Which number of which command stands where in the report of a lab, on results that are made up.

`lab_support.MadeUp` makes all results of a network from one number (`size_of`), another for each
network; of two epochs the first is the best.
"""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from lab_support import MIB, figures, report, rows, size_of, texts

from torchlift.transfer.errors import LabError
from torchlift.transfer.labs.cifar2_answers import CHANGES
from torchlift.transfer.labs.data import LabData
from torchlift.transfer.labs.options import LabOptions
from torchlift.transfer.labs.run import LABS, settings_of
from torchlift.transfer.labs.tables import splits_table
from torchlift.transfer.reports import Figure, Page, Step, Table


def metrics(network: str) -> dict[str, float]:
    """What the made-up training of a network gives: of its best epoch, and of the test split."""
    size = size_of(network)
    return {
        "train_loss": size / 10 + 1,
        "train_accuracy": size / 40 + 0.001,
        "val_loss": size / 20 + 1,
        "val_accuracy": size / 80 - 0.001,
        "test": size / 50,
    }


def test_the_networks_of_torch7_convnets_are_compared(tmp_path: Path) -> None:
    page, _ = report("torch7-convnets", tmp_path)
    networks = {
        "linear softmax": ("softmax", "0.001", 64),
        "two layers": ("two_layer", "0.001", 64),
        "ConvNet": ("convnet", "0.01", 32),
        "ConvNet with BatchNorm": ("convnet_bn", "0.02", 32),
    }
    assert rows(page, "The networks and their training") == [
        [title, 1000 * (100 - size_of(name)), lr, batch, 2]
        for title, (name, lr, batch) in networks.items()
    ]
    results = [[title, *metrics(name).values()] for title, (name, *_) in networks.items()]
    assert rows(page, "Loss and accuracy of each network") == results
    assert f"lowest first: {', '.join(networks)}." in texts(page)
    assert rows(page, "Mean and standard deviation") == [
        ["red", 0.1, 0.4], ["green", 0.2, 0.5], ["blue", 0.3, 0.6],
    ]  # fmt: skip
    # Torch7's own accuracies stand beside those of its data, all of it, and of no other.
    full, _ = report("torch7-convnets", tmp_path / "full", full=True)
    torch7 = [0.373, 0.484, 0.583, 0.619]
    assert rows(full, "Loss and accuracy of each network") == [
        [*row, value] for row, value in zip(results, torch7, strict=True)
    ]
    digits, _ = report("torch7-convnets", tmp_path / "digits", full=True, data=None)
    assert rows(digits, "Loss and accuracy of each network") == results


def test_the_memory_of_alexnet_adds_up_to_its_file(tmp_path: Path) -> None:
    page, _ = report("torch7-convnets", tmp_path)
    quarter = MIB // 4
    assert rows(page, "Bytes of each layer.")[:4] == [
        ["get(1)", "SpatialConvolution", quarter + 7, quarter, 0, 0, 7],
        ["get(2)", "Linear", 5 * quarter, MIB, quarter, 0, 0],
        ["names, settings", "", 4 * quarter - 7, None, None, None, 4 * quarter - 7],
        ["the file", "", 10 * quarter, MIB, MIB, 60, 2 * quarter - 60],
    ]
    said = texts(page)
    assert "It holds 262,144 parameters of 4 bytes each (1 MB) and their gradients (1 MB)" in said
    assert "`get(2)`, takes 50% of the file; all convolutions together take 10.0%" in said
    assert "An input of 3×8×8 has been reduced to 5×4×4 when it reaches the View" in said


def test_alexnet_is_compared_with_its_relatives(tmp_path: Path) -> None:
    page, _ = report("torch7-convnets", tmp_path)
    titles = {
        "AlexNet-OWT-BN": "alexnet_owt_bn",
        **{f"VGG-BN {letter}": f"vgg_bn_{letter.lower()}" for letter in "ABCDE"},
        "GoogLeNet": "googlenet",
        "GoogLeNet-BN": "googlenet_bn",
    }
    assert rows(page, "Computed from the networks") == [
        [
            title,
            size,
            1000 * (100 - size),
            2 * size,
            3 * size,
            (size % 25) ** 3,
            "5×5 (1), 3×3 (1)",
        ]
        for title, size in ((title, size_of(name)) for title, name in titles.items())
    ]
    # The 19th network is AlexNet, the 24th VGG-BN E: (24/19)³ is 2.02.
    said = texts(page)
    assert "GoogLeNet-BN has the fewest parameters, 74,000," in said
    assert "VGG-BN E needs the most computation, 2 times as much as AlexNet" in said


def test_the_transfer_shows_both_probes_and_the_fine_tuned_network(tmp_path: Path) -> None:
    page, _ = report("torch7-convnets", tmp_path)
    tuned = ["fine-tuned, new last layer", None, 50 / 80 - 0.001, 1.0]
    assert rows(page, "Accuracy of the classifiers") == [
        ["two layers on features", 84, 0.6, 0.7],
        ["logistic regression on features", 84, 0.5, 0.6],
        tuned,
    ]
    assert rows(page, "The five most probable classes of `china`.") == [["cat", 0.7]]
    said = texts(page)
    assert "Layer `get(2):get(9)` of AlexNet gives 84 features for each image" in said
    assert "Those of 200 images" in said
    assert "Its weights are random" in said
    given, _ = report("torch7-convnets", tmp_path / "given", model="a.t7", mean_std="ms.t7")
    assert "random" not in texts(given)
    assert not given.notes


def test_a_trained_and_a_loaded_network_stand_side_by_side(tmp_path: Path) -> None:
    page, _ = report("lenet-pytorch", tmp_path, (1, 28, 28))
    test = size_of("lenet") / 50
    assert rows(page, "Results on the test split: the network in memory") == [
        ["trained", test, round(400 * test), 1 - test],
        ["loaded", 0.75, 300, 0.25],
    ]
    assert rows(page, "Accuracy of each class on the test split.") == [
        ["cat", 0.5, 0.6, 75, 150],
        ["dog", 0.9, 0.8, 225, 250],
        ["all", 0.75, 0.625, 300, 400],
    ]
    size = size_of("lenet")
    assert rows(page, "Each epoch.") == [
        ["1 (kept)", size / 10 + 1, size / 40 + 0.001, size / 20 + 1, size / 80 - 0.001],
        ["2", size / 10 + 2, size / 40 + 0.002, size / 20 + 2, size / 80 - 0.002],
    ]
    said = texts(page)
    assert "classifies 300 of 400 test images correctly: 75.00%" in said
    # The pooling layer at the end has a window, and no formula.
    assert "For 2 of the network's 3 convolution and pooling layers" in said
    assert "5×4×4, flattened to 80 values" in said


def test_the_layers_of_a_network_have_shapes_and_costs(tmp_path: Path) -> None:
    page, _ = report("lenet-pytorch", tmp_path, (1, 28, 28))
    size = size_of("lenet")
    assert rows(page, "The layers of LeNet.") == [
        ["input", "", "3×8×8", None, None],
        ["3.0.0", "Conv2d", "4×8×8", 112, 300],
        ["1", "ReLU", "4×8×8", None, None],
        ["2", "Conv2d", "5×4×4", 30, 200],
        ["3", "ReLU", "5×4×4", None, None],
        ["4", "Flatten", "80", None, None],
        ["5", "MaxPool2d", "80", None, None],
        ["all", "", "", 1000 * (100 - size), 1_000_000 * size**3],
    ]
    assert rows(page, "The formula, and the output shape") == [
        ["3.0.0", "Conv2d", "3×8×8", "⌊8⌋ = 8", "4×8×8"],
        ["2", "Conv2d", "4×8×8", "⌊4⌋ = 4", "5×4×4"],
        ["4", "Flatten", "5×4×4", "5 × 4 × 4 = 80", "80"],
    ]


def test_before_and_after_the_training_of_blitz(tmp_path: Path) -> None:
    page, _ = report("blitz", tmp_path)
    assert rows(page, "Results on the test split, before and after training.") == [
        ["untrained", 0.25, 100, 400, 0.75],
        ["trained", 0.75, 300, 400, 0.25],
    ]
    said = texts(page)
    assert "- labels 1 to 2, counted from 1 as found" in said
    assert "right 50% of the time" in said
    assert "The batch size is 4, and the learning rate 4 times the lab's" in said
    gray, _ = report("blitz", tmp_path / "gray", (1, 32, 32), full=True)
    assert rows(gray, "Mean and standard deviation") == [["gray", 0.1, 0.4]]
    assert "The batch size is 1, as in the lab." in texts(gray)


def test_the_three_networks_of_mnist_features(tmp_path: Path) -> None:
    page, _ = report("mnist-features", tmp_path, (1, 28, 28))
    networks = {
        "logistic regression": "logistic",
        "30 hidden units": "mlp30",
        "4 and 8 filters": "small_cnn",
    }
    found = {title: metrics(name) for title, name in networks.items()}
    assert rows(page, "Accuracy on each split") == [
        [title, 1, each["train_accuracy"], each["val_accuracy"], each["test"]]
        for title, each in found.items()
    ]
    assert rows(page, "The values of the feature maps") == [
        [name, kind, "4×6×7", -1.5, 2.5, 0.25, 0.125]
        for name, kind in (("3.0.0", "Conv2d"), ("1", "ReLU"), ("2", "Conv2d"), ("3", "ReLU"))
    ]
    assert "Three networks are trained on 300 images" in texts(page)


def test_every_change_of_cifar2_is_compared_with_what_it_changes(tmp_path: Path) -> None:
    page, _ = report("cifar2", tmp_path)
    sizes = {name: size_of(name) for name in CHANGES}
    assert rows(page, "All networks, trained in the same way.") == [
        [
            CHANGES[name],
            name,
            1000 * size,
            size / 30,
            size / 80 - 0.001,
            size / 50,
            size + 2.0,
        ]
        for name, size in sizes.items()
    ]
    said = texts(page)
    pairs = (
        ("tanhnet", "net_width"), ("net_width", "net_dropout"), ("net_width", "net_batch_norm"),
        ("net_depth", "net_res"), ("net_res_deep_shared", "net_res_deep"),
        ("net_res_deep", "net_res_deep_projected"),
    )  # fmt: skip
    for pair in pairs:
        first, second = (sizes[name] for name in pair)
        assert (
            f"From *{CHANGES[pair[0]]}* to *{CHANGES[pair[1]]}*: validation accuracy "
            f"{first / 80 - 0.001:.3f} → {second / 80 - 0.001:.3f}, training accuracy "
            f"{first / 30:.3f} → {second / 30:.3f}, {1000 * first:,} → {1000 * second:,} "
            f"parameters, {first + 2:.1f} → {second + 2:.1f} seconds."
        ) in said
    shared, separate = 1000 * sizes["net_res_deep_shared"], 1000 * sizes["net_res_deep"]
    # 1,000 more parameters in nine blocks: 111 in each.
    assert f"{separate:,} parameters instead of {shared:,}: 111 more for each of nine" in said
    last = [
        f"{sizes[name] / 40 + 0.002:.1%} and {sizes[name] / 80 - 0.002:.1%}"
        for name in ("net_res_deep_shared", "net_res_deep")
    ]
    assert f"{last[0]} with the shared block, {last[1]} with ten separate blocks" in said
    # A bias for each of the four maps of the convolution.
    assert "it has 112 parameters instead of 116" in said


def test_a_split_without_images_is_no_column() -> None:
    splits = [{"split": name, "count": n} for name, n in (("train", 3), ("val", 0), ("test", 2))]
    classes = [{"label": "a", "train": 3, "val": 0, "test": 2}]
    step = Step(("split",), {"splits": splits, "classes": classes}, 1.0)
    table = splits_table(LabData("data.npz", step, False))
    assert table.header == ["class", "training", "test"]
    assert table.rows == [["a", 3, 2], ["all", 3, 2]]


@pytest.mark.parametrize("name", LABS)
def test_a_report_names_settings_and_time(name: str, tmp_path: Path) -> None:
    page, _ = report(name, tmp_path, limit=99, full=True)
    given = {key: page.facts[key] for key in ("lab", "data", "class names", "limit", "full")}
    assert given == {
        "lab": name, "data": "d.npz", "class names": "n.txt", "limit": "99", "full": "True",
    }  # fmt: skip
    assert (page.facts["seed"], page.facts["device"]) == ("7", "CPU")
    assert {"torchlift", "Python", "torch", "numpy", "machine"} <= page.facts.keys()
    assert int(page.facts["seconds"]) == round(sum(step.seconds for step in page.steps))
    assert "photo" not in page.facts
    assert (page.title, page.about) == (LABS[name].title, LABS[name].about)
    assert len(figures(page)) >= 3


def test_a_lab_is_resumed_by_the_same_version_with_the_same_options() -> None:
    lab, options = LABS["blitz"], LabOptions(seed=3)
    settings = settings_of(lab, options)
    assert settings.keys() == {"lab", "torchlift", *asdict(options)}


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"seed": -1}, "seed=-1 must be at least 0"),
        ({"epochs": 0}, "epochs=0 must be at least 1"),
        ({"limit": 0}, "limit=0 must be at least 1"),
    ],
)
def test_numbers_that_make_no_lab_are_refused(options: dict[str, Any], problem: str) -> None:
    with pytest.raises(LabError, match=problem):
        LabOptions(**options)
    LabOptions(**{name: value + 1 for name, value in options.items()})


#: The chapters of each report, with their figures and what the captions of their tables begin with.
OUTLINES = {
    "torch7-convnets": """
        The data: samples.png, Images of each class, Mean and standard deviation
        Four networks: The networks and, Loss and accuracy of each, curves.png, confusion.png
        The weights of the first layers: convnet-filters.png, convnet_bn-filters.png, \
softmax-weights.png
        AlexNet: The five most probable, alexnet-filters.png
        The memory of AlexNet: Bytes of each layer. They, alexnet-sizes.png
        The shapes in AlexNet: The output size of each
        AlexNet, VGG and GoogLeNet: Computed from the networks
        Transfer: Accuracy of the classifiers
        """,
    "lenet-pytorch": """
        The data: Images of each class, samples.png
        The network: The layers of LeNet., The formula
        Training: Each epoch., curves.png
        Save and load: Results on the test split
        Test: Accuracy of each class, confusion.png, predictions.png
        """,
    "blitz": """
        The data: Images of each class, samples.png
        The network: The layers of LeNet-5., Mean and standard deviation
        Training: Loss and accuracy on the training images, curves.png
        Test: Results on the test split, Accuracy of each class, confusion.png, predictions.png
        """,
    "mnist-features": """
        The data: samples.png, Images of each class
        Learning curves: Accuracy on each split, curves.png
        The weights of each unit: logistic-weights.png, mlp30-weights.png
        Convolutions on a photograph: photo-kernels.png, photo-strides.png, photo-poolings.png, \
The formula
        A small convolutional network: The layers of the network, cnn-filters.png, cnn-maps.png, \
cnn-samples.png
        A photograph in AlexNet: alexnet-filters.png, alexnet-maps-1.png, alexnet-maps-2.png, \
The values of the feature maps
        """,
    "cifar2": """
        Two classes: Images of each class, samples.png
        The lab's network: The layers of the network, Each epoch; the network, Accuracy of each
        One change at a time: All networks, curves-plain.png, curves-deep.png
        The effect of each change:
        Mistakes in the lab:
        """,
}


@pytest.mark.parametrize("name", LABS)
def test_a_report_shows_all_that_its_lab_computes(name: str, tmp_path: Path) -> None:
    """Chapter by chapter; a figure that is drawn and not shown would be found here alone."""
    shape = (1, 28, 28) if name in ("lenet-pytorch", "mnist-features") else (3, 32, 32)
    page, commands = report(name, tmp_path, shape)
    lines = [line.strip().partition(":") for line in OUTLINES[name].strip().splitlines()]
    assert [section.title for section in page.sections] == [title for title, *_ in lines]
    for section, (_, _, parts) in zip(page.sections, lines, strict=True):
        alone = Page("", "", [section], page.steps, {}, [])
        shown = [part for part in alone.parts() if isinstance(part, Table | Figure)]
        expected = [part.strip() for part in parts.split(", ") if part.strip()]
        found = [part.caption if isinstance(part, Table) else part.file.name for part in shown]
        assert len(found) == len(expected)
        assert all(map(str.startswith, found, expected)), (found, expected)
    drawn = [words[words.index("--output") + 1] for words in commands.words if words[0] == "plot"]
    assert sorted(figures(page)) == sorted(drawn)
