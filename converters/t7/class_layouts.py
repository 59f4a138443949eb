"""Classes whose body in the file is not simply one object.

Nothing in a `.t7` says how long an instance's body is: a reader has to know its class. What
`torch`, `nn`, `cunn` and `tds` write by themselves stands here. Any other class most likely holds
one object, a table, which is what `torch.File` writes for a class without a `write` of its own;
`interpret` tries the alternatives where that does not fit.
"""

from __future__ import annotations

from typing import Literal, NamedTuple


class ClassLayout(NamedTuple):
    """How the body of an instance is laid out.

    Attributes:
        kind: `parts`: one thing after the other; `pairs`: a long n, then n keys and values;
            `items`: a long n, then n values; `raw`: bytes.
        parts: a letter for each part: `o` an object, `i` an int, `l` a long, `d` a double.
        size: number of raw bytes.
        names: the fields that the parts are, where they are no table with names of its own.
    """

    kind: Literal["parts", "pairs", "items", "raw"]
    parts: str = ""
    size: int = 0
    names: tuple[str, ...] = ()


ONE_OBJECT = ClassLayout("parts", "o")

_BODIES: dict[str, ClassLayout] = {
    "tds.Hash": ClassLayout("pairs"),
    "tds_hash": ClassLayout("pairs"),
    "tds.Vec": ClassLayout("items"),
    "tds_vec": ClassLayout("items"),
    "tds.AtomicCounter": ClassLayout("parts", "l"),
    "tds_atomic_counter": ClassLayout("parts", "l"),
    "torch.Timer": ClassLayout("parts", ""),
    "nn.GPU": ClassLayout("parts", "oo"),
}

#: What a class that nobody knows may hold, the likeliest first.
_UNKNOWN: tuple[ClassLayout, ...] = (
    ONE_OBJECT,
    ClassLayout("items"),
    ClassLayout("pairs"),
    *(ClassLayout("parts", parts) for parts in ("oo", "ooo", "oooo", "", "l", "i", "d")),
)

#: Packages whose classes hold one table unless they stand above; people add classes of their own
#: to `nn` too, so that the alternatives are tried all the same.
_PACKAGES = ("nn.", "cudnn.", "cunn.", "nngraph.", "inn.", "nnop.", "optim.", "torch.")

# sizeof(THGenerator) in `THRandom.h`: where a long has 8 bytes; where it has 4; and where doubles
# are moreover aligned to 4. A 64-bit Torch told to write 4-byte longs still writes the first.
_GENERATOR = tuple(ClassLayout("raw", size=size) for size in (5048, 2544, 2540))


def possible_bodies(class_name: str, version: int | str, long_size: int) -> tuple[ClassLayout, ...]:
    """The layouts that the body of a class may have, the likeliest first.

    `nn.DataParallelTable` writes a header and a table since its version 2
    (`DataParallelTable.lua`).
    """
    if class_name == "nn.DataParallelTable":
        is_new = isinstance(version, int) and version >= 2
        return (ClassLayout("parts", "oo") if is_new else ONE_OBJECT,)
    if class_name == "torch.Generator":
        return _GENERATOR if long_size == 8 else (*_GENERATOR[1:], _GENERATOR[0])
    known = _BODIES.get(class_name)
    return _UNKNOWN if known is None else (known,)


def is_known(class_name: str) -> bool:
    """Whether a class belongs to a package whose way of writing is known."""
    return class_name in _BODIES or class_name.startswith(_PACKAGES)
