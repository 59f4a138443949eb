"""The commands of each lab, small and full: every option that its recipe names, no other.

The recipes are those of the lab, the tutorial or the book that the lab repeats (docs/labs.md). No
command is run: the results are made up (`lab_support`).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from lab_support import MadeUp, report

GRAY, COLORS = (1, 28, 28), (3, 32, 32)
SHAPES = {
    "torch7-convnets": COLORS,
    "lenet-pytorch": GRAY,
    "blitz": COLORS,
    "mnist-features": GRAY,
    "cifar2": COLORS,
}

#: How a lab writes its data, small and full.
SPLITS = {
    "torch7-convnets": ("--val-fraction 0.2", "--limit 10000", ""),
    "lenet-pytorch": ("--val-fraction 0.25", "--limit 12000", ""),
    "blitz": ("--val-fraction 0", "--limit 12000", ""),
    "mnist-features": ("--val-fraction 0.4", "--limit 5000", "--limit 5000"),
    "cifar2": ("--val-fraction 0.2", "--classes airplane,bird", "--classes airplane,bird"),
}

SGD = "momentum 0.9 --dampening 0 --weight-decay 0 --schedule constant"
ADAM = "--optimizer adamw --weight-decay 0"
PLAIN = "--sampling shuffle-once --momentum 0 --weight-decay 0 --schedule constant"
CIFAR2 = (
    *("tanhnet", "net_width", "net_dropout", "net_batch_norm", "net_depth", "net_res"),
    *("net_res_deep_shared", "net_res_deep", "net_res_deep_projected"),
)


def torch7(network: str, batch: int, lr: str, epochs: int, output: str = "") -> str:
    return (
        f"train {network} data.npz --epochs {epochs} --batch-size {batch} --sampling replacement "
        f"--lr {lr} --{SGD} {_end(output or network)}"
    )


def adam(network: str, lr: str, epochs: int, output: str = "", batch: int = 32) -> str:
    return (
        f"train {network} data.npz {ADAM} --lr {lr} --schedule constant --batch-size {batch} "
        f"--epochs {epochs} {_end(output or network)}"
    )


def blitz(batch: int, lr: str, epochs: int, output: str) -> str:
    return (
        f"train lenet5 data.npz {PLAIN} --lr {lr} --batch-size {batch} --val-fraction 0 --epochs "
        f"{epochs} --seed 7 --device cpu --threads 1 --output {output} --resume auto"
    )


def cifar2(network: str, schedule: str, epochs: int) -> str:
    return (
        f"train {network} data.npz {schedule} --lr 0.01 --weight-decay 0 --epochs {epochs} "
        f"{_end(network)}"
    )


def _end(output: str) -> str:
    return f"--seed 7 --device cpu --output {output} --resume auto"


def torch7_recipes(factor: int) -> list[str]:
    """Three and five epochs in the lab; the small one has a fifth of the images."""
    return [
        torch7("softmax", 64, "0.001", 3 * factor),
        torch7("two_layer", 64, "0.001", 3 * factor),
        torch7("convnet", 32, "0.01", 5 * factor),
        torch7("convnet_bn", 32, "0.02", 5 * factor),
        torch7("convnet", 32, "0.01", 0, "convnet-before"),
        torch7("convnet_bn", 32, "0.02", 0, "convnet_bn-before"),
    ]


def mnist_recipes(epochs: int) -> list[str]:
    return [
        adam("logistic", "0.001", epochs),
        adam("mlp30", "0.003", epochs),
        adam("small_cnn", "0.003", epochs),
        adam("mlp30", "0.003", 0, "mlp30-before"),
        adam("small_cnn", "0.003", 0, "small_cnn-before"),
    ]


SMALL_STEPS = "--batch-size 32 --momentum 0.9 --schedule cosine"
BOOK_STEPS = "--batch-size 64 --momentum 0 --schedule constant"

#: The trainings of each lab, small and full.
TRAININGS = {
    "torch7-convnets": (torch7_recipes(2), torch7_recipes(1)),
    "lenet-pytorch": tuple([adam("lenet", "0.001", n, "run", 64)] for n in (5, 10)),
    "blitz": (
        [blitz(4, "0.004", 0, "untrained"), blitz(4, "0.004", 5, "run")],
        [blitz(1, "0.001", 0, "untrained"), blitz(1, "0.001", 5, "run")],
    ),
    "mnist-features": (mnist_recipes(20), mnist_recipes(50)),
    "cifar2": (
        [cifar2(network, SMALL_STEPS, 8) for network in CIFAR2],
        [cifar2(network, BOOK_STEPS, 100) for network in CIFAR2],
    ),
}

FILTERS = "python:torchlift.transfer.networks.photo_filters:photo_filters"
ALEXNET = "python:torchlift.transfer.networks:alexnet_owt_bn"
TRAINED = "cifar/cifar-convnet-bn.t7"
BESIDE = "--labels cifar/cifar_classes.t7 --mean-std cifar/cifar_meanStd.t7"
LAYERS = "--layers get(2):get(9)"

#: All other commands of the small labs; those of evaluations of `cifar2` are below.
OTHERS = {
    "torch7-convnets": f"""
        inspect softmax/model
        plot samples data.npz --output samples.png --split train --limit 24 --seed 7
        plot curves softmax two_layer convnet convnet_bn --output curves.png \
