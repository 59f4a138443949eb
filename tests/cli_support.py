"""Commands as a shell would give them, and files for them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Group, RenderableType
from support import FIXTURES

from torchlift.cli.main import main
from torchlift.cli.terminal import console

DIGITS = FIXTURES / "digits"
MODEL, DATA = str(DIGITS / "digits-lenet5-bn.t7"), str(DIGITS / "digits-test.t7")
SCALE = str(DIGITS / "digits_meanStd.t7")


def write_files(folder: Path) -> dict[str, str]:
    """Write a saved model, its .onnx, and ten RGB images, one of each class."""
    saved, onnx, rgb = (str(folder / name) for name in ("m", "d.onnx", "rgb.npz"))
    assert main(["convert", MODEL, saved, "--mean-std", SCALE]) == 0
    assert main(["export", saved, onnx]) == 0
    np.savez(rgb, x=np.zeros((10, 3, 16, 16), np.uint8), y=np.arange(10))
    return {"m": saved, "onnx": onnx, "rgb": rgb}


def typed(
    files: dict[str, str], capsys: pytest.CaptureFixture[str], *words: str
) -> tuple[Any, str, str]:
    """The exit code, stdout and stderr of a command; {m}, {onnx} and {rgb} are files."""
    capsys.readouterr()
    try:
        code: Any = main([word.format(**files) for word in words])
    except SystemExit as stopped:
        code = stopped.code
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def shown(*parts: RenderableType) -> list[str]:
    """What people see of a view, line by line, with single blanks."""
    page = console()
    page.width = 200
    with page.capture() as captured:
        page.print(Group(*parts))
    return [" ".join(line.split()) for line in captured.get().splitlines()]
