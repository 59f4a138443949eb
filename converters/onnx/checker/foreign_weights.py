"""Finding the numbers of a file that another program exported among those of the model.

Its constants have names of their own, may lie in another order of axes, and may have had a batch
normalization folded into them or not. So each is looked up by its values.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import permutations

import numpy as np
import onnx
from onnx import numpy_helper

from .reference import Constant
from .weights import WeightComparison, is_rounded

#: In which order another program folds a normalization, nobody knows: by how many units in the last
#: place a number may differ then.
_UNITS = 8
#: More axes than those of a convolution's weights are not put in other orders.
_MOST_AXES = 5


@dataclass
class _Candidates:
    """The model's constants, and which of them were found.

    Attributes:
        found: The names of those that the file holds.
    """

    found: set[str] = field(default_factory=set)
    _by_size: dict[int, list[tuple[str, Constant]]] = field(
        default_factory=lambda: defaultdict(list)
    )

    def add(self, constants: Mapping[str, Constant]) -> None:
        """Add constants by their names, the same name also with other values."""
        for name, constant in constants.items():
            if constant.values.dtype.kind == "f":
                self._by_size[constant.values.size].append((name, constant))

    def holds(self, array: np.ndarray) -> bool:
        """Whether a constant has the numbers of an array, in some order of its axes."""
        for name, constant in self._by_size[array.size]:
            if any(_is_equal(one, array) for one in _orders(constant, array)):
                self.found.add(name)
                return True
        return False

    def missing_like(self, array: np.ndarray) -> str:
        """Return the name of a constant that was not found, and has the shape of an array."""
        sizes = sorted(array.shape)
        for name, constant in self._by_size[array.size]:
            if name not in self.found and sorted(constant.values.shape) == sizes:
                return name
        return ""


def compare_by_value(
    constants: Iterable[Mapping[str, Constant]], onnx_model: onnx.ModelProto
) -> WeightComparison:
    """Look up every floating point constant of a file among the model's.

    Args:
        constants: What the file may hold (see `Reference`): with folded normalizations and
            without.
        onnx_model: The file, with its weights.

    Returns:
        `differing` names those that have the shape of a constant of the model which the file
        lacks, and other numbers; `unknown` all that were not found.
    """
    candidates = _Candidates()
    for mapping in constants:
        candidates.add(mapping)
    result = WeightComparison()
    unknown = []
    for name, array in _constants(onnx_model.graph):
        result.total += array.size
        if candidates.holds(array):
            result.compared += array.size
        else:
            unknown.append((name, array))
    result.unknown = [name for name, _ in unknown]
    for name, array in unknown:
        if array.ndim > 1 and (missing := candidates.missing_like(array)):
            result.differing.append(f"{name} (the model's {missing})")
    return result


def _constants(graph: onnx.GraphProto) -> Iterator[tuple[str, np.ndarray]]:
    """Yield the floating point constants of a graph, in initializers and in nodes."""
    tensors = [(tensor.name, tensor) for tensor in graph.initializer]
    tensors += [
        (node.output[0], attribute.t)
        for node in graph.node
        if node.op_type == "Constant"
        for attribute in node.attribute
        if attribute.name == "value"
    ]
    for name, tensor in tensors:
        array = numpy_helper.to_array(tensor)
        if array.dtype.kind == "f":
            yield name, array


def _orders(constant: Constant, array: np.ndarray) -> Iterator[Constant]:
    """Yield a constant in each order of its axes that gives the shape of an array."""
    values = constant.values
    if values.ndim != array.ndim or values.ndim > _MOST_AXES:
        yield Constant(values.reshape(array.shape), constant.is_computed)
        return
    for order in permutations(range(values.ndim)):
        if tuple(values.shape[axis] for axis in order) == array.shape:
            yield Constant(values.transpose(order), constant.is_computed)


def _is_equal(constant: Constant, array: np.ndarray) -> bool:
    """Whether an array holds a constant, computed in whatever order by another program."""
    if is_rounded(constant, array):
        return True
    if not constant.is_computed:
        return False
    values = constant.values.astype(array.dtype)
    # A bias is a difference, which may be small beside what it is the difference of.
    sizes = np.abs(values) if values.ndim > 1 else np.abs(values).max(initial=0)
    limit = _UNITS * np.spacing(sizes).astype(np.float64)
    return bool((np.abs(values.astype(np.float64) - array) <= limit).all())
