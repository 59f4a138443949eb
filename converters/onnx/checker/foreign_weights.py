"""Finding the numbers of a file that another program exported among those of the model.

Its constants have names of their own, may lie in another order of axes, and may have had a batch
normalization folded into them or not. So each is looked up by its values.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from itertools import permutations

import numpy as np
import onnx

from .foreign_int8 import Dequantized, all_constants, quantized_constants_of
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

    def find(self, array: np.ndarray, fits: Callable[[Constant], bool]) -> np.ndarray | None:
        """Return the values of a constant that fits, in the order of an array's axes, or None."""
        for name, constant in self._by_size[array.size]:
            for one in _orders(constant, array):
                if fits(one):
                    self.found.add(name)
                    return one.values
        return None

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
    """Look up every floating point or int8 constant of a file among the model's.

    Args:
        constants: What the file may hold (see `Reference`): with folded normalizations and
            without.
        onnx_model: The file, with its weights.

    Returns:
        `differing` names those that have the shape of a constant of the model which the file
        lacks, and other numbers; `unknown` all that were not found, or that have too few steps to
        tell.
    """
    candidates = _Candidates()
    for mapping in constants:
        candidates.add(mapping)
    result = WeightComparison()
    missed: list[tuple[str, np.ndarray]] = []
    quantized = quantized_constants_of(onnx_model.graph)
    for name, array in all_constants(onnx_model.graph):
        if array.dtype.kind == "f" and name not in quantized.scales:
            result.total += array.size
            if candidates.find(array, partial(_is_equal, array=array)) is not None:
                result.compared += array.size
            else:
                missed.append((name, array))
    for steps in quantized.dequantized:
        result.total += steps.values.size
        values = candidates.find(steps.values, partial(_is_within, steps=steps))
        if values is None:
            missed.append((steps.name, steps.values))
            continue
        # Steps that are 0 throughout say nothing, unless the numbers are 0.
        told = int((steps.is_fine | (np.abs(values) < np.finfo(np.float32).tiny)).sum())
        result.compared += told
        if told < values.size:
            result.unknown.append(steps.name)
    result.unknown += [name for name, _ in missed]
    for name, array in missed:
        if array.ndim > 1 and (missing := candidates.missing_like(array)):
            result.differing.append(f"{name} (the model's {missing})")
    for name, (array, operator) in quantized.unread.items():
        result.total += array.size
        result.unknown.append(f"{name}, whose scale in {operator or 'the graph'} is not read")
    return result


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


def _is_within(constant: Constant, steps: Dequantized) -> bool:
    """Whether each number of a constant is within half a step of what stands for it."""
    return bool((np.abs(constant.values - steps.values) <= steps.half).all())
