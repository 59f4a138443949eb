"""The kinds of datasets that `open_data` reads, one file each.

Importing this package imports every module in the folder, which registers its readers. So a new
kind is one new file:

    @reader("a .npy file", accepts=has_suffix(".npy"), order=60)
    def read_npy(source: str, options: ReadOptions) -> Dataset:
        return Dataset(np.load(source))
"""

from importlib import import_module
from pkgutil import iter_modules

from .registry import (
    Reader,
    ReadOptions,
    describe_kinds,
    find_reader,
    has_suffix,
    reader,
    registered_readers,
)

__all__ = [
    "ReadOptions",
    "Reader",
    "describe_kinds",
    "find_reader",
    "has_suffix",
    "reader",
    "registered_readers",
]

for _module in iter_modules(__path__):
    import_module(f".{_module.name}", __name__)
