"""Folders of images, row by row of the table in docs/data.md, for every command that opens one."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from data_support import RANDOM, in_memory
from PIL import Image
from support import FIXTURES

from torchlift.cli.main import main
from torchlift.converters.images import ImageError, find_images
from torchlift.converters.images.files import list_folder
from torchlift.converters.onnx import export
from torchlift.converters.saved import load
from torchlift.transfer.data import ImageFiles, open_data, stream_folder
from torchlift.transfer.errors import DataError

MODEL = str(FIXTURES / "0.1.0" / "model")
NAMES = ("zero", "one")


def write(file: Path, size: tuple[int, int] = (32, 32), **options: Any) -> Path:
    """Write a random gray image of some (height, width)."""
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(RANDOM.integers(0, 256, size, np.uint8)).save(file, **options)
    return file


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two classes of ten images each."""
    for name in NAMES:
        for index in range(10):
            write(tmp_path / "d" / name / f"{index}.png")
    return tmp_path / "d"


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("exported") / "m.onnx"
    export(load(MODEL), file)
    return file


#: Every command that opens a folder as a dataset: FOLDER, the file MODEL.onnx and a new OUT.
COMMANDS = {
    "evaluate": f"evaluate {MODEL} FOLDER",
    "train": "train softmax FOLDER --epochs 1 --output OUT",
    "finetune": f"finetune {MODEL} FOLDER --epochs 1 --output OUT",
    "test-data": f"finetune {MODEL} FOLDER --test-data FOLDER --epochs 1 --output OUT",
    "extract": f"extract {MODEL} FOLDER OUT",
    "split": "split FOLDER OUT.npz",
    "quantize": "quantize MODEL.onnx OUT.onnx --data FOLDER --max-drop 1 --dynamic",
    "check": f"check {MODEL} MODEL.onnx --data FOLDER",
    "samples": "plot samples FOLDER --output OUT.png",
    "confusion": f"plot confusion {MODEL} --data FOLDER --output OUT.png",
    "feature-maps": f"plot feature-maps {MODEL} --image FOLDER --output OUT.png",
}


