"""Preprocessing computes what the libraries that trained the networks compute.

References: Pillow and torchvision themselves, and arithmetic written out in the tests.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from support import FIXTURES
from torchvision.transforms import v2

from torchlift.converters import t7
from torchlift.converters.errors import LabelsError
from torchlift.converters.images import ImageError, PreprocessingError, find_images
from torchlift.converters.images.image_scale import scale
from torchlift.converters.images.mean_std import from_mean_std
from torchlift.converters.images.pillow_resize import resize_image
from torchlift.converters.images.preprocessing import Preprocessing
from torchlift.converters.labels import check_labels, labels_from, read_labels
from torchlift.converters.t7 import LuaTable

#: Those of ImageNet, on the scale from 0 to 1.
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


@pytest.fixture
def image() -> Image.Image:
    pixels = np.random.default_rng(3).integers(0, 256, (46, 60, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


def pixels_of(image: Image.Image) -> np.ndarray:
    return np.asarray(image).transpose(2, 0, 1)[None]


def test_the_order_is_resize_value_range_mean_std(image: Image.Image) -> None:
    prepare = Preprocessing("RGB", (224, 224), mean=MEAN, std=STD)
    resized = np.asarray(resize_image(image, (224, 224), Image.Resampling.BILINEAR)) / 255
    expected = ((resized - MEAN) / STD).transpose(2, 0, 1)[None]
    output = prepare(image)
    assert output.shape == (1, 3, 224, 224)
    assert output.dtype == np.float32
    assert np.abs(output - expected).max() < 1e-5  # float32 against float64


def test_torchvisions_evaluation_transform_is_reproduced(image: Image.Image) -> None:
    """Shorter side, center crop and normalization, as for torchvision's own weights."""
    reference = v2.Compose(
        [
            v2.Resize(32),
            v2.CenterCrop((28, 24)),
            v2.ToImage(),
            v2.ToDtype(torch.float32, scale=True),
            v2.Normalize(MEAN, STD),
        ]
    )
    prepare = Preprocessing("RGB", 32, crop=(28, 24), mean=MEAN, std=STD)
    assert np.abs(prepare(image)[0] - reference(image).numpy()).max() < 1e-6


@pytest.mark.parametrize("antialias", [False, True])
@pytest.mark.parametrize("mode", ["bilinear", "bicubic"])
def test_torch_resampling_equals_torchvision_on_tensors(
    mode: str, antialias: bool, image: Image.Image
) -> None:
    name = f"torch-{mode}{'-antialias' if antialias else ''}"
    prepare = Preprocessing("RGB", (20, 35), name, value_range=255)
    resize = v2.Resize((20, 35), v2.InterpolationMode(mode), antialias=antialias)
    # In floating point: the results of its integer kernels depend on the processor.
    expected = resize(torch.from_numpy(pixels_of(image).copy()).float()).clamp(0, 255).round()
    assert (prepare(image) == expected.numpy()).mean() > 0.999
    assert np.abs(prepare(image) - expected.numpy()).max() <= 1


@pytest.mark.parametrize(
    ("name", "mode"),
    [
        ("torch-nearest", v2.InterpolationMode.NEAREST),
        ("torch-nearest-exact", v2.InterpolationMode.NEAREST_EXACT),
    ],
)
@pytest.mark.parametrize("size", [(20, 35), (4, 4), (130, 7)])
def test_nearest_equals_torchvision_under_both_names(
    name: str, mode: v2.InterpolationMode, size: tuple[int, int], image: Image.Image
) -> None:
    """`nearest` takes the pixel at the left edge of a new pixel, `nearest-exact` at its center."""
    resize = v2.Resize(size, mode, antialias=False)
    expected = resize(torch.from_numpy(pixels_of(image).copy()))
    assert np.array_equal(Preprocessing("RGB", size, name, value_range=255)(image), expected)


def test_colors_come_in_the_order_that_is_asked_for(image: Image.Image) -> None:
    rgb = pixels_of(image).astype(np.float32)
    plain = Preprocessing(value_range=255)
    assert (plain(image) == rgb).all()
    assert (Preprocessing("BGR", value_range=255)(image) == rgb[:, ::-1]).all()
    gray = Preprocessing("gray", value_range=255)
    assert (gray(image)[0, 0] == np.asarray(image.convert("L"))).all()
    assert (plain(image.convert("L"))[0, 2] == np.asarray(image.convert("L"))).all()
    assert (gray(image.convert("RGBA")) == gray(image)).all()
    # 0.299 R + 0.587 G + 0.114 B, rounded (ITU-R 601), for arrays too.
    luma = np.tensordot([0.299, 0.587, 0.114], pixels_of(image)[0], 1)
    assert np.abs(gray(pixels_of(image))[0, 0] - luma).max() <= 0.51


