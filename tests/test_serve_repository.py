"""Which files of a folder are served, under which name and version."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest

pytest.importorskip("fastapi")

from torchlift.cli.serve.errors import ServeError
from torchlift.cli.serve.repository import find_models, fingerprint, sha256_of


def made(folder: Path, *names: str) -> Path:
    for name in names:
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(name.encode())
    return folder


def test_files_and_versions_are_found_in_order_and_nothing_else(tmp_path: Path) -> None:
    names = ("b.ONNX", "a/10/model.onnx", "a/9/model.onnx", "a/0/model.onnx", "a/x/model.onnx")
    others = (".hidden.onnx", ".h/1/model.onnx", "notes.txt", "c/1/other.onnx", "a/11/other.onnx")
    found = find_models(made(tmp_path, *names, *others))
    assert [(name, list(versions)) for name, versions in found.items()] == [
        ("a", ["9", "10"]),
        ("b", ["1"]),
    ]
    assert found["a"]["10"] == tmp_path / "a/10/model.onnx"
    assert find_models(tmp_path / "a") == {"a": found["a"]}
    assert find_models(tmp_path / "b.ONNX") == {"b": {"1": tmp_path / "b.ONNX"}}


@pytest.mark.parametrize(
    ("names", "served", "problem"),
    [
        (("a.onnx", "a/1/model.onnx"), ".", "two models are called 'a'"),
        (("a.txt",), ".", "no models"),
        (("a.txt",), "a.txt", "an .onnx file or a folder"),
        ((), "missing", "no such file or folder"),
    ],
)
def test_what_cannot_be_served_is_said(
    names: tuple[str, ...], served: str, problem: str, tmp_path: Path
) -> None:
    with pytest.raises(ServeError, match=problem):
        find_models(made(tmp_path, *names) / served)


def test_weights_beside_a_model_are_a_part_of_it(tmp_path: Path) -> None:
    made(tmp_path, "a.onnx", "b.onnx.data")
    file, weights = tmp_path / "a.onnx", tmp_path / "a.onnx.data"
    assert sha256_of(file) == hashlib.sha256(b"a.onnx").hexdigest()
    alone = fingerprint(file)
    weights.write_bytes(b"weights")
    assert sha256_of(file) == hashlib.sha256(b"a.onnxweights").hexdigest()
    both = fingerprint(file)
    assert both != alone
    # Of the same size, in place: only the time tells.
    weights.write_bytes(b"WEIGHTS")
    os.utime(weights, ns=(1, 1))
    assert fingerprint(file) not in (alone, both)
    with pytest.raises(FileNotFoundError):
        fingerprint(tmp_path / "gone.onnx")


def test_the_digest_is_that_of_the_whole_of_a_large_file(tmp_path: Path) -> None:
    content = bytes(2**20) + b"behind the first block"
    (tmp_path / "a.onnx").write_bytes(content)
    (tmp_path / "a.onnx.data").write_bytes(content[::-1])
    expected = hashlib.sha256(content + content[::-1]).hexdigest()
    assert sha256_of(tmp_path / "a.onnx") == expected


def test_a_file_that_takes_the_place_of_another_is_another(tmp_path: Path) -> None:
    """Of the same size and time, as `cp -p` or `rsync -t` leave it: only the inode tells."""
    file, new = tmp_path / "a.onnx", tmp_path / "new"
    file.write_bytes(b"one")
    new.write_bytes(b"two")
    os.utime(file, ns=(5, 5))
    os.utime(new, ns=(5, 5))
    before = fingerprint(file)
    new.replace(file)
    assert fingerprint(file) != before


def test_hidden_folders_and_links_to_nothing_are_no_models(tmp_path: Path) -> None:
    made(tmp_path, "a.onnx", ".git/1/model.onnx", "b.onnx/readme.txt", "c/1/model.onnx/readme")
    (tmp_path / "gone.onnx").symlink_to(tmp_path / "nowhere")
    assert list(find_models(tmp_path)) == ["a"]


def test_a_model_in_the_folder_where_a_person_stands_has_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = made(tmp_path / "birds", "2/model.onnx")
    monkeypatch.chdir(folder)
    assert list(find_models(Path())) == ["birds"]
    assert list(find_models(Path("2/.."))) == ["birds"]


def test_a_file_that_was_made_longer_in_place_is_another(tmp_path: Path) -> None:
    """Though its time is as it was: only the size tells."""
    file = tmp_path / "a.onnx"
    file.write_bytes(b"one")
    os.utime(file, ns=(5, 5))
    before = fingerprint(file)
    with file.open("ab") as stream:
        stream.write(b"more")
    os.utime(file, ns=(5, 5))
    assert fingerprint(file) != before
    # And a time is told to the nanosecond.
    os.utime(file, ns=(5, 6))
    later = fingerprint(file)
    os.utime(file, ns=(5, 7))
    assert fingerprint(file) != later


@pytest.mark.parametrize(
    ("folder", "is_version"),
    [("1", True), ("9" * 18, True), ("1" + "0" * 18, False), ("01", False), ("1x", False),
     ("-1", False), ("1.0", False), ("²", False)],
)  # fmt: skip
def test_a_version_is_a_number_without_zeros_in_front(
    folder: str, is_version: bool, tmp_path: Path
) -> None:
    made(tmp_path, f"m/{folder}/model.onnx", "m/7/model.onnx")
    (versions,) = find_models(tmp_path).values()
    assert (folder in versions) == is_version
    assert "7" in versions
