"""Writing a part of an ONNX graph as arithmetic: `(2 * i + 1) * new - old` makes its nodes.

Numbers and numpy arrays that meet a `Tensor` become constants of the graph. What is known without
the graph's inputs stays a number or an array, so that no node computes it.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir
from onnx_ir import tape


class GraphWriter:
    """Collects the nodes and constants of an expression.

    Args:
        prefix: Begins the names of all nodes, constants and values.

    Example:
        >>> writer = GraphWriter("part_")
        >>> image = onnx_ir.Input("image", type=onnx_ir.TensorType(onnx_ir.DataType.INT64))
        >>> doubled = 2 * Tensor(writer, image, np.int64) + 1
        >>> [node.op_type for node in writer.tape.nodes]
        ['Mul', 'Add']
    """

    def __init__(self, prefix: str) -> None:
        self.tape = tape.Tape()
        self._prefix = prefix
        self._constants: dict[tuple[str, tuple[int, ...], bytes], onnx_ir.Value] = {}

    def constant(self, values: Any, dtype: Any) -> onnx_ir.Value:
        """Return a constant of the graph; equal ones are stored once."""
        array = np.asarray(values, dtype)
        key = (array.dtype.str, array.shape, array.tobytes())
        if key not in self._constants:
            name = f"{self._prefix}constant_{len(self._constants)}"
            self._constants[key] = self.tape.initializer(onnx_ir.tensor(array, name=name))
        return self._constants[key]

    def op(
        self, operator: str, *inputs: Tensor | onnx_ir.Value, dtype: Any, **attributes: Any
    ) -> Tensor:
        """Add a node.

        Args:
            operator: The ONNX operator.
            inputs: What it takes.
            dtype: The numpy dtype of its result.
            attributes: Its attributes.
        """
        values = [value.value if isinstance(value, Tensor) else value for value in inputs]
        result = self.tape.op(operator, values, attributes)
        node = result.producer()
        assert node is not None
        index = len(self.tape.nodes) - 1
        node.name, result.name = f"{self._prefix}{operator}_{index}", f"{self._prefix}value_{index}"
        result.type = onnx_ir.TensorType(onnx_ir.DataType.from_numpy(np.dtype(dtype)))
        return Tensor(self, result, dtype)

    def range(self, count: Tensor | int) -> Tensor | np.ndarray:
        """Return the whole numbers below `count`, which is a number or a scalar."""
        if isinstance(count, int):
            return np.arange(count)
        zero, one = self.constant(0, np.int64), self.constant(1, np.int64)
        return self.op("Range", zero, count, one, dtype=np.int64)


class Tensor:
    """A value of a graph, with the operators of Python.

    Args:
        writer: Takes the nodes.
        value: The value.
        dtype: Its numpy dtype: int64 or float32 for arithmetic.
    """

    #: Lets an array on the left leave its operators to this class.
    __array_ufunc__ = None

    def __init__(self, writer: GraphWriter, value: onnx_ir.Value, dtype: Any) -> None:
        self.writer, self.value, self.dtype = writer, value, np.dtype(dtype)

    def apply(
        self, operator: str, *others: Operand, dtype: Any = None, **attributes: Any
    ) -> Tensor:
        """Return the result of an operator on this value and others of the same dtype."""
        rest = [self._same(other) for other in others]
        return self.writer.op(operator, self, *rest, dtype=dtype or self.dtype, **attributes)

    def _same(self, other: Operand) -> Tensor | onnx_ir.Value:
        return other if isinstance(other, Tensor) else self.writer.constant(other, self.dtype)

    def _reflected(self, operator: str, other: Operand) -> Tensor:
        return self.writer.op(operator, self._same(other), self, dtype=self.dtype)

    def __add__(self, other: Operand) -> Tensor:
        return self.apply("Add", other)

    __radd__ = __add__

    def __sub__(self, other: Operand) -> Tensor:
        return self.apply("Sub", other)

    def __rsub__(self, other: Operand) -> Tensor:
        return self._reflected("Sub", other)

    def __mul__(self, other: Operand) -> Tensor:
        return self.apply("Mul", other)

    __rmul__ = __mul__

    def __truediv__(self, other: Operand) -> Tensor:
        return self.apply("Div", other)

    def __rtruediv__(self, other: Operand) -> Tensor:
        return self._reflected("Div", other)

    def __floordiv__(self, other: Operand) -> Tensor:
        """Divide whole numbers of at least 0 and round down.

        This holds also where a runtime divides them in float32, as OpenVINO does, and the quotient
        is off by one.
        """
        quotient = self.apply("Div", other)
        rest = self - quotient * other
        return quotient + (rest >= other).number(np.int64) - (rest < 0).number(np.int64)

    def __lt__(self, other: Operand) -> Tensor:
        return self.apply("Less", other, dtype=np.bool_)

    def __ge__(self, other: Operand) -> Tensor:
        return self.apply("GreaterOrEqual", other, dtype=np.bool_)

    def equals(self, other: Operand) -> Tensor:
        """Return where two values are equal."""
        return self.apply("Equal", other, dtype=np.bool_)

    def number(self, dtype: Any) -> Tensor:
        """Return the value in another dtype; floats are cut to whole numbers."""
        if self.dtype == np.dtype(dtype):
            return self
        to = onnx_ir.DataType.from_numpy(np.dtype(dtype))
        return self.apply("Cast", dtype=dtype, to=to)

    def clip(self, low: Operand, high: Operand) -> Tensor:
        """Return the value, limited to a range."""
        return self.apply("Max", low).apply("Min", high)

    def sum(self, axis: int) -> Tensor:
        """Return the sums along an axis, which stays with the size 1."""
        axes = self.writer.constant([axis], np.int64)
        return self.writer.op("ReduceSum", self, axes, dtype=self.dtype, keepdims=1)

    def product(self, other: Tensor) -> Tensor:
        """Return the product of two matrices, or of one with each of several."""
        return self.apply("MatMul", other)

    def gather(self, indices: Tensor | np.ndarray, axis: int) -> Tensor:
        """Return the entries with these indices along an axis."""
        if not isinstance(indices, Tensor):
            indices = Tensor(self.writer, self.writer.constant(indices, np.int64), np.int64)
        return self.writer.op("Gather", self, indices, dtype=self.dtype, axis=axis)

    def reshape(self, shape: list[int]) -> Tensor:
        """Return the value in another shape."""
        sizes = self.writer.constant(shape, np.int64)
        return self.writer.op("Reshape", self, sizes, dtype=self.dtype)

    def unsqueeze(self, axis: int) -> Tensor:
        """Return the value with a further axis of the size 1."""
        axes = self.writer.constant([axis], np.int64)
        return self.writer.op("Unsqueeze", self, axes, dtype=self.dtype)

    def where(self, yes: Operand, no: Operand) -> Tensor:
        """Return `yes` where this condition holds, else `no`; one of them is a `Tensor`."""
        like = yes if isinstance(yes, Tensor) else no
        assert isinstance(like, Tensor)
        both = [value if isinstance(value, Tensor) else like._same(value) for value in (yes, no)]
        return self.writer.op("Where", self, *both, dtype=like.dtype)


#: What an expression can hold: a value of the graph, or one that is known already.
Operand = Tensor | float | np.ndarray | np.generic
