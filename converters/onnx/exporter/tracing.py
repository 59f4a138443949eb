"""From a PyTorch module to an ONNX graph with a symbolic batch axis."""

from __future__ import annotations

import io
import logging
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from typing import Any

import onnx_ir
import torch
from torch import nn
from torch.utils import _pytree as pytree

from ...inference.torch_module import resize_batch
from ..errors import OnnxError

#: The exporter's own opset: nothing is down-converted, and ONNX Runtime 1.14 (2023), TensorRT 8.6
#: and OpenCV 4.8 and later read it.
OPSET = 18
#: The IR version that came with opset 18; the exporter would write a newer one for no use here.
IR_VERSION = 8

BATCH_AXIS = "batch"
#: The last two axes of a network that takes images of any size.
SIZE_AXES = ("height", "width")
#: torch.export takes sizes of 0 and 1 for constants, so that a batch is traced with two.
_TRACED_BATCH = 2


def trace(
    module: nn.Module,
    inputs: Any,
    input_names: Sequence[str],
    output_names: Sequence[str],
    any_size: bool = False,
) -> onnx_ir.Model:
    """The ONNX graph of a module, for any number of examples.

    Args:
        module: in evaluation mode (see `inference_copy`).
        inputs: an example: a tensor (N, …), or a list of them (a Torch7 table).
        input_names: a name for each tensor of `inputs`.
        output_names: a name for each tensor of the output.
        any_size: the last two axes of images are free too.

    Raises:
        OnnxError: when ONNX cannot express the module, or not for every batch or size.
    """
    model = _translate(module, inputs, any_size, input_names, output_names).model
    model.ir_version = IR_VERSION
    _strip_notes(model)
    return model


def operators(module: nn.Module, inputs: Any, any_size: bool = False) -> torch.fx.GraphModule:
    """The operators that `trace` translates, one by one, to be run by PyTorch.

    Each value has the name that it has in the ONNX graph; the inputs are the flattened ones.

    Raises:
        OnnxError: as `trace`.
    """
    program = _translate(module, inputs, any_size).exported_program
    assert program is not None
    return program.module()


def _translate(
    module: nn.Module,
    inputs: Any,
    any_size: bool,
    input_names: Sequence[str] | None = None,
    output_names: Sequence[str] | None = None,
) -> torch.onnx.ONNXProgram:
    names = dict(enumerate((BATCH_AXIS, None, *SIZE_AXES) if any_size else (BATCH_AXIS,)))
    free: dict[int, Any] = {0: torch.export.Dim(BATCH_AXIS)}
    if any_size:
        # A smallest size is found for these: a network with strides takes no single pixel.
        free |= dict.fromkeys((2, 3), torch.export.Dim.DYNAMIC)
    try:
        with _quiet():
            # Exporting by itself keeps torch.onnx from trying one way of tracing after another.
            exported = torch.export.export(
                module,
                (resize_batch(inputs, _TRACED_BATCH),),
                dynamic_shapes=(pytree.tree_map(lambda _: free, inputs),),
            )
            program = torch.onnx.export(
                exported,
                input_names=input_names,
                output_names=output_names,
                dynamic_shapes=(pytree.tree_map(lambda _: names, inputs),),
                opset_version=OPSET,
                dynamo=True,
                verbose=False,
            )
    except Exception as error:  # Tracing runs the module's own code: anything may come out.
        raise OnnxError(f"the model cannot be exported: {_root_cause(error)}") from error
    assert program is not None
    return program


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep the exporter's own remarks off both streams; what matters comes as an exception."""
    disabled = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with (
            warnings.catch_warnings(),
            redirect_stdout(io.StringIO()),
            redirect_stderr(io.StringIO()),
        ):
            # Several inputs share one batch axis, on purpose.
            warnings.filterwarnings("ignore", message=".*shares the same shape constraints")
            yield
    finally:
        logging.disable(disabled)


def _strip_notes(model: onnx_ir.Model) -> None:
    """Drop what the exporter notes on each node: stack traces with paths of this machine."""
    for graph in model.graphs():
        graph.metadata_props.clear()
        for value in (*graph.inputs, *graph.initializers.values()):
            value.metadata_props.clear()
        for node in graph:
            node.metadata_props.clear()
            for value in node.outputs:
                value.metadata_props.clear()


def _root_cause(error: BaseException) -> str:
    """The first line of the error that began it; the exporter wraps it in pages of advice."""
    while error.__cause__ is not None:
        error = error.__cause__
    text = str(error).strip()
    if text.startswith("Constraints violated"):
        if any(f"({name}" in text.splitlines()[0] for name in SIZE_AXES):
            return "it does not work for images of any size"
        return f"it works for a batch of {_TRACED_BATCH} only, because its code fixes that number"
    return f"{type(error).__name__}: {text}".splitlines()[0]
