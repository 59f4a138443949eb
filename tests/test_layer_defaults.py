"""The defaults of layers never change: a saved model leaves out the arguments that equal them.

`python tests/test_layer_defaults.py` adds new layers to layer_defaults.json. A default that is
there already stays: otherwise models that were saved before would compute something else.
"""

from __future__ import annotations

import inspect
import json
from pathlib import Path

import torchlift.converters.modules  # noqa: F401 (registers the layers)
from torchlift.converters.modules import registry

_KNOWN = Path(__file__).with_name("layer_defaults.json")


def defaults() -> dict[str, dict[str, str]]:
    """Return the defaults of torchlift's own layers, as Python writes them."""
    return {
        name: {
            parameter.name: repr(parameter.default)
            for parameter in inspect.signature(cls).parameters.values()
            if parameter.default is not parameter.empty
        }
        for name, cls in sorted(registry._layers.items())
        if cls.__module__.startswith(registry.__package__ or "")
    }


def test_saved_models_can_rely_on_the_defaults_of_layers() -> None:
    known, current = json.loads(_KNOWN.read_text(encoding="utf-8")), defaults()
    assert {name: current.get(name) for name in known} == known
    added = sorted(current.keys() - known.keys())
    assert not added, f"add the defaults of {added}: python {Path(__file__).name}"


if __name__ == "__main__":
    _KNOWN.write_text(json.dumps(defaults(), indent=1) + "\n", encoding="utf-8")
