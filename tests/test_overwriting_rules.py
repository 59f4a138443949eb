"""What may stand in a folder that is replaced: the rules of `converters.overwriting` one by one."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from torchlift.converters.errors import WriteError
from torchlift.converters.overwriting import (
    FolderKind,
    check_no_links,
    check_output_folder,
    check_replaceable,
    foreign_entries,
)

#: A folder with a title, and pages in a folder of their own.
DIARY = FolderKind(
    "a diary", lambda folder: (folder / "title").is_file(), re.compile(r"title|pages(/\d+\.txt)?")
)


@pytest.fixture
def diary(tmp_path: Path) -> Path:
    folder = tmp_path / "diary"
    (folder / "pages").mkdir(parents=True)
    (folder / "title").touch()
    (folder / "pages" / "1.txt").touch()
    return folder


def test_only_a_folder_of_its_kind_is_replaced_and_only_if_asked(
    diary: Path, tmp_path: Path
) -> None:
    assert check_output_folder(tmp_path / "new", DIARY) == tmp_path / "new"
    (tmp_path / "empty").mkdir()
    assert check_output_folder(tmp_path / "empty", DIARY) == tmp_path / "empty"
    with pytest.raises(WriteError, match="diary already exists; overwrite=True replaces it"):
        check_output_folder(diary, DIARY)
    assert check_output_folder(diary, DIARY, overwrite=True) == diary
    (diary / "title").unlink()
    with pytest.raises(WriteError, match="diary is not a diary and is not replaced"):
        check_output_folder(diary, DIARY, overwrite=True)
    (tmp_path / "file").touch()
    with pytest.raises(WriteError, match="file is not a diary and is not replaced"):
        check_output_folder(tmp_path / "file", DIARY, overwrite=True)


def test_the_folder_that_one_stands_in_is_not_replaced(
    diary: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for inside in (diary, diary / "pages"):
        monkeypatch.chdir(inside)
        with pytest.raises(WriteError, match="is the folder that you are in"):
            check_output_folder(diary, DIARY, overwrite=True)
    monkeypatch.chdir(diary.parent)
    assert check_output_folder("diary", DIARY, overwrite=True) == Path("diary")


def test_a_link_to_a_folder_of_the_kind_is_none(diary: Path, tmp_path: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to(diary)
    with pytest.raises(WriteError, match="link is not a diary and is not replaced"):
        check_replaceable(link, DIARY)
    check_replaceable(diary, DIARY)


@pytest.mark.parametrize(("count", "listed"), [(1, "a"), (3, "a, b, c"), (4, "a, b, c, …")])
def test_the_first_three_files_of_somebody_else_are_named(
    count: int, listed: str, diary: Path
) -> None:
    for name in "abcd"[:count]:
        (diary / name).touch()
    with pytest.raises(WriteError, match=f"diary is not replaced: it also contains {listed}; move"):
        check_replaceable(diary, DIARY)


def test_what_belongs_to_a_folder_is_told_by_its_whole_path(diary: Path, tmp_path: Path) -> None:
    assert foreign_entries(diary, DIARY) == []
    (diary / "pages" / "title").touch()
    (diary / "1.txt").touch()
    (diary / "title2").touch()
    assert foreign_entries(diary, DIARY) == ["1.txt", "pages/title", "title2"]


def test_an_empty_folder_is_somebodys_unless_the_kind_has_it(diary: Path) -> None:
    (diary / "pages" / "1.txt").unlink()
    (diary / "photos").mkdir()
    assert foreign_entries(diary, DIARY) == ["photos"]
    (diary / "photos" / "inner").mkdir()
    assert foreign_entries(diary, DIARY) == ["photos/inner"]


def test_a_link_is_never_a_part_whatever_its_name(diary: Path, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "file").touch()
    (diary / "pages" / "2.txt").symlink_to(diary / "title")
    (diary / "pages" / "3.txt").symlink_to(tmp_path / "nowhere")
    (diary / "photos").symlink_to(tmp_path / "elsewhere")
    # The folder behind the link is not entered.
    assert foreign_entries(diary, DIARY) == ["pages/2.txt", "pages/3.txt", "photos"]


def test_a_file_may_be_told_by_its_content(diary: Path) -> None:
    (diary / "pages" / "2.txt").write_text("mine", encoding="utf-8")
    kind = FolderKind("a diary", DIARY.is_one, DIARY.files, lambda file: not file.stat().st_size)
    assert foreign_entries(diary, kind) == ["pages/2.txt"]
    assert foreign_entries(diary, DIARY) == []


@pytest.mark.parametrize(
    ("name", "is_clutter"),
    [
        ("Thumbs.db", True),
        ("desktop.ini", True),
        ("pages/.DS_Store", True),
        ("my.DS_Store", False),
        (".DS_Store.txt", False),
        ("Thumbs_db", False),
    ],
)
def test_clutter_is_known_by_its_whole_name(name: str, is_clutter: bool, diary: Path) -> None:
    (diary / name).touch()
    assert foreign_entries(diary, DIARY) == ([] if is_clutter else [name])


def test_what_a_killed_process_left_is_nobodys(diary: Path) -> None:
    left = diary / "pages" / ".torchlift-0123abcd-1-2-3"
    left.mkdir()
    (left / "half").touch()
    assert foreign_entries(diary, DIARY) == []


def test_nothing_is_written_where_there_is_a_link(diary: Path, tmp_path: Path) -> None:
    for path in (diary, diary / "title", diary / "pages", tmp_path / "new"):
        check_no_links(path)
    link = diary / "pages" / "2.txt"
    link.symlink_to(tmp_path / "elsewhere")
    for path in (diary, diary / "pages", link):
        with pytest.raises(WriteError, match=r"2\.txt is a symbolic link, and nothing is written"):
            check_no_links(path)
    check_no_links(diary / "title")
    (tmp_path / "shelf").symlink_to(tmp_path)
    with pytest.raises(WriteError, match="shelf is a symbolic link"):
        check_no_links(tmp_path / "shelf")
