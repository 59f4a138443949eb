"""Weights that a library publishes: found in a cache, and fetched only if that is asked for."""

from __future__ import annotations

import re
from pathlib import Path

import torch

from ...converters.errors import first_line
from ...converters.requirements import require
from ..errors import NetworkError

#: The first digits of a file's SHA-256, which torchvision and timm write into its name.
_HASH = re.compile(r"-([a-f0-9]{8,})\.")


def weights_at(url: str, download: bool) -> Path:
    """Return the file of a URL in the cache of `torch.hub`.

    Args:
        url: Where the weights are published.
        download: Whether a file that is not in the cache is fetched.

    Raises:
        NetworkError: It is not there, and not to be fetched or cannot be.
    """
    folder = Path(torch.hub.get_dir()) / "checkpoints"
    file = folder / url.rpartition("/")[2]
    if file.is_file():
        return file
    if not download:
        raise NetworkError(f"{file} is not there: download=True fetches it ({url})")
    folder.mkdir(parents=True, exist_ok=True)
    expected = _HASH.search(file.name)
    try:
        torch.hub.download_url_to_file(url, str(file), expected and expected[1], progress=False)
    except (OSError, RuntimeError) as error:
        raise NetworkError(f"{url} cannot be fetched: {error}") from error
    return file


def hub_file(repository: str, name: str, download: bool) -> Path | None:
    """Return a file of a repository of the Hugging Face hub, None if there is none.

    Args:
        repository: `owner/name`.
        name: The file.
        download: Whether a file that is not in the hub's cache is fetched.

    Raises:
        NetworkError: It cannot be fetched.
    """
    require(f"hf:{repository}", "huggingface_hub")
    from huggingface_hub import hf_hub_download, try_to_load_from_cache
    from huggingface_hub.errors import EntryNotFoundError, HfHubHTTPError

    found = try_to_load_from_cache(repository, name)
    if isinstance(found, str):
        return Path(found)
    if not download:
        return None
    try:
        return Path(hf_hub_download(repository, name))
    except EntryNotFoundError:
        return None
    except (OSError, ValueError, HfHubHTTPError) as error:
        raise NetworkError(f"hf:{repository} cannot be fetched: {first_line(error)}") from error
