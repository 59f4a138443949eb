"""A page that runs a model on images in the browser, for any host of static files."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
from importlib.resources import files
from pathlib import Path
from typing import Any

from ...files import atomic_path
from ...inference.check_verdict import check_verdict
from ...overwriting import FolderKind, check_output_folder
from ..errors import OnnxError
from ..onnx_file import describe_file
from .image_card import gives_image, image_card
from .runtime import find_runtime

_STATIC = (
    "page.js",
    "class_results.js",
    "image_results.js",
    "shared.js",
    "transform.js",
    "worker.js",
    "style.css",
    "icon.svg",
)
_DATA = '<script type="application/json" id="model">{}</script>'


def _is_page(folder: Path) -> bool:
    page = folder / "index.html"
    mark = '<meta name="generator" content="torchlift page">'
    return page.is_file() and mark in page.read_text(encoding="utf-8", errors="replace")


#: What may be replaced.
PAGE = FolderKind(
    "a page that torchlift wrote",
    _is_page,
    re.compile(
        rf"index\.html|{'|'.join(map(re.escape, _STATIC))}|[^/]+\.onnx|ort[^/]*\.(mjs|wasm)"
    ),
)


def write_page(
    model: str | os.PathLike[str],
    folder: str | os.PathLike[str],
    *,
    onnxruntime_web: str | os.PathLike[str] | None = None,
    overwrite: bool = False,
) -> list[Path]:
    """Write a page that runs a model in the browser, without a server of its own.

    A classifier's own graph resizes and normalizes, on the pixels as the browser decodes them. For
    a network that turns images into images, the page does what `ImageModel` does. It needs HTTP,
    which any host of static files and `python -m http.server` speak, and asks nothing of other
    places.

    Args:
        model: A classifier that `export(…, bake_resize=True)` wrote, or a network that takes and
            gives images, with what these are in its metadata.
        folder: The folder to write.
        onnxruntime_web: The folder of the npm package (see `find_runtime`).
        overwrite: Replace a page that is there.

    Returns:
        The files, the page first.

    Raises:
        OnnxError: If the model is no such file, or onnxruntime-web is missing.
        InferenceError: If a network of images cannot be run.
        WriteError: If the folder exists already, or cannot be written.
    """
    target = check_output_folder(folder, PAGE, overwrite)
    source = Path(model)
    description = describe_file(source)
    image = None
    if gives_image(description):
        image = image_card(source, description)
    else:
        require_image_classifier(source, description)
    if Path(f"{source}.data").exists():
        raise OnnxError(f"{source}: more than 2 GB of weights are too large for a browser")
    runtime = find_runtime(onnxruntime_web)
    card = {
        "model": source.stem,
        "file": source.name,
        "bytes": source.stat().st_size,
        "sha256": _sha256(source),
        "labels": description["labels"],
        "output_kind": _kind(description, image),
        "arithmetic": description["arithmetic"],
        "preprocessing": description["baked_preprocessing"] or description["preprocessing"],
        "image_to_image": description["image_to_image"],
        "image": image,
        "source": description["source"],
        "torchlift_version": description["torchlift_version"],
        "check": check_verdict(source),
        "onnxruntime_web": runtime.version,
        "has_webgpu": runtime.has_webgpu,
    }
    parts = files(__package__)
    with atomic_path(target) as written:
        written.mkdir()
        page = (parts / "index.html").read_text(encoding="utf-8")
        # JSON in a page must not end its element.
        data = json.dumps(card, ensure_ascii=False, allow_nan=False).replace("<", r"\u003c")
        page = page.replace(_DATA, _DATA.replace("{}", data))
        (written / "index.html").write_text(page, encoding="utf-8")
        for name in _STATIC:
            (written / name).write_bytes((parts / name).read_bytes())
        for file in [source, *runtime.files]:
            shutil.copyfile(file, written / file.name)
    return [target / "index.html", *sorted(set(target.iterdir()) - {target / "index.html"})]


def require_image_classifier(file: Path, description: dict[str, Any]) -> None:
    """Check that a file takes the pixels of one image and gives the scores of classes.

    Raises:
        OnnxError: If not; the message has the command that writes one.
    """
    inputs, outputs = description["inputs"], description["outputs"]
    shapes = [(one["dtype"], len(one["shape"])) for one in inputs]
    if shapes != [("uint8", 3)] or inputs[0]["shape"][2] == 1:
        source = (description["source"] or {}).get("file", "MODEL")
        raise OnnxError(
            f"{file}: a page needs a file with all of preprocessing in the graph: "
            f"torchlift export {source} {file.stem}-page.onnx --bake-resize (with the options that "
            "this file was exported with)"
        )
    if description["output_kind"] == "features" or len(outputs) != 1:
        raise OnnxError(f"{file}: not a classifier: a page shows the scores of classes")


def _kind(description: dict[str, Any], image: dict[str, Any] | None) -> str:
    """Return what the page gives, as its card says."""
    if image is None:
        return str(description["output_kind"])
    return "a map of classes" if image["gives_classes"] else "an image"


def _sha256(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
