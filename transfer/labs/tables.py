"""Tables that several labs show."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..reports import Cell, Step, Table
from .data import LabData


def parts_table(data: LabData) -> Table:
    """How many pictures of each class are in each part of a lab's dataset."""
    found = data.step.result
    names = {"train": "training", "val": "validation", "test": "test"}
    parts = [part for part, count in found["splits"].items() if count]
    rows: list[list[Cell]] = [
        [name, *(found["images"][part][index] for part in parts)]
        for index, name in enumerate(found["classes"])
    ]
    rows.append(["all", *(found["splits"][part] for part in parts)])
    header = ["class", *(names[part] for part in parts)]
    return Table("Pictures of each class in each part.", header, rows, [data.step])


def epoch_table(caption: str, trained: Step) -> Table:
    """Loss and accuracy after each epoch of a training; the epoch that is kept is marked."""
    names = {
        "train_loss": "loss",
        "train_accuracy": "accuracy",
        "val_loss": "validation loss",
        "val_accuracy": "validation accuracy",
    }
    history, kept = trained.result["history"], trained.result["evaluation"]["epoch"]
    there = [name for name in names if any(name in row for row in history)]
    rows = [
        [f"{row['epoch']:.0f}" + (" (kept)" if row["epoch"] == kept else "")]
        + [row.get(name) for name in there]
        for row in history
    ]
    return Table(caption, ["epoch", *(names[name] for name in there)], rows, [trained])


def class_table(caption: str, evaluated: Step) -> Table:
    """How often each class is recognised, of an `evaluate`."""
    found: dict[str, Any] = evaluated.result
    rows: list[list[Cell]] = [
        [each["label"], each["recall"], each["precision"], each["correct"], each["count"]]
        for each in found["classes"]
    ]
    rows.append(["all", found["accuracy"], found["precision"], found["correct"], found["count"]])
    return Table(
        caption, ["class", "accuracy", "precision", "correct", "images"], rows, [evaluated]
    )


def layer_table(caption: str, summarized: Step) -> Table:
    """The walk of shapes through a network, of a `summary`."""
    found = summarized.result
    rows: list[list[Cell]] = [["input", "", shape_words(found["input_shape"]), None, None]]
    rows += [
        [
            layer["name"],
            layer["class_name"],
            shape_words(layer["output_shape"]),
            layer["parameters"] or None,
            layer["multiply_adds"] or None,
        ]
        for layer in found["layers"]
    ]
    rows.append(["all", "", "", found["parameters"], found["multiply_adds"]])
    header = ["layer", "class", "output", "parameters", "multiply-adds"]
    return Table(caption, header, rows, [summarized])


def formula_table(caption: str, summarized: Step) -> Table:
    """How each layer's output gets its size, of a `summary`, beside what the layer itself gives."""
    rows = [
        [
            layer["name"],
            layer["class_name"],
            shape_words(layer["input_shape"]),
            layer["formula"],
            shape_words(layer["output_shape"]),
        ]
        for layer in summarized.result["layers"]
        if layer["formula"]
    ]
    header = ["layer", "class", "input", "formula", "output of the layer"]
    return Table(caption, header, rows, [summarized])


def shape_words(shape: Sequence[int]) -> str:
    """A shape as people write it: `20×24×24`."""
    return "×".join(map(str, shape))
