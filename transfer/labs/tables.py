"""Tables that several labs show."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..reports import Cell, Step, Table
from .data import LabData


def splits_table(data: LabData) -> Table:
    """Return a table with the number of images of each class in each split."""
    titles = {"train": "training", "val": "validation", "test": "test"}
    splits = [split for split, count in data.counts.items() if count]
    rows: list[list[Cell]] = [
        [row["label"], *(row[split] for split in splits)] for row in data.step.result["classes"]
    ]
    rows.append(["all", *(data.counts[split] for split in splits)])
    header = ["class", *(titles[split] for split in splits)]
    return Table("Images of each class in each split.", header, rows, [data.step])


def epoch_table(caption: str, trained: Step) -> Table:
    """Return a table with loss and accuracy of each epoch; it marks the epoch that was kept."""
    titles = {
        "train_loss": "loss",
        "train_accuracy": "accuracy",
        "val_loss": "validation loss",
        "val_accuracy": "validation accuracy",
    }
    history, best_epoch = trained.result["history"], trained.result["evaluation"]["epoch"]
    metrics = [name for name in titles if any(name in row for row in history)]
    rows = [
        [f"{row['epoch']:.0f}" + (" (kept)" if row["epoch"] == best_epoch else "")]
        + [row.get(name) for name in metrics]
        for row in history
    ]
    return Table(caption, ["epoch", *(titles[name] for name in metrics)], rows, [trained])


def class_table(caption: str, evaluated: Step) -> Table:
    """Return a table with the accuracy of each class, from an `evaluate`."""
    result: dict[str, Any] = evaluated.result
    rows: list[list[Cell]] = [
        [row["label"], row["accuracy"], row["precision"], row["correct"], row["count"]]
        for row in result["classes"]
    ]
    rows.append(
        ["all", result["accuracy"], result["precision"], result["correct"], result["count"]]
    )
    return Table(
        caption, ["class", "accuracy", "precision", "correct", "images"], rows, [evaluated]
    )


def layer_table(caption: str, summarized: Step) -> Table:
    """Return a table with the output shape of each layer, from a `summary`."""
    result = summarized.result
    rows: list[list[Cell]] = [["input", "", shape_text(result["input_shape"]), None, None]]
    rows += [
        [
            layer["torch_path"],
            layer["torch_class"],
            shape_text(layer["output_shape"]),
            layer["parameters"] or None,
            layer["multiply_adds"] or None,
        ]
        for layer in result["layers"]
    ]
    rows.append(["all", "", "", result["parameters"], result["multiply_adds"]])
    header = ["layer", "class", "output", "parameters", "multiply-adds"]
    return Table(caption, header, rows, [summarized])


def formula_table(caption: str, summarized: Step) -> Table:
    """Return a table with the formula of each output size beside the shape of the real output."""
    rows = [
        [
            layer["torch_path"],
            layer["torch_class"],
            shape_text(layer["input_shape"]),
            layer["formula"],
            shape_text(layer["output_shape"]),
        ]
        for layer in summarized.result["layers"]
        if layer["formula"]
    ]
    header = ["layer", "class", "input", "formula", "output of the layer"]
    return Table(caption, header, rows, [summarized])


def shape_text(shape: Sequence[int]) -> str:
    """Format a shape: `20×24×24`.

    Example:
        >>> shape_text((20, 24, 24))
        '20×24×24'
    """
    return "×".join(map(str, shape))
