"""The reference pages of the site: one for each package with public names, made from `__all__`.

Needs no mkdocs: `tests/test_docs_site.py` checks that no public name is left out.
"""

from __future__ import annotations

import ast
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

#: The packages that have a page, and what it is called. A package below one of these, such as
#: `converters.onnx.checker`, has none where all of its names are there too.
PAGES = {
    "converters": "torchlift.converters",
    "converters/t7": "t7: reading and writing",
    "converters/t7/inspection": "t7.inspection",
    "converters/modules": "modules: converting",
    "converters/images": "images: preprocessing",
    "converters/saved": "saved: the saved model",
    "converters/inference": "inference: running",
    "converters/inference/text": "inference.text",
    "converters/onnx": "onnx: exporting and checking",
    "converters/comparing": "comparing",
    "converters/compat": "compat: other readers' names",
    "transfer": "transfer",
    "transfer/data": "transfer.data",
    "transfer/data/readers": "transfer.data.readers",
    "transfer/networks": "transfer.networks",
    "transfer/evaluation": "transfer.evaluation",
    "transfer/summary": "transfer.summary",
    "transfer/reports": "transfer.reports",
}

#: What stays as it is until 1.0 and after it; the rest may be renamed in a minor version.
STABLE = {
    "converters": {"TorchliftError", "convert", "load_model", "register", "onnx", "t7"},
    "converters/t7": {
        *("load", "loads", "load_all", "save", "dumps", "to_torch"),
        *("LuaObject", "LuaTable", "LuaFunction"),
    },
    "converters/modules": {"UnknownClassError", "convert", "layer", "load_model", "register"},
    "converters/saved": {"open_model", "save", "load"},
    "converters/inference": {"Classifier", "open_predictor"},
    "converters/onnx": {"export", "check", "Classifier", "open_predictor"},
    "converters/compat": {"load_lua", "readNetFromTorch", "torchfile"},
    "transfer": {"FeatureTransformer", "evaluate", "extract_features", "fit", "open_data"},
}


def public_names(package: str) -> list[str]:
    """Return the names in `__all__` of a package, such as `converters/t7`; none if it has none."""
    tree = ast.parse((ROOT / package / "__init__.py").read_text(encoding="utf-8"))
    for node in tree.body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__":
            return [str(name) for name in ast.literal_eval(node.value)]
    return []


def pages() -> dict[str, str]:
    """Return the Markdown of each page, by its path in the site."""
    return {
        f"reference/{package.replace('/', '.')}.md": _page(package)
        for package in PAGES
        if public_names(package)
    }


def _page(package: str) -> str:
    dotted = f"torchlift.{package.replace('/', '.')}"
    names = public_names(package)
    stable = [name for name in names if name in STABLE.get(package, set())]
    others = [name for name in names if name not in stable]
    parts = [f"# {dotted}"]
    if stable:
        parts += ["## Stable", *(_entry(dotted, package, name) for name in stable)]
    if others:
        parts += ["## May change before 1.0"] if stable else ["May change before 1.0."]
        parts += [_entry(dotted, package, name) for name in others]
    return "\n\n".join(parts) + "\n"


def _entry(dotted: str, package: str, name: str) -> str:
    """Return the entry of a name; packages have pages of their own."""
    if (ROOT / package / name).is_dir():
        page = f"{package}/{name}".replace("/", ".")
        text = f"`{dotted}.{name}`"
        return f"- [{text}]({page}.md)" if f"{package}/{name}" in PAGES else f"- {text}, a package"
    return f"::: {dotted}.{name}"
