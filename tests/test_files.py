"""Files and folders are written whole or not at all, and leave nothing behind.

What is protected: the one way in which every command writes (`atomic_path`). A reader never sees
half a file, an error or a kill leaves the old one, and what a killed process left is removed.
"""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from torchlift.converters import files
from torchlift.converters.errors import WriteError
from torchlift.converters.files import atomic_path, check_output

#: Writes half of a file, says so, and waits to be killed.
HALF = """
import sys, time
from torchlift.converters.files import atomic_path
with atomic_path(sys.argv[1]) as path:
    {write}
    print("half", flush=True)
    time.sleep(60)
"""
WRITE = {"file": "path.write_bytes(b'new')", "folder": "path.mkdir(); (path / 'a').touch()"}


@pytest.fixture(autouse=True)
def _a_process_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder is cleaned once a process."""
    monkeypatch.setattr(files, "_cleaned", set())


def names(folder: Path) -> list[str]:
    return sorted(entry.name for entry in folder.iterdir())


def write_half(target: str | Path, error: BaseException | type[BaseException]) -> None:
    with atomic_path(target) as path:
        path.write_bytes(b"new")
        raise error


def write_folder(target: Path) -> None:
    with atomic_path(target) as path:
        path.mkdir()
        (path / "new").touch()


def test_nothing_is_at_the_target_before_the_end(tmp_path: Path) -> None:
    target = tmp_path / "model.bin"
    with atomic_path(target) as path:
        path.write_bytes(b"half")
        assert path.name == "model.bin"  # writers that go by the suffix see the right one
        assert not target.exists()
    assert target.read_bytes() == b"half"
    assert names(tmp_path) == ["model.bin"]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit])
def test_an_error_leaves_what_was_there(tmp_path: Path, error: type[BaseException]) -> None:
    target = tmp_path / "model.bin"
    target.write_bytes(b"old")
    with pytest.raises(error):
        write_half(target, error)
    assert target.read_bytes() == b"old"
    assert names(tmp_path) == ["model.bin"]


def test_a_folder_takes_the_place_of_a_folder(tmp_path: Path) -> None:
    target = tmp_path / "model"
    target.mkdir()
    (target / "old").write_text("1", encoding="utf-8")
    with atomic_path(target) as path:
        path.mkdir()
        (path / "new").write_text("2", encoding="utf-8")
    assert names(target) == ["new"]
    assert names(tmp_path) == ["model"]


def test_a_folder_is_never_missing_while_it_is_replaced(tmp_path: Path) -> None:
    """Both names are exchanged in one step (Linux)."""
    target, stop, missing = tmp_path / "model", threading.Event(), []

    def watch() -> None:
        while not stop.is_set():
            if not (target / "whole").exists():
                missing.append(time.monotonic())

    for _ in range(2):
        with atomic_path(target, durable=False) as path:
            path.mkdir()
            (path / "whole").touch()
    watcher = threading.Thread(target=watch)
    watcher.start()
    for _ in range(200):
        with atomic_path(target, durable=False) as path:
            path.mkdir()
            (path / "whole").touch()
    stop.set()
    watcher.join()
    if sys.platform == "linux":
        assert missing == []


def test_folders_are_replaced_where_names_cannot_be_exchanged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "_exchange", lambda first, second: False)
    test_a_folder_takes_the_place_of_a_folder(tmp_path)


@pytest.mark.parametrize(
    ("error", "raised"),
    [
        (OSError(errno.EIO, "Input/output error"), WriteError),
        (KeyboardInterrupt("Input/output error"), KeyboardInterrupt),
    ],
)
def test_an_error_between_two_names_brings_the_old_folder_back(
    error: BaseException,
    raised: type[BaseException],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Where names cannot be exchanged, the old folder is moved away whole before it is removed."""
    target = tmp_path / "model"
    target.mkdir()
    (target / "old").touch()
    rename = Path.rename

    def failing(source: Path, to: Path) -> Path:
        if to == target and names(source) == ["new"]:
            assert not target.exists()
            raise error
        return rename(source, to)

    monkeypatch.setattr(files, "_exchange", lambda first, second: False)
    monkeypatch.setattr(Path, "rename", failing)
    with pytest.raises(raised, match="Input/output error"):
        write_folder(target)
    assert names(target) == ["old"]
    assert names(tmp_path) == ["model"]


def test_what_lies_beside_the_file_is_there_before_it(tmp_path: Path) -> None:
    """The weights of a large `.onnx` stand in a second file: never the graph without them."""
    moved: list[str] = []
    original = files._move

    def recorded(source: Path, target: Path) -> None:
        moved.append(target.name)
        original(source, target)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(files, "_move", recorded)
        with atomic_path(tmp_path / "a.onnx") as path:
            path.write_bytes(b"graph")
            path.with_name("a.onnx.data").write_bytes(b"weights")
    assert moved == ["a.onnx.data", "a.onnx"]
    assert names(tmp_path) == ["a.onnx", "a.onnx.data"]


