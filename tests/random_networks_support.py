"""Random networks of torch/nn as LuaObjects, with the fields that the Lua constructors write.

A layer is drawn for the shape of one example, without its batch, and gives the shape of the next:
(F,) features, (T, F) a sequence, (C, H, W) an image. Numbers of a layer come from one drawn seed,
so that hypothesis shrinks structures and not weights.

The layers are in `random_layers_*_support`, what combines several in `random_compositions_support`,
and what all draw with in `random_drawing_support`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from hypothesis import strategies as st
from random_compositions_support import graph, joined, kept, residual, split
from random_drawing_support import Drawing, Maker, Shape, sequential
from random_layers_any_shape_support import (
    batch_normalization,
    broadcast,
    doubled,
    elementwise,
    flattened,
    jumping,
    narrowed,
    padding,
    probabilities,
    reduction,
    repeated,
    swapped,
    unsqueezed,
)
from random_layers_features_support import (
    bottle,
    distances,
    gated,
    linear,
    normalized,
    row_convolution,
    temporal_convolution,
    temporal_pooling,
    to_sequence,
)
from random_layers_images_support import (
    adaptive_pooling,
    average_pooling,
    border,
    channel_slopes,
    convolution,
    depthwise,
    dropped_planes,
    full_convolution,
    local_convolution,
    max_pooling,
    response_normalization,
    shuffled,
    subsampling,
    upsampling,
)

from torchlift.converters import t7
from torchlift.converters.t7 import LuaObject, LuaTable

#: The largest shape of each kind of example. Sizes stay small: rules depend on shapes, not on size.
KINDS: dict[str, Shape] = {"features": (7,), "sequence": (6, 6), "image": (4, 7, 7)}
#: No layer may make more values of one example than this.
LARGEST = 600

_ANY: list[Maker] = [elementwise, broadcast, padding, kept, residual, joined, graph, jumping]
_MAKERS: dict[int, list[Maker]] = {
    1: [
        *(linear, distances, normalized, batch_normalization, gated, to_sequence, probabilities),
        *(doubled, repeated, unsqueezed, *_ANY),
    ],
    2: [
        *(temporal_convolution, temporal_pooling, bottle, row_convolution, reduction, swapped),
        *(narrowed, flattened, split, unsqueezed, repeated, *_ANY),
    ],
    3: [
        *(convolution, full_convolution, depthwise, local_convolution, max_pooling, subsampling),
        *(average_pooling, adaptive_pooling, border, upsampling, response_normalization, shuffled),
        *(channel_slopes, dropped_planes, batch_normalization, probabilities, doubled, reduction),
        *(swapped, narrowed, flattened, split, *_ANY),
    ],
}


@dataclass(frozen=True, repr=False)
class Network:
    """A random network and an input for it.

    Attributes:
        source: The object, as a file holds it.
        input: (N, …) in float32.
        has_single: Whether it takes an example without its batch.
        is_continuous: Whether rounding cannot change the output much.
    """

    source: LuaObject
    input: np.ndarray
    has_single: bool
    is_continuous: bool

    def __repr__(self) -> str:
        return f"Network({' '.join(_class_names(self.source))}; input {self.input.shape})"


def _class_names(source: LuaObject) -> list[str]:
    """Return the class names of a network in order; a container's are in brackets."""
    name = source.class_name.removeprefix("nn.")
    children = source["modules"].to_list() if isinstance(source.get("modules"), LuaTable) else []
    if not children:
        shown = {
            k: v for k, v in source.fields.items() if isinstance(v, (int, float)) and k != "train"
        }
        return [f"{name}({', '.join(f'{k}={v}' for k, v in shown.items())})"]
    return [f"{name}[", *(text for child in children for text in _class_names(child)), "]"]


@st.composite
def networks(draw: st.DrawFn, kind: str, deepest: int = 5) -> Network:
    """Draw a network for examples of a kind (see `KINDS`)."""
    d = Drawing(draw, np.random.default_rng(draw(st.integers(0, 2**32 - 1))))
    shape: Shape = tuple(d.integer(1, largest) for largest in KINDS[kind])
    batch, first = d.integer(2, 4), shape
    modules = []
    for _ in range(d.integer(1, deepest)):
        if len(shape) not in _MAKERS:
            layer, shape = flattened(d, shape)
            modules.append(layer)
        layer, following = d.choice(*_MAKERS[len(shape)])(d, shape)
        if math.prod(following) > LARGEST or not following:
            continue
        modules.append(layer)
        shape = following
    if not modules:
        modules.append(elementwise(d, shape)[0])
    # As a file holds it: its tensors have storages.
    source = t7.loads(t7.dumps(sequential(*modules)))
    input = d.rng.standard_normal((batch, *first)).astype("f4")
    return Network(source, input, not d.batched_only, d.is_continuous)