def test_mean_and_std_are_in_the_order_of_the_networks_channels(image: Image.Image) -> None:
    prepare = Preprocessing("BGR", value_range=255, mean=(103.0, 116.0, 123.0))
    blue = np.asarray(image)[..., 2].astype(np.float32)
    assert (prepare(image)[0, 0] == blue - 103).all()


def test_arrays_and_images_give_equal_inputs(image: Image.Image) -> None:
    prepare = Preprocessing("RGB", (30, 30), "pil-lanczos", mean=MEAN, std=STD)
    two = np.concatenate([pixels_of(image)] * 2)
    assert (prepare(two) == prepare([image, image])).all()
    assert (prepare(two) == prepare((image, image))).all()
    assert prepare(two).shape == (2, 3, 30, 30)
    assert (prepare([np.asarray(image), image]) == prepare(two)).all()
    assert (prepare(np.asarray(image)) == prepare(image)).all()
    gray = np.arange(6, dtype=np.uint8).reshape(2, 3)
    assert (Preprocessing("gray", value_range=255)(gray) == gray[None, None]).all()


def test_images_are_rotated_by_their_exif_orientation(tmp_path: Path, image: Image.Image) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # orientation: rotated by 90°
    image.save(tmp_path / "rotated.png", exif=exif)
    output = Preprocessing(value_range=255)(Image.open(tmp_path / "rotated.png"))
    assert output.shape == (1, 3, 60, 46)


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (np.zeros((1, 2, 5, 5), np.uint8), "N, 1 or 3, H, W"),
        (np.zeros((1, 4, 5, 5), np.uint8), "N, 1 or 3, H, W"),
        (np.zeros((1, 3, 5, 5), np.float32), "must be uint8"),
        ("cat.png", "an image was expected, not str"),
        ([], "no images"),
        ([np.zeros((5, 5, 2), np.uint8)], "H, W, 1 or 3"),
        ([np.zeros((5, 5, 3), np.float32)], "must be uint8"),
        (Image.new("I;16", (5, 5)), "an image has 16 bits a channel"),
        ([Image.new("L", (5, 5)), Image.new("L", (5, 6))], "different sizes"),
    ],
)
def test_invalid_images_are_refused(images: Any, message: str) -> None:
    with pytest.raises(PreprocessingError, match=message):
        Preprocessing()([images] if isinstance(images, str) else images)


def test_images_of_a_wrong_size_are_refused(image: Image.Image) -> None:
    with pytest.raises(PreprocessingError, match="46×60, 32×32 was expected"):
        Preprocessing(size=(32, 32), resize="none")(image)
    with pytest.raises(PreprocessingError, match="too small for a crop of 50×50"):
        Preprocessing(crop=(50, 50))(image)


@pytest.mark.parametrize(
    ("size", "crop"),
    [
        ((20, 30), (24, 24)),
        ("30x20", (24, 24)),
        ("^20", (21, 21)),
        (20, (21, 300)),
        ("24", (25, 20)),
    ],
)
def test_a_crop_that_no_resized_image_has_is_refused(size: Any, crop: tuple[int, int]) -> None:
    """It fails where it is said, not at the first image (or as NaN, in a graph)."""
    with pytest.raises(PreprocessingError, match="too small for a crop of"):
        Preprocessing(size=size, crop=crop)
    wide = Preprocessing(size="^32", crop=(32, 512), resize="image.scale-bilinear")
    assert wide(np.zeros((10, 200, 3), np.uint8)).shape == (1, 3, 32, 512)


def test_the_center_is_torchvisions() -> None:
    """For every margin: a half is rounded to the even number (torchvision's `CenterCrop`)."""
    for side in range(20, 34):
        pixels = np.arange(side * side, dtype=np.uint16).astype(np.uint8).reshape(side, side)
        expected = np.asarray(v2.CenterCrop(20)(Image.fromarray(pixels)))
        found = Preprocessing("gray", crop=(20, 20)).pixels(pixels)[0, :, :, 0]
        assert np.array_equal(found, expected), side


def test_another_method_of_resizing_and_a_size_before_the_crop(image: Image.Image) -> None:
    """fb.resnet.torch's evaluation: the shorter side by image.scale (bicubic), a center crop."""
    first = Preprocessing(size=(24, 20), mean=MEAN)
    assert first.resized_by("pil-box") == Preprocessing(size=(24, 20), resize="pil-box", mean=MEAN)
    chosen = first.resized_by("image.scale-bicubic:^32")
    assert (chosen.size, chosen.crop, chosen.mean) == ("^32", (24, 20), MEAN)
    # A crop that there is stays what the network takes.
    assert replace(first, crop=(16, 16)).resized_by("pil-box:^32").crop == (16, 16)
    planes = pixels_of(image)[0].astype(np.float32) / np.float32(255)
    # 46×60 becomes 32×41: floor(60 × 32 / 46); the crop begins at floor((41 - 20) / 2) = 10, 4.
    crop = scale(planes, (32, 41), "bicubic")[:, 4:28, 10:30]
    assert np.abs(chosen(image)[0] - (crop - np.reshape(MEAN, (3, 1, 1)))).max() < 1e-6
    for choice in ("image.scale", "pil-box:big", "image.scale-bicubic:224x"):
        with pytest.raises(PreprocessingError):
            first.resized_by(choice)


