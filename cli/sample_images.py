"""What `torchlift sample --grid` does: images that a generator makes of noise."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from ..converters.errors import TorchliftError
from .model_options import ModelOptions, OutputOptions
from .result import CommandResult
from .terminal import console


def sample_images(
    model: str,
    output: str,
    grid: tuple[int, int],
    *,
    seed: int,
    noise: Literal["normal", "uniform"],
    provider: str,
    overwrite: bool,
    model_options: ModelOptions,
    output_options: OutputOptions,
) -> CommandResult:
    """Write the images of a generator, side by side.

    Raises:
        TorchliftError: when the network is no generator, or the file is there already.
    """
    from ..converters.files import atomic_path, check_output
    from ..converters.images.image_to_image import ImageToImage
    from ..converters.inference import image_sampling

    target = check_output(output, overwrite)
    predictor = model_options.predictor(model, provider)
    said = output_options.said()
    rows, columns = grid
    try:
        if said.range is None:
            known = image_sampling.output_of_generator(predictor)
        else:
            # The order of the colors is another matter: what the file says of it holds.
            own: ImageToImage | None = getattr(predictor, "image_to_image", None)
            known = ImageToImage(said.range, None if own is None else own.color)
        low, high = known.limits
        console(stderr=True).print(f"{low:g} is black and {high:g} white; the noise is {noise}")
        made = ImageToImage(known.value_range, said.color or known.color)
        images = image_sampling.sample_images(
            predictor, rows * columns, made, seed=seed, noise=noise
        )
    except TorchliftError as error:
        raise type(error)(f"{model}: {error}") from None
    sheet = image_sampling.image_grid(images, columns)
    with atomic_path(target) as temporary:
        sheet.save(temporary)
    data = {
        "model": model,
        "provider": predictor.provider,
        "file": str(target),
        "count": rows * columns,
        "width": sheet.width,
        "height": sheet.height,
    }
    return CommandResult(data, f"{rows * columns:,} images → {Path(output)}")
