"""Random compositions of layers: branches that are added or joined, tables, and graphs."""

from __future__ import annotations

from random_drawing_support import Drawing, Layer, Maker, Shape, module, sequential, with_size
from random_layers_any_shape_support import (
    batch_normalization,
    broadcast,
    elementwise,
    jumping,
    probabilities,
)
from random_layers_features_support import normalized
from random_layers_images_support import channel_slopes, response_normalization

from torchlift.converters.t7 import LuaObject, LuaTable


def residual(d: Drawing, shape: Shape) -> Layer:
    """Two or three branches of one shape, and a layer that takes their table."""
    names = ("nn.CAddTable", "nn.CMulTable", "nn.CMaxTable", "nn.CMinTable", "nn.CSubTable")
    name = d.choice(*names)
    count = 2 if name == "nn.CSubTable" else d.integer(2, 3)
    branches = [keeping(d, shape) for _ in range(count)]
    fields = {"inplace": d.boolean()} if name == "nn.CAddTable" else {}
    return sequential(module("nn.ConcatTable", modules=branches), module(name, **fields)), shape


def joined(d: Drawing, shape: Shape) -> Layer:
    """Branches that are concatenated along one dimension; Concat counts the batch."""
    dim, count = d.integer(0, len(shape) - 1), d.integer(2, 3)
    branches = [keeping(d, shape) for _ in range(count)]
    result = with_size(shape, dim, count * shape[dim])
    if d.boolean():
        d.batched_only = True
        return module("nn.Concat", modules=branches, dimension=dim + 2, size=()), result
    join = module("nn.JoinTable", dimension=dim + 1, nInputDims=len(shape))
    return sequential(module("nn.ConcatTable", modules=branches), join), result


def split(d: Drawing, shape: Shape) -> Layer:
    """A table of the steps of the first dimension, changed, and joined or added again."""
    steps = shape[0]
    parts = module("nn.SplitTable", dimension=1, nInputDims=len(shape))
    rest = shape[1:]
    if d.boolean():
        shared = keeping(d, rest)
        changed = module("nn.MapTable", modules=[shared], module=shared, shared=True)
    else:
        changed = module("nn.ParallelTable", modules=[keeping(d, rest) for _ in range(steps)])
    if steps > 1 and d.boolean():
        return sequential(parts, changed, module("nn.CAddTable", inplace=False)), rest
    join = module("nn.JoinTable", dimension=1, nInputDims=len(rest))
    return sequential(parts, changed, join), (steps * rest[0], *rest[1:])


def keeping(d: Drawing, shape: Shape) -> LuaObject:
    """Draw one or two layers that keep a shape; sometimes a layer that stands elsewhere too."""
    known = d.reusable.setdefault(shape, [])
    if known and d.integer(0, 3) == 0:
        return d.choice(*known)
    makers: list[Maker] = [elementwise, jumping, broadcast]
    if len(shape) == 1:
        makers += [probabilities, batch_normalization, normalized, _square_linear]
    if len(shape) == 3:
        makers += [
            probabilities,
            batch_normalization,
            response_normalization,
            channel_slopes,
            _square_convolution,
        ]
    drawn = [d.choice(*makers) for _ in range(d.integer(1, 2))]
    # One example comes out of it with a batch dimension, which tables with others cannot have.
    d.batched_only |= batch_normalization in drawn
    layers = [make(d, shape)[0] for make in drawn]
    known.append(layers[0] if len(layers) == 1 else sequential(*layers))
    return known[-1]


def kept(d: Drawing, shape: Shape) -> Layer:
    return keeping(d, shape), shape


def _square_linear(d: Drawing, shape: Shape) -> Layer:
    (n,) = shape
    return module("nn.Linear", weight=d.normal(n, n, fan_in=n), bias=d.normal(n)), shape


def _square_convolution(d: Drawing, shape: Shape) -> Layer:
    planes = shape[0]
    window = {"kW": 3, "kH": 3, "dW": 1, "dH": 1, "padW": 1, "padH": 1}
    values = {"weight": d.normal(planes, planes, 3, 3, fan_in=9 * planes), "bias": d.normal(planes)}
    sizes = {"nInputPlane": planes, "nOutputPlane": planes}
    return module("nn.SpatialConvolution", **values, **sizes, **window), shape


def graph(d: Drawing, shape: Shape) -> Layer:
    """An `nn.gModule`: nodes that read one or two earlier ones, as nngraph writes it."""
    start = _node()
    nodes, inputs = [start], []
    for _ in range(d.integer(1, 4)):
        first = d.integer(0, len(nodes) - 1)
        if d.boolean():
            second = d.integer(0, len(nodes) - 1)
            if second != first:  # nngraph merges two edges between the same nodes.
                name = d.choice("nn.CAddTable", "nn.CMulTable")
                inputs.append((module(name), [first, second]))
                nodes.append(_node(inputs[-1][0]))
                continue
        inputs.append((keeping(d, shape), [first]))
        nodes.append(_node(inputs[-1][0]))
    for node, (_, origins) in zip(nodes[1:], inputs, strict=True):
        for position, origin in enumerate(origins, 1):
            _connect(nodes[origin], node, position)
    end = _node()
    # What nothing reads goes to the output, which is one tensor here.
    unread = [n for n in nodes if not len(n["children"])]
    if len(unread) > 1:
        total = _node(module("nn.CAddTable", inplace=False))
        for position, node in enumerate(unread, 1):
            _connect(node, total, position)
        nodes.append(total)
        unread = [total]
    _connect(unread[0], end, 1)
    modules = [n["data"]["module"] for n in nodes if "module" in n["data"]]
    fields = {"innode": start, "outnode": end, "forwardnodes": [*nodes, end], "modules": modules}
    return module("nn.gModule", nInputs=1, **fields), shape


def _node(layer: LuaObject | None = None) -> LuaObject:
    data = LuaTable({"annotations": LuaTable(), "mapindex": LuaTable()})
    if layer is not None:
        data["module"] = layer
    return LuaObject(
        "nngraph.Node", LuaTable({"data": data, "children": LuaTable(), "marked": False})
    )


def _connect(origin: LuaObject, consumer: LuaObject, position: int) -> None:
    origin["children"][len(origin["children"]) + 1] = consumer
    consumer["data"]["mapindex"][origin["data"]] = position
    consumer["data"]["mapindex"][position] = origin["data"]
