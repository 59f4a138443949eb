"""Models in repositories of the Hugging Face Hub: `hf:ORG/NAME` in place of a folder."""

from __future__ import annotations

import json
import logging
import os
import re
from functools import cache
from pathlib import Path
from typing import Any

from ..errors import first_line
from ..requirements import require
from .config import CONFIG, TORCH7, WEIGHTS, read_config
from .errors import SavedModelError

#: Prefix of a source that is a folder in the Hub's layout, or a repository there.
HF = "hf:"

_REPOSITORY = re.compile(r"([A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*)(?:@([\w./-]+))?")

#: The most bytes of a `config.json`, and of weights beside 16 for each parameter.
_LARGEST_CONFIG = 64 * 2**20
_BYTES_FOR_EACH_PARAMETER = 16
#: The most bytes of weights whose `config.json` does not say how many there are.
_LARGEST_WEIGHTS = 4 * 2**30

#: What transformers says of the images of a network.
PREPROCESSOR = "preprocessor_config.json"

#: Entries by which timm and transformers name the network of a `config.json`.
_OTHER_LIBRARIES = {"architecture", "model_type"}

_NO_FILE = "the repository has no {}: it is not a model saved by torchlift"


def model_path(source: str | os.PathLike[str]) -> Path:
    """Return where a model is on this machine.

    Args:
        source: A path, which is returned; `hf:FOLDER`, a folder that is there; or `hf:ORG/NAME`,
            a repository of the Hugging Face Hub, at its newest commit or, with `@REVISION`, at
            another one. Its `config.json`, weights and Torch7 object are downloaded to the Hub's
            cache where they are not there yet; no other file is. Of a network of timm or
            transformers only `config.json` is (see `fetch_of_another_library`).

    Raises:
        MissingPackageError: If `huggingface_hub` is not installed.
        SavedModelError: If there is no such folder and no such repository, if it holds neither a
            saved model of torchlift nor a network of timm or transformers, or if it cannot be
            downloaded.

    Example:
        >>> model_path("digits-model").name
        'digits-model'
    """
    text = os.fspath(source)
    if not text.startswith(HF):
        return Path(source)
    if is_remote(text):
        return _fetched(text)
    return Path(text.removeprefix(HF))


def is_remote(source: str) -> bool:
    """Return whether opening a source would ask the Hub.

    Example:
        >>> is_remote("hf:somebody/digits"), is_remote("torchvision:resnet18")
        (True, False)
    """
    name = source.removeprefix(HF)
    return source != name and not (name and Path(name).is_dir())


@cache
def _fetched(source: str) -> Path:
    """Return the folder in the Hub's cache with the files of a repository."""
    matched = _REPOSITORY.fullmatch(source.removeprefix(HF))
    if matched is None:
        raise SavedModelError(
            f"{source}: no such folder, and not the name of a repository, such as {HF}ORG/NAME"
        )
    require(source, "huggingface_hub")
    repository, revision = matched[1], matched[2]
    file = _downloaded(source, repository, CONFIG, revision, _LARGEST_CONFIG)
    if file is None:
        raise SavedModelError(f"{source}: {_NO_FILE.format(CONFIG)}")
    if is_of_another_library(file.parent):
        return file.parent
    try:
        config = read_config(file.parent)
    except SavedModelError as error:
        raise SavedModelError(f"{source}: {str(error).replace(f'{file}: ', '')}") from None
    limit = _LARGEST_CONFIG + _BYTES_FOR_EACH_PARAMETER * config.get("parameters", 2**28)
    # The other files of the same commit, whatever is pushed meanwhile.
    commit = file.parent.name
    if _downloaded(source, repository, WEIGHTS, commit, limit) is None:
        raise SavedModelError(f"{source}: {_NO_FILE.format(WEIGHTS)}")
    _downloaded(source, repository, TORCH7, commit, limit)
    return file.parent


def fetch_of_another_library(source: str) -> None:
    """Download the weights of a network of timm or transformers, and what its images are.

    Args:
        source: `hf:ORG/NAME`, whose `model_path` has its `config.json`.

    Raises:
        SavedModelError: If there are none, or they cannot be downloaded.
    """
    repository, commit = source.removeprefix(HF).partition("@")[0], model_path(source).name
    if _downloaded(source, repository, WEIGHTS, commit, _LARGEST_WEIGHTS) is None:
        raise SavedModelError(f"{source}: the repository has no {WEIGHTS}")
    _downloaded(source, repository, PREPROCESSOR, commit, _LARGEST_CONFIG)


def is_of_another_library(folder: Path) -> bool:
    """Return whether a `config.json` describes a network of timm or transformers."""
    try:
        config = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return False
    return isinstance(config, dict) and not _OTHER_LIBRARIES.isdisjoint(config)


def _downloaded(
    source: str, repository: str, name: str, revision: str | None, limit: int
) -> Path | None:
    """Return a file of a repository in the Hub's cache; None if it has no such file.

    Raises:
        SavedModelError: If it is larger than `limit` bytes, or cannot be downloaded.
    """
    from huggingface_hub import errors, hf_hub_download

    # It tells of each of its five tries.
    logging.getLogger("huggingface_hub").setLevel(logging.ERROR)
    options: dict[str, Any] = {"revision": revision, "library_name": "torchlift"}
    try:
        size = hf_hub_download(repository, name, dry_run=True, **options).file_size
        if size <= limit:
            return Path(hf_hub_download(repository, name, **options))
    except errors.LocalEntryNotFoundError as error:
        if name in (CONFIG, WEIGHTS):
            raise SavedModelError(
                f"{source}: no connection, and {name} is not in the Hub's cache"
            ) from error
        return None
    except errors.EntryNotFoundError:
        return None
    except Exception as error:  # of the packages below huggingface_hub too
        raise SavedModelError(f"{source}: {_problem(name, error)}") from error
    raise SavedModelError(f"{source}: {name} has {size:,} bytes, at most {limit:,} were expected")


def _problem(name: str, error: Exception) -> str:
    """Return what is wrong, and what to do, for an error of `huggingface_hub`."""
    from huggingface_hub import errors

    if isinstance(error, errors.GatedRepoError):
        return "its owner grants access on the repository's page; then `hf auth login`"
    if isinstance(error, errors.RepositoryNotFoundError):
        return "no such repository; for a private one, `hf auth login` first"
    if isinstance(error, errors.RevisionNotFoundError):
        return "the repository has no such revision"
    return f"{name} cannot be downloaded: {first_line(error)}"
