"""Which files of a folder are images, what is said of the others, and which file a URI names."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from torchlift.converters.images import ImageError, find_images
from torchlift.converters.images.files import FolderContent, list_folder, local_path, name_files


def test_the_folders_below_are_left_alone_where_that_is_asked(tmp_path: Path) -> None:
    """They are no files of other kinds; what is neither a file nor a folder is one."""
    for name in ("inner/b.png", ".hidden/b.png", "a.png", ".a.png", "notes.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    os.mkfifo(tmp_path / "pipe.png")
    for below, images in ((True, ["a.png", "b.png"]), (False, ["a.png"])):
        found = list_folder(tmp_path, below=below)
        assert [file.name for file in found.images] == images
        assert [file.name for file in found.hidden] == [".a.png", ".hidden"]
        assert [file.name for file in found.others] == ["notes.txt", "pipe.png"]
    with pytest.raises(ImageError, match=r"gone: cannot be read: No such file"):
        list_folder(tmp_path / "gone")


def test_what_is_left_out_is_counted_and_the_first_three_are_named() -> None:
    files = [Path("x") / f"{number}.txt" for number in range(1234)]
    assert name_files(files) == "1,234 (0.txt, 1.txt, 2.txt, …)"
    assert name_files(files[:4]) == "4 (0.txt, 1.txt, 2.txt, …)"
    assert name_files(files[:3]) == "3 (0.txt, 1.txt, 2.txt)"
    content = FolderContent(files[:1], files[1:2], files[2:3])
    content.add(FolderContent(files[3:4], files[4:5], files[:1]))
    assert content == FolderContent(files[:4:3], files[1:5:3], [files[2], files[0]])
    assert content.note() == (
        "left out, hidden files: 2 (1.txt, 4.txt); files of other kinds: 2 (2.txt, 0.txt)"
    )
    assert FolderContent(files).note() == ""


def test_a_uri_is_one_in_capitals_too() -> None:
    assert local_path("FILE:///tmp/a%20b.png") == Path("/tmp/a b.png")
    assert local_path(Path("file:///tmp/a%20b.png")) == Path("file:///tmp/a%20b.png")
    assert local_path("a%20b.png") == Path("a%20b.png")
    for place in ("HTTPS://example.org/a.png", "file://elsewhere/a.png"):
        with pytest.raises(ImageError, match="only files of this machine are read"):
            local_path(place)


def test_files_are_taken_as_they_are_named_and_must_be_there(tmp_path: Path) -> None:
    """Whatever their suffix is, in the order given; a folder stands for its images."""
    for name in ("b.txt", "f/2.png", "f/1.png", "f/notes.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    found = find_images([(tmp_path / "b.txt").as_uri(), tmp_path / "f", tmp_path / "b.txt"])
    assert [file.name for file in found] == ["b.txt", "1.png", "2.png", "b.txt"]
    with pytest.raises(ImageError, match=r"gone\.png: no such file$"):
        find_images([tmp_path / "f", tmp_path / "gone.png"])


def test_links_lead_to_images_once_and_a_folder_without_any_is_named(tmp_path: Path) -> None:
    """A link back to a folder above has an end; one that leads nowhere is an image."""
    (tmp_path / "inner").mkdir()
    (tmp_path / "inner" / "A.JPEG").touch()
    (tmp_path / "inner" / "back").symlink_to(tmp_path)
    (tmp_path / "again").symlink_to(tmp_path / "inner")
    (tmp_path / "z.png").symlink_to(tmp_path / "nowhere")
    found = list_folder(tmp_path).images
    assert [file.name for file in found] == ["A.JPEG", "z.png"]
    assert find_images([tmp_path]) == found
    (tmp_path / "texts").mkdir()
    (tmp_path / "texts" / "a.txt").touch()
    with pytest.raises(ImageError, match=r"texts: no images in this folder \(\.jpg, \.jpeg, "):
        find_images([tmp_path, tmp_path / "texts"])


def test_of_many_folders_the_images_are_sorted_as_one_list(tmp_path: Path) -> None:
    for name in ("b/1.png", "c.png", "a/2.png", "a.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    found = [str(file.relative_to(tmp_path)) for file in list_folder(tmp_path).images]
    assert found == ["a/2.png", "a.png", "b/1.png", "c.png"]
