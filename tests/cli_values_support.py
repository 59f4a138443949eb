"""Another value than its default for each option of the command line."""

from __future__ import annotations

import typing
from typing import Any

from torchlift.cli.parser import Argument

#: Values for options that do not take every one of their type; of one command where it stands
#: before.
VALUES = {
    "magnitude": "7 --auto-augment randaugment",
    "train temperature": "7 --teacher old.t7",
    "finetune temperature": "7 --teacher old.t7",
    "teacher_weight": "0.7 --teacher old.t7",
    "resized_crop": "0.5",
    "resize": "pil-bicubic",
    "ema": "0.5",
    "layer_decay": "0.5",
    "schedule": "constant",
    "freeze": "all-but-head",
    "unfreeze_at": "7 --freeze all-but-head",
    "unfreeze": "2:layer4,4:layer3",
    "output": "o7.npz",
    "csv": "o7.csv",
    "arrays": "o7.npz",
    "input": "1x2x3",
    "columns": "1:2",
    "max_body": "7M",
    "max_pixels": "7M",
    "mean": "3,5,7",
    "std": "3,5,7",
    "color": "BGR",
    "provider": "cuda:1",
    "value_range": "-1,1",
    "output_range": "-1,1",
}
OUTPUTS = {
    **dict.fromkeys(("predict", "runs"), "o7.csv"),
    "annotate": "o7.onnx",
    "plot": "o7.png",
    "cat": "o7.npy",
}


def another_value(command: str, argument: Argument) -> str:
    """Words that give an option another value than its default."""
    if argument.type is bool:
        return argument.flag
    given = VALUES.get(f"{command} {argument.name}") or VALUES.get(argument.name)
    value = given or _of_type(argument.type, argument.default)
    if argument.name == "output":
        value = OUTPUTS.get(command, "o7")
    return f"{argument.flag} {value}"


def _of_type(kind: Any, default: Any) -> str:
    if typing.get_origin(kind) is typing.Literal:
        return next(str(choice) for choice in typing.get_args(kind) if choice != default)
    if typing.get_origin(kind) in (typing.Union, type(int | None)):
        return _of_type(typing.get_args(kind)[0], default)
    if typing.get_origin(kind) is typing.Annotated:
        return "0.25" if typing.get_args(kind)[0] is float else "7"
    if typing.get_origin(kind) is list:
        return _of_type(typing.get_args(kind)[0], default)
    return {str: "x", int: "7", float: "0.25"}.get(kind, "3x5")
