"""Reading window sizes, strides and paddings, in the order that PyTorch wants them.

Torch7 names them by axis (`kW`, `dH`, `padT`) and lists width first; PyTorch lists the outermost
axis first: (T, H, W).
"""

from __future__ import annotations

from ...t7 import LuaObject
from ..context import Context

#: The spatial axes of images and of volumes, outermost first.
PLANE, VOLUME = "HW", "THW"


def extents(
    source: LuaObject, prefix: str, axes: str, default: int | None = None
) -> tuple[int, ...]:
    """The fields `prefix` + axis, such as (kH, kW).

    Args:
        source: the Torch7 object.
        prefix: `k`, `d`, `pad`, `dilation`, `adj` …
        axes: `PLANE` or `VOLUME`.
        default: what a missing field means.

    Raises:
        KeyError: when a field is missing and nothing stands for it.
    """
    names = [f"{prefix}{axis}" for axis in axes]
    return tuple(
        int(source[name] if default is None else source.get(name, default)) for name in names
    )


def pair(source: LuaObject, prefix: str) -> tuple[int, int]:
    """The fields of a plane, (height, width)."""
    height, width = extents(source, prefix, PLANE)
    return height, width


def strides(source: LuaObject, context: Context, axes: str) -> tuple[int, ...]:
    """The stride of a convolution along each axis; the first ones had none."""
    if not any(f"d{axis}" in source for axis in axes):
        context.note("no stride in the file, an older one: 1")
    return extents(source, "d", axes, default=1)


def paddings(source: LuaObject, context: Context, axes: str) -> tuple[int, ...]:
    """The padding of each axis, whichever way the file's Torch7 wrote it.

    One field `padding` stood for all axes until 2015, and before that nothing was padded.
    """
    if source.get("padding") is not None:
        context.note("one field `padding`, as before 2015: the same on every side")
        return (int(source["padding"]),) * len(axes)
    if not any(f"pad{axis}" in source for axis in axes):
        context.note("no field padW, an older file: nothing is padded")
    return extents(source, "pad", axes, default=0)
