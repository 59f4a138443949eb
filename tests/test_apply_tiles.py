"""Large images in tiles: the same bytes as the whole image, with far less memory.

What is protected: that a cut is never felt, whatever a network does to its grid and its border,
and that a network that looks at the whole image is refused. The truth is the whole image, run at
once; a gray level may round the other way, since kernels sum in another order.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from torchlift.cli.main import main
from torchlift.converters.images import Preprocessing
from torchlift.converters.images.image_to_image import ImageToImage
from torchlift.converters.inference import InferenceError, TorchPredictor
from torchlift.converters.inference.image_model import ImageModel
from torchlift.converters.inference.tiles import Tiling, measure_tiling
from torchlift.converters.saved import SavedModel, save


def network(name: str) -> nn.Module:
    """Return a network with large weights, so that every pixel of a window counts."""
    torch.manual_seed(0)
    layers: dict[str, list[nn.Module]] = {
        "padded": [nn.Conv2d(3, 6, 5, padding=2), nn.ReLU(), nn.Conv2d(6, 3, 3, padding=1)],
        "cut off": [nn.Conv2d(3, 6, 5), nn.ReLU(), nn.Conv2d(6, 3, 3)],
        "down and up": [
            nn.Conv2d(3, 6, 3, stride=2, padding=1),
            nn.ReLU(),
            nn.Conv2d(6, 8, 3, stride=2, padding=1),
            nn.ConvTranspose2d(8, 6, 4, stride=2, padding=1),
            nn.ReLU(),
            nn.ConvTranspose2d(6, 3, 4, stride=2, padding=1),
        ],
        "larger": [nn.ReflectionPad2d(2), nn.Conv2d(3, 12, 5), nn.PixelShuffle(2)],
        "smaller": [nn.Conv2d(3, 4, 3, padding=1), nn.MaxPool2d(2), nn.Conv2d(4, 3, 3, padding=1)],
        "classes": [nn.Conv2d(3, 6, 3, padding=4, dilation=4), nn.LogSoftmax(1)],
        "whole": [nn.Conv2d(3, 3, 3, padding=1), nn.InstanceNorm2d(3)],
    }
    return nn.Sequential(*layers[name]).eval()


def opened(name: str, tile: int | None, **output: int) -> ImageModel:
    module = network(name)
    kind = "log_probabilities" if name == "classes" else "features"
    steps = None if not output else ImageToImage((-0.5, 0.5), **output)  # type: ignore[arg-type]  # a dict of whole numbers
    model = SavedModel(module, kind, preprocessing=Preprocessing("RGB"), image_to_image=steps)
    return ImageModel(TorchPredictor(model, "cpu"), tile=tile)


PICTURE = np.random.default_rng(1).integers(0, 256, (91, 117, 3), np.uint8)


@pytest.mark.parametrize(
    "name", ["padded", "cut off", "down and up", "larger", "smaller", "classes"]
)
@pytest.mark.parametrize("tile", [16, 40])
def test_tiles_give_what_the_whole_gives(name: str, tile: int) -> None:
    whole = np.asarray(opened(name, None)(PICTURE)).astype(int)
    tiled = np.asarray(opened(name, tile)(PICTURE)).astype(int)
    assert tiled.shape == whole.shape
    assert whole.std() > 0
    if name == "classes":
        assert (tiled == whole).mean() > 0.999
    else:
        assert np.abs(tiled - whole).max() <= 1


def test_a_border_is_extended_once() -> None:
    whole = np.asarray(opened("cut off", None, border=3, scale=1)(PICTURE)).astype(int)
    tiled = np.asarray(opened("cut off", 30, border=3, scale=1)(PICTURE)).astype(int)
    assert tiled.shape == whole.shape == PICTURE.shape
    assert np.abs(tiled - whole).max() <= 1


def test_an_image_with_its_border_is_extended_to_a_multiple() -> None:
    """By its own edges; what was added right and below for the multiple is cut off again."""
    sizes: list[tuple[int, ...]] = []
    model = opened("padded", None, border=3, multiple=4, scale=1)
    model._predictor.module.register_forward_pre_hook(lambda _, args: sizes.append(args[0].shape))
    image = np.asarray(model(PICTURE[:9, :14]))
    assert (sizes, image.shape) == ([(1, 3, 16, 20)], (9, 14, 3))
    extended = np.pad(PICTURE[:9, :14], [(3, 4), (3, 3), (0, 0)], mode="edge")
    assert np.array_equal(image, np.asarray(opened("padded", None, scale=1)(extended))[:9, :14])


def test_a_network_that_looks_at_the_whole_image_is_refused() -> None:
    with pytest.raises(InferenceError, match="whole image"):
        opened("whole", 16)(PICTURE)


def blur(pixels: np.ndarray, reach: int) -> np.ndarray:
    """Return the mean of so many pixels to each side."""
    values = pixels[..., 0].astype(np.float64)
    for axis in (0, 1):
        sums = np.insert(values.cumsum(axis), 0, 0, axis)
        places, side = np.arange(values.shape[axis]), values.shape[axis]
        above = sums.take(np.minimum(places + reach + 1, side), axis)
        values = above - sums.take(np.maximum(places - reach, 0), axis)
    return values[None] / (2 * reach + 1) ** 2


def contrast(pixels: np.ndarray) -> np.ndarray:
    """Return where a pixel is much brighter than the third one above, below, left or right."""
    values = pixels[..., 0].astype(np.float64)
    wide = np.pad(values, 3, mode="edge")
    neighbors = (wide[:-6, 3:-3], wide[6:, 3:-3], wide[3:-3, :-6], wide[3:-3, 6:])
    return np.stack([values - one > 60 for one in neighbors]).any(axis=0)[None].astype(float)


def test_a_cut_is_tried_on_an_image_with_contrast_the_same_each_time() -> None:
    """Such a network gives nothing at all for a smooth image, so that no cut would be felt."""
    images: list[np.ndarray] = []

    def run(pixels: np.ndarray) -> np.ndarray:
        images.append(pixels)
        return contrast(pixels)

    found, again = measure_tiling(run, 3), measure_tiling(run, 3)
    assert (found.before, found.after, found.step) == (3, 3, 1)
    assert found == again
    first, second = images[: len(images) // 2], images[len(images) // 2 :]
    assert all(np.array_equal(*both) for both in zip(first, second, strict=True))
    # Each channel is another one, and the whole range of brightness is there.
    assert len({images[0][..., channel].tobytes() for channel in range(3)}) == 3
    assert images[0].min() < 5
    assert images[0].max() > 200


@pytest.mark.parametrize(("reach", "is_cut"), [(288, True), (289, False)])
def test_a_tenth_of_a_part_must_be_as_it_is_in_the_whole(reach: int, is_cut: bool) -> None:
    """Of the 640 outputs of the largest part, all but twice the reach are."""
    if is_cut:
        found = measure_tiling(lambda pixels: blur(pixels, reach), 1)
        assert (found.before, found.after, found.step) == (reach, reach, 128)
        return
    with pytest.raises(InferenceError, match="depends on the whole image"):
        measure_tiling(lambda pixels: blur(pixels, reach), 1)


def test_the_reach_is_that_of_the_convolutions() -> None:
    def run(pixels: np.ndarray) -> np.ndarray:
        with torch.no_grad():
            image = torch.as_tensor(pixels.transpose(2, 0, 1)[None] / 255).float()
            output: np.ndarray = network("padded")(image)[0].numpy()
            return output

    found = measure_tiling(run, 3)
    assert (found.step, found.scale, found.lost) == (1, 1, 0)
    assert (found.before, found.after) == (3, 3)


def shifted(pixels: np.ndarray, places: int) -> np.ndarray:
    """Return the pixel so far to the left and above, or 0."""
    values = pixels[..., 0].astype(float)
    height, width = values.shape
    padded = np.pad(values, abs(places))
    start = abs(places) - places
    return padded[None, start : start + height, start : start + width]


def pooled(pixels: np.ndarray, side: int) -> np.ndarray:
    """Return the means of squares."""
    height, width = (length // side for length in pixels.shape[:2])
    values = pixels[: height * side, : width * side, 0].astype(float)
    return values.reshape(height, side, width, side).mean((1, 3))[None]


RUNS: dict[str, tuple[Callable[[np.ndarray], np.ndarray], Tiling]] = {
    "each pixel": (lambda p: 255.0 - p[..., 0][None], Tiling(1, Fraction(1), 0, 0, 0)),
    "always 0": (lambda p: np.zeros((1, *p.shape[:2])), Tiling(1, Fraction(1), 0, 0, 0)),
    # An output of so many pixels to the left and above is wrong behind a cut there.
    "from the left": (lambda p: shifted(p, 2), Tiling(1, Fraction(1), 0, 2, 0)),
    "from the right": (lambda p: shifted(p, -3), Tiling(1, Fraction(1), 0, 0, 3)),
    "both": (lambda p: shifted(p, 2) + shifted(p, -3), Tiling(1, Fraction(1), 0, 2, 3)),
    # A difference of a tenth of a gray level is felt, less is not.
    "faint": (lambda p: shifted(p, 0) + shifted(p, 5) / 1000, Tiling(1, Fraction(1), 0, 5, 0)),
    "fainter": (lambda p: shifted(p, 0) + shifted(p, 5) / 1e4, Tiling(1, Fraction(1), 0, 0, 0)),
    "twice as large": (
        lambda p: p[..., 0].repeat(2, 0).repeat(2, 1)[None].astype(float),
        Tiling(1, Fraction(2), 0, 0, 0),
    ),
    "half as large": (lambda p: pooled(p, 2), Tiling(2, Fraction(1, 2), 0, 0, 0)),
    "down and up": (
        lambda p: pooled(p, 8).repeat(8, 1).repeat(8, 2),
        Tiling(8, Fraction(1), 0, 0, 0),
    ),
    "cut off": (lambda p: p[2:-3, 2:-3, 0][None].astype(float), Tiling(1, Fraction(1), 5, 0, 0)),
    "pooled and cut off": (lambda p: pooled(p, 4)[:, 1:, 1:], Tiling(4, Fraction(1, 4), 1, 0, 0)),
    "several channels": (
        lambda p: np.concatenate([shifted(p, 1), shifted(p, 0), shifted(p, -2)]),
        Tiling(1, Fraction(1), 0, 1, 2),
    ),
}


@pytest.mark.parametrize("name", RUNS)
def test_grid_scale_and_reach_are_measured(name: str) -> None:
    run, expected = RUNS[name]
    assert measure_tiling(run, 1) == expected


def test_outputs_of_the_whole_image_or_of_chance_are_no_tiles() -> None:
    random = np.random.default_rng(0)
    for run in (
        lambda p: p[..., 0][None] - p.mean(),
        lambda p: p[..., 0][None] + random.normal(0, 9, (1, *p.shape[:2])),
        lambda p: np.full((1, 5, 5), p.mean()),
    ):
        with pytest.raises(InferenceError, match="depends on the whole image"):
            measure_tiling(run, 1)


@pytest.mark.parametrize("tile", [1, 7, 16, 40, 1000])
@pytest.mark.parametrize("length", [1, 16, 39, 64, 101])
@pytest.mark.parametrize(
    "tiling",
    [
        Tiling(1, Fraction(1), 0, 0, 0),
        Tiling(1, Fraction(1), 0, 3, 2),
        Tiling(1, Fraction(1), 6, 3, 2),
        Tiling(1, Fraction(1), -2, 2, 2),
        Tiling(2, Fraction(2), -4, 3, 1),
        Tiling(4, Fraction(1), 0, 5, 9),
        Tiling(1, Fraction(2), 8, 3, 5),
        Tiling(2, Fraction(1, 2), 1, 1, 2),
        Tiling(2, Fraction(3, 2), 0, 4, 0),
    ],
    ids=str,
)
def test_each_output_is_taken_once_and_away_from_a_cut(
    tiling: Tiling, length: int, tile: int
) -> None:
    outputs = int(length * tiling.scale) - tiling.lost
    if outputs < 1 or length % tiling.step:
        return
    taken: list[int] = []
    for window, kept in tiling.windows(length, tile):
        assert window.start % tiling.step == 0
        assert 0 <= window.start < window.stop <= length
        own = range(int((window.stop - window.start) * tiling.scale) - tiling.lost)
        first = int(window.start * tiling.scale)
        for place in own[kept]:
            taken.append(first + place)
            assert window.start == 0 or place >= tiling.before
            assert window.stop == length or place < len(own) - tiling.after
    assert taken == list(range(outputs))


def test_no_tile_begins_where_the_outputs_end() -> None:
    """What is left of the image there may be smaller than the network's windows."""
    valid = Tiling(1, Fraction(1), lost=4, before=0, after=0)
    assert list(valid.windows(10, 6)) == [(slice(0, 10), slice(0, None))]
    assert len(list(valid.windows(11, 6))) == 2


