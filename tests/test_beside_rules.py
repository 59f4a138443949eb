"""What stands beside a model, entry by entry: what is used, what wins, and what is only noted.

On tables that are put together here; real checkpoints are in `test_beside_the_model`.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from torchlift.converters.images.image_to_image import ImageToImage
from torchlift.converters.images.normalization import Normalization
from torchlift.converters.images.preprocessing import Preprocessing
from torchlift.converters.saved.beside import Beside, read_beside
from torchlift.converters.saved.image_projects import (
    FAST_NEURAL_STYLE,
    INPAINTING,
    SKETCH_SIMPLIFICATION,
    TEXTURE_NETS,
    find_image_project,
    with_mask,
)
from torchlift.converters.saved.vocabularies import vocabularies_in
from torchlift.converters.t7 import LuaObject, LuaTable, dumps

LIST = LuaTable.from_list


def beside(**entries: Any) -> Beside:
    """Return what is read of a table with a model."""
    return read_beside(LuaTable({"net": LuaObject("nn.Tanh"), **entries}), "net")


@pytest.mark.parametrize("options", ["opt", "opts", "options", "config", "params"])
@pytest.mark.parametrize("key", ["mean", "std"])
def test_a_number_among_options_is_no_mean_and_no_std_of_images(key: str, options: str) -> None:
    found = beside(**{options: LuaTable({key: 0.5})})
    assert found.normalization is None
    assert found.notes == [f"{options}.{key} beside the model is left out: a number among options"]
    # A list among them is none of the weights' first values.
    listed = beside(**{options: LuaTable({key: LIST([0.5, 0.4, 0.3])})})
    assert listed.normalization is not None
    assert getattr(listed.normalization, key) == (0.5, 0.4, 0.3)


def test_mean_without_std_and_std_without_mean() -> None:
    assert beside(mean=0.5).normalization == Normalization((0.5,), None)
    assert beside(std=0.5).normalization == Normalization((0.0,), (0.5,))
    assert beside(mean=0.5, std=0.25).normalization == Normalization((0.5,), (0.25,))


@pytest.mark.parametrize(("count", "is_read"), [(100, True), (101, False)])
def test_mean_and_std_are_looked_for_in_small_tables_only(count: int, is_read: bool) -> None:
    """In a vocabulary they are words."""
    others = {f"word {number}": number for number in range(count - 2)}
    found = beside(data=LuaTable({"mean": 0.5, "std": 0.25, **others}))
    assert (found.normalization is not None) is is_read


def test_one_of_mean_and_std_in_a_table_of_another_name_is_noted() -> None:
    for key in ("mean", "std"):
        found = beside(data=LuaTable({key: 0.5, "size": 3}))
        reason = "mean and std do not stand there together"
        assert found.notes == [f"data.{key} beside the model is left out: {reason}"]
        assert found.normalization is None


def test_what_stands_nearest_to_the_model_comes_first() -> None:
    inner = LuaTable({"net": LuaObject("nn.Tanh"), "classes": LIST(["c", "d"]), "mean": 0.3})
    outer = LuaTable({"classes": LIST(["a", "b"]), "model": inner, "mean": 0.1, "std": 0.2})
    found = read_beside(outer, "model.net")
    assert [one.names for one in found.labels[:2]] == [["c", "d"], ["a", "b"]]
    assert [one.path for one in found.labels[:2]] == ["model.classes", "classes"]
    assert found.normalization == Normalization((0.3,), (0.2,))


def test_classes_come_before_labels_which_may_be_those_of_examples() -> None:
    found = beside(labels=LIST(["x", "y"]), classes=LIST(["a", "b"]))
    assert [one.path for one in found.labels] == ["classes", "labels"]
    both = LuaTable({"labels": LIST(["x", "y"]), "classes": LIST(["a", "b"])})
    inner = beside(data=both).labels
    assert [one.path for one in inner] == ["data.classes", "data.labels"]
    repeated = beside(labels=LIST([1, 2, 1]))
    assert repeated.labels == []
    assert repeated.notes == ["labels beside the model is left out: numbers that repeat"]
    assert beside(classes=LIST([1, 2, 3])).labels[0].names == ["1", "2", "3"]
    (note,) = beside(labels=LuaTable({"a": 1, "b": 1, "c": 2})).notes
    assert "no class names found" in note
    text = beside(labels="labels.txt")
    assert text.notes == ["labels beside the model is left out: no list of class names"]


@pytest.mark.parametrize(
    ("mean", "color"),
    [
        ((103.939, 116.779, 123.68), "BGR"),
        ((103.945, 116.785, 123.675), "BGR"),
        ((103.96, 116.779, 123.68), None),
        ((123.68, 116.779, 103.939), None),
    ],
)
def test_the_mean_of_caffe_tells_the_order_of_the_colors(mean: Any, color: str | None) -> None:
    found = beside(mean=LIST([*mean])).normalization
    assert found is not None
    assert (found.mean, found.color) == (mean, color)


def test_preprocessing_that_a_project_names() -> None:
    vgg = Normalization((103.939, 116.779, 123.68), (1.0,), "BGR", 255)
    imagenet = Normalization.of("imagenet", "imagenet")
    for name, expected in (("vgg", vgg), ("resnet", imagenet)):
        found = beside(opt=LuaTable({"preprocessing": name}))
        assert (found.normalization, found.project) == (expected, FAST_NEURAL_STYLE)
        assert beside(preprocessing=name).normalization == found.normalization
    other = beside(opt=LuaTable({"preprocessing": "mine"}))
    assert (other.normalization, other.project) == (None, None)
    assert other.notes == ["opt.preprocessing beside the model is left out: 'mine' is not known"]
    # fast_neural_style.lua wrote no name at first: its `tanh_constant` tells, and vgg is meant.
    first = beside(opt=LuaTable({"tanh_constant": 150}))
    assert (first.normalization, first.project) == (vgg, FAST_NEURAL_STYLE)


def test_a_name_of_preprocessing_counts_wherever_it_stands_among_the_options() -> None:
    imagenet = Normalization.of("imagenet", "imagenet")
    options = {"preprocessing": "resnet", "tanh_constant": 150}
    for given in (options, dict(reversed(options.items()))):
        assert beside(opt=LuaTable(given)).normalization == imagenet


def test_of_options_only_tables_that_look_like_preprocessing_are_looked_into() -> None:
    numbers = LuaTable({"mean": 0.5, "std": 0.25})
    found = beside(opt=LuaTable({"normalizer": numbers}))
    assert found.normalization == Normalization((0.5,), (0.25,))
    assert beside(opt=LuaTable({"data": numbers})).normalization is None


def test_what_stands_beside_a_model_in_a_string_is_read_too() -> None:
    """`torch.serialize` writes a whole table into a string."""
    inner = LuaTable({"net": LuaObject("nn.Tanh"), "classes": LIST(["a", "b"]), "std": 0.25})
    outer = LuaTable({"best": dumps(inner), "std": 0.5, "mean": 0.1})
    found = read_beside(outer, "best.net")
    assert [(one.path, one.names) for one in found.labels] == [("best.classes", ["a", "b"])]
    assert found.normalization == Normalization((0.1,), (0.25,))


@pytest.mark.parametrize(("count", "vocabularies"), [(9, 0), (10, 1)])
def test_a_list_in_a_list_is_a_vocabulary_if_it_is_long(count: int, vocabularies: int) -> None:
    words = LIST([f"word {number}" for number in range(count)])
    found = read_beside(LIST([LuaObject("nn.Tanh"), words]), "[1]")
    assert len(found.vocabularies) == vocabularies
    assert len(found.labels) == 1


def test_tensors_in_a_list_are_numbers_if_they_are_vectors() -> None:
    for numbers, noted in (
        (np.zeros(3), True),
        (np.zeros(1), True),
        (np.zeros(2), False),
        (np.zeros((3, 8, 8)), False),
        (np.zeros((1, 1)), False),
    ):
        found = read_beside(LIST([LuaObject("nn.Tanh"), numbers]), "[1]")
        expected = ["[2] beside the model is left out: numbers without a name"] if noted else []
        assert found.notes == expected


def test_numbers_without_a_name_are_noted() -> None:
    for numbers, noted in (([0.5], True), ([0.5, 0.4, 0.3], True), ([0.5, 0.4], False)):
        found = read_beside(LIST([LuaObject("nn.Tanh"), LIST(numbers)]), "[1]")
        expected = ["[2] beside the model is left out: numbers without a name"] if noted else []
        assert found.notes == expected


def test_a_table_that_looks_like_preprocessing_and_is_not_understood_is_noted() -> None:
    found = beside(normalizer=LuaTable({"size": 3}), size=LuaTable({"height": 3}), flag=True)
    assert found.notes == ["normalizer beside the model is left out: not understood"]
    assert beside(vocab="words.txt").notes == []
    assert "no tokens with numbers" in beside(vocab=LuaTable({"size": 3})).notes[0]


@pytest.mark.parametrize(("levels", "found"), [(5, True), (6, False)])
def test_vocabularies_are_looked_for_so_deep_and_no_deeper(levels: int, found: bool) -> None:
    table = LIST(["a", "b", "c"])
    for _ in range(levels):
        table = LuaTable({"inner": table, "more": 1.5})
    assert bool(vocabularies_in(table, "dicts")) is found


MEAN = Normalization((0.5,) * 3)
NUMBER = Normalization((0.9,), (0.6,))


@pytest.mark.parametrize(
    ("classes", "beside", "channels", "project"),
    [
        ({"nn.GenNoise"}, None, 3, TEXTURE_NETS),
        ({"nn.NoiseFill", "nn.ReLU"}, None, 3, TEXTURE_NETS),
        ({"nn.SpatialCircularPadding"}, None, 3, TEXTURE_NETS),
        ({"nn.TVLoss", "nn.InstanceNormalization"}, None, 3, TEXTURE_NETS),
        ({"nn.TVLoss"}, None, 3, None),
        ({"nn.InstanceNormalization"}, None, 3, None),
        (set(), MEAN, 4, INPAINTING),
        (set(), MEAN, 3, None),
        (set(), Normalization((0.5,) * 3, (0.2,) * 3), 4, None),
        (set(), None, 4, None),
        (set(), NUMBER, 1, SKETCH_SIMPLIFICATION),
        (set(), NUMBER, 3, None),
        (set(), Normalization((0.9,)), 1, None),
        (set(), Normalization((0.9,) * 3, (0.6,)), 1, None),
        (set(), Normalization((0.9,), (0.6,) * 3), 1, None),
        ({"nn.Linear"}, NUMBER, 1, None),
        ({"cudnn.LogSoftMax"}, MEAN, 4, None),
        *(({name}, NUMBER, 1, None) for name in ("nn.LogSoftMax", "nn.SoftMax", "cudnn.SoftMax")),
    ],
)
def test_a_project_is_known_by_its_layers_or_by_its_numbers(
    classes: set[str], beside: Normalization | None, channels: int, project: Any
) -> None:
    assert find_image_project(LuaObject("nn.Sequential"), classes, beside, channels) is project


@pytest.mark.parametrize(
    ("fields", "channels", "expected"),
    [
        ({"w2nn_offset": 7}, 3, (7, 1, "RGB", False)),
        ({"w2nn_offset": 14, "w2nn_scale_factor": 2}, 3, (7, 2, "RGB", False)),
        # Half a pixel of the image is a whole one.
        ({"w2nn_offset": 15, "w2nn_scale_factor": 2}, 3, (8, 2, "RGB", False)),
        ({"w2nn_channels": 1}, 3, (0, 1, "gray", True)),
        ({}, 1, (0, 1, "gray", True)),
        ({}, None, (0, 1, "RGB", False)),
        ({"w2nn_channels": 3}, 1, (0, 1, "RGB", False)),
    ],
)
def test_waifu2x_needs_a_wider_image_and_keeps_colors_of_one_channel(
    fields: dict[str, Any], channels: int | None, expected: tuple[int, int, str, bool]
) -> None:
    source = LuaObject("nn.Sequential", LuaTable({"w2nn_arch_name": "a", **fields}))
    project = find_image_project(source, (), None, channels)
    # A layer of its own tells it, too.
    other = LuaObject("nn.Sequential", LuaTable(fields))
    assert find_image_project(other, {"w2nn.ScaleTable"}, None, channels) == project
    assert project is not None
    assert project.output is not None
    output = project.output
    assert (output.border, output.scale, output.color, output.keeps_color) == expected
    assert (project.normalization.color, project.normalization.value_range) == (expected[2], 1)


def test_outputs_of_a_project_are_undone_as_its_inputs_unless_it_says_how() -> None:
    own = Preprocessing("BGR", value_range=255, mean=(1.0, 2.0, 3.0), std=(4.0,))
    undone = FAST_NEURAL_STYLE.image_to_image(own)
    assert (undone.value_range, undone.mean, undone.std) == (255, (1.0, 2.0, 3.0), (4.0,))
    assert INPAINTING.image_to_image(own) is INPAINTING.output
    for scale, expected in ((None, 1), (4, 4)):
        masked = with_mask(ImageToImage(1, "RGB", border=2, scale=scale))
        assert masked == ImageToImage(1, "RGB", border=2, scale=expected, takes_mask=True)


@pytest.mark.parametrize(
    ("project", "name", "inputs", "outputs"),
    [
        # preprocess.lua: nothing is known before mean and std, which the option names.
        (FAST_NEURAL_STYLE, "fast-neural-style", Normalization(), None),
        # test.lua: image.load gives 0 to 1; `deprocess` adds the mean to BGR from 0 to 255.
        (
            TEXTURE_NETS,
            "texture_nets",
            Normalization(color="RGB", value_range=1),
            ImageToImage(255, "BGR", mean=(103.939, 116.779, 123.68)),
        ),
        # inpaint.lua: sizes are made multiples of 4, and the output is the whole image.
        (
            INPAINTING,
            "siggraph2017_inpainting",
            Normalization(color="RGB", value_range=1),
            ImageToImage(1, "RGB", multiple=4, scale=1, takes_mask=True),
        ),
        # simplify.py: gray, with sizes that are multiples of 8.
        (
            SKETCH_SIMPLIFICATION,
            "sketch_simplification",
            Normalization(color="gray", value_range=1),
            ImageToImage(1, "gray", multiple=8, scale=1),
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_project_takes_and_gives_images_as_its_source_says(
    project: Any, name: str, inputs: Normalization, outputs: ImageToImage | None
) -> None:
    assert (project.name, project.normalization, project.output) == (name, inputs, outputs)


def test_of_tables_of_any_name_each_that_is_not_understood_is_noted_once() -> None:
    numbers = LuaTable({"mean": 0.5, "std": 0.25})
    found = beside(first=numbers, second=LuaTable({"mean": 0.1, "std": 0.2}))
    assert found.normalization == Normalization((0.5,), (0.25,))
    assert found.notes == []
    # A table of options is none of them, and a network has its own.
    assert beside(config=LuaTable({"data": numbers})).normalization is None
    inner = LuaObject("nn.Tanh", LuaTable({"mean": 0.5, "std": 0.25}))
    assert beside(other=inner).normalization is None
    shape = LuaTable({"mean": LIST([0.5, 0.4]), "std": 1.5})
    (note,) = beside(mean_std=shape).notes
    assert note.startswith("mean_std beside the model is left out: ")
    (note,) = beside(mean=LuaTable({"a": "b"})).notes
    assert note.startswith("mean beside the model is left out: ")


def test_a_number_is_no_table_of_statistics() -> None:
    for key, is_suspect in (("stats", False), ("norm", False), ("normalization", True)):
        found = beside(**{key: 0.5})
        notes = [f"{key} beside the model is left out: not understood"] if is_suspect else []
        assert (found.normalization, found.notes) == (None, notes)


def test_both_directions_of_a_vocabulary_are_one() -> None:
    words = {"word2id": LuaTable({"a": 1, "b": 2}), "id2word": LIST(["a", "b"])}
    found = beside(**words).vocabularies
    assert [one.tokens for one in found] == [("a", "b")]


def test_keys_are_those_of_the_words_alone() -> None:
    for key in ("mean", "img_means", "pixel_mean", "rgbMean", "meanImage", "vgg_mean_values"):
        assert beside(**{key: 0.5}).normalization == Normalization((0.5,), None), key
    for key in ("std", "stddev", "img_std", "sigma", "data_stdv"):
        assert beside(**{key: 0.5}).normalization == Normalization((0.0,), (0.5,)), key
    for key in ("meanwhile", "best_mean_loss", "standard"):
        assert beside(**{key: 0.5}).normalization is None, key
    for key in ("mean_std", "stdMean", "stats", "statistics", "norm", "normalization"):
        both = LuaTable({"mean": 0.5, "std": 0.25})
        assert beside(**{key: both}).normalization == Normalization((0.5,), (0.25,)), key


def test_a_table_of_statistics_without_a_mean_is_not_understood() -> None:
    for key in ("stats", "normalization", "meanstd"):
        found = beside(**{key: LuaTable({"std": 0.5})})
        assert found.normalization is None
        assert found.notes == [f"{key} beside the model is left out: not understood"]


def test_of_what_a_model_keeps_itself_only_vocabularies_are_read() -> None:
    fields = {"mean": 0.5, "std": 0.25, "classes": LIST(["c", "d"]), "vocab": LIST(["a", "b"])}
    found = read_beside(LuaObject("nn.LanguageModel", LuaTable(fields)), "model")
    assert (found.normalization, found.labels, found.notes) == (None, [], [])
    assert [one.tokens for one in found.vocabularies] == [("a", "b")]


def test_a_mean_alone_in_a_table_of_preprocessing_is_noted_once() -> None:
    (note,) = beside(normalizer=LuaTable({"mean": 0.5})).notes
    assert note.startswith("normalizer.mean beside the model is left out: mean and std do not")
