"""Containers, shape layers, tables and graphs, exported with a dynamic batch and saved.

The exported program and ONNX Runtime compute the layer's outputs for batches of 1, 2 and 7, and a
saved structure rebuilds the layer. The relative tolerance of 1e-6 allows sums in another order.
"""

from __future__ import annotations

import copy
import json
from typing import Any

import onnxruntime
import pytest
import torch
from support import relative_error
from torch import nn
from torch.utils import _pytree as pytree

from torchlift.converters.modules import keep_batch_dimension
from torchlift.converters.modules.layers import (
    container,
    decorator,
    distance,
    indexing,
    layout,
    matmul,
    reduction,
    shape,
    squeeze,
    table,
    table_arithmetic,
)
from torchlift.converters.modules.packages import nngraph
from torchlift.converters.saved.structure import build, describe

A, B = (3, 4), (4,)


def branch(*sizes: int) -> nn.Module:
    """Return a linear layer with reproducible parameters."""
    torch.manual_seed(sum(sizes))
    return nn.Linear(*sizes)


#: Name → (layer, shapes of the inputs without the batch; a list is a table).
CASES: dict[str, tuple[nn.Module, Any]] = {
    "Concat": (container.Concat(branch(4, 2), branch(4, 3), dim=2), A),
    "DepthConcat": (
        container.DepthConcat(nn.Conv2d(2, 3, 3), nn.Conv2d(2, 1, 1), dim=1),
        (2, 5, 6),
    ),
    "Parallel": (
        container.Parallel(*map(nn.Linear, (4,) * 3, (2, 3, 1)), input_dim=1, output_dim=1),
        A,
    ),
    "ConcatTable": (container.ConcatTable(branch(4, 2), nn.ReLU()), A),
    "ParallelTable": (container.ParallelTable(branch(4, 2), nn.ReLU()), [A, B]),
    "MapTable": (container.MapTable(branch(4, 2)), [A, A, A]),
    "Bottle": (container.Bottle(branch(4, 2)), A),
    "DontCast": (decorator.DontCast(nn.ReLU(), cast_in="float64", cast_out="float32"), A),
    "View": (shape.View([12]), A),
    "View_fold": (shape.View([4]), A),
    "View_num_input_dims": (shape.View([-1], num_input_dims=2), A),
    "Reshape": (shape.Reshape([12]), A),
    "Reshape_batch": (shape.Reshape([2, 6], batch_mode=True), A),
    "Collapse": (shape.Collapse(2), A),
    "Transpose": (shape.Transpose([[0, 1]], num_input_dims=2), A),
    "Replicate": (squeeze.Replicate(3, 1, num_input_dims=2), A),
    "Squeeze": (squeeze.Squeeze(), (1, 4)),
    "Squeeze_dim": (squeeze.Squeeze(0, num_input_dims=2), (1, 4)),
    "Unsqueeze": (squeeze.Unsqueeze(1, num_input_dims=2), A),
    "Convert": (layout.Convert("bchw", "bhwc"), (2, 3, 4)),
    "Convert_flat": (layout.Convert("bchw", "bf"), (2, 3, 4)),
    "Sum": (reduction.Sum(0, num_input_dims=2), A),
    "Mean": (reduction.Mean(-1, keepdim=True), A),
    "Max": (reduction.Max(1), A),
    "Min": (reduction.Min(1), A),
    "SplitTable": (table.SplitTable(1), A),
    "JoinTable": (table.JoinTable(0, num_input_dims=1), [B, B]),
    "Select": (indexing.Select(1, -1), A),
    "Narrow": (indexing.Narrow(2, 1, 0), A),
    "SelectTable": (table.SelectTable(-1), [A, B]),
    "NarrowTable": (table.NarrowTable(1, 2), [A, B, B]),
    "FlattenTable": (table.FlattenTable(), [A, [B, [A]]]),
    "ZipTable": (table.ZipTable(), [[A, B], [B, A]]),
    "ZipTableOneToMany": (table.ZipTableOneToMany(), [A, [B, B]]),
    "MixtureTable": (table.MixtureTable(), [(3,), [B, B, B]]),
    "MixtureTable_tensor": (table.MixtureTable(1), [(3,), A]),
    "CAddTable": (table_arithmetic.CAddTable(), [A, A, A]),
    "CMulTable": (table_arithmetic.CMulTable(), [A, A, A]),
    "CSubTable": (table_arithmetic.CSubTable(), [A, A]),
    "CDivTable": (table_arithmetic.CDivTable(), [A, A]),
    "CMaxTable": (table_arithmetic.CMaxTable(), [A, A]),
    "CMinTable": (table_arithmetic.CMinTable(), [A, A]),
    "CAddTensorTable": (table_arithmetic.CAddTensorTable(), [A, [A, A]]),
    "MM": (matmul.MM(trans_a=True), [(4, 3), (4, 5)]),
    "MV": (matmul.MV(), [A, B]),
    "DotProduct": (distance.DotProduct(), [B, B]),
    "CosineDistance": (distance.CosineDistance(), [B, B]),
    "PairwiseDistance": (distance.PairwiseDistance(2), [B, B]),
    "GModule": (
        nngraph.GModule(
            branch(4, 4),
            nn.Tanh(),
            steps=[[0, [[0, 0]]], [None, [[1], [0, 1]]], [1, [[2, 1]]]],
            outputs=[[3], [2, 0]],
        ),
        [B, A],
    ),
    "JustElement": (nngraph.JustElement(), [A]),
    "JustTable": (nngraph.JustTable(), A),
}


def random_inputs(shapes: Any, batch: int) -> Any:
    if isinstance(shapes, list):
        return [random_inputs(item, batch) for item in shapes]
    return torch.randn(batch, *shapes)


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_exports_with_a_dynamic_batch(name: str) -> None:
    module, shapes = copy.deepcopy(CASES[name])
    keep_batch_dimension(module)
    module.eval()
    torch.manual_seed(0)
    example = random_inputs(shapes, 2)
    axes = (pytree.tree_map(lambda _: {0: torch.export.Dim("batch")}, example),)
    exported = torch.export.export(module, (example,), dynamic_shapes=axes)
    program = torch.onnx.export(exported, dynamo=True, dynamic_shapes=axes, verbose=False)
    assert program is not None
    session = onnxruntime.InferenceSession(program.model_proto.SerializeToString())
    for batch in (1, 2, 7):
        input = random_inputs(shapes, batch)
        expected = module(input)
        assert (
            all(leaf.shape[0] == batch for leaf in pytree.tree_leaves(expected)) or "fold" in name
        )
        assert relative_error(exported.module()(input), expected) < 1e-6
        feed = zip(session.get_inputs(), pytree.tree_leaves(input), strict=False)
        outputs = session.run(None, {entry.name: value.numpy() for entry, value in feed})
        assert relative_error([*map(torch.tensor, outputs)], pytree.tree_leaves(expected)) < 1e-6


@pytest.mark.parametrize("name", CASES)
def test_saved_structure_rebuilds_the_layer(name: str) -> None:
    module, shapes = copy.deepcopy(CASES[name])
    keep_batch_dimension(module)
    rebuilt = build(json.loads(json.dumps(describe(module))))
    rebuilt.load_state_dict(module.state_dict(), assign=True)
    input = random_inputs(shapes, 3)
    assert relative_error(rebuilt(input), module.eval()(input)) == 0
    assert repr(rebuilt) == repr(module)