@pytest.mark.slow
def test_a_large_image_in_tiles_from_the_command_line(tmp_path: Path) -> None:
    model = SavedModel(network("down and up"), "features", preprocessing=Preprocessing("RGB"))
    save(model, tmp_path / "model")
    source = tmp_path / "in.png"
    Image.fromarray(PICTURE).resize((1500, 1100)).save(source)
    made = []
    for words in ([], ["--tile", "256"]):
        target = tmp_path / f"{len(words)}.png"
        assert main(["apply", str(tmp_path / "model"), str(source), str(target), *words]) == 0
        made.append(np.asarray(Image.open(target)).astype(int))
    assert np.abs(made[0] - made[1]).max() <= 1


#: Runs a command, and prints its largest resident memory in kB.
_MEASURE = """
import resource, subprocess, sys
subprocess.run(sys.argv[1:], check=True)
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
"""


@pytest.mark.slow
def test_an_image_of_twelve_million_pixels_in_tiles_takes_less_than_two_gigabytes(
    tmp_path: Path,
) -> None:
    """A style network of the published width; the truth is a part of the image, run at once."""
    torch.manual_seed(0)
    layers = [
        *(nn.Conv2d(3, 32, 9, padding=4), nn.BatchNorm2d(32), nn.ReLU()),
        *(nn.Conv2d(32, 64, 3, stride=2, padding=1), nn.ReLU()),
        *(nn.Conv2d(64, 128, 3, stride=2, padding=1), nn.ReLU()),
        *(nn.ConvTranspose2d(128, 64, 4, stride=2, padding=1), nn.ReLU()),
        *(nn.ConvTranspose2d(64, 32, 4, stride=2, padding=1), nn.ReLU()),
        *(nn.Conv2d(32, 3, 9, padding=4), nn.Sigmoid()),
    ]
    module = nn.Sequential(*layers).eval()
    with torch.no_grad():
        module[-2].weight *= 100  # Small random weights would leave the image gray.
    model = SavedModel(module, "features", preprocessing=Preprocessing("RGB"))
    save(model, tmp_path / "model")
    source, target = tmp_path / "in.png", tmp_path / "out.png"
    image = Image.fromarray(PICTURE).resize((4000, 3000), Image.Resampling.BICUBIC)
    image.save(source)
    command = [sys.executable, "-m", "torchlift.cli", "apply", tmp_path / "model", source, target]
    # Of the children of this process there may have been larger ones.
    measured = [sys.executable, "-c", _MEASURE, *command, "--tile", "512"]
    ended = subprocess.run(measured, check=True, capture_output=True, text=True)
    memory = int(ended.stdout.splitlines()[-1]) * 1024
    tiled = np.asarray(Image.open(target)).astype(int)
    box = (1600, 1200, 2400, 1800)
    image.crop(box).save(source)
    subprocess.run([*command, "--overwrite"], check=True)
    whole = np.asarray(Image.open(target)).astype(int)
    seen = 64  # More than the network sees around a pixel, and a multiple of its stride.
    inside = tiled[box[1] + seen : box[3] - seen, box[0] + seen : box[2] - seen]
    assert np.abs(inside - whole[seen:-seen, seen:-seen]).max() <= 1
    assert whole.std() > 5
    print(f"{memory / 1e9:.2f} GB")
    assert memory < 2e9
