"""How `nn` wrote its layers before 2013, when each class had a `write` of its own.

Until 2011 `Module.lua` wrote `gradInput` and `output`, and every class its own fields after them.
Then modules were written as one table, but those of the `nnx` package went on writing their
fields after it. Nothing in a file tells these eras apart: they are tried where all else fails.
"""

from __future__ import annotations

from collections.abc import Mapping

from ..class_layouts import ClassLayout

_SIZES = "kW:i kH:i dW:i dH:i"
_WEIGHTS = "weight bias gradWeight gradBias"

#: The fields of `nnx`'s classes, in the order of their `write`; an object unless it says otherwise.
_NNX: dict[str, str] = {
    "Replicate": "nfeatures:i",
    "SpatialConvolutionMap": f"{_SIZES} nInputPlane:i nOutputPlane:i {_WEIGHTS} connTable",
    "SpatialConvolutionSparse": f"{_SIZES} nInputPlane:i nOutputPlane:i {_WEIGHTS} connTable",
    "SpatialLinear": f"fanin:i fanout:i weightDecay:d {_WEIGHTS}",
    "SpatialMaxPooling": f"{_SIZES} indices",
    "SpatialNormalization": (
        "kernel nfeatures:i padW:i padH:i kerWisPair:i kerHisPair:i convo convostd squareMod "
        "sqrtMod substractMod meanDiviseMod stdDiviseMod thresMod diviseMod coef fixedThres"
    ),
    "SpatialPadding": "pad_l:i pad_r:i pad_t:i pad_b:i",
    "SpatialReSampling": "owidth:i oheight:i",
    "Sum": "dimension:i",
    "Threshold": "threshold:d val:d",
}

#: The fields of `nn`'s classes in 2011.
_NN: dict[str, str] = {
    "Linear": f"weightDecay:d {_WEIGHTS}",
    "LogSigmoid": "buffer",
    "Max": "dimension:i indices",
    "Min": "dimension:i indices",
    "Select": "dimension:i index:l",
    "Sequential": "modules",
    "SoftMax": "shift:d computeShift:i",
    "SpatialConvolution": f"{_SIZES} nInputPlane:i nOutputPlane:i {_WEIGHTS}",
    "SpatialSubSampling": f"{_SIZES} nInputPlane:i {_WEIGHTS}",
    "TemporalConvolution": f"kW:i dW:i inputFrameSize:i outputFrameSize:i {_WEIGHTS}",
}

#: Classes without fields of their own.
_PLAIN = "Abs CAddTable CDivTable CMulTable CSubTable Exp Sigmoid Sqrt Square Tanh"


def _body(fields: str) -> ClassLayout:
    """The layout of fields such as `dimension:i indices`."""
    parts = [field.partition(":") for field in fields.split()]
    letters = "".join(letter or "o" for _, _, letter in parts)
    return ClassLayout("parts", letters, names=tuple(name for name, _, _ in parts))


#: Class → layout, for each era.
LEGACY_LAYOUTS: tuple[Mapping[str, ClassLayout], ...] = (
    {
        f"nn.{name}": ClassLayout("parts", "o" + _body(fields).parts)
        for name, fields in _NNX.items()
    },
    {
        f"nn.{name}": _body(f"gradInput output {fields}")
        for name, fields in (_NNX | _NN | dict.fromkeys(_PLAIN.split(), "")).items()
    },
)