@pytest.mark.parametrize("command", COMMANDS)
def test_a_truncated_image_is_an_error_or_skipped_by_every_command(
    command: str,
    folder: Path,
    exported: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    broken = folder / "one" / "3.png"
    broken.write_bytes(broken.read_bytes()[:300])
    line = COMMANDS[command].replace("FOLDER", str(folder)).replace("OUT", str(tmp_path / "out"))
    words = line.replace("MODEL.onnx", str(exported)).split()
    # Without decoding, images past the first are not seen by a plot of one image.
    if command != "feature-maps":
        assert main(words) == 1
        assert f"{broken}: cannot be read: image file is truncated" in capsys.readouterr().err
        assert not list(tmp_path.glob("out*"))
    status = main([*words, "--skip-bad", "--json"])
    captured = capsys.readouterr()
    # These images are noise: which answers differ is not the point here.
    assert status == 0 or command in ("quantize", "check")
    if command not in ("feature-maps", "quantize"):
        notes = json.loads(captured.out)["notes"]
        assert any(note.startswith("left out, unreadable: 1 (") for note in notes)
        assert any(str(broken) in note for note in notes)


def test_predict_goes_on_behind_a_truncated_image(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "one" / "3.png").write_bytes(b"\x89PNG")
    (folder / "one" / "._3.png").touch()
    (folder / "one" / "notes.txt").touch()
    assert main(["predict", MODEL, str(folder), "--top", "1"]) == 1
    captured = capsys.readouterr()
    assert "1 of 20 images could not be read" in captured.out
    assert "one/3.png: not an image" in captured.err
    assert "left out, hidden files: 1 (._3.png); files of other kinds: 1 (notes.txt)" in " ".join(
        captured.err.split()
    )


def test_links_are_followed_without_cycles(folder: Path, tmp_path: Path) -> None:
    write(tmp_path / "elsewhere" / "a.png")
    write(tmp_path / "real" / "deep" / "b.png")
    (folder / "linked").symlink_to(tmp_path / "elsewhere")
    (folder / "zero" / "more").symlink_to(tmp_path / "real")
    (folder / "one" / "x.png").symlink_to(tmp_path / "elsewhere" / "a.png")
    (tmp_path / "real" / "deep" / "up").symlink_to(tmp_path / "real")
    (folder / "zero" / "all").symlink_to(folder)
    data = in_memory(folder)
    assert data.names == ("linked", "one", "zero")
    assert data.classes is not None
    # Class zero has its own ten, one through a link, and all others through a link to the top.
    assert np.bincount(data.classes).tolist() == [1, 11, 23]
    (tmp_path / "top").symlink_to(folder)
    assert len(in_memory(tmp_path / "top")) == len(data)


def test_folders_of_links_to_one_another_are_read_once(tmp_path: Path) -> None:
    """Two links in each of 30 folders to the next: 2^30 paths to one image."""
    for index in range(30):
        (tmp_path / f"f{index}").mkdir()
        for name in "ab":
            (tmp_path / f"f{index}" / name).symlink_to(tmp_path / f"f{index + 1}")
    write(tmp_path / "f30" / "1.png")
    assert len(list_folder(tmp_path / "f0").images) == 1


def test_a_link_that_leads_nowhere_is_an_image_that_cannot_be_read(folder: Path) -> None:
    (folder / "one" / "gone.png").symlink_to(folder / "nowhere.png")
    with pytest.raises(ImageError, match=r"one/gone\.png: no such file"):
        open_data(folder)
    assert len(in_memory(folder, on_error="skip")) == 20


def test_hidden_and_other_files_are_left_out_and_counted(folder: Path) -> None:
    for name in ("zero/._0.png", ".DS_Store", "one/.thumbnails/1.png", "one/README.md", "x.heic"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).touch()
    (folder / ".cache").mkdir()
    os.mkfifo(folder / "one" / "pipe.png")
    write(folder / "stray.png")
    data = in_memory(folder)
    assert len(data) == 20
    notes = "; ".join(data.notes)
    assert "hidden files: 4 (.DS_Store, .cache, .thumbnails, …)" in notes
    assert "files of other kinds: 3 (x.heic, README.md, pipe.png)" in notes
    assert "left out, in no class folder: 1 (stray.png)" in notes


def test_images_of_all_folders_come_in_the_order_of_their_paths(tmp_path: Path) -> None:
    names = ["a.png", "b/1.png", "b/2.png", "b/d/1.png", "c/1.png", "z.png"]
    for name in reversed(names):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    assert list_folder(tmp_path).images == [tmp_path / name for name in names]
    # What is named comes in the order in which it is named.
    found = find_images([tmp_path / "z.png", tmp_path / "b"])
    assert found == [tmp_path / name for name in ("z.png", "b/1.png", "b/2.png", "b/d/1.png")]


@pytest.mark.parametrize("name", ["a.tiff", "a.TIF", "a.JPG", "a.Jpeg", "a.WEBP", "a.PGM", "a.Bmp"])
def test_suffixes_in_any_case_are_taken(name: str, folder: Path) -> None:
    write(folder / "zero" / name)
    assert len(open_data(folder)) == 21
    assert folder / "zero" / name in find_images([folder])


@pytest.mark.parametrize("inside", [(), ("notes.txt",), ("._1.png",)])
def test_an_empty_class_folder_is_an_error(inside: tuple[str, ...], folder: Path) -> None:
    (folder / "two").mkdir()
    for name in inside:
        (folder / "two" / name).touch()
    for on_error in ("raise", "skip"):
        with pytest.raises(ImageError, match="two: no images in this class folder"):
            open_data(folder, on_error=on_error)
    (folder / "two" / "broken.png").touch()
    with pytest.raises(ImageError, match="two: no readable image"):
        open_data(folder, on_error="skip")


@pytest.mark.parametrize("name", ["train", "val", "test", "Validation"])
def test_a_class_may_be_called_like_a_split(name: str, tmp_path: Path) -> None:
    write(tmp_path / name / "1.png")
    write(tmp_path / "car" / "1.png")
    data = in_memory(tmp_path)
    assert (data.names, data.splits) == (tuple(sorted((name, "car"))), None)


def test_folders_called_like_splits_are_splits_if_only_they_have_class_folders(
    tmp_path: Path,
) -> None:
    for place in ("train/a", "train/b", "val/a"):
        write(tmp_path / place / "1.png")
    write(tmp_path / "others" / "1.png")
    data = in_memory(tmp_path)
    assert (data.names, data.ids.tolist()) == (  # type: ignore[union-attr]  # a folder has ids
        ("a", "b"),
        ["train/a/1.png", "train/b/1.png", "val/a/1.png"],
    )
    assert "left out, in no class folder: 1 (others)" in data.notes
    write(tmp_path / "others" / "a" / "1.png")
    assert in_memory(tmp_path).names == ("others", "train", "val")


def test_a_split_without_class_folders_beside_one_that_has_some_is_an_error(tmp_path: Path) -> None:
    write(tmp_path / "train" / "a" / "1.png")
    write(tmp_path / "train" / "b" / "1.png")
    write(tmp_path / "test" / "1.png")
    with pytest.raises(ImageError, match="test: no class folders, which train has"):
        open_data(tmp_path)
    assert len(open_data(tmp_path, split="train")) == 2
    (tmp_path / "training").mkdir()
    with pytest.raises(ImageError, match="both train and training are train splits"):
        open_data(tmp_path)


def test_images_that_are_stored_turned_have_one_size(folder: Path) -> None:
    """As phones write them: 48×32 pixels, to be turned, among images of 32×48."""
    for index, name in enumerate(NAMES):
        (folder / name / "0.png").unlink()
        for file in (folder / name).iterdir():
            write(file.with_suffix(".jpg"), (48, 32))
            file.unlink()
        exif = Image.Exif()
        exif[0x0112] = 6 + 2 * index
        write(folder / name / "turned.jpg", (32, 48), exif=exif)
    assert in_memory(folder).images.shape == (20, 1, 48, 32)


def test_split_of_images_of_different_sizes_names_the_option(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(folder / "zero" / "large.png", (40, 50))
    words = ["split", str(folder), str(tmp_path / "out.npz")]
    assert main(words) == 1
    err = capsys.readouterr().err
    assert "zero/large.png has 40×50 pixels" in err
    assert "--image-size" in err
    assert not (tmp_path / "out.npz").exists()
    assert main([*words, "--image-size", "16"]) == 0
    assert len(in_memory(tmp_path / "out.npz")) == 21


def test_many_images_of_one_size_are_split_too(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A folder that is too large for memory at once is still written."""
    monkeypatch.setattr("torchlift.transfer.data.collect_images.MEMORY_LIMIT", 10)
    assert isinstance(open_data(folder), ImageFiles)
    assert main(["split", str(folder), str(tmp_path / "out.npz")]) == 0
    assert in_memory(tmp_path / "out.npz").images.shape == (20, 1, 32, 32)


def test_sizes_that_differ_are_named_with_their_files(folder: Path) -> None:
    write(folder / "zero" / "9.png", (5, 6))
    with pytest.raises(DataError, match=r"zero/9\.png has 5×6 pixels, .*one/0\.png 32×32"):
        stream_folder(folder).in_memory()
