"""The two sides of a check: a model, and the `.onnx` file that was exported from it."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from torch import nn
from torch.utils import _pytree as pytree

from ...inference.metadata import Metadata
from ...inference.predictors import to_input_dtype
from ...inference.torch_module import inference_copy
from ...saved import SavedModel
from ..exporter.tracing import EXPORTER, SIZE_AXES
from ..onnx_file import axes, dtype_of, read_network

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
    def open(cls, model: SavedModel, path: str | os.PathLike[str]) -> ExportPair:
        """Read the file of a model.

        Raises:
            OnnxError: If the file is missing, or is not a network in ONNX.
        """
        onnx_model, metadata = read_network(path)
        return cls(model, inference_copy(model.module), Path(path), onnx_model, metadata)

    @property
    def is_of_this_exporter(self) -> bool:
        """Whether the same versions export the model now, so that names and nodes are the same."""
        return self.metadata.exporter == EXPORTER

    @property
    def takes_any_size(self) -> bool:
        """Whether the file leaves the height and width of images free."""
        return axes(self.onnx_model.graph.input[0])[2:] == [*SIZE_AXES]

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
        """Return arrays by the names of the file's inputs, in their dtypes."""
        arrays = [np.asarray(array) for array in pytree.tree_leaves(inputs)]
        values = self.onnx_model.graph.input
        return {
            value.name: to_input_dtype(array, dtype_of(value))
            for value, array in zip(values, arrays, strict=False)
        }
