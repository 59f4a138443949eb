"""`torchlift summary`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Group, RenderableType
from rich.table import Table

from ..converters.errors import TorchliftError
from ..converters.input_shapes import InputShapes
from ..transfer.formatting import format_bytes
from .model_options import FILE_DEFAULTS, ModelOptions
from .result import CommandResult, table
from .values import Count

if TYPE_CHECKING:
    from torch import nn

    from ..transfer.summary import Summary
    from ..transfer.summary.layers import Shape


def summary(
    model: str,
    *,
    classes: Count | None = None,
    formulas: bool = False,
    model_options: ModelOptions = FILE_DEFAULTS,
) -> CommandResult:
    """Show the output shape, parameters, bytes and multiply-adds of each layer.

    No values are computed, so that a large network takes no longer. A multiply-add is a product in
    a convolution or between matrices; bytes and multiply-adds are for one example.

    Args:
        model: A .t7 file, a saved model's folder, hf:FOLDER or hf:ORG/NAME, torchvision:NAME or
            timm:NAME, python:package.module:function, or a built-in name, such as convnet or
            alexnet_owt_bn.
        classes: Outputs of a built-in network; by default as many as in its lab or paper.
        formulas: Show how the output size of each convolution and pooling is computed.
        model_options: How to open a file.
    """
    from ..converters.saved import infer_input_shape
    from ..converters.saved.shapes import input_hint
    from ..transfer.errors import SummaryError
    from ..transfer.summary import summarize

    if model.lower().endswith(".onnx"):
        raise SummaryError(
            f"{model} is a graph without layers: give the model that it was exported from; "
            "inspect and plot sizes take .onnx files"
        )
    given = model_options.input
    network, shapes, notes = _network(model, classes, model_options)
    if shapes is None:
        hint = input_hint(network)
        suggested = f"; the first layer suggests '{hint}'" if hint else ""
        raise SummaryError(
            f"{model} takes inputs of more than one size: give input='SIZE'{suggested}"
        )
    try:
        found = summarize(network, shapes)
    except SummaryError as error:
        known = None if given is None else infer_input_shape(network)
        hint = "" if known is None else f"; {_words(known)} fits"
        raise SummaryError(f"{error}{hint}") from error
    facts = {"model": model, **found.to_json(), "notes": notes}
    parts: list[RenderableType] = [
        _layers(found, lua=model.lower().endswith(".t7")),
        "",
        _totals(found),
    ]
    if formulas:
        parts += ["", _formulas(found)]
    return CommandResult(facts, Group(*parts, *(f"note: {note}" for note in notes)))


def _network(
    source: str, classes: int | None, model_options: ModelOptions
) -> tuple[nn.Module, InputShapes | None, list[str]]:
    """Return a network, what it takes if known, and its notes."""
    import torch

    from ..converters.saved import infer_input_shape
    from ..transfer.networks import NETWORKS

    if source not in NETWORKS:
        if classes is not None:
            raise TorchliftError(f"--classes is for built-in networks: {', '.join(NETWORKS)}")
        if ":" not in source and not Path(source).exists():
            raise TorchliftError(
                f"{source}: no such file or network; the networks are {', '.join(NETWORKS)}"
            )
        opened = model_options.model(source)
        return opened.module, opened.input_shapes, opened.notes
    given = model_options.input
    shape = None if given is None else given.image_shape
    sizes = {"channels": shape[0] if shape else None, "classes": classes}
    with torch.device("meta"):
        network = NETWORKS[source](**{k: size for k, size in sizes.items() if size is not None})
    if given is not None:
        return network, given, []
    known = infer_input_shape(network.eval())
    return network, None if known is None else InputShapes.single(known), []


def _layers(found: Summary, lua: bool) -> Table:
    numbers = ("parameters", "weights", "outputs", "multiply-adds")
    columns = ("layer", *(["Lua path"] if lua else []), "class", "output shape", *numbers)
    view = table(*columns, right=numbers)
    view.add_row("input", *([""] if lua else []), "", _words(found.input_shape))
    for row in found.layers:
        view.add_row(
            row.torch_path or "(all of it)",
            *([row.lua_path] if lua else []),
            row.torch_class,
            _words(row.output_shape),
            f"{row.parameters:,}" if row.parameters else "",
            _size(row.weight_bytes),
            _size(row.output_bytes),
            f"{row.multiply_adds:,}" if row.multiply_adds else "",
        )
    view.add_row(
        "all",
        *([""] if lua else []),
        "",
        "",
        f"{found.parameters:,}",
        _size(found.weight_bytes),
        _size(found.output_bytes),
        f"{found.multiply_adds:,}",
        style="bold",
    )
    return view


def _totals(found: Summary) -> str:
    return (
        f"{found.depth} layers with weights in a row, {found.parameters:,} parameters "
        f"({found.weight_bytes:,} bytes with running statistics), "
        f"{found.multiply_adds:,} multiply-adds, {found.output_bytes:,} bytes of outputs"
    )


def _formulas(found: Summary) -> Table:
    view = table("layer", "class", "input shape", "output shape", "how")
    for row in found.layers:
        if row.formula:
            shapes = _words(row.input_shape), _words(row.output_shape)
            view.add_row(row.torch_path, row.torch_class, *shapes, row.formula)
    return view


def _words(shape: Shape) -> str:
    if isinstance(shape, list):
        return ", ".join(map(_words, shape))
    return "×".join(map(str, shape)) or "1"


def _size(count: int) -> str:
    return format_bytes(count) if count else ""