--titles linear softmax,two layers,ConvNet,ConvNet with BatchNorm
        plot confusion convnet_bn --output confusion.png
        summary softmax --input 3x32x32 --classes 2
        summary two_layer --input 3x32x32 --classes 2
        summary convnet --input 3x32x32 --classes 2
        summary convnet_bn --input 3x32x32 --classes 2
        plot filters convnet-before/model convnet/model --output convnet-filters.png \
--titles before,after
        plot filters convnet_bn-before/model convnet_bn/model --output convnet_bn-filters.png \
--titles before,after
        plot weights softmax/model --output softmax-weights.png
        convert {ALEXNET} alexnet.t7 --overwrite
        predict alexnet.t7 china --top 5 --mean-std cifar/cifar_meanStd.t7
        plot filters alexnet.t7 --output alexnet-filters.png
        inspect alexnet.t7 --depth 0
        plot sizes alexnet.t7 --titles AlexNet --output alexnet-sizes.png
        summary alexnet.t7 --formulas
        summary alexnet_owt_bn
        summary vgg_bn_a
        summary vgg_bn_b
        summary vgg_bn_c
        summary vgg_bn_d
        summary vgg_bn_e
        summary googlenet
        summary googlenet_bn
        extract alexnet.t7 data.npz alexnet-features.t7 {LAYERS} --split train --limit 200 \
--seed 7 --mean-std cifar/cifar_meanStd.t7 --overwrite
        extract {TRAINED} data.npz features-train.t7 --layers penultimate --split train \
--seed 7 {BESIDE} --overwrite
        extract {TRAINED} data.npz features-test.t7 --layers penultimate --split test \
--seed 7 {BESIDE} --overwrite
        probe features-train.t7 --test features-test.t7 --methods network,logistic --seed 7
        finetune {TRAINED} data.npz {BESIDE} --head zeros --freeze all-but-head --unfreeze-at 2 \
--epochs 3 --batch-size 32 --lr 0.01 --body-lr 0.001 --weight-decay 0 --seed 7 --device cpu \
--output finetuned --resume auto
        """,
    "lenet-pytorch": """
        summary lenet --input 1x28x28 --classes 2 --formulas
        plot samples data.npz --output samples.png --split train --limit 24 --seed 7
        plot curves run --output curves.png --titles LeNet
        evaluate run/model data.npz --output test
        plot confusion test --output confusion.png
        plot samples data.npz --output predictions.png --split test --limit 12 --seed 7 \
--model run/model
        """,
    "blitz": """
        summary lenet5 --input 3x32x32 --classes 2
        plot samples data.npz --output samples.png --split train --limit 24 --seed 7
        inspect run/model
        plot curves run --output curves.png --titles LeNet-5
        evaluate run/model data.npz --output test
        plot confusion test --output confusion.png
        plot samples data.npz --output predictions.png --split test --limit 12 --seed 7 \
