"""Layers of Lua packages other than torch/nn; importing this package registers them.

Each file holds the layers of one package or project, or one kind of layer of a large package.
"""

from importlib import import_module
from pkgutil import iter_modules

for _module in iter_modules(__path__):
    import_module(f".{_module.name}", __name__)
