"""The model repository: which files of a folder are models, under which name and version."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

from .errors import ServeError

#: The files of a repository: versions by name, files by version.
Repository = dict[str, dict[str, Path]]

#: The file of a version in Triton's layout.
_MODEL_FILE = "model.onnx"

_VERSION = re.compile(r"[1-9]\d{0,17}")

#: What tells one state of a file from another: its inode, size and time.
Fingerprint = tuple[tuple[int, int, int], ...]


def find_models(path: Path) -> Repository:
    """Return the models of an `.onnx` file or a folder.

    A folder holds `.onnx` files, each a model of version 1 under the name of its file, or folders
    in Triton's layout, `NAME/VERSION/model.onnx`, or both. A folder `NAME` alone is one model.

    Args:
        path: The file or folder.

    Raises:
        ServeError: If there is no model, or two have the same name.

    Example:
        >>> from tempfile import mkdtemp
        >>> folder = Path(mkdtemp())
        >>> (folder / "digits.onnx").touch()
        >>> (folder / "birds" / "2").mkdir(parents=True)
        >>> (folder / "birds" / "2" / "model.onnx").touch()
        >>> {name: list(versions) for name, versions in find_models(folder).items()}
        {'birds': ['2'], 'digits': ['1']}
    """
    if path.is_file():
        if path.suffix.lower() != ".onnx":
            raise ServeError(f"{path}: an .onnx file or a folder of models is served")
        return {path.stem: {"1": path}}
    if not path.is_dir():
        raise ServeError(f"{path}: no such file or folder")
    if versions := _versions(path):
        return {path.resolve().name: versions}
    found: Repository = {}
    for entry in sorted(path.iterdir()):
        if entry.name.startswith("."):
            continue
        if entry.suffix.lower() == ".onnx" and entry.is_file():
            name, versions = entry.stem, {"1": entry}
        elif entry.is_dir() and (versions := _versions(entry)):
            name = entry.name
        else:
            continue
        if name in found:
            raise ServeError(f"{path}: two models are called {name!r}")
        found[name] = versions
    if not found:
        raise ServeError(f"{path}: no models: .onnx files or NAME/VERSION/{_MODEL_FILE}")
    return found


def _versions(folder: Path) -> dict[str, Path]:
    """Return the versions of a model in Triton's layout, the oldest first."""
    numbers = [entry.name for entry in folder.iterdir() if _VERSION.fullmatch(entry.name)]
    files = {number: folder / number / _MODEL_FILE for number in sorted(numbers, key=int)}
    return {number: file for number, file in files.items() if file.is_file()}


def fingerprint(file: Path) -> Fingerprint:
    """Return what changes when a model or the weights beside it are replaced.

    Raises:
        OSError: If the file is gone.
    """
    files = [file, *(beside for beside in [_weights(file)] if beside.is_file())]
    return tuple(
        (found.st_ino, found.st_size, found.st_mtime_ns) for found in (one.stat() for one in files)
    )


def sha256_of(file: Path) -> str:
    """Return the SHA-256 of a model and of the weights beside it, if there are some.

    Raises:
        OSError: If the file cannot be read.
    """
    digest = hashlib.sha256()
    for one in (file, _weights(file)):
        if one == file or one.is_file():
            with one.open("rb") as stream:
                while block := stream.read(2**20):
                    digest.update(block)
    return digest.hexdigest()


def _weights(file: Path) -> Path:
    return file.with_name(f"{file.name}.data")
