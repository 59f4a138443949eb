"""Tracing: a PyTorch module becomes an ONNX graph with a symbolic batch axis."""

from __future__ import annotations

import io
import logging
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from typing import Any

import onnx_ir
import onnxscript
import torch
from torch import nn
from torch.utils import _pytree as pytree

from ...inference.torch_module import resize_batch
from ..errors import OnnxError
from .optimizer import optimize

#: The opset that torch.onnx.export generates, so that no operator is down-converted. ONNX Runtime
#: 1.14 (2023), TensorRT 8.6, OpenCV 4.8 and later versions read it.
OPSET = 18
#: The IR version that came with opset 18. The exporter writes a newer one, which fewer programs
#: read, although the graph uses nothing of it.
IR_VERSION = 8

#: What translates a model; other versions name and arrange the nodes in another way.
EXPORTER = f"torch {torch.__version__}, onnxscript {onnxscript.__version__}"

BATCH_AXIS = "batch"
#: The last two axes of a network that takes images of any size.
SIZE_AXES = ("height", "width")
#: torch.export treats sizes of 0 and 1 as constants, so a batch is traced with two examples.
_TRACED_BATCH = 2


def trace(
    module: nn.Module,
    inputs: Any,
    input_names: Sequence[str],
    output_names: Sequence[str],
    any_size: bool = False,
) -> onnx_ir.Model:
    """Return the ONNX graph of a module, for any number of examples.

    Args:
        module: In evaluation mode (see `inference_copy`).
        inputs: Example inputs: a tensor (N, …), or a list of them (a Torch7 table).
        input_names: A name for each tensor of `inputs`.
        output_names: A name for each tensor of the output.
        any_size: Whether the last two axes of images are free too.

    Raises:
        OnnxError: If ONNX cannot express the module, or not for every batch or size.
    """
    model = translate(module, inputs, any_size).model
    optimize(model)
    name_interface(model, input_names, output_names)
    model.ir_version = IR_VERSION
    _strip_metadata(model)
    return model


def name_interface(
    model: onnx_ir.Model, input_names: Sequence[str], output_names: Sequence[str]
) -> None:
    """Name the inputs and outputs of a graph, in place."""
    for values, names in ((model.graph.inputs, input_names), (model.graph.outputs, output_names)):
        for value, name in zip(values, names, strict=True):
            value.name = name


def translate(module: nn.Module, inputs: Any, any_size: bool = False) -> torch.onnx.ONNXProgram:
    """Return a module as torch translates it to ONNX, before anything is optimized.

    Its `exported_program` holds the operators, which PyTorch can run one by one; each value has
    the name that it has in the ONNX graph.

    Args:
        module: As for `trace`.
        inputs: As for `trace`.
        any_size: As for `trace`.

    Raises:
        OnnxError: As `trace`.
    """
    axis_names = dict(enumerate((BATCH_AXIS, None, *SIZE_AXES) if any_size else (BATCH_AXIS,)))
    dynamic_axes: dict[int, Any] = {0: torch.export.Dim(BATCH_AXIS)}
    if any_size:
        # DYNAMIC infers the smallest size: a network with strides does not take a single pixel.
        dynamic_axes |= dict.fromkeys((2, 3), torch.export.Dim.DYNAMIC)
    try:
        with _quiet():
            # Given a module, torch.onnx would try one way of tracing after another.
            exported = torch.export.export(
                module,
                (resize_batch(inputs, _TRACED_BATCH),),
                dynamic_shapes=(pytree.tree_map(lambda _: dynamic_axes, inputs),),
            )
            program = torch.onnx.export(
                exported,
                dynamic_shapes=(pytree.tree_map(lambda _: axis_names, inputs),),
                opset_version=OPSET,
                dynamo=True,
                optimize=False,
                verbose=False,
            )
    except Exception as error:  # Tracing runs the module's own code, which may raise anything.
        raise OnnxError(f"the model cannot be exported: {_root_cause(error)}") from error
    assert program is not None
    return program


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep the exporter's remarks off both streams; its errors are exceptions."""
    previous_level = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with (
            warnings.catch_warnings(),
            redirect_stdout(io.StringIO()),
            redirect_stderr(io.StringIO()),
        ):
            # Several inputs share one batch axis on purpose.
            warnings.filterwarnings("ignore", message=".*shares the same shape constraints")
            yield
    finally:
        logging.disable(previous_level)


def _strip_metadata(model: onnx_ir.Model) -> None:
    """Remove the exporter's metadata of nodes and values: stack traces with local paths."""
    for graph in model.graphs():
        graph.metadata_props.clear()
        for value in (*graph.inputs, *graph.initializers.values()):
            value.metadata_props.clear()
        for node in graph:
            node.metadata_props.clear()
            for value in node.outputs:
                value.metadata_props.clear()


def _root_cause(error: BaseException) -> str:
    """Return the first line of the original error, which the exporter wraps in pages of advice."""
    while error.__cause__ is not None:
        error = error.__cause__
    text = str(error).strip()
    if text.startswith("Constraints violated"):
        if any(f"({name}" in text.splitlines()[0] for name in SIZE_AXES):
            return "it does not work for images of any size"
        return (
            f"it works only for a batch of {_TRACED_BATCH}, because its code fixes the batch size"
        )
    return f"{type(error).__name__}: {text}".splitlines()[0]
