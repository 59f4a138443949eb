"""The rules of `converters.files` one by one: what is temporary, whose, and what is waited for.

`test_files` shows that a file is whole or not there; here each step is looked at by itself.
"""

from __future__ import annotations

import errno
import os
import sys
from pathlib import Path

import pytest
from test_files import names, write_half

from torchlift.converters import files
from torchlift.converters.errors import WriteError
from torchlift.converters.files import atomic_path, check_output


@pytest.fixture(autouse=True)
def _a_process_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder is cleaned once a process."""
    monkeypatch.setattr(files, "_cleaned", set())


def write_whole(target: Path) -> None:
    with atomic_path(target) as path:
        path.write_bytes(b"newer")


def test_what_a_killed_process_left_goes_before_the_work_begins(tmp_path: Path) -> None:
    """Its number is that of this process, and it started at another time."""
    machine = files._machine()
    left = tmp_path / f".torchlift-{machine}-{os.getpid()}-1-0"
    for name in (left.name, f".torchlift-{machine}-{os.getpid()}-1-0.old", ".torchlift-mine"):
        (tmp_path / name / "inside").mkdir(parents=True)
    check_output(tmp_path / "new")
    if Path("/proc/self/stat").exists():
        assert names(tmp_path) == [f"{left.name}.old", ".torchlift-mine"]
    left.mkdir(exist_ok=True)
    files._cleaned.clear()
    with files.temporary_folder(tmp_path / "new"):
        assert left.exists() is not Path("/proc/self/stat").exists()
    # Once a process: a long job does not look again at each file.
    left.mkdir(exist_ok=True)
    check_output(tmp_path / "new")
    assert left.is_dir()


def test_what_a_process_still_writes_is_not_taken_away(tmp_path: Path) -> None:
    with files.temporary_folder(tmp_path / "model") as temporary:
        files._cleaned.clear()
        check_output(tmp_path / "other")
        assert temporary.is_dir()


def test_a_temporary_folder_is_known_by_its_whole_name(tmp_path: Path) -> None:
    with files.temporary_folder(tmp_path / "model") as temporary:
        assert temporary.parent == tmp_path
        assert files.is_temporary(temporary)
        (temporary / "half").touch()
    assert names(tmp_path) == []
    for name in (".torchlift-notes", ".torchlift-0123abcd-1-2-3.old", "a.torchlift-0123abcd-1-2-3"):
        (tmp_path / name).mkdir()
        assert not files.is_temporary(tmp_path / name)
    name = ".torchlift-0123abcd-1-2-3"
    (tmp_path / name).touch()
    assert not files.is_temporary(tmp_path / name), "a file is none"
    (tmp_path / name).unlink()
    (tmp_path / name).symlink_to(tmp_path)
    assert not files.is_temporary(tmp_path / name), "a link is none"


def test_a_folder_is_discarded_with_what_is_in_it(tmp_path: Path) -> None:
    (tmp_path / "old" / "inside").mkdir(parents=True)
    (tmp_path / "old" / "inside" / "file").touch()
    (tmp_path / "other").touch()
    files.discard(tmp_path / "old")
    assert names(tmp_path) == ["other"]


def test_a_folder_that_is_discarded_loses_its_name_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A kill while it is removed leaves no half of a folder under its name."""
    (tmp_path / "old").mkdir()
    (tmp_path / "old" / "file").touch()
    with monkeypatch.context() as patch:
        patch.setattr(files, "_remove", lambda folder: None)
        files.discard(tmp_path / "old")
    (left,) = tmp_path.iterdir()
    assert files.is_temporary(left)
    assert names(left / "old") == ["file"]


def test_nothing_waits_for_the_disk_if_it_need_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[int] = []
    monkeypatch.setattr(os, "fsync", synced.append)
    for durable in (False, True):
        with atomic_path(tmp_path / "model", durable=durable) as path:
            path.write_bytes(b"1")
        assert bool(synced) is durable


def test_the_disk_has_everything_in_a_folder_before_its_name_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: set[int] = set()

    def sync(descriptor: int) -> None:
        if not (tmp_path / "model").exists():
            synced.add(os.fstat(descriptor).st_ino)

    monkeypatch.setattr(os, "fsync", sync)
    with atomic_path(tmp_path / "model") as path:
        (path / "parts" / "first").mkdir(parents=True)
        for file in (path / "config", path / "parts" / "weights", path / "parts" / "first" / "x"):
            file.touch()
    written = [tmp_path / "model", *(tmp_path / "model").rglob("*")]
    assert len(written) == 6
    assert {file.stat().st_ino for file in written} == synced


