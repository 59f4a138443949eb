"""`torchlift demo`."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from rich.console import Group
from rich.markup import escape

from ..converters.requirements import require
from .check import check
from .convert import convert
from .evaluate import evaluate
from .export import export
from .inspect import inspect
from .model_options import ModelOptions
from .predict import predict
from .result import CommandResult, show

#: The files of the demo: a network that Torch7 trained on handwritten digits, and its data.
DIGITS = Path(__file__).resolve().parent.parent / "fixtures" / "digits"

#: The accuracy that Lua printed for this network and these 500 images.
LUA_ACCURACY = 0.982


def demo(output: str = "demo-output") -> CommandResult:
    """Convert, export, check and run a network that Torch7 trained on handwritten digits.

    Args:
        output: The folder for the files; those of an earlier demo are replaced.
    """
    require("demo", "torch", "onnxruntime", "PIL")
    folder = Path(output)
    folder.mkdir(parents=True, exist_ok=True)
    original, data = DIGITS / "digits-lenet5-bn.t7", str(DIGITS / "digits-test.t7")
    saved, onnx = folder / "digits", folder / "digits.onnx"
    model_options = ModelOptions(
        labels=str(DIGITS / "digits_classes.t7"), mean_std=str(DIGITS / "digits_meanStd.t7")
    )
    image = _save_first_image(data, folder / "digit.png")
    began = time.perf_counter()
    commands: list[tuple[str, Callable[[], CommandResult]]] = [
        (f"inspect {original.name}", lambda: inspect(str(original), depth=1)),
        (
            f"convert {original.name} {saved} --labels digits_classes.t7 "
            "--mean-std digits_meanStd.t7",
            lambda: convert(str(original), str(saved), model_options=model_options, overwrite=True),
        ),
        (f"export {saved} {onnx}", lambda: export(str(saved), str(onnx), overwrite=True)),
        (
            f"check {saved} {onnx} --data digits-test.t7",
            lambda: check(str(saved), str(onnx), data=data),
        ),
        (
            f"evaluate {original.name} digits-test.t7",
            lambda: evaluate(str(original), data, model_options=model_options),
        ),
        (f"evaluate {onnx} digits-test.t7", lambda: evaluate(str(onnx), data)),
        (f"predict {onnx} {image} --top 3", lambda: predict(str(onnx), [str(image)], top=3)),
    ]
    results = []
    for command, run in commands:
        report = run()
        line = f"[bold]$ torchlift {escape(command)}[/]"
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

    Image.fromarray(read_dataset(data).images[0, 0]).save(target)
    return target
