"""Class layouts of `nn` before 2013, when each class had a `write` method of its own.

Until 2011 `Module.lua` wrote `gradInput` and `output`, and each class wrote its own fields after
them. Later versions wrote a module as one table, but the classes of the `nnx` package still wrote
their fields after it. The file does not say which of the two it uses: `format_search` tries both
if the current layouts do not fit.
"""

from __future__ import annotations

from collections.abc import Mapping

from ..class_layouts import ClassLayout

_SIZES = "kW:i kH:i dW:i dH:i"
_WEIGHTS = "weight bias gradWeight gradBias"

#: The fields of `nnx`'s classes, in the order of their `write`, each with the letter of its kind
#: (see `ClassLayout.parts`) unless it is an object.
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

_WITHOUT_FIELDS = "Abs CAddTable CDivTable CMulTable CSubTable Exp Sigmoid Sqrt Square Tanh"


def _layout(fields: str) -> ClassLayout:
    """Return the layout of fields such as `dimension:i indices`."""
    pairs = [field.partition(":") for field in fields.split()]
    letters = "".join(letter or "o" for _, _, letter in pairs)
    return ClassLayout("parts", letters, field_names=tuple(name for name, _, _ in pairs))


#: Class → layout: those of `nnx` after 2011, and those of all classes in 2011.
LEGACY_LAYOUTS: tuple[Mapping[str, ClassLayout], ...] = (
    {
        f"nn.{name}": ClassLayout("parts", "o" + _layout(fields).parts)
        for name, fields in _NNX.items()
    },
    {
        f"nn.{name}": _layout(f"gradInput output {fields}")
        for name, fields in (_NNX | _NN | dict.fromkeys(_WITHOUT_FIELDS.split(), "")).items()
    },
)