def test_json_round_trip() -> None:
    first = Preprocessing("BGR", 256, "torch-bilinear", (224, 224), 255, (1.5,), (2.5, 3.0, 3.5))
    text = json.dumps(first.to_json())
    assert Preprocessing.from_json(json.loads(text)) == first
    assert Preprocessing.from_json({"color": "gray"}) == Preprocessing("gray")


@pytest.mark.parametrize(
    "values",
    [
        {"color": "RGBA"},
        {"resize": "magic"},
        {"value_range": 2},
        {"mean": [1.0, 2.0]},
        {"std": [0.0]},
        {"size": [0, 3]},
        {"size": "big"},
        {"crop": [1, 2, 3]},
        {"sise": 3},
    ],
)
def test_invalid_json_is_refused(values: dict[str, Any]) -> None:
    with pytest.raises(PreprocessingError):
        Preprocessing.from_json(values)


def table(mean: Any, std: Any) -> LuaTable:
    """A table `{mean = …, std = …}` as `t7.load` returns it; sequences become Lua lists."""
    values = {"mean": mean, "std": std}
    return LuaTable(
        {
            key: LuaTable.from_list(value) if isinstance(value, (list, tuple)) else value
            for key, value in values.items()
        }
    )


def test_mean_std_files() -> None:
    digits = t7.load(FIXTURES / "digits" / "digits_meanStd.t7")
    prepare, note = from_mean_std(digits, (1, 32, 32))
    assert (prepare.color, prepare.size, prepare.value_range) == ("gray", (32, 32), 255)
    assert prepare.mean == (digits["mean"][1],)
    assert "0 to 255" in note
    assert "RGB" not in note
    cifar = t7.load(FIXTURES / "cifar" / "cifar_meanStd.t7")
    prepare, note = from_mean_std(cifar)
    assert (prepare.color, prepare.size, len(prepare.std)) == ("RGB", None, 3)
    assert "channels in the order RGB; images keep their size" in note


def test_mean_and_std_are_lists_tensors_or_numbers() -> None:
    expected, _ = from_mean_std(table(MEAN, STD), (3, 224, 224))
    assert (expected.mean, expected.std) == (MEAN, STD)
    tensors = table(np.array(MEAN).reshape(3, 1, 1), np.array(STD))
    assert from_mean_std(tensors, (3, 224, 224))[0] == expected
    one_value, _ = from_mean_std(table(0.5, 0.25), (3, 8, 8))
    assert (one_value.mean, one_value.std) == ((0.5,), (0.25,))


@pytest.mark.parametrize(
    ("mean", "std", "value_range"),
    [
        (MEAN, STD, 1),
        ([0.5], [1.0], 1),
        ([0.0], [0.25], 1),
        ([0.0, 0.0, 0.0], [1.0, 1.0, 0.5], 1),
        ([1.0], [1.0], 1),
        ([1.01], [0.3], 255),
        ([0.0], [58.0], 255),
        ([125.3, 123.0, 113.9], [63.0, 62.1, 66.7], 255),
    ],
)
def test_the_value_range_is_inferred_from_the_numbers(
    mean: Any, std: Any, value_range: int
) -> None:
    prepare, note = from_mean_std(table(mean, std))
    assert prepare.value_range == value_range
    assert f"values from 0 to {value_range}" in note


@pytest.mark.parametrize(
    ("mean", "std"),
    [
        ([0.0], [1.0]),
        ([0.0, 0.0, 0.0], [1.0, 1.0, 1.0]),
        ([-0.5], [0.5]),
        ([-103.0, 5.0, 5.0], [60.0]),
    ],
)
def test_numbers_that_fit_any_value_range_need_one(mean: Any, std: Any) -> None:
    with pytest.raises(PreprocessingError, match=r"value_range=1 .* or value_range=255"):
        from_mean_std(table(mean, std), (3, 8, 8))
    for value_range in (1, 255):
        prepare, note = from_mean_std(table(mean, std), (3, 8, 8), value_range)
        assert prepare.value_range == value_range
        assert f"are used for values from 0 to {value_range}" in note
    with pytest.raises(PreprocessingError, match="value_range is 2: 1, 255"):
        from_mean_std(table(mean, std), (3, 8, 8), 2)