def test_a_file_that_the_disk_did_not_take_keeps_the_old_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a folder, which some systems cannot sync, no error is made."""
    target = tmp_path / "model"
    target.write_bytes(b"old")
    sync = os.fsync

    def refused(descriptor: int) -> None:
        if Path(f"/proc/self/fd/{descriptor}").is_dir():
            raise OSError(errno.EINVAL, "Invalid argument")
        sync(descriptor)

    monkeypatch.setattr(os, "fsync", refused)
    with atomic_path(target) as path:
        path.write_bytes(b"new")
    assert target.read_bytes() == b"new"

    def failed(descriptor: int) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os, "fsync", failed)
    with pytest.raises(WriteError, match="model: cannot be written: Input/output error"):
        write_whole(target)
    assert target.read_bytes() == b"new"
    assert names(tmp_path) == ["model"]


def test_a_folder_that_cannot_be_written_to_is_a_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(WriteError, match=r"gone/model: cannot be written: No such file or dir"):
        write_whole(tmp_path / "gone" / "model")
    with pytest.raises(WriteError, match="model: cannot be written: it is odd"):
        write_half(tmp_path / "model", OSError("it is odd"))


@pytest.mark.parametrize("name", ["a", "a b", "a) S 1 (b", "(((", "12 13 14"])
def test_the_time_at_which_a_process_started_is_the_22nd_field(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of `/proc/…/stat` (proc(5)), whose second is the program's name, with anything in it."""
    fields = ["7", f"({name})", "S", *(str(number) for number in range(4, 53))]
    for process in ("7", "self"):
        (tmp_path / "proc" / process).mkdir(parents=True)
        (tmp_path / "proc" / process / "stat").write_text(" ".join(fields), encoding="utf-8")
    monkeypatch.setattr(
        files, "Path", lambda *parts: tmp_path.joinpath(*(part.strip("/") for part in parts))
    )
    assert files._start_time(7) == 22
    assert files._start_time(8) is None


@pytest.mark.parametrize(
    ("error", "started"),
    [(None, 0), (ProcessLookupError, None), (PermissionError, 0)],
)
def test_without_proc_a_process_runs_or_has_ended(
    error: type[OSError] | None,
    started: int | None,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def kill(process: int, signal: int) -> None:
        assert (process, signal) == (7, 0)
        if error is not None:
            raise error

    monkeypatch.setattr(files, "Path", lambda *parts: tmp_path / "nothing")
    monkeypatch.setattr(os, "kill", kill)
    assert files._start_time(7) == started


def test_a_folder_that_a_process_works_in_is_not_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a" / "b").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "a" / "b")
    for folder in (tmp_path / "a" / "b", tmp_path / "a", Path(), Path("..")):
        with pytest.raises(WriteError, match="is the folder that you are in"):
            files.check_elsewhere(folder)
    (tmp_path / "a" / "b" / "c").mkdir()
    for folder in (tmp_path / "a" / "b" / "c", Path("c"), tmp_path / "other"):
        files.check_elsewhere(folder)
    with pytest.raises(WriteError, match="already exists"):
        check_output(".", folder=True)
    assert check_output(".", overwrite=True, folder=True) == tmp_path / "a" / "b"
    (tmp_path / "a" / "b" / "c").rmdir()
    with pytest.raises(WriteError, match="is the folder that you are in"):
        check_output(".", folder=True)


def test_what_may_be_replaced_is_told_by_what_it_is(tmp_path: Path) -> None:
    file, folder = tmp_path / "file", tmp_path / "folder"
    file.touch()
    folder.mkdir()
    (folder / "inside").touch()
    (tmp_path / "broken").symlink_to(tmp_path / "nowhere")
    for overwrite in (False, True):
        with pytest.raises(WriteError, match=r"broken is a symbolic link .* name .*nowhere itself"):
            check_output(tmp_path / "broken", overwrite=overwrite)
    with pytest.raises(WriteError, match="is a folder; a file name was expected"):
        check_output(folder)
    with pytest.raises(WriteError, match="file already exists; overwrite=True"):
        check_output(file, folder=True)
    assert check_output(str(folder), overwrite=True, folder=True) == folder
    assert check_output(tmp_path / "new") == tmp_path / "new"


@pytest.mark.skipif(sys.platform != "linux", reason="other systems cannot exchange names")
def test_two_names_are_exchanged_or_nothing_is(tmp_path: Path) -> None:
    first, second = tmp_path / "größe 1", tmp_path / "second"
    first.mkdir()
    (first / "inside").touch()
    assert not files._exchange(first, second), "there is no second"
    assert names(tmp_path) == ["größe 1"]
    second.mkdir()
    assert files._exchange(first, second)
    assert (names(first), names(second)) == ([], ["inside"])


@pytest.mark.skipif(sys.platform != "linux", reason="other systems cannot exchange names")
def test_a_folder_is_replaced_in_one_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between two renames there would be none."""

    def refuse(source: Path, target: Path) -> None:
        raise AssertionError(f"{source} is renamed")

    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "old").touch()
    monkeypatch.setattr(Path, "rename", refuse)
    with atomic_path(tmp_path / "model") as path:
        path.mkdir()
        (path / "new").touch()
    assert (names(tmp_path), names(tmp_path / "model")) == (["model"], ["new"])


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="reads /proc")
def test_no_file_stays_open(tmp_path: Path) -> None:
    before = len([*Path("/proc/self/fd").iterdir()])
    for _ in range(5):
        write_whole(tmp_path / "model")
    assert len([*Path("/proc/self/fd").iterdir()]) == before


@pytest.mark.parametrize("error", [OSError, AttributeError, TypeError])
def test_a_system_without_the_call_exchanges_nothing(
    error: type[Exception], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing(*given: object, **named: object) -> None:
        raise error

    monkeypatch.setattr("ctypes.CDLL", missing)
    assert not files._exchange(tmp_path, tmp_path / "second")
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "old").touch()
    with atomic_path(tmp_path / "model") as path:
        path.mkdir()
    assert (names(tmp_path), names(tmp_path / "model")) == (["model"], [])