def test_everything_is_on_the_disk_before_it_gets_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    events: list[str] = []
    sync, move = os.fsync, files._move

    def synced(descriptor: int) -> None:
        events.append(f"sync {Path(f'/proc/self/fd/{descriptor}').resolve().name}")
        sync(descriptor)

    def moved(source: Path, target: Path) -> None:
        events.append(f"move {target.name}")
        move(source, target)

    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(files, "_move", moved)
    with atomic_path(tmp_path / "model") as path:
        path.mkdir()
        (path / "weights").write_bytes(b"1")
    assert events == ["sync weights", "sync model", "move model", f"sync {tmp_path.name}"]


def start(code: str, target: Path) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(target)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "half\n"
    return process


@pytest.mark.parametrize("kind", WRITE)
def test_a_killed_process_leaves_the_old_one_and_the_next_run_cleans_up(
    tmp_path: Path, kind: str
) -> None:
    target = tmp_path / "model"
    target.write_bytes(b"old")
    process = start(HALF.format(write=WRITE[kind]), target)
    process.kill()
    process.wait()
    assert target.read_bytes() == b"old"
    assert len(names(tmp_path)) == 2
    with atomic_path(tmp_path / "other") as path:
        path.write_bytes(b"1")
    assert names(tmp_path) == ["model", "other"]


def test_a_running_process_keeps_its_temporary_files(tmp_path: Path) -> None:
    process = start(HALF.format(write=WRITE["file"]), tmp_path / "model")
    with atomic_path(tmp_path / "other") as path:
        path.write_bytes(b"1")
    assert len(names(tmp_path)) == 2
    process.kill()
    process.wait()


def test_temporary_files_of_other_machines_are_kept(tmp_path: Path) -> None:
    theirs = tmp_path / ".torchlift-00000000-1-1-0"
    theirs.mkdir()
    with atomic_path(tmp_path / "mine") as path:
        path.write_bytes(b"1")
    assert theirs.is_dir()


def test_a_process_number_that_was_given_again_is_another_process(tmp_path: Path) -> None:
    """Process numbers repeat; when a process started tells them apart."""
    old = tmp_path / f".torchlift-{files._machine()}-{os.getpid()}-1-0"
    old.mkdir()
    files.remove_abandoned(tmp_path)
    assert names(tmp_path) == ([] if Path("/proc/self/stat").exists() else [old.name])


def test_two_that_write_one_file_do_not_meet(tmp_path: Path) -> None:
    target = tmp_path / "model"
    with atomic_path(target) as first, atomic_path(target) as second:
        first.write_bytes(b"first")
        second.write_bytes(b"second")
    assert target.read_bytes() == b"first"


def test_a_full_disk_is_a_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(WriteError, match="model: cannot be written: No space left on device"):
        write_half("model", OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)))
    assert names(tmp_path) == []


def test_errors_of_other_files_are_not_taken_for_the_targets(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError), atomic_path(tmp_path / "model"):
        (tmp_path / "nowhere").read_bytes()


def test_a_link_is_replaced_and_not_followed(tmp_path: Path) -> None:
    precious = tmp_path / "precious"
    precious.mkdir()
    (precious / "file").write_bytes(b"1")
    link = tmp_path / "link"
    link.symlink_to(precious)
    with atomic_path(link) as path:
        path.write_bytes(b"2")
    assert names(precious) == ["file"]
    assert link.read_bytes() == b"2"


def test_what_is_taken_is_said_before_the_work(tmp_path: Path) -> None:
    taken, folder = tmp_path / "taken", tmp_path / "folder"
    taken.touch()
    folder.mkdir()
    with pytest.raises(WriteError, match="taken already exists; overwrite=True replaces it"):
        check_output(taken)
    assert check_output(taken, overwrite=True) == taken
    with pytest.raises(WriteError, match="nowhere: no such folder"):
        check_output(tmp_path / "nowhere" / "file")
    with pytest.raises(WriteError, match="is a folder; a file name was expected"):
        check_output(folder, overwrite=True)
    assert check_output(folder, folder=True) == folder
    (folder / "file").touch()
    with pytest.raises(WriteError, match="folder already exists"):
        check_output(folder, folder=True)


def test_signal_that_ends_a_process_by_an_exception_cleans_up(tmp_path: Path) -> None:
    """The command line turns SIGTERM into an exception (see `cli.main`)."""
    code = HALF.format(write=WRITE["file"]).replace(
        "with atomic", "import signal; signal.signal(15, lambda *_: sys.exit(143))\nwith atomic", 1
    )
    process = start(code, tmp_path / "model")
    process.send_signal(signal.SIGTERM)
    assert process.wait() == 143
    assert names(tmp_path) == []
