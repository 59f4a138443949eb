"""`torchlift demo`."""

from __future__ import annotations

import re
import shlex
import time
from pathlib import Path

from rich.console import Group
from rich.text import Text

from ..converters.files import atomic_path
from ..converters.overwriting import FolderKind, check_output_folder
from ..converters.requirements import require
from .commands import load_commands
from .parser import parse_command, run_command
from .result import CommandResult, show

#: The files of the demo: a network that Torch7 trained on handwritten digits, and its data.
DIGITS = Path(__file__).resolve().parent.parent / "fixtures" / "digits"

#: The accuracy that Lua printed for this network and these 500 images.
LUA_ACCURACY = 0.982


def _is_demo(folder: Path) -> bool:
    """Return whether a folder holds the files of a demo."""
    from ..converters.saved import is_saved_model

    return is_saved_model(folder / "digits")


#: Everything in the folder of a demo.
DEMO = FolderKind("a demo", _is_demo, re.compile(r"digits(/.*)?|digits\.onnx|digit\.png"))


def demo(output: str = "demo-output") -> CommandResult:
    """Convert, export, check and run a network that Torch7 trained on handwritten digits.

    Args:
        output: The folder for the files; those of an earlier demo are replaced.
    """
    require("demo", "torch", "onnxruntime", "PIL")
    folder = Path(output)
    folder.parent.mkdir(parents=True, exist_ok=True)
    check_output_folder(folder, DEMO, overwrite=True)
    folder.mkdir(exist_ok=True)
    original, data = str(DIGITS / "digits-lenet5-bn.t7"), str(DIGITS / "digits-test.t7")
    saved, onnx = str(folder / "digits"), str(folder / "digits.onnx")
    described = [
        *("--labels", str(DIGITS / "digits_classes.t7")),
        *("--mean-std", str(DIGITS / "digits_meanStd.t7")),
    ]
    image = _save_first_image(data, folder / "digit.png")
    began = time.perf_counter()
    # On the CPU, where the accuracy is that of Lua on every machine.
    commands = [
        ["inspect", original, "--depth", "1"],
        ["convert", original, saved, *described, "--overwrite"],
        ["export", saved, onnx, "--overwrite"],
        ["check", saved, onnx, "--data", data],
        ["evaluate", original, data, *described, "--provider", "cpu"],
        ["evaluate", onnx, data, "--provider", "cpu"],
        ["predict", onnx, str(image), "--top", "3", "--provider", "cpu"],
    ]
    results = []
    for words in commands:
        report = run_command(*parse_command(load_commands(words), words))
        command = shlex.join(words)
        line = Text(f"$ torchlift {command}", "bold")
        show(CommandResult(None, Group(line, report.view, "")), as_json=False)
        results.append({"command": command, "passed": report.passed, "result": report.data})
    seconds = time.perf_counter() - began
    same = all(
        step["result"]["accuracy"] == LUA_ACCURACY
        for step in results
        if step["command"].startswith("evaluate")
    )
    passed = same and all(step["passed"] for step in results)
    files = sorted(str(path) for path in folder.rglob("*") if path.is_file())
    verdict = (
        f"Torch7 printed an accuracy of {LUA_ACCURACY}: "
        f"{'the same here, in PyTorch and in ONNX' if same else 'NOT the same here'}. "
        f"{seconds:.0f} seconds; files: {', '.join(files)}"
    )
    return CommandResult(
        {"passed": passed, "seconds": seconds, "files": files, "steps": results}, verdict, passed
    )


def _save_first_image(data: str, target: Path) -> Path:
    """Save the dataset's first digit as an image file."""
    from PIL import Image

    from ..transfer.data import read_dataset

    with atomic_path(target) as path:
        Image.fromarray(read_dataset(data).images[0, 0]).save(path)
    return target
