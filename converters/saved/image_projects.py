"""Projects whose networks turn images into images: how each prepares them, from its own source.

A project is recognized by its classes, by fields of its network or by what stands beside it; what
none of these tells is never guessed.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace

from ..images.image_to_image import ImageToImage, SaidOutput
from ..images.normalization import NOTHING_SAID, Normalization
from ..images.preprocessing import Preprocessing
from ..t7 import LuaObject

#: Mean of networks that come from Caffe, in the order that they see: BGR, values from 0 to 255.
CAFFE_MEAN = (103.939, 116.779, 123.68)

#: The channels of an image and a mask.
_COLORS_AND_MASK = 4


@dataclass(frozen=True)
class ImageProject:
    """How a project's networks take and give images.

    Attributes:
        name: Its name.
        normalization: What its networks take, where nothing beside them tells.
        output: How their outputs become images; None where mean and std are undone.
    """

    name: str
    normalization: Normalization = NOTHING_SAID
    output: ImageToImage | None = None

    def image_to_image(self, preprocessing: Preprocessing) -> ImageToImage:
        """Return how outputs become images, for a network with this preprocessing."""
        return self.output or SaidOutput(mean=True).over(None, preprocessing)


#: jcjohnson/fast-neural-style, fast_neural_style/preprocess.lua: `deprocess` undoes `preprocess`.
FAST_NEURAL_STYLE = ImageProject("fast-neural-style")

#: DmitryUlyanov/texture_nets, test.lua: the image goes in as it was loaded, RGB from 0 to 1; the
#: output is that of src/utils.lua's `preprocess`, which test.lua undoes.
TEXTURE_NETS = ImageProject(
    "texture_nets",
    Normalization(color="RGB", value_range=1),
    ImageToImage(255, "BGR", mean=CAFFE_MEAN),
)

#: satoshiiizuka/siggraph2017_inpainting, inpaint.lua: the mean is subtracted, holes are 0, and the
#: mask is the fourth channel; sizes are multiples of 4; the output is RGB from 0 to 1.
INPAINTING = ImageProject(
    "siggraph2017_inpainting",
    Normalization(color="RGB", value_range=1),
    ImageToImage(1, "RGB", multiple=4, scale=1, takes_mask=True),
)

#: bobbens/sketch_simplification, simplify.py: gray minus mean over std, sizes made multiples of 8
#: by the border's pixels; the output is gray from 0 to 1.
SKETCH_SIMPLIFICATION = ImageProject(
    "sketch_simplification",
    Normalization(color="gray", value_range=1),
    ImageToImage(1, "gray", multiple=8, scale=1),
)

#: Classes of layers that texture_nets alone has.
_TEXTURE_NETS = {"nn.GenNoise", "nn.NoiseFill", "nn.SpatialCircularPadding"}

#: Layers of classifiers, whose mean and std stand beside them in the same way.
_CLASSIFIERS = {"nn.Linear", "nn.LogSoftMax", "nn.SoftMax", "cudnn.LogSoftMax", "cudnn.SoftMax"}


def find_image_project(
    source: LuaObject,
    classes: Collection[str],
    beside: Normalization | None,
    channels: int | None,
) -> ImageProject | None:
    """Return the project that a network comes from, if something tells.

    Args:
        source: The network.
        classes: The names of the classes in it.
        beside: Mean and std that stand beside it.
        channels: How many channels its first layer takes, if that is a convolution.

    Example:
        >>> find_image_project(LuaObject("nn.Sequential"), {"nn.GenNoise"}, None, 3).name
        'texture_nets'
    """
    if any(name.startswith("w2nn.") for name in classes) or "w2nn_arch_name" in source:
        return _waifu2x(source, channels)
    if _TEXTURE_NETS & set(classes) or {"nn.TVLoss", "nn.InstanceNormalization"} <= set(classes):
        return TEXTURE_NETS
    if beside is None or beside.mean is None or _CLASSIFIERS & set(classes):
        return None
    if channels == _COLORS_AND_MASK and beside.std is None:
        return INPAINTING
    is_number = len(beside.mean) == 1 and beside.std is not None and len(beside.std) == 1
    return SKETCH_SIMPLIFICATION if channels == 1 and is_number else None


def _waifu2x(source: LuaObject, channels: int | None) -> ImageProject:
    """Return nagadomi/waifu2x, lib/reconstruct.lua: values from 0 to 1, with a wider image.

    Convolutions are not padded: an image is extended by the border's pixels first. Networks of one
    channel see the brightness; U and V of a colored image stay, or are enlarged by Lanczos.
    """
    scale = int(source.get("w2nn_scale_factor", 1))
    offset = int(source.get("w2nn_offset", 0))
    color = "gray" if int(source.get("w2nn_channels", channels or 3)) == 1 else "RGB"
    output = ImageToImage(1, color, border=-(-offset // scale), scale=scale)
    output = replace(output, keeps_color=color == "gray")
    return ImageProject("waifu2x", Normalization(color=color, value_range=1), output)


def with_mask(output: ImageToImage) -> ImageToImage:
    """Return how outputs become images for a network that takes a mask as one more channel."""
    return replace(output, takes_mask=True, scale=output.scale or 1)