--model run/model
        """,
    "mnist-features": f"""
        plot samples data.npz --output samples.png --split train --limit 24 --seed 7
        plot curves logistic mlp30 small_cnn --output curves.png \
--titles logistic regression,30 hidden units,4 and 8 filters
        plot weights logistic/model --output logistic-weights.png --titles logistic regression
        plot weights mlp30-before/model mlp30/model --output mlp30-weights.png \
--titles before,after
        plot feature-maps {FILTERS} --output photo-kernels.png --image china \
--layers blur,sharpen,outline,horizontal_edges,vertical_edges --scale each
        plot feature-maps {FILTERS} --output photo-strides.png --image china \
--layers no_padding,vertical_edges,padding_2,stride_2,stride_4 --scale each
        plot feature-maps {FILTERS} --output photo-poolings.png --image china \
--layers max_pool_2,average_pool_2,max_pool_8,average_pool_8 --scale each
        summary {FILTERS} --input 1x6x7 --formulas
        summary small_cnn/model
        plot filters small_cnn-before/model small_cnn/model --output cnn-filters.png \
--titles before,after
        plot feature-maps small_cnn/model --output cnn-maps.png --image data.npz --split test \
--layers 3.0.0,1,2,3
        plot samples data.npz --output cnn-samples.png --split test --limit 12 --seed 7 \
--model small_cnn/model
        summary {ALEXNET}
        plot filters {ALEXNET} --output alexnet-filters.png --titles AlexNet
        plot feature-maps {ALEXNET} --output alexnet-maps-1.png --image china --layers 3.0.0,1
        plot feature-maps {ALEXNET} --output alexnet-maps-2.png --image china --layers 2,3
        """,
    "cifar2": """
        plot samples data.npz --output samples.png --split train --limit 24 --seed 7
        summary tanhnet --input 3x32x32 --classes 2
        evaluate tanhnet/model data.npz --split test
        plot curves tanhnet net_width net_dropout net_batch_norm --output curves-plain.png \
--titles tanhnet,net_width,net_dropout,net_batch_norm
        plot curves net_depth net_res net_res_deep_shared net_res_deep net_res_deep_projected \
--output curves-deep.png \
--titles net_depth,net_res,net_res_deep_shared,net_res_deep,net_res_deep_projected
        summary net_res_deep --input 3x32x32 --classes 2
        """,
}


def others(name: str) -> list[str]:
    lines = [line.strip() for line in OTHERS[name].strip().splitlines()]
    if name == "cifar2":
        trained = [f"evaluate {network}/model data.npz --split train" for network in CIFAR2]
        return [*trained, *lines]
    return lines


def commands(name: str, folder: Path, **options: Any) -> MadeUp:
    return report(name, folder, SHAPES[name], **options)[1]


@pytest.mark.parametrize("full", [False, True], ids=["small", "full"])
@pytest.mark.parametrize("name", SHAPES)
def test_the_data_and_the_trainings_are_those_of_the_recipe(
    name: str, full: bool, tmp_path: Path
) -> None:
    done = commands(name, tmp_path, full=full)
    fraction, *limits = SPLITS[name]
    given = f"{fraction} --test-fraction 0.2 --class-names n.txt {limits[full]}".strip()
    assert done.lines("split") == [f"split d.npz data.npz {given} --seed 7 --overwrite"]
    assert done.lines("train") == TRAININGS[name][full]


@pytest.mark.parametrize("name", SHAPES)
def test_the_other_commands_show_what_the_lab_shows(name: str, tmp_path: Path) -> None:
    split, *small = commands(name, tmp_path).lines()
    assert split.startswith("split d.npz data.npz ")
    assert small == others(name)
    # With all images, the report has the same parts.
    assert commands(name, tmp_path / "full", full=True).lines()[1:] == small


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("name", ["torch7-convnets", "lenet-pytorch", "blitz", "cifar2"])
def test_networks_are_summarized_for_the_images_that_there_are(
    name: str, channels: int, tmp_path: Path
) -> None:
    """Gray ones, too, where the lab's own are colors, and the reverse."""
    done = report(name, tmp_path, (channels, *SHAPES[name][1:]))[1]
    size = 28 if name == "lenet-pytorch" else 32
    said = f" --input {channels}x{size}x{size} --classes 2"
    count = {"torch7-convnets": 4, "cifar2": 2}.get(name, 1)
    assert sum(said in line for line in done.lines("summary")) == count


