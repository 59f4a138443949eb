"""`export --bake-resize`: the graph gives the pixels of `predict`'s own preprocessing.

Expected is what `Preprocessing` gives, whose Pillow methods are held against recorded bytes in
`test_pillow_resize.py` and whose other methods against torch and Torch7.
"""

from __future__ import annotations

from collections import Counter

import numpy as np
import onnx
import pytest
from bake_resize_support import baked_identity, noise, run_image
from PIL import Image

from torchlift.converters.images.image_scale import output_size
from torchlift.converters.images.preprocessing import Preprocessing
from torchlift.converters.images.resize import RESIZERS
from torchlift.converters.onnx import OnnxError

#: Smaller, larger, one of both, the same, a ratio of two, a single line, a single pixel.
IMAGES = [(61, 97), (13, 9), (20, 70), (24, 31), (48, 62), (1, 40), (1, 1), (200, 333)]
METHODS = sorted(set(RESIZERS) - {"none"})
#: Of these the graph repeats every operation in double precision or whole numbers.
EXACT = ("pil-bilinear", "pil-bicubic", "pil-box", "pil-lanczos", "pil-nearest")
#: These copy pixels.
COPIES = ("torch-nearest", "torch-nearest-exact", "image.scale-simple")


def images(channels: int = 3) -> list[np.ndarray]:
    return [noise(*size, channels) for size in IMAGES]


@pytest.mark.parametrize("method", METHODS)
def test_each_method_gives_the_pixels_of_predict(method: str) -> None:
    """All bytes for Pillow's methods, 99.9 % and none more than 1 off for the others.

    The inputs of `image.scale` are not rounded: 0.02 is the error of its sums in float32.
    """
    preprocessing = Preprocessing("RGB", (24, 31), method, value_range=255)
    outputs = run_image(baked_identity(preprocessing, (24, 31)), *images())
    off = [
        np.abs(output - preprocessing(image))
        for output, image in zip(outputs, images(), strict=True)
    ]
    flat = np.concatenate([difference.ravel() for difference in off])
    if method in (*EXACT, *COPIES):
        assert flat.max() == 0
    assert (flat < 0.02).mean() >= 0.999
    assert flat.max() <= (0.02 if method.startswith("image.scale") else 1)


@pytest.mark.parametrize("method", EXACT)
def test_pixels_at_the_very_edge_of_a_new_one_are_taken_as_pillow_takes_them(method: str) -> None:
    """Of sides that are 3/2, 5/2, 7/2, 1/2, 1/4 and 2 of the new ones."""
    preprocessing = Preprocessing("RGB", (20, 20), method, value_range=255)
    taken = [noise(side, side) for side in (30, 50, 70, 10, 5, 40)]
    outputs = run_image(baked_identity(preprocessing, (20, 20)), *taken)
    for output, image in zip(outputs, taken, strict=True):
        assert np.array_equal(output, preprocessing(image)), image.shape


@pytest.mark.parametrize(
    ("size", "crop", "method"),
    [
        (40, (32, 32), "pil-bilinear"),
        (41, (32, 30), "pil-bicubic"),
        (33, None, "pil-nearest"),
        ((37, 45), (30, 30), "pil-bilinear"),
        ("^40", (33, 33), "image.scale-bilinear"),
        ("64", None, "image.scale-bilinear"),
        ("31x17", None, "image.scale-bicubic"),
        ("*1/2", None, "image.scale-simple"),
        ("*1.5", None, "image.scale-bilinear"),
        ("*2", (11, 13), "image.scale-simple"),
        (None, (9, 9), "image.scale-bilinear"),
        (None, None, "none"),
        (None, (9, 7), "none"),
        (36, (32, 32), "torch-bilinear-antialias"),
    ],
)
def test_every_form_of_size_and_crop(
    size: tuple[int, int] | int | str | None, crop: tuple[int, int] | None, method: str
) -> None:
    """The margins of a crop are odd and even, which Pillow and Torch7 round differently."""
    preprocessing = Preprocessing("RGB", size, method, crop=crop, value_range=255)
    taken = [noise(*shape) for shape in ((61, 97), (97, 61), (10, 12), (33, 34), (200, 111))]
    outputs = run_image(baked_identity(preprocessing), *taken)
    for output, image in zip(outputs, taken, strict=True):
        expected = preprocessing(image)
        assert output.shape == expected.shape
        assert (np.abs(output - expected) < 0.02).mean() >= 0.999


