"""The commands that work on files: what a person types, and what a lab consists of."""

from __future__ import annotations

from .cat import cat
from .check import check
from .convert import convert
from .evaluate import evaluate
from .export import export
from .extract import extract
from .finetune import finetune
from .inspect import inspect
from .parser import Command
from .plot import plot
from .predict import predict
from .probe import probe
from .quantize import quantize
from .split import split
from .summary import summary
from .sweep import sweep
from .train import train

#: In the order of the help. Their modules import torch only when they run.
COMMANDS: tuple[Command, ...] = (
    inspect,
    summary,
    cat,
    convert,
    export,
    check,
    quantize,
    predict,
    evaluate,
    extract,
    probe,
    train,
    finetune,
    sweep,
    split,
    plot,
)
