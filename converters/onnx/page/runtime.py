"""onnxruntime-web, from its npm package: which files a page needs of it."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path

from ..errors import OnnxError

#: The version that pages are tested with.
TESTED_VERSION = "1.30.0"

#: What runs without a GPU, and what the page loads for WebGPU only.
_WASM = ("ort.wasm.min.mjs", "ort-wasm-simd-threaded.mjs", "ort-wasm-simd-threaded.wasm")
_WEBGPU = "ort.webgpu.min.mjs"

#: What the WebGPU build loads, by version.
_WEBGPU_RUNTIMES = ("ort-wasm-simd-threaded.asyncify", "ort-wasm-simd-threaded.jsep")


@dataclass(frozen=True)
class Runtime:
    """An npm package of onnxruntime-web.

    Attributes:
        folder: Its folder.
        version: Its version.
        files: The files that a page needs.
        has_webgpu: Whether those for WebGPU are among them.
    """

    folder: Path
    version: str
    files: list[Path]
    has_webgpu: bool


def find_runtime(folder: str | os.PathLike[str] | None = None) -> Runtime:
    """Find onnxruntime-web.

    Args:
        folder: The folder of the package; by default `node_modules/onnxruntime-web` in the current
            folder or the nearest of its parents that has one.

    Raises:
        OnnxError: If it is not there, or something is missing in it; the message tells how to
            install it.
    """
    if folder is None:
        here = Path.cwd()
        places = [one / "node_modules" / "onnxruntime-web" for one in (here, *here.parents)]
    else:
        places = [Path(folder)]
    place = next((one for one in places if (one / "package.json").is_file()), None)
    install = f"npm install onnxruntime-web@{TESTED_VERSION}"
    if place is None:
        where = "here or above" if folder is None else f"in {folder}"
        raise OnnxError(f"onnxruntime-web was not found {where}: {install}")
    try:
        package = json.loads((place / "package.json").read_text(encoding="utf-8"))
        name, version = package["name"], str(package["version"])
    except (OSError, ValueError, KeyError, TypeError):
        name, version = "", ""
    files = [place / "dist" / file for file in _WASM]
    missing = [file.name for file in files if not file.is_file()]
    if name != "onnxruntime-web" or missing:
        what = f"{missing[0]} is missing" if missing else "this is another package"
        raise OnnxError(f"{place}: {what}: {install}")
    webgpu = _webgpu_files(place / "dist")
    return Runtime(place, version, files + webgpu, bool(webgpu))


def _webgpu_files(dist: Path) -> list[Path]:
    """Return the files for WebGPU, or none if some are missing."""
    script = dist / _WEBGPU
    text = script.read_text(encoding="utf-8") if script.is_file() else ""
    for stem in _WEBGPU_RUNTIMES:
        files = [dist / f"{stem}{suffix}" for suffix in (".mjs", ".wasm")]
        if stem in text and all(file.is_file() for file in files):
            return [script, *files]
    return []
