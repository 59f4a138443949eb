"""The order of axes in a check: outputs of other programs, and factors that are folded.

What is protected: only an output that is the model's but for its axes is turned, and each output
channel of a layer gets its own factor of the normalization behind it.
"""

from __future__ import annotations

import numpy as np
import onnx_ir
import pytest

from torchlift.converters.onnx.checker.foreign_runs import _like
from torchlift.converters.onnx.checker.reference import _factor_like


def test_outputs_of_another_order_of_axes_are_turned() -> None:
    maps = np.arange(2 * 4 * 5 * 3).reshape(2, 4, 5, 3)
    assert np.array_equal(_like(maps, (2, 3, 4, 5)), np.moveaxis(maps, 3, 1))
    assert _like(maps, (2, 4, 5, 3)) is maps
    assert _like(maps, (2, 5, 4, 3)) is maps
    # Of a map whose axes are of one size nothing says that they are in another order.
    cube = np.arange(2 * 27).reshape(2, 3, 3, 3)
    assert _like(cube, (2, 3, 3, 3)) is cube
    scores = np.arange(10).reshape(2, 5, 1, 1)
    assert np.array_equal(_like(scores, (2, 5)), scores[:, :, 0, 0])
    assert _like(scores, (5, 2)) is scores
    # A batch of one is no axis that can be left out.
    row = np.zeros((1, 5))
    assert _like(row, (5, 1)) is row


@pytest.mark.parametrize("groups", [1, 2])
def test_each_channel_of_a_transposed_convolution_has_its_factor(groups: int) -> None:
    """Its weight is (in, out / groups, …): input channels of one group have the same outputs."""
    weight, factor = np.zeros((4, 6 // groups, 2, 2)), np.arange(6.0)
    node = onnx_ir.Node("", "ConvTranspose", [])
    found = np.broadcast_to(_factor_like(weight, factor, node), weight.shape)
    for channel in range(4):
        group = channel // (4 // groups)
        for output in range(6 // groups):
            assert (found[channel, output] == factor[group * (6 // groups) + output]).all()


@pytest.mark.parametrize("is_transposed", [False, True])
def test_each_row_or_column_of_a_matrix_has_its_factor(is_transposed: bool) -> None:
    attributes = {"transB": onnx_ir.AttrInt64("transB", int(is_transposed))}
    node = onnx_ir.Node("", "Gemm", [], attributes)
    found = np.ones((3, 2) if is_transposed else (2, 3))
    found *= _factor_like(found, np.array([1.0, 2.0, 3.0]), node)
    assert np.array_equal(found.T if is_transposed else found, [[1, 2, 3]] * 2)
