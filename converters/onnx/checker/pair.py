"""The two sides of a check: a model, and the `.onnx` file that was exported from it."""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from torch import nn
from torch.utils import _pytree as pytree

from ...inference.errors import ModelInputError
from ...inference.metadata import Metadata
from ...inference.onnx_interface import has_channels_last
from ...inference.prepare import to_input_dtype
from ...inference.torch_module import as_inputs, inference_copy
from ...input_shapes import (
    BATCH,
    BATCH_AXIS,
    FREE,
    InputShape,
    InputShapeError,
    InputShapes,
    interface_names,
    parse_inputs,
)
from ...modules.states import WithStates, state_count
from ...saved import SavedModel
from ..errors import OnnxError
from ..exporter.kept_outputs import Kept, KeptOutputs, kind_of_kept
from ..exporter.outputs import kind_of_outputs, names_of_outputs
from ..exporter.states import new_state_names, state_names
from ..exporter.tracing import EXPORTER, PRODUCER
from ..onnx_file import axes, dtype_of, read_network, takes_image

#: Operators that draw random numbers.
RANDOM = (
    *("Bernoulli", "Multinomial", "RandomNormal", "RandomNormalLike", "RandomUniform"),
    "RandomUniformLike",
)


@dataclass(frozen=True)
class ExportPair:
    """A model, and the `.onnx` file that was exported from it.

    Attributes:
        model: The model.
        module: Its network as it is exported (see `inference_copy`).
        path: The file.
        onnx_model: What the file holds, with its weights.
        metadata: The file's metadata.
    """

    model: SavedModel
    module: nn.Module
    path: Path
    onnx_model: onnx.ModelProto
    metadata: Metadata

    @classmethod
    def open(
        cls, model: SavedModel, path: str | os.PathLike[str], output_name: str | None = None
    ) -> ExportPair:
        """Read the file of a model.

        Args:
            model: The model.
            path: The file.
            output_name: Which of the file's outputs is the model's; None as the file says.

        Raises:
            OnnxError: If the file is missing, is not a network in ONNX, or has no such output.
        """
        onnx_model, metadata = read_network(path)
        if output_name is not None:
            names = [value.name for value in onnx_model.graph.output]
            if output_name not in names:
                raise OnnxError(
                    f"{os.fspath(path)}: no output {output_name}: it has {', '.join(names)}"
                )
            metadata = replace(metadata, output_name=output_name)
        if (kept := _kept(metadata)) is not None:
            model = kept.of(model)
        pair = cls(model, inference_copy(model.module), Path(path), onnx_model, metadata)
        return replace(pair, module=pair.with_states(pair.module))

    @cached_property
    def states(self) -> int:
        """How many inputs and outputs of the file are states that the model's layers remember."""
        count = state_count(self.model.module)
        names = [value.name for value in self.onnx_model.graph.input]
        return count if count and names[-count:] == state_names(count) else 0

    @property
    def is_foreign(self) -> bool:
        """Whether another program exported the file.

        One of torchlift's that has lost its metadata is no such file.
        """
        return self.metadata.is_foreign and self.onnx_model.producer_name != PRODUCER

    def with_states(self, module: nn.Module) -> nn.Module:
        """Return a copy of the model's network as the file has it, with its states outside."""
        if not self.states:
            return module
        return WithStates(module, len(self.shapes.entries) - self.states)

    def with_kind_of_outputs(self, inputs: Any) -> ExportPair:
        """Return the pair, the meaning of the model's outputs that of what the file keeps of them.

        Args:
            inputs: Examples, as the model takes them.
        """
        outputs, kind = self.onnx_model.graph.output, self.model.output_kind
        network = self.module
        if isinstance(network, WithStates):
            inputs, network = network.named_inputs(inputs), network.module
        if isinstance(network, KeptOutputs):
            with suppress(ModelInputError):  # That the model cannot run them is a finding later.
                kind = kind_of_kept(network, kind, as_inputs(network, inputs))
        else:
            in_front = all(leaf.batch_axis == 0 for leaf in self.shapes.leaves())
            count, sizes = len(outputs) - self.states, axes(outputs[0])
            if self.is_foreign:
                names = self.compared_outputs
                sizes = next(axes(value) for value in outputs if value.name in names)
                # A convolution gives the scores of classes as (N, classes, 1, 1).
                sizes = sizes[:2] if sizes[2:] == [1] * len(sizes[2:]) else sizes
                count = len(names)
            by_example = not in_front or self.is_foreign or sizes[:1] == [BATCH_AXIS]
            kind = kind_of_outputs(kind, count, len(sizes), by_example)
        return replace(self, model=replace(self.model, output_kind=kind))

    @property
    def input_names(self) -> list[str]:
        """The names that the inputs of the file must have.

        Where the model does not say any, they are those that were said when it was exported.
        """
        shapes, exported = self.model.input_shapes, _parsed(self.metadata.inputs)
        named = shapes is not None and any(leaf.name for leaf in shapes.leaves())
        if exported is not None and not named:
            shapes = exported
        total = len(self.onnx_model.graph.input)
        numbered = interface_names("input", total - self.states)
        names = numbered if shapes is None else shapes.names()
        return names if len(names) == total else [*names, *state_names(self.states)]

    @property
    def output_names(self) -> list[str]:
        """The names that the outputs of the file must have."""
        count = len(self.onnx_model.graph.output) - self.states
        names = names_of_outputs(self.model.output_kind, count, _kept(self.metadata))
        return [*names, *new_state_names(self.states)]

    @property
    def is_of_this_exporter(self) -> bool:
        """Whether the same versions export the model now, so that names and nodes are the same."""
        return self.metadata.exporter == EXPORTER

    @cached_property
    def shapes(self) -> InputShapes:
        """What the file takes; tables as its metadata or the model say."""
        values = self.onnx_model.graph.input
        leaves = [_shape_of(value, self._has_channels_last(value)) for value in values]
        for shapes in (_parsed(self.metadata.inputs), self.model.input_shapes):
            if shapes is not None and len(list(shapes.leaves())) == len(leaves):
                return shapes.with_leaves(leaves)
        return InputShapes(list(leaves))

    @property
    def input_batch_axes(self) -> list[int]:
        """The position of the batch in each input."""
        return [leaf.batch_axis for leaf in self.shapes.leaves()]

    @property
    def output_batch_axes(self) -> list[int]:
        """The position of the batch in each output of the file; 0 where it shares an axis."""
        shapes = [axes(value) for value in self.onnx_model.graph.output]
        return [shape.index(BATCH_AXIS) if BATCH_AXIS in shape else 0 for shape in shapes]

    @property
    def takes_image(self) -> bool:
        """Whether the file takes one image of any size (`export(…, bake_resize=True)`)."""
        is_baked = self.metadata.baked_preprocessing is not None
        return is_baked and takes_image(self.onnx_model.graph.input[0])

    @property
    def needs_images(self) -> bool:
        """Whether random inputs must be images, and not noise.

        The file takes pixels, or it is int8 and calibrated for the values that pixels give.
        """
        is_calibrated = self.metadata.precision == "int8" and self.model.preprocessing is not None
        return self.metadata.baked_preprocessing is not None or is_calibrated

    @property
    def random_operators(self) -> list[str]:
        """The operators of the file that draw random numbers."""
        return sorted({node.op_type for node in self.onnx_model.graph.node}.intersection(RANDOM))

    def file_inputs(self, inputs: Any) -> dict[str, np.ndarray]:
        """Return arrays by the names of the file's inputs, in their dtypes and order of axes."""
        arrays = [np.asarray(array) for array in pytree.tree_leaves(inputs)]
        return {
            value.name: to_input_dtype(
                array.transpose(0, 2, 3, 1) if self._has_channels_last(value) else array,
                dtype_of(value),
            )
            for value, array in zip(self.onnx_model.graph.input, arrays, strict=False)
        }

    @property
    def batch(self) -> int | None:
        """How many examples a run of the file takes; None for any number.

        torchlift's own files take any number.
        """
        sizes = axes(self.onnx_model.graph.input[0])
        is_fixed = self.is_foreign and sizes and isinstance(sizes[0], int)
        return int(sizes[0]) or None if is_fixed else None

    @property
    def compared_outputs(self) -> list[str]:
        """The names of the file's outputs that are the model's."""
        outputs = list(self.onnx_model.graph.output)
        name = self.metadata.output_name
        if name is not None:
            outputs = [value for value in outputs if value.name == name]
        elif self.is_foreign:
            # scikit-learn's exporter gives the predicted class beside the scores.
            outputs = [value for value in outputs if dtype_of(value).kind == "f"] or outputs
        return [value.name for value in outputs]

    def _has_channels_last(self, value: onnx.ValueInfoProto) -> bool:
        return self.is_foreign and has_channels_last(axes(value))


