"""Files of tensors, written so that a full disk is an `OSError` like that of any other file."""

from __future__ import annotations

import io
import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import BinaryIO

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file


def write_tensors(tensors: Mapping[str, torch.Tensor], file: Path) -> None:
    """Write tensors as `.safetensors`.

    Args:
        tensors: Contiguous tensors that share no memory, by name.
        file: The file.

    Raises:
        OSError: If it cannot be written.
    """
    try:
        save_file(dict(tensors), file)
    except SafetensorError as error:
        number = re.search(r"\(os error (\d+)\)", str(error))
        raise OSError(
            *((int(number[1]), os.strerror(int(number[1]))) if number else (str(error),))
        ) from error


def write_buffered(save: Callable[[BinaryIO], None], file: Path) -> None:
    """Write what a function of torch saves.

    torch's own writer ends in an unrelated `RuntimeError`, or ends the process, where the disk is
    full.

    Args:
        save: Writes to a stream, as `torch.save` does.
        file: The file.

    Raises:
        OSError: If it cannot be written.
    """
    content = io.BytesIO()
    save(content)
    file.write_bytes(content.getbuffer())
