"""The `README.md` of a saved model: the model card that the Hugging Face Hub shows.

Everything that comes from a file stands in indented blocks, where nothing is markup.
"""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path

from ... import __version__
from .model import SavedModel
from .shapes import output_count

CARD = "README.md"

#: How many class names, notes and lines of the network are shown.
_SHOWN = 40
#: Characters of a line.
_WIDTH = 200

#: The last line of a card: the digest of the lines above it.
_MARK = re.compile(r"<!-- torchlift wrote this card; SHA-256 of the text above: (\w{64}) -->\n?")

#: The licence is a matter of whoever publishes the weights.
_HEAD = """\
---
# license: say here which licence the weights have, such as mit
library_name: torchlift
tags:
- pytorch
- safetensors
- {origin}{task}
---
"""

_USE = """\
## Use

```python
from torchlift.converters.saved import open_model

model = open_model("hf:ORG/NAME")  # this repository, or the path of this folder
model.module  # a torch.nn.Module in evaluation mode
```

`torchlift export hf:ORG/NAME model.onnx` writes ONNX. `model.py` is the same network as source code
that needs only torch.
"""


def model_card(model: SavedModel) -> str:
    r"""Return the card of a model, in Markdown.

    Example:
        >>> from torch import nn
        >>> model = SavedModel(nn.Linear(4, 2), "logits", labels=["cat", "dog"])
        >>> card = model_card(model)
        >>> card.startswith("---\n# license: "), "    1  dog" in card
        (True, True)
    """
    task = "\npipeline_tag: image-classification" if _classifies_images(model) else ""
    is_torch7 = model.source is not None and model.source.file.lower().endswith(".t7")
    title = "# A Torch7 model, converted to PyTorch" if is_torch7 else "# A PyTorch model"
    parts = [
        _HEAD.format(origin="torch7" if is_torch7 else "torchlift", task=task) + title,
        _block(_facts(model)),
        *_section("Preprocessing", _preprocessing(model)),
        *_section("Classes", [f"{i}  {_line(name)}" for i, name in enumerate(model.labels or ())]),
        *_section("Layers", [_line(line) for line in str(model.module).splitlines()]),
        *_section("What was checked and assumed", [_line(note) for note in model.notes]),
        _USE,
    ]
    text = "\n\n".join(parts)
    return (
        f"{text}\n<!-- torchlift wrote this card; SHA-256 of the text above: {_digest(text)} -->\n"
    )


def is_card(file: Path) -> bool:
    """Return whether a file is a card that torchlift wrote, edited or not."""
    return file.is_file() and _mark(_text(file)) is not None


def is_edited(file: Path) -> bool:
    """Return whether a file is there that is no longer as torchlift wrote it."""
    if not file.is_file():
        return False
    text = _text(file)
    mark = _mark(text)
    if mark is None or text[mark.end() :].strip():
        return True
    return _digest(text[: mark.start()].removesuffix("\n")) != mark[1]


def _mark(text: str) -> re.Match[str] | None:
    """Return the last mark: a text above it may imitate one."""
    return next(reversed(list(_MARK.finditer(text))), None)


def _text(file: Path) -> str:
    # Universal newlines: Git may write others than were there.
    return file.read_text(encoding="utf-8", errors="replace")


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _classifies_images(model: SavedModel) -> bool:
    return (
        model.input_shape is not None
        and model.output_kind != "features"
        and model.image_to_image is None
    )


def _facts(model: SavedModel) -> list[str]:
    outputs = output_count(model.module)
    facts = {
        "source": None if model.source is None else _line(model.source.file),
        "SHA-256": None if model.source is None else model.source.sha256,
        "input": None if model.input_shapes is None else _line(str(model.input_shapes)),
        "output": model.output_kind + ("" if outputs is None else f", {outputs:,} numbers"),
        "parameters": f"{sum(each.numel() for each in model.module.parameters()):,}",
        "written by": f"torchlift {__version__}",
    }
    return [f"{name:<12}{value}" for name, value in facts.items() if value]


def _preprocessing(model: SavedModel) -> list[str]:
    """Return the steps from an image to an input, as `config.json` names them."""
    if model.preprocessing is None:
        return []
    steps = model.preprocessing.to_json().items()
    return [f"{name:<15}{_line(json.dumps(value))}" for name, value in steps]


def _section(title: str, lines: list[str]) -> list[str]:
    return [f"## {title}", _block(lines)] if lines else []


def _block(lines: list[str]) -> str:
    """Return lines as an indented block; the end of a long one is left out."""
    left_out = [f"… {len(lines) - _SHOWN:,} more"] if len(lines) > _SHOWN else []
    return "\n".join(f"    {line}" for line in [*lines[:_SHOWN], *left_out])


def _line(text: str) -> str:
    """Return a text on one line, of characters that show."""
    shown = (
        each if each.isprintable() else each.encode("unicode_escape", "replace").decode()
        for each in text[:_WIDTH]
    )
    return "".join(shown) + ("…" if len(text) > _WIDTH else "")