def _kept(metadata: Metadata) -> Kept | None:
    """Return what a file says that it keeps of the model's outputs; None if it is all."""
    outputs, columns = metadata.kept_outputs, metadata.kept_columns
    if outputs is None and columns is None:
        return None
    return Kept(
        None if outputs is None else tuple(outputs),
        None if columns is None else (columns[0], columns[1]),
    )


def _shape_of(value: onnx.ValueInfoProto, channels_last: bool) -> InputShape:
    """Return what an input takes; the batch is the first axis unless another one is named so."""
    sizes = [axis or FREE for axis in axes(value)]
    if channels_last:
        sizes = [sizes[0], sizes[3], *sizes[1:3]]
    batch = sizes.index(BATCH_AXIS) if BATCH_AXIS in sizes else 0
    dtype = str(dtype_of(value)) if value.type.tensor_type.elem_type else "float32"
    return InputShape(
        tuple(BATCH if position == batch else axis for position, axis in enumerate(sizes))
        or (BATCH,),
        None if dtype.startswith("float") else dtype,
        value.name,
    )


def _parsed(text: str | None) -> InputShapes | None:
    """Return what a file's metadata says of its inputs, if anything that is understood."""
    with suppress(InputShapeError):
        return None if text is None else parse_inputs(text)
    return None
