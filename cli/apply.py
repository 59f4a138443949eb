"""`torchlift apply`."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from rich.console import Group

from ..converters.errors import TorchliftError
from .model_options import (
    AS_THE_INPUT,
    FILE_DEFAULTS,
    ModelOptions,
    OutputOptions,
)
from .outputs import output_suffix
from .progress import progress
from .result import CommandResult
from .terminal import console, printable
from .values import Count, Provider

if TYPE_CHECKING:
    from PIL import Image

    from ..converters.inference.image_model import ImageModel

#: The suffixes of images that are written.
_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".ppm", ".tif", ".tiff", ".webp")

#: How well JPEG files are kept.
_QUALITY = 95


def apply(
    model: str,
    images: str,
    output: str,
    *,
    mask: str | None = None,
    tile: Count | None = None,
    provider: Provider = "auto",
    overwrite: bool = False,
    output_options: OutputOptions = AS_THE_INPUT,
    model_options: ModelOptions = FILE_DEFAULTS,
) -> CommandResult:
    """Turn images into images: style transfer, super-resolution, maps of classes and the like.

    What the network takes and gives is what its file says, or what its project is known for; where
    neither tells, --value-range says it. Scores of classes become a palette PNG, one byte a pixel:
    the number of the class, from 0. An image that cannot be read is reported and the others are
    written all the same; the exit code is 1 then.

    Args:
        model: A .t7 file, a saved model's folder or an .onnx file.
        images: An image, or a folder of images.
        output: The file to write, such as out.png; for a folder of images a folder, where each gets
            its own name with .png.
        mask: An image of the same size that is white where the image is missing, for networks that
            fill holes.
        tile: Run large images in tiles of so many pixels a side, and what the network needs beside
            them, so that they give what the whole image gives; for networks of convolutions.
        provider: What to run on: auto, cpu, cuda or cuda:1; tensorrt or openvino for an .onnx
            file.
        overwrite: Replace files that are there.
        output_options: How outputs become images.
        model_options: How to open the model.
    """
    suffix = output_suffix(output, ["", *_SUFFIXES])
    pairs = list(_targets(Path(images), Path(output), suffix, overwrite))
    from ..converters.images import read_image

    holes = None if mask is None else read_image(mask)
    opened = _open(model, provider, tile, model_options, output_options)
    results: list[dict[str, Any]] = []
    with progress(len(pairs)) as advance:
        for source, target in pairs:
            try:
                result = _apply_to(opened, source, target, holes)
            except TorchliftError as error:
                # What the first image shows of the network is not said of each.
                if _is_unreadable(error) or (results and not suffix):
                    result = {"input": str(source), "file": None, "problem": _one_line(error)}
                    print(f"torchlift: {printable(_one_line(error))}", file=sys.stderr)
                else:
                    raise
            results.append(result)
            advance(1)
    count = sum(not result["problem"] for result in results)
    lines = [f"{result['input']} → {result['file']}" for result in results if result["file"]]
    lines = lines if len(pairs) == 1 else [f"{count:,} of {len(pairs):,} images → {output}"]
    data = {"model": model, "provider": opened.provider, "results": results}
    return CommandResult(data, Group(*lines), count == len(pairs))


def _targets(
    images: Path, output: Path, suffix: str, overwrite: bool
) -> Iterator[tuple[Path, Path]]:
    """Yield each image and the file to write for it.

    Raises:
        TorchliftError: when there is no image, or a file is there already.
    """
    from ..converters.files import check_output
    from ..converters.images import find_images
    from ..converters.images.files import list_folder

    if suffix:
        if images.is_dir():
            raise TorchliftError(f"{images} is a folder: name a folder to write, not {output}")
        yield images, check_output(output, overwrite)
        return
    if images.is_dir() and (left_out := list_folder(images).note()):
        console(stderr=True).print(f"note: {images}: {left_out}")
    if images.is_dir() and output.exists() and images.resolve() == output.resolve():
        raise TorchliftError(f"{output} is the folder of the images: name another one")
    found = find_images([images])
    check_output(output, overwrite, folder=True)
    root = images if images.is_dir() else images.parent
    taken: set[Path] = set()
    for file in found:
        target = output / file.relative_to(root).with_suffix(".png")
        # cat.jpg and cat.png of one folder do not share a name.
        target = target if target not in taken else target.with_name(f"{file.name}.png")
        taken.add(target)
        yield file, target


def _open(
    model: str,
    provider: str,
    tile: int | None,
    model_options: ModelOptions,
    output_options: OutputOptions,
) -> ImageModel:
    from ..converters.inference.image_model import ImageModel
    from ..converters.saved.hub import model_path

    predictor = model_options.predictor(model, provider)
    if predictor.note:
        console(stderr=True).print(predictor.note)
    is_fixed = Path(model).suffix.lower() == ".onnx" or model_path(model).is_dir()
    try:
        return ImageModel(predictor, output_options.said(), tile=tile, fixed=is_fixed)
    except TorchliftError as error:
        raise type(error)(f"{model}: {error}") from None


def _apply_to(
    opened: ImageModel, source: Path, target: Path, holes: Image.Image | None
) -> dict[str, Any]:
    """Write what the network makes of one image, and return what is said of it."""
    from ..converters.files import atomic_path
    from ..converters.images import read_image
    from ..converters.images.class_map import png_text

    image = read_image(source)
    try:
        made = opened(image, holes)
    except TorchliftError as error:
        raise type(error)(f"{source}: {error}") from None
    if made.mode == "P" and target.suffix.lower() != ".png":
        raise TorchliftError(f"{target}: a map of classes is written as .png")
    target.parent.mkdir(parents=True, exist_ok=True)
    with atomic_path(target, durable=False) as temporary:
        is_png = target.suffix.lower() == ".png"
        options: dict[str, Any] = {"pnginfo": png_text(made)} if is_png else {"quality": _QUALITY}
        made.save(temporary, **options)
    result: dict[str, Any] = {
        "input": str(source),
        "file": str(target),
        "width": made.width,
        "height": made.height,
        "problem": None,
    }
    return {**result, "classes": _classes(opened, made)} if made.mode == "P" else result


def _classes(opened: ImageModel, made: Image.Image) -> list[dict[str, Any]]:
    """Return the classes of a map that have pixels, and how many."""
    counts = np.bincount(np.asarray(made).ravel())
    labels = opened.labels
    return [
        {"index": index, "label": labels[index] if labels else str(index), "count": int(count)}
        for index, count in enumerate(counts)
        if count
    ]


def _is_unreadable(error: TorchliftError) -> bool:
    from ..converters.images import ImageError

    return isinstance(error, ImageError)


def _one_line(error: TorchliftError) -> str:
    return " ".join(str(error).split())
