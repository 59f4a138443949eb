"""The classes of torch/nn, one file for each family; importing this registers their converters."""

from importlib import import_module
from pkgutil import iter_modules

for _module in iter_modules(__path__):
    import_module(f".{_module.name}", __name__)
