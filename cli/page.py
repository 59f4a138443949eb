"""`torchlift page`."""

from __future__ import annotations

from pathlib import Path

from .errors import UsageError
from .outputs import output_suffix
from .result import CommandResult


def page(
    model: str,
    folder: str,
    *,
    onnxruntime_web: str | None = None,
    overwrite: bool = False,
) -> CommandResult:
    """Write a page that runs a model on images in the browser, without a server of its own.

    A classifier's page shows the most probable classes. The page of a network that turns images
    into images shows what was before and after, and saves it. Put the folder on any host of static
    files, or try it with `python -m http.server`. The page asks nothing of other places, and images
    stay in the browser.

    Args:
        model: A classifier that `export --bake-resize` wrote, or an .onnx that `apply` takes
            without an option.
        folder: The folder to write.
        onnxruntime_web: The folder of the npm package onnxruntime-web; by default
            node_modules/onnxruntime-web here or above.
        overwrite: Replace a page that is there.
    """
    if Path(model).suffix.lower() != ".onnx":
        raise UsageError(f"{model}: a page needs an .onnx file, as export writes it")
    output_suffix(folder, [""])
    from ..converters.onnx import write_page

    files = write_page(model, folder, onnxruntime_web=onnxruntime_web, overwrite=overwrite)
    size = sum(file.stat().st_size for file in files)
    metadata = {"model": model, "files": [str(file) for file in files], "bytes": size}
    return CommandResult(
        metadata,
        f"wrote {files[0]}: {len(files)} files, {size / 1e6:.1f} MB; "
        f"try it with: python -m http.server -d {folder}",
    )
