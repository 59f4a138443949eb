"""What a program may hand to `Classifier.predict`: one image is one image, alone or in a list."""

from __future__ import annotations

import io
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from torchlift.converters.errors import TorchliftError
from torchlift.converters.images import ImageError, Preprocessing
from torchlift.converters.inference import (
    Classifier,
    InferenceError,
    TorchPredictor,
    predict_array,
    predict_files,
    stream,
)
from torchlift.converters.saved import SavedModel


class Means(nn.Module):
    """The mean of each channel, so that each image has its own scores."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return images.mean((2, 3)) * 10


def classifier_of(batch_size: int = 2) -> Classifier:
    model = SavedModel(
        Means(),
        "logits",
        (3, 5, 5),
        labels=["red", "green", "blue"],
        preprocessing=Preprocessing(size=(5, 5)),
    )
    return Classifier(TorchPredictor(model, "cpu"), batch_size=batch_size)


@pytest.fixture
def image(tmp_path: Path) -> Path:
    """A green PNG of 7×6 pixels."""
    file = tmp_path / "green.png"
    Image.new("RGB", (7, 6), (0, 200, 10)).save(file)
    return file


def kinds(file: Path) -> Iterator[Any]:
    """The same image as everything that it may be."""
    data = file.read_bytes()
    yield from (file, str(file), file.as_uri(), data, bytearray(data), memoryview(data))
    yield from (io.BytesIO(data), file.open("rb"), Image.open(file))
    yield np.asarray(Image.open(file))


def test_every_kind_of_image_gives_the_same_answer(image: Path) -> None:
    classifier = classifier_of()
    (expected,) = classifier.predict(np.asarray(Image.open(image)).transpose(2, 0, 1)[None])
    assert expected[0].label == "green"
    assert [classifier.predict(kind) for kind in kinds(image)] == [[expected]] * 10
    assert classifier.predict(list(kinds(image))) == [expected] * 10
    assert classifier.predict(tuple(kinds(image)), top=1) == [expected[:1]] * 10


def test_a_gray_array_is_one_image() -> None:
    classifier = classifier_of()
    gray = np.arange(54, dtype=np.uint8).reshape(9, 6)
    assert len(classifier.predict(gray)) == 1
    assert classifier.predict(gray) == classifier.predict([gray[..., None]])
    assert len(classifier.predict(np.zeros((427, 64, 3), np.uint8))) == 1


@pytest.mark.parametrize(
    ("images", "came"),
    [
        (None, "a value of type NoneType"),
        (5, "a value of type int"),
        ([None], r"images\[0\]: a value of type NoneType"),
        ([[np.zeros((4, 4), np.uint8)]], r"images\[0\]: a value of type list"),
        (np.zeros((3, 32, 32), np.uint8), r"a uint8 array \(3, 32, 32\)"),
        (np.zeros((4, 4, 4), np.uint8), r"a uint8 array \(4, 4, 4\)"),
        (np.zeros((4, 4)), r"a float64 array \(4, 4\)"),
        (np.zeros((0, 4, 3), np.uint8), r"a uint8 array \(0, 4, 3\)"),
        (np.zeros(16, np.uint8), r"a uint8 array \(16,\)"),
        (np.zeros((2, 3, 5, 5), np.float32), r"float32 array \(2, 3, 5, 5\): pixels must be uint8"),
        (
            np.zeros((2, 2, 5, 5), np.uint8),
            r"\(2, 2, 5, 5\): pixels must be uint8 \(N, 1 or 3",
        ),
        ([np.zeros((2, 3, 5, 5), np.uint8)], r"images\[0\]: a uint8 array \(2, 3, 5, 5\)"),
        (torch.zeros(5, 5), "a value of type Tensor"),
        ((part for part in ()), "a value of type generator"),
        ({"image": "x.png"}, "a value of type dict"),
        ([], "no images"),
        (np.zeros((0, 3, 5, 5), np.uint8), "no images"),
    ],
)
def test_anything_else_is_an_error_that_says_what_came(images: Any, came: str) -> None:
    with pytest.raises(InferenceError, match=came):
        classifier_of().predict(images)


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (b"not an image", r"an image of 12 bytes|images\[0\]: not an image in a known format"),
        ([b"", b"x"], r"images\[0\]: not an image"),
        (io.StringIO("text"), r"images\[0\]: cannot be read"),
        ("http://example.org/cat.png", "only files of this machine are read"),
        (Path("nowhere.png"), "nowhere.png: no such file"),
        (Path(__file__).parent, "a folder; an image was expected"),
    ],
)
def test_an_image_that_cannot_be_read_is_named(images: Any, message: str) -> None:
    with pytest.raises(ImageError, match=message):
        classifier_of().predict(images)


def test_the_third_batch_names_the_right_image(image: Path) -> None:
    data = image.read_bytes()
    with pytest.raises(ImageError, match=r"images\[4\]: cannot be read: image file is truncated"):
        classifier_of().predict([data] * 4 + [data[:45]])


@pytest.mark.parametrize("value", [0, -1, 1.5, True, None, "5"])
def test_options_that_make_no_sense_are_refused(value: Any, image: Path) -> None:
    classifier, inputs = classifier_of(), np.zeros((1, 3, 5, 5), np.float32)
    for call in (
        lambda: classifier.predict(image, top=value),
        lambda: classifier.predict_inputs(inputs, top=value),
        lambda: list(predict_files(classifier, [image], top=value)),
        lambda: list(predict_array(classifier, inputs, top=value)),
    ):
        with pytest.raises(InferenceError, match=r"top=.*an integer of at least 1"):
            call()
    with pytest.raises(InferenceError, match=r"batch_size=.*an integer of at least 1"):
        classifier_of(batch_size=value)
    if value is not None:
        with pytest.raises(InferenceError, match=r"workers=.*an integer of at least 1"):
            list(predict_files(classifier, [image], workers=value))
    assert len(classifier.predict(image, top=7)[0]) == 3


def test_inputs_have_to_be_an_array(image: Path) -> None:
    classifier: Any = classifier_of()
    for inputs in ([[0.0]], None, "x.png", np.float32(0), np.zeros(3, np.float32)):
        with pytest.raises(InferenceError, match="an array"):
            classifier.predict_inputs(inputs)
    with pytest.raises(TorchliftError, match="no inputs"):
        classifier.predict_inputs(np.zeros((0, 3, 5, 5), np.float32))
    with pytest.raises(InferenceError, match="a list of files was expected"):
        list(predict_files(classifier, str(image)))


def test_numbers_of_numpy_are_whole_numbers_too(image: Path) -> None:
    classifier = classifier_of(batch_size=np.int64(2))
    assert type(classifier.batch_size) is int
    assert len(classifier.predict(image, top=np.uint8(2))[0]) == 2


def test_a_damaged_file_that_is_open_is_called_by_its_own_name(tmp_path: Path) -> None:
    file = tmp_path / "broken.png"
    file.write_bytes(b"no image")
    for given, name in (
        (file, str(file)),
        (str(file), str(file)),
        (file.open("rb"), str(file)),
        (io.BytesIO(b"no image"), "images[0]"),
        (b"no image", "images[0]"),
    ):
        with pytest.raises(ImageError, match=f"^{re.escape(name)}: not an image"):
            classifier_of().predict([given])


def test_as_many_threads_decode_as_there_are_processors_or_as_are_asked_for(
    image: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[int] = []
    pool = stream.ThreadPoolExecutor

    def start(workers: int, name: str) -> Any:
        started.append(workers)
        return pool(workers, name)

    monkeypatch.setattr(stream, "available_cpus", lambda: 5)
    monkeypatch.setattr(stream, "ThreadPoolExecutor", start)
    for workers in (None, 2):
        assert len(list(predict_files(classifier_of(), [image], workers=workers))) == 1
    assert started == [5, 2]


def test_a_file_that_is_open_by_a_number_has_its_place_as_a_name(tmp_path: Path) -> None:
    """Such a stream has its number where others have their name."""
    (tmp_path / "a.png").write_bytes(b"no image")
    number = os.open(tmp_path / "a.png", os.O_RDONLY)
    with os.fdopen(number, "rb") as stream, pytest.raises(ImageError, match=r"^images\[0\]: "):
        classifier_of().predict([stream])