@pytest.mark.parametrize("color", ["gray", "BGR"])
def test_color_range_mean_and_std(color: str) -> None:
    """A gray network takes gray images, and colored ones, which it turns gray as Pillow does."""
    numbers = {"gray": ((0.4,), (0.3,)), "BGR": ((0.1, 0.2, 0.3), (0.4, 0.5, 0.6))}[color]
    preprocessing = Preprocessing(color, (16, 16), mean=numbers[0], std=numbers[1])
    taken = images() + (images(1) if color == "gray" else [])
    outputs = run_image(baked_identity(preprocessing, (16, 16)), *taken)
    for output, image in zip(outputs, taken, strict=True):
        # x · scale - shift rounds otherwise than (x / 255 - mean) / std.
        assert np.abs(output - preprocessing(image)).max() < 2e-6


def test_what_pillow_opens_and_turns_is_what_the_graph_takes() -> None:
    """The three lines of the protocol: open, turn upright, convert to RGB."""
    preprocessing = Preprocessing("RGB", (16, 16), value_range=255)
    image = Image.fromarray(noise(40, 50)).convert("P")
    output = run_image(baked_identity(preprocessing, (16, 16)), np.asarray(image.convert("RGB")))
    assert np.array_equal(output[0], preprocessing(image))


def test_rounding_of_image_scale_is_repeated() -> None:
    preprocessing = Preprocessing(
        "RGB", (24, 31), "image.scale-bicubic", value_range=255, round_pixels=True
    )
    outputs = run_image(baked_identity(preprocessing, (24, 31)), *images())
    for output, image in zip(outputs, images(), strict=True):
        assert (output == preprocessing(image)).mean() > 0.999


@pytest.mark.parametrize("method", ["pil-bilinear", "torch-bicubic", "image.scale-bilinear"])
def test_the_graph_is_plain_onnx(method: str) -> None:
    """Operators of opset 18 only, nothing left to fold, and float32 inside and outside."""
    model = baked_identity(Preprocessing("RGB", 40, method, crop=(32, 32)), (32, 32))
    onnx.checker.check_model(model, full_check=True)
    assert [(entry.domain, entry.version) for entry in model.opset_import] == [("", 18)]
    assert {node.domain for node in model.graph.node} == {""}
    names = Counter(node.name for node in model.graph.node)
    assert max(names.values()) == 1
    constants = {tensor.name for tensor in model.graph.initializer}
    assert not [node.name for node in model.graph.node if constants.issuperset(node.input)]
    assert model.graph.output[0].type.tensor_type.shape.dim[0].dim_value == 1


@pytest.mark.parametrize(
    ("preprocessing", "shape"),
    [
        (Preprocessing("RGB", "64", "image.scale-bilinear", crop=(32, 32)), (200, 40)),
        (Preprocessing("RGB", None, "none", crop=(32, 32)), (20, 20)),
        (Preprocessing("RGB", None, "none"), (33, 32)),
    ],
)
def test_an_image_that_does_not_fit_is_an_error(
    preprocessing: Preprocessing, shape: tuple[int, int]
) -> None:
    """`predict` refuses it; the graph must not answer for another part of it."""
    with pytest.raises(Exception, match=r"Reshape|reshape"):
        run_image(baked_identity(preprocessing, (32, 32)), noise(*shape))


def test_a_crop_that_does_not_fit_is_an_error_of_a_network_of_any_size_too() -> None:
    preprocessing = Preprocessing("RGB", "64", "image.scale-bilinear", crop=(32, 32))
    graph = baked_identity(preprocessing)
    with pytest.raises(Exception, match=r"Reshape|reshape"):
        run_image(graph, noise(200, 40))
    assert run_image(graph, noise(64, 64))[0].shape == (1, 3, 32, 32)


def test_a_size_that_whole_numbers_do_not_give_is_refused() -> None:
    """Lua computes 100 · 0.29 in floating point, and cuts 28.999… to 28."""
    with pytest.raises(OnnxError, match=r"'\*0.29' cannot be baked: image.scale rounds 100 times"):
        baked_identity(Preprocessing("RGB", "*0.29", "image.scale-bilinear"))


def test_a_side_of_half_a_pixel_more_is_refused() -> None:
    """`image.scale` takes 256.5 for the longer side; a graph counts in whole numbers."""
    assert output_size("256.5", 480, 640) == (192, 256)
    with pytest.raises(OnnxError, match=r"'20\.5' cannot be baked: take a whole number of pixels"):
        baked_identity(Preprocessing("RGB", "20.5", "image.scale-bilinear"))
    image = noise(30, 40)
    (output,) = run_image(baked_identity(Preprocessing("RGB", "20", "image.scale-bilinear")), image)
    assert output.shape[-2:] == output_size("20", 30, 40)