@pytest.mark.parametrize("name", SHAPES)
def test_epochs_limit_and_photograph_are_those_that_were_given(name: str, tmp_path: Path) -> None:
    done = commands(name, tmp_path, epochs=3, limit=99, photo="me.jpg", test_data="t.npz")
    (split,) = done.lines("split")
    assert " --test-data t.npz " in split
    assert " --limit 99 " in split
    epochs = {line.partition("--epochs ")[2].split()[0] for line in done.lines("train", "finetune")}
    assert epochs <= {"0", "3"}
    assert not any("china" in line for line in done.lines())
    shown = sum("me.jpg" in line for line in done.lines())
    assert shown == {"torch7-convnets": 1, "mnist-features": 5}.get(name, 0)
    extracted = {"--limit 99" in line for line in done.lines("extract")}
    if name == "torch7-convnets":
        assert extracted == {True, False}  # of the AlexNet with random weights 200 in any case


def test_a_pretrained_alexnet_is_opened_as_it_is_described(tmp_path: Path) -> None:
    given = {"model": "a.t7", "mean_std": "ms.t7", "labels": "names.txt", "plugin": "own.py"}
    how = "--labels names.txt --mean-std ms.t7 --resize image.scale-bilinear --plugin own.py"
    done = commands("torch7-convnets", tmp_path, **given)
    assert [line for line in done.lines() if "a.t7" in line] == [
        f"predict a.t7 china --top 5 {how}",
        "plot filters a.t7 --output alexnet-filters.png --plugin own.py",
        "inspect a.t7 --depth 0 --plugin own.py",
        "plot sizes a.t7 --titles AlexNet --output alexnet-sizes.png --plugin own.py",
        "summary a.t7 --formulas --plugin own.py",
        *(
            f"extract a.t7 data.npz features-{split}.t7 {LAYERS} --split {split} --limit 200 "
            f"--seed 7 {how} --overwrite"
            for split in ("train", "test")
        ),
        f"finetune a.t7 data.npz {how} --limit 200 --head zeros --freeze all-but-head "
        "--unfreeze-at 2 --epochs 3 --batch-size 32 --lr 0.01 --body-lr 0.001 --weight-decay 0 "
        "--seed 7 --device cpu --output finetuned --resume auto",
    ]
    whole = commands("torch7-convnets", tmp_path / "full", full=True, **given)
    assert not any("--limit" in line for line in whole.lines("extract", "finetune"))
    shown = commands("mnist-features", tmp_path, **given)
    assert [line for line in shown.lines() if "a.t7" in line] == [
        f"summary a.t7 {how}",
        f"plot filters a.t7 --output alexnet-filters.png --titles AlexNet {how}",
        *(
            f"plot feature-maps a.t7 --output alexnet-maps-{number}.png --image china "
            f"--layers {layers} {how}"
            for number, layers in ((1, "3.0.0,1"), (2, "2,3"))
        ),
    ]


def test_the_digits_have_classes_and_a_trained_network_of_their_own(tmp_path: Path) -> None:
    digits = {"data": None, "class_names": None}
    (split,) = commands("cifar2", tmp_path, **digits).lines("split")
    assert split.startswith("split sklearn:digits data.npz ")
    assert " --classes 3,8 " in split
    done = commands("torch7-convnets", tmp_path, **digits)
    for line in done.lines("extract", "finetune")[1:]:
        assert " digits/digits-lenet5-bn.t7 " in line
        assert "--labels digits/digits_classes.t7 --mean-std digits/digits_meanStd.t7" in line
