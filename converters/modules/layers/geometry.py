"""Reading window sizes, strides and paddings in PyTorch's order.

Torch7 has one field for each axis (`kW`, `dH`, `padT`) and lists the width first; PyTorch lists the
outermost axis first: (T, H, W).
"""

from __future__ import annotations

from ...t7 import LuaObject
from ..context import Context

#: The spatial axes of images and of volumes, outermost first.
PLANE, VOLUME = "HW", "THW"


def per_axis(
    source: LuaObject, prefix: str, axes: str, default: int | None = None
) -> tuple[int, ...]:
    """Return a size that has one field for each axis, such as (kH, kW).

    Args:
        source: The Torch7 object.
        prefix: Name of the fields without the axis: `k`, `d`, `pad`, `dilation`, `adj` …
        axes: `PLANE` or `VOLUME`.
        default: Value of a missing field.

    Raises:
        KeyError: If a field is missing and has no default.
    """
    names = [f"{prefix}{axis}" for axis in axes]
    return tuple(
        int(source[name] if default is None else source.get(name, default)) for name in names
    )


def height_width(source: LuaObject, prefix: str) -> tuple[int, int]:
    """Return the fields `prefix` + H and `prefix` + W."""
    return int(source[f"{prefix}H"]), int(source[f"{prefix}W"])


def margins(source: LuaObject) -> tuple[int, int, int, int]:
    """Return the widths of the padding on the left, right, top and bottom of an image."""
    left, right, top, bottom = (int(source[f"pad_{side}"]) for side in "lrtb")
    return left, right, top, bottom


def strides(source: LuaObject, context: Context, axes: str) -> tuple[int, ...]:
    """Return a convolution's stride along each axis; the oldest files have none, it is 1."""
    if not any(f"d{axis}" in source for axis in axes):
        context.note("no stride in the file (an older one): it is 1")
    return per_axis(source, "d", axes, default=1)


def paddings(source: LuaObject, context: Context, axes: str) -> tuple[int, ...]:
    """Return the padding along each axis.

    Files from before 2015 have one field `padding` for all axes; still older ones have none.
    """
    if source.get("padding") is not None:
        context.note("one field `padding` (a file from before 2015): it applies to all axes")
        return (int(source["padding"]),) * len(axes)
    if not any(f"pad{axis}" in source for axis in axes):
        context.note("no field padW (an older file): the padding is 0")
    return per_axis(source, "pad", axes, default=0)
