"""Folders of images are read as torchvision reads them, with splits and images of many sizes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from data_support import RANDOM, in_memory
from PIL import ExifTags, Image
from torchvision.datasets import ImageFolder

from torchlift.converters.images.errors import ImageError
from torchlift.transfer.data import ImageFiles, open_data, stream_folder
from torchlift.transfer.errors import DataError


def of_files(source: Any, **options: Any) -> ImageFiles:
    data = open_data(source, **options)
    assert isinstance(data, ImageFiles)
    return data


def write_images(
    folder: Path, count: int, size: tuple[int, int] = (9, 7), mode: str = "RGB"
) -> None:
    folder.mkdir(parents=True)
    shape = size if mode == "L" else (*size, 3)
    for number in range(count):
        Image.fromarray(RANDOM.integers(0, 256, shape, np.uint8)).save(folder / f"{number}.png")


def test_a_folder_of_images_as_torchvision_reads_it(tmp_path: Path) -> None:
    for name, count in (("owl", 3), ("cat", 2), ("Dog", 4)):
        write_images(tmp_path / name, count)
    expected = ImageFolder(str(tmp_path))
    data = in_memory(tmp_path)
    assert data.names == tuple(expected.classes) == ("Dog", "cat", "owl")
    assert data.classes is not None
    assert data.classes.tolist() == expected.targets
    assert data.ids is not None
    for pixels, (path, _), (image, _), name in zip(
        data.images, expected.samples, expected, data.ids, strict=True
    ):
        assert np.array_equal(pixels.transpose(1, 2, 0), np.asarray(image))
        assert tmp_path / name == Path(path)
    streamed = stream_folder(tmp_path)
    images = [np.asarray(image) for batch, _ in streamed.batches(4) for image in batch]
    assert np.array_equal(np.stack(images).transpose(0, 3, 1, 2), data.images)


def test_splits_of_a_folder_and_images_of_many_sizes(tmp_path: Path) -> None:
    write_images(tmp_path / "train" / "a", 2, (9, 7), "L")
    write_images(tmp_path / "train" / "b", 1, (8, 8), "L")
    write_images(tmp_path / "valid" / "b", 1, (5, 6), "L")
    write_images(tmp_path / "test" / "a", 1, (5, 6), "L")
    data = of_files(tmp_path)
    assert data.names == ("a", "b")
    assert data.color == "gray"
    assert data.splits is not None
    assert data.splits.tolist() == ["train"] * 3 + ["val", "test"]
    assert data.classes is not None
    assert data.classes.tolist() == [0, 0, 1, 1, 0]
    sized = in_memory(tmp_path, size=(6, 6), split="train")
    assert sized.images.shape == (3, 1, 6, 6)
    with pytest.raises(
        DataError, match=r"b/0\.png has 8×8 pixels, .*/train/a/0\.png 9×7: give one size"
    ):
        stream_folder(tmp_path, split="train").in_memory()


def test_images_of_a_folder_are_upright_and_fit_the_size_by_a_center_crop(tmp_path: Path) -> None:
    """A camera stores a portrait lying on its side, and says so in EXIF."""
    pixels = RANDOM.integers(0, 256, (6, 10, 3), np.uint8)
    (tmp_path / "a").mkdir()
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6  # to be turned clockwise by 90°
    Image.fromarray(pixels).save(tmp_path / "a" / "1.png", exif=exif)
    upright = np.rot90(pixels, k=-1)
    assert np.array_equal(in_memory(tmp_path).images[0].transpose(1, 2, 0), upright)
    # 10×6 (height, width) to 4×6: scaled by 1, and three rows are left out above and below.
    sized = in_memory(tmp_path, size=(4, 6)).images[0].transpose(1, 2, 0)
    assert np.array_equal(sized, upright[3:7])


def test_a_folder_without_classes(tmp_path: Path) -> None:
    write_images(tmp_path / "images", 3)
    data = open_data(tmp_path / "images")
    assert data.classes is None
    assert data.names is None
    assert len(data) == 3


def test_unreadable_images_are_an_error_or_skipped_with_a_note(tmp_path: Path) -> None:
    write_images(tmp_path / "a", 3)
    write_images(tmp_path / "b", 2)
    (tmp_path / "a" / "1.png").write_bytes(b"not an image")
    whole = (tmp_path / "b" / "0.png").read_bytes()
    (tmp_path / "b" / "0.png").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ImageError, match=r"a/1\.png"):
        open_data(tmp_path)
    data = in_memory(tmp_path, on_error="skip")
    assert data.ids is not None
    assert data.ids.tolist() == ["a/0.png", "a/2.png", "b/1.png"]
    assert data.notes[0].startswith("left out, unreadable: 2 (")
    assert "a/1.png" in data.notes[0]
    assert "b/0.png" in data.notes[0]


def test_only_the_prefixed_name_of_the_digits_is_unambiguous(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert len(in_memory("digits")) == 1797
    write_images(tmp_path / "digits" / "a", 2)
    assert len(in_memory("digits")) == 2
    assert len(in_memory("sklearn:digits")) == 1797


def test_of_a_folder_with_splits_only_the_one_that_is_asked_for_is_looked_at(
    tmp_path: Path,
) -> None:
    """Images of the others may be damaged, and their classes are none of this one."""
    write_images(tmp_path / "train" / "a", 2)
    write_images(tmp_path / "train" / "b", 1)
    write_images(tmp_path / "test" / "c", 1)
    (tmp_path / "test" / "c" / "0.png").write_bytes(b"not an image")
    for name in ("README.md", ".cache"):
        (tmp_path / name).touch()
    data = in_memory(tmp_path, split="train")
    assert data.classes is not None
    assert (data.names, data.classes.tolist()) == (("a", "b"), [0, 0, 1])
    # What stands beside the splits is said in any case.
    assert data.notes == (
        "left out, hidden files: 1 (.cache); files of other kinds: 1 (README.md)",
    )
    with pytest.raises(ImageError, match=r"c/0\.png"):
        open_data(tmp_path)
