"""Layouts of class instances in a file.

A `.t7` does not store the length of an instance's body, so a reader has to know the class. This
module lists the classes of `torch`, `nn`, `cunn` and `tds` that write a body of their own. Any
other class most likely stores one object, a table: that is what `torch.File` writes for a class
without a `write` method. If that does not fit, `reading.format_search` tries the alternatives.
"""

from __future__ import annotations

from typing import Literal, NamedTuple


class ClassLayout(NamedTuple):
    """The layout of an instance's body.

    Attributes:
        kind: `parts`: a fixed sequence; `pairs`: a long n, then n keys and values; `items`: a
            long n, then n values; `raw`: bytes; `branches`: a table `gpuAssignments` of n entries,
            then n `modules`, then a table of the other fields.
        parts: One letter for each part: `o` an object, `i` an int, `l` a long, `d` a double; `*`
            as many objects as the table before it has entries.
        size: Number of raw bytes.
        field_names: Names of the parts, if these are the fields and no table names them.
    """

    kind: Literal["parts", "pairs", "items", "raw", "branches"]
    parts: str = ""
    size: int = 0
    field_names: tuple[str, ...] = ()


ONE_OBJECT = ClassLayout("parts", "o")
BRANCHES = ClassLayout("branches", "o*o")

#: A longer string, or one that cannot be printed, is not a class name.
_MAX_NAME_LENGTH = 200


def is_class_name(name: object) -> bool:
    """Return whether a string of a stream can be the name of a class."""
    return isinstance(name, str) and len(name) <= _MAX_NAME_LENGTH and name.isprintable()


#: The names of the tables and of the lists of `tds`.
TDS_HASHES, TDS_VECS = ("tds.Hash", "tds_hash"), ("tds.Vec", "tds_vec")

_KNOWN_LAYOUTS: dict[str, ClassLayout] = {
    **dict.fromkeys(TDS_HASHES, ClassLayout("pairs")),
    **dict.fromkeys(TDS_VECS, ClassLayout("items")),
    "tds.AtomicCounter": ClassLayout("parts", "l"),
    "tds_atomic_counter": ClassLayout("parts", "l"),
    "torch.Timer": ClassLayout("parts", ""),
    "nn.GPU": ClassLayout("parts", "oo"),
}

#: Layouts to try for an unknown class, most probable first.
_CANDIDATES: tuple[ClassLayout, ...] = (
    ONE_OBJECT,
    ClassLayout("items"),
    ClassLayout("pairs"),
    *(ClassLayout("parts", parts) for parts in ("oo", "ooo", "oooo", "", "l", "i", "d")),
)

#: Packages whose classes store one table unless listed above. Users add classes of their own to
#: `nn` too, so the other candidates are tried for these as well.
_PACKAGES = ("nn.", "cudnn.", "cunn.", "nngraph.", "inn.", "nnop.", "optim.", "torch.")

# sizeof(THGenerator) in `THRandom.h`: with longs of 8 bytes; with longs of 4 bytes; the latter with
# doubles aligned to 4 bytes. A 64-bit Torch that is set to write 4-byte longs still writes the
# first.
_GENERATOR_LAYOUTS = tuple(ClassLayout("raw", size=size) for size in (5048, 2544, 2540))


def possible_layouts(
    class_name: str, version: int | str, long_size: int
) -> tuple[ClassLayout, ...]:
    """Return the layouts that the body of a class may have, most probable first.

    `nn.DataParallelTable` writes a header and a table since its version 2
    (`DataParallelTable.lua`), and `nn.ModelParallelTable` its modules one by one.
    """
    if class_name == "nn.ModelParallelTable":
        is_split = isinstance(version, int) and version >= 2
        return (BRANCHES if is_split else ONE_OBJECT,)
    if class_name == "nn.DataParallelTable":
        has_header = isinstance(version, int) and version >= 2
        return (ClassLayout("parts", "oo") if has_header else ONE_OBJECT,)
    if class_name == "torch.Generator":
        if long_size == 8:
            return _GENERATOR_LAYOUTS
        return (*_GENERATOR_LAYOUTS[1:], _GENERATOR_LAYOUTS[0])
    known = _KNOWN_LAYOUTS.get(class_name)
    return _CANDIDATES if known is None else (known,)


def is_known(class_name: str) -> bool:
    """Return whether a class is listed here or belongs to a package whose classes store a table."""
    return class_name in _KNOWN_LAYOUTS or class_name.startswith(_PACKAGES)
