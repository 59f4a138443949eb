"""Tracing: a PyTorch module becomes an ONNX graph with a symbolic batch axis."""

from __future__ import annotations

import io
import logging
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from functools import partial
from typing import Any

import onnx_ir
import onnxscript
import torch
from torch import nn
from torch.utils import _pytree as pytree

from ...input_shapes import BATCH_AXIS, InputShapes
from ...modules.packages.cells import find_cells
from ...modules.recurrence import recurrent_operators
from ..errors import OnnxError
from .optimizer import optimize
from .recurrent_operators import OPERATORS, TRANSLATIONS

#: The opset that torch.onnx.export generates, so that no operator is down-converted. ONNX Runtime
#: 1.14 (2023), TensorRT 8.6, OpenCV 4.8 and later versions read it.
OPSET = 18
#: The IR version that came with opset 18. The exporter writes a newer one, which fewer programs
#: read, although the graph uses nothing of it.
IR_VERSION = 8

#: What translates a model; other versions name and arrange the nodes in another way.
EXPORTER = f"torch {torch.__version__}, onnxscript {onnxscript.__version__}"

#: What a file names as the program that wrote it.
PRODUCER = "torchlift"

#: What torch.export raises where code decides by a size that is free.
_SIZE_ERRORS = ("GuardOnDataDependentSymNode", "UserError", "ConstraintViolationError")
#: torch.export treats sizes of 0 and 1 as constants, so a batch is traced with two examples.
_TRACED_BATCH = 2


def trace(
    module: nn.Module,
    inputs: Any,
    shapes: InputShapes,
    output_names: Sequence[str],
) -> onnx_ir.Model:
    """Return the ONNX graph of a module, for any number of examples.

    Args:
        module: In evaluation mode (see `inference_copy`).
        inputs: Example inputs: a tensor, or a list of them (a Torch7 table).
        shapes: What they are: which axes are free, which is the batch, and their names.
        output_names: A name for each tensor of the output.

    Raises:
        OnnxError: If ONNX cannot express the module, or not for every batch or size.
    """
    model = translate(module, inputs, shapes).model
    optimize(model)
    name_interface(model, shapes.names(), output_names)
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


def translate(module: nn.Module, inputs: Any, shapes: InputShapes) -> torch.onnx.ONNXProgram:
    """Return a module as torch translates it to ONNX, before anything is optimized.

    Its `exported_program` holds the operators, which PyTorch can run one by one; each value has
    the name that it has in the ONNX graph.

    Args:
        module: As for `trace`.
        inputs: As for `trace`.
        shapes: As for `trace`.

    Raises:
        OnnxError: As `trace`.
    """
    axis_names = shapes.axis_names()
    # DYNAMIC infers the smallest size: a network with strides does not take a single pixel.
    kinds = {BATCH_AXIS: torch.export.Dim(BATCH_AXIS)}
    free: list[dict[int, Any]] = [
        {axis: kinds.get(name, torch.export.Dim.DYNAMIC) for axis, name in names.items()}
        for names in axis_names
    ]
    leaves, structure = pytree.tree_flatten(inputs)
    traced = [
        _two_examples(leaf, shape.batch_axis)
        for leaf, shape in zip(leaves, shapes.leaves(), strict=True)
    ]
    unflatten = partial(pytree.tree_unflatten, treespec=structure)
    try:
        with _quiet(), torch.no_grad(), recurrent_operators(OPERATORS, find_cells(module)):
            # Given a module, torch.onnx would try one way of tracing after another.
            exported = torch.export.export(
                module,
                (unflatten(traced),),
                dynamic_shapes=(unflatten(free),),
            )
            program = torch.onnx.export(
                exported,
                dynamic_shapes=(unflatten(axis_names),),
                opset_version=OPSET,
                custom_translation_table=TRANSLATIONS,
                dynamo=True,
                optimize=False,
                verbose=False,
            )
    except Exception as error:  # Tracing runs the module's own code, which may raise anything.
        cause = _root_cause(error, shapes)
        raise OnnxError(f"the model cannot be exported: {cause}") from error
    assert program is not None
    return program


def _two_examples(tensor: torch.Tensor, axis: int) -> torch.Tensor:
    """Return the first examples of a batch, repeated where there is one only."""
    return tensor.index_select(axis, torch.arange(_TRACED_BATCH) % tensor.shape[axis])


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


def _root_cause(error: BaseException, shapes: InputShapes) -> str:
    """Return the first line of the original error, which the exporter wraps in pages of advice."""
    while error.__cause__ is not None:
        error = error.__cause__
    text = str(error).strip()
    free = [name for names in shapes.axis_names() for name in names.values() if name != BATCH_AXIS]
    is_constraint = text.startswith(("Constraints violated", "Not all values of"))
    if free and (is_constraint or type(error).__name__ in _SIZE_ERRORS):
        if shapes.takes_any_size:
            return "it does not work for images of any size"
        return (
            f"it does not work for every size of the free axes of {shapes}: give axes that are "
            "always of one size one name, such as t, and numbers in place of ? and names where the "
            "number of steps, inputs or outputs follows from a size"
        )
    if is_constraint:
        return (
            f"it works only for a batch of {_TRACED_BATCH}, because its code fixes the batch size"
        )
    return f"{type(error).__name__}: {text}".splitlines()[0]