def test_a_given_value_range_overrules_the_numbers() -> None:
    assert from_mean_std(table(MEAN, STD), value_range=255)[0].value_range == 255


def test_one_note_says_what_the_table_leaves_open() -> None:
    _, note = from_mean_std(table(MEAN, STD), (3, 224, 224))
    assert note == (
        "mean 0.485… and std 0.229… fit values from 0 to 1, with channels in the "
        "order RGB; images are resized to 224×224 by pil-bilinear"
    )
    _, note = from_mean_std(table(33.5, 78.25), (1, 28, 28), resize="image.scale-bicubic:^32")
    assert note == (
        "mean 33.5 and std 78.25 fit values from 0 to 255; images are resized "
        "to ^32 by image.scale-bicubic and cropped to 28×28"
    )


def test_images_are_resized_by_pillow_to_the_networks_own_size(image: Image.Image) -> None:
    """A table of three numbers within 0 to 1 says nothing about AlexNet, or its input size."""
    prepare, _ = from_mean_std(table(MEAN, STD), (3, 96, 128))
    assert (prepare.resize, prepare.size) == ("pil-bilinear", (96, 128))
    resized = np.asarray(resize_image(image, (96, 128), Image.Resampling.BILINEAR)) / 255
    expected = ((resized - MEAN) / STD).transpose(2, 0, 1)
    assert np.abs(prepare(image)[0] - expected).max() < 1e-5


def test_the_alexnet_labs_inputs_with_the_labs_resizing(image: Image.Image) -> None:
    """`image.scale(image.load(file, 3, 'float'), 224, 224)`, minus mean, divided by std."""
    prepare, note = from_mean_std(table(MEAN, STD), (3, 224, 224), resize="image.scale-bilinear")
    assert "resized to 224×224 by image.scale-bilinear" in note
    planes = pixels_of(image)[0].astype(np.float32) / np.float32(255)
    resized = scale(planes, (224, 224), "bilinear")
    expected = (resized - np.reshape(MEAN, (3, 1, 1))) / np.reshape(STD, (3, 1, 1))
    assert np.abs(prepare(image)[0] - expected).max() < 1e-5


@pytest.mark.parametrize(
    "value",
    [
        None,
        LuaTable({"std": 1.0}),
        LuaTable({"mean": "high", "std": 1.0}),
        LuaTable({"mean": LuaTable(), "std": 1.0}),
        LuaTable({"mean": float("nan"), "std": 1.0}),
        LuaTable({"mean": 0.5, "std": float("inf")}),
        LuaTable({"mean": LuaTable.from_list([1, 2]), "std": 1.0}),
        LuaTable({"mean": 0.5, "std": 0.0}),
    ],
)
def test_other_tables_are_refused(value: Any) -> None:
    with pytest.raises(PreprocessingError):
        from_mean_std(value, (3, 8, 8))


def test_a_folder_without_images_names_the_suffixes_in_order(tmp_path: Path) -> None:
    with pytest.raises(
        ImageError, match=r"no images in this folder \(\.jpg, \.jpeg, \.jpe, \.jfif, \.png, "
    ):
        find_images([tmp_path])


def test_class_names_are_read_from_t7_and_text(tmp_path: Path) -> None:
    file = FIXTURES / "digits" / "digits_classes.t7"
    names = read_labels(file)
    assert names[:3] == ["zero", "one", "two"]
    assert labels_from(LuaTable({"classes": t7.load(file)})) == names
    # A dataset's table may hold the names of the classes, and the numbers of its images.
    both = {"labels": LuaTable.from_list([1, 2]), "classes": LuaTable.from_list(["a", "b"])}
    assert labels_from(LuaTable(both)) == ["a", "b"]
    text = tmp_path / "names.txt"
    text.write_text("\ufeffzero\n  one \n\nzwölf\n", encoding="utf-8")
    assert read_labels(text) == ["zero", "one", "zwölf"]
    check_labels(names, 10)
    for outputs in (1000, 9):
        with pytest.raises(LabelsError, match=f"10 class names for {outputs} outputs"):
            check_labels(names, outputs)


def test_files_and_values_without_class_names_are_refused(tmp_path: Path) -> None:
    with pytest.raises(LabelsError, match="no such file"):
        read_labels(tmp_path / "missing.txt")
    (tmp_path / "photo.jpg").write_bytes(b"\xff\xd8\xff\xe0")
    with pytest.raises(LabelsError, match="as text"):
        read_labels(tmp_path / "photo.jpg")
    for value in (None, "cat", LuaTable(), LuaTable({"a": 1}), LuaTable.from_list([LuaTable()])):
        with pytest.raises(LabelsError):
            labels_from(value)
