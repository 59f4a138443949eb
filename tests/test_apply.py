"""Images from images: what Lua's own preprocessing, network and deprocessing give.

What is protected: that values, colors and means are undone as each project undoes them, that an
exported file gives the same without an option, that nothing is guessed, and that a failure writes
nothing. Recorded images are floats, which no file of bytes holds: they are compared through the
same steps as numbers, and files with these steps on bytes.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from project_support import folders
from support import FIXTURES, SHARED
from torch import nn

from torchlift.cli.main import main
from torchlift.converters import t7
from torchlift.converters.images import Preprocessing, PreprocessingError
from torchlift.converters.images.image_to_image import ImageToImage, SaidOutput
from torchlift.converters.inference import InferenceError, TorchPredictor
from torchlift.converters.inference.image_model import ImageModel
from torchlift.converters.saved import SavedModel, open_model, save

STYLE = FIXTURES / "projects" / "faststyle_none.t7"

#: Half a gray level is what rounding to bytes takes away; float32 may turn a half around.
GRAY_LEVEL = 0.51


def style(name: str) -> Path:
    """Return a checkpoint of the fixtures; the test is skipped where it is not at hand."""
    for folder in folders():
        if (folder / f"{name}.t7").exists():
            return folder / f"{name}.t7"
    pytest.skip("the shared fixtures are not here")


def image_file(folder: Path, mode: str = "RGB", size: tuple[int, int] = (26, 22)) -> Path:
    """Write an image of random pixels."""
    shape = (size[1], size[0]) if mode == "L" else (size[1], size[0], 3)
    pixels = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    file = folder / f"{mode}.png"
    Image.fromarray(pixels).save(file)
    return file


def pixels(file: Path) -> np.ndarray:
    return np.asarray(Image.open(file)).astype(int)


def saved(folder: Path, network: nn.Module, **details: Any) -> str:
    """Write a network as a saved model."""
    return str(save(SavedModel(network.eval(), "features", **details), folder / "saved"))


def scaling(factor: float, offset: float = 0, channels: int = 3) -> nn.Conv2d:
    """Return a network that multiplies and adds."""
    layer = nn.Conv2d(channels, channels, 1).requires_grad_(False)
    layer.weight.copy_(factor * torch.eye(channels)[..., None, None])
    layer.bias.fill_(offset)  # type: ignore[union-attr]  # it has one
    return layer


@pytest.mark.parametrize("name", ["faststyle_none", "faststyle_batch", "faststyle_instance"])
def test_pictures_are_those_of_lua(name: str) -> None:
    file = style(name)
    records = t7.load(file.with_name(f"{name}_io.t7")).to_list()
    (record,) = [one for one in records if one.get("kind") == "picture"]
    forward = next(one for one in records if one.get("note", "").startswith("a batch of one"))
    model = open_model(file)
    assert model.preprocessing is not None
    assert model.image_to_image is not None
    with torch.no_grad():
        output = model.module(torch.as_tensor(forward["input"])).numpy()[0]
    made = model.image_to_image.image(output, model.preprocessing.color)
    expected = 255 * np.clip(record["output"][0].transpose(1, 2, 0), 0, 1)
    assert np.abs(made - expected).max() <= GRAY_LEVEL
    # The input of the network is the picture after the project's preprocessing: to a half of a
    # byte, the preprocessing that torchlift found.
    picture = np.rint(255 * record["input"][0].transpose(1, 2, 0)).astype(np.uint8)
    half = 0.5 / (255 if model.preprocessing.value_range == 1 else 1)
    half /= min(model.preprocessing.std)
    assert np.abs(model.preprocessing([picture]) - forward["input"]).max() <= 1.001 * half


@pytest.mark.slow
def test_the_exported_file_gives_the_same_image(tmp_path: Path) -> None:
    source, onnx = image_file(tmp_path), tmp_path / "style.onnx"
    assert main(["export", str(STYLE), str(onnx), "--input", "3x?x?"]) == 0
    for model, name in ((STYLE, "a.png"), (onnx, "b.png")):
        assert main(["apply", str(model), str(source), str(tmp_path / name)]) == 0
    difference = np.abs(pixels(tmp_path / "a.png") - pixels(tmp_path / "b.png"))
    assert difference.max() <= 1
    assert pixels(tmp_path / "a.png").std() > 10
    # What the file says is not said in another way.
    words = ["apply", str(onnx), str(source), str(tmp_path / "c.png"), "--output-range", "1"]
    assert main(words) == 1
    assert not (tmp_path / "c.png").exists()


@pytest.mark.parametrize(
    ("options", "network", "expected"),
    [
        # x → 2x - 1 → the same number → (x + 1) / 2, BGR in, BGR out.
        (["--value-range=-1,1", "--color=BGR"], (1, 0), lambda x: x),
        (["--value-range=-1,1"], (-1, 0), lambda x: 255 - x),
        (["--value-range=1", "--output-range=0,2"], (1, 0), lambda x: x / 2),
        (["--value-range=255", "--output-color=BGR"], (1, 0), lambda x: x[..., ::-1]),
        # Clipped, and rounded to the nearest.
        (["--value-range=255"], (1.25, -20), lambda x: np.clip(1.25 * x - 20, 0, 255)),
        (["--mean=100", "--std=50", "--output-mean"], (1, 0), lambda x: x),
        (["--mean=100", "--value-range=255"], (1, 0), lambda x: np.clip(x - 100, 0, 255)),
    ],
)
def test_options_say_what_goes_in_and_comes_out(
    options: list[str], network: tuple[float, float], expected: Any, tmp_path: Path
) -> None:
    source = image_file(tmp_path)
    model = saved(tmp_path, scaling(*network))
    target = tmp_path / "out.png"
    assert main(["apply", model, str(source), str(target), *options]) == 0
    difference = np.abs(pixels(target) - expected(pixels(source)))
    assert difference.max() <= GRAY_LEVEL


@pytest.mark.slow
def test_what_is_said_is_kept_by_convert_and_export(tmp_path: Path) -> None:
    source, model = image_file(tmp_path), saved(tmp_path, scaling(1))
    options = ["--value-range=1", "--output-range=0,2", "--output-color=BGR"]
    file, folder = str(tmp_path / "kept.onnx"), str(tmp_path / "kept")
    assert main(["export", model, file, "--input=3x?x?", *options]) == 0
    assert main(["convert", model, folder, *options]) == 0
    for kept in (file, folder):
        target = tmp_path / f"{Path(kept).name}.png"
        assert main(["apply", kept, str(source), str(target)]) == 0
        expected = pixels(source)[..., ::-1] / 2
        assert np.abs(pixels(target) - expected).max() <= GRAY_LEVEL
    assert main(["apply", folder, str(source), str(tmp_path / "x.png"), "--output-range=1"]) == 1


def test_a_range_that_nothing_tells_is_asked_for(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    network = nn.Sequential(scaling(1), nn.Tanh())
    words = ["apply", saved(tmp_path, network), str(image_file(tmp_path)), str(tmp_path / "o.png")]
    assert main(words) == 1
    message = capsys.readouterr().err
    assert "--value-range" in message
    assert "-1,1" in message
    assert not (tmp_path / "o.png").exists()


def test_layers_that_do_not_fit_are_named_with_both_numbers(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    network = nn.Sequential(nn.Conv2d(3, 16, 3), nn.BatchNorm2d(8))
    words = ["apply", saved(tmp_path, network), str(image_file(tmp_path)), str(tmp_path / "o")]
    assert main([*words, "--value-range=1"]) == 1
    message = capsys.readouterr().err
    assert "1 (BatchNorm2d) normalizes 8 channels, but gets 16" in message
    assert not (tmp_path / "o").exists()


@pytest.mark.slow
@pytest.mark.parametrize("options", [[], ["--value-range=1"]])
def test_published_texture_networks_do_not_fit(
    options: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = [] if SHARED is None else sorted((SHARED / "wild").glob("*texture_nets*"))
    if not found:
        pytest.skip("the files of others are not here")
    source, target = str(image_file(tmp_path)), tmp_path / "out.png"
    for file in found:
        assert main(["apply", str(file), source, str(target), *options]) == 1
        message = capsys.readouterr().err.splitlines()[-1]
        assert "(BatchNorm2d) normalizes 8 channels, but gets 16" in message
        assert not target.exists()


def test_folders_keep_names_and_go_on_after_a_bad_image(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source, target = tmp_path / "in", tmp_path / "out"
    (source / "inner").mkdir(parents=True)
    Image.new("RGB", (30, 30), "red").save(source / "a.jpg")
    Image.new("L", (30, 30), 99).save(source / "a.png")
    Image.new("RGB", (30, 30), "blue").save(source / "inner" / "b.png")
    (source / "c.png").write_bytes(b"no image")
    words = ["apply", saved(tmp_path, scaling(1)), str(source), str(target), "--value-range=1"]
    assert main([*words, "--json"]) == 1
    results = json.loads(capsys.readouterr().out)["results"]
    written = sorted(str(one.relative_to(target)) for one in target.rglob("*.png"))
    assert written == ["a.png", "a.png.png", "inner/b.png"]
    assert [one["problem"] is None for one in results] == [True, True, False, True]
    # What is there stays, unless it is said.
    before = (target / "a.png").read_bytes()
    assert main(words) == 1
    assert (target / "a.png").read_bytes() == before
    assert main([*words, "--overwrite"]) == 1
    assert main(["apply", *words[1:3], str(source), "--value-range=1", "--overwrite"]) == 1


@pytest.mark.parametrize("exports", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_classes_become_a_palette_image_with_names(
    exports: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    layer = nn.Conv2d(3, 4, 1).requires_grad_(False)
    layer.weight.copy_(torch.cat([torch.eye(3), torch.zeros(1, 3)])[..., None, None])
    layer.bias.zero_()  # type: ignore[union-attr]  # it has one
    (tmp_path / "names.txt").write_text("rot\ngrün\nblau\nnichts\n", encoding="utf-8")
    model = saved(tmp_path, nn.Sequential(layer, nn.Identity()))
    source = image_file(tmp_path)
    options = ["--value-range=1", f"--labels={tmp_path / 'names.txt'}"]
    if exports:
        onnx = str(tmp_path / "map.onnx")
        assert main(["export", model, onnx, "--input=3x?x?", *options]) == 0
        model, options = onnx, []
    capsys.readouterr()
    target = tmp_path / "map.png"
    assert main(["apply", model, str(source), str(target), *options, "--json"]) == 0
    image = Image.open(target)
    assert image.mode == "P"
    expected = pixels(source).argmax(axis=2)
    assert (np.asarray(image) == expected).all()
    assert json.loads(image.info["labels"]) == ["rot", "grün", "blau", "nichts"]
    (result,) = json.loads(capsys.readouterr().out)["results"]
    assert [one["count"] for one in result["classes"]] == np.bincount(expected.ravel()).tolist()
    assert [one["label"] for one in result["classes"]] == ["rot", "grün", "blau"]
    assert main(["apply", model, str(source), str(tmp_path / "map.jpg"), *options]) == 1
    assert not (tmp_path / "map.jpg").exists()


def test_a_mask_is_filled_and_the_rest_stays() -> None:
    """As siggraph2017_inpainting: the mean is subtracted, holes are 0, the mask is a channel."""
    seen: list[torch.Tensor] = []

    class Filler(nn.Module):
        def forward(self, input: torch.Tensor) -> torch.Tensor:
            seen.append(input)
            return torch.full_like(input[:, :3], 0.2)

    preprocessing = Preprocessing("RGB", mean=(0.25,))
    output = ImageToImage(1, "RGB", multiple=4, scale=1, takes_mask=True)
    network = SavedModel(Filler(), "features", preprocessing=preprocessing, image_to_image=output)
    model = ImageModel(TorchPredictor(network, "cpu"))
    image, mask = np.full((5, 7, 3), 255, np.uint8), np.zeros((5, 7), np.uint8)
    mask[1:3, 2:4] = 255
    made = np.asarray(model(image, mask))
    assert seen[0].shape == (1, 4, 8, 8)
    assert seen[0][0, :, 0, 0].tolist() == [0.75, 0.75, 0.75, 0]
    assert seen[0][0, :, 1, 2].tolist() == [0, 0, 0, 1]
    assert (made == np.where(mask[..., None] > 0, 51, image)).all()
    with pytest.raises(InferenceError, match="mask=FILE"):
        model(image)
    with pytest.raises(InferenceError, match="4×4"):
        model(image, mask[:4, :4])


def checkpoint(folder: Path, module: t7.LuaObject, **beside: Any) -> Path:
    """Write a checkpoint with a model and what stands beside it."""
    file = folder / "checkpoint.t7"
    t7.save(t7.LuaTable({"model": module, **beside}), file)
    return file


def convolution(inputs: int, outputs: int, size: int = 1, **fields: Any) -> t7.LuaObject:
    """Return a convolution of Torch7 that gives the mean of its input's channels."""
    weight = np.full((outputs, inputs, size, size), 1 / (inputs * size * size), np.float32)
    values = {
        "nInputPlane": inputs,
        "nOutputPlane": outputs,
        "kW": size,
        "kH": size,
        "dW": 1,
        "dH": 1,
        "padW": 0,
        "padH": 0,
        "weight": weight,
        "bias": np.zeros(outputs, np.float32),
        "train": False,
        **fields,
    }
    return t7.LuaObject("nn.SpatialConvolution", t7.LuaTable(values))


def sequential(*modules: t7.LuaObject, **fields: Any) -> t7.LuaObject:
    values = {"modules": t7.LuaTable.from_list(list(modules)), "train": False, **fields}
    return t7.LuaObject("nn.Sequential", t7.LuaTable(values))


def test_inpainting_networks_are_recognized(tmp_path: Path) -> None:
    mean = np.array([0.4, 0.5, 0.6], np.float32)
    model = open_model(checkpoint(tmp_path, sequential(convolution(4, 3)), mean=mean))
    assert model.image_to_image is not None
    assert model.image_to_image.takes_mask
    assert model.preprocessing is not None
    assert model.preprocessing.color == "RGB"


def test_sketches_keep_their_size(tmp_path: Path) -> None:
    """The project extends them to multiples of 8 by the border's pixels."""
    network = sequential(convolution(1, 1))
    file = checkpoint(tmp_path, network, mean=0.9, std=0.1)
    source, target = image_file(tmp_path, "L", (13, 9)), tmp_path / "out.png"
    assert main(["apply", str(file), str(source), str(target)]) == 0
    # The output is from 0 to 1, without mean and std.
    expected = np.clip((pixels(source) / 255 - 0.9) / 0.1, 0, 1) * 255
    assert np.abs(pixels(target) - expected).max() <= GRAY_LEVEL


@pytest.mark.parametrize("flattens", [False, True])
def test_waifu2x_sees_a_wider_image(flattens: bool, tmp_path: Path) -> None:
    """The border's pixels are repeated as far as the convolutions cut off (reconstruct.lua)."""
    clip = t7.LuaObject("w2nn.InplaceClip01", t7.LuaTable())
    view = t7.LuaObject(
        "nn.View",
        t7.LuaTable({"size": np.array([-1]), "numElements": -1, "numInputDims": 3}),
    )
    network = sequential(
        *(convolution(3, 3, 5), clip, *([view] if flattens else [])),
        w2nn_arch_name="x",
        w2nn_offset=2,
        w2nn_scale_factor=1,
        w2nn_channels=3,
    )
    file = tmp_path / "waifu2x.t7"
    t7.save(network, file)
    source, target = image_file(tmp_path), tmp_path / "out.png"
    assert main(["apply", str(file), str(source), str(target)]) == 0
    wide = np.pad(pixels(source), [(2, 2), (2, 2), (0, 0)], mode="edge").mean(axis=2)
    windows = np.lib.stride_tricks.sliding_window_view(wide, (5, 5))
    expected = windows.mean(axis=(2, 3))[..., None].repeat(3, axis=2)
    assert np.abs(pixels(target) - expected).max() <= GRAY_LEVEL


def test_waifu2x_of_brightness_keeps_colors(tmp_path: Path) -> None:
    """reconstruct.lua gives Y to the network, and U and V to the result."""
    half = convolution(1, 1, bias=np.array([-0.2], np.float32))
    network = sequential(half, w2nn_arch_name="x", w2nn_scale_factor=1, w2nn_channels=1)
    file = tmp_path / "waifu2x.t7"
    t7.save(network, file)
    source, target = image_file(tmp_path), tmp_path / "out.png"
    assert main(["apply", str(file), str(source), str(target)]) == 0
    # image.rgb2yuv and image.yuv2rgb of Torch7; a byte of brightness is rounded on both ways.
    yuv = np.array(
        [[0.299, 0.587, 0.114], [-0.14713, -0.28886, 0.436], [0.615, -0.51499, -0.10001]]
    )
    rgb = np.array([[1, 0, 1.13983], [1, -0.39465, -0.58060], [1, 2.03211, 0]])
    y, u, v = np.moveaxis(pixels(source) @ yuv.T, 2, 0)
    expected = np.stack([np.clip(y - 51, 0, 255), u, v], axis=2) @ rgb.T
    assert np.abs(pixels(target) - np.clip(expected, 0, 255)).max() <= 1.6


def test_texture_networks_take_rgb_and_give_the_pixels_of_vgg(tmp_path: Path) -> None:
    fill = t7.LuaObject("nn.NoiseFill", t7.LuaTable({"num_noise_channels": 0}))
    file = tmp_path / "texture.t7"
    t7.save(sequential(fill, convolution(3, 3)), file)
    source, target = image_file(tmp_path), tmp_path / "out.png"
    assert main(["apply", str(file), str(source), str(target)]) == 0
    mean = pixels(source).mean(axis=2, keepdims=True) / 255
    assert (
        np.abs(pixels(target) - (mean + np.array([123.68, 116.779, 103.939]))).max() <= GRAY_LEVEL
    )


def test_a_damaged_output_is_refused() -> None:
    whole = ImageToImage((-1, 1), "BGR", (1, 2, 3), border=2, scale=2, takes_mask=True)
    assert ImageToImage.from_json(json.loads(json.dumps(whole.to_json()))) == whole
    for damage in ({"value_range": 7}, {"mean": ["a"]}, {"border": -1}, {"more": 1}):
        with pytest.raises(PreprocessingError):
            ImageToImage.from_json({**whole.to_json(), **damage})
    with pytest.raises(PreprocessingError, match="output_range=3,1"):
        SaidOutput.of([3.0, 1.0])


def test_what_the_first_image_shows_of_the_network_leaves_no_folder(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A classifier gives no image: it is said once, not of each image, and nothing is written."""
    (tmp_path / "in").mkdir()
    for name in ("a.png", "b.png"):
        Image.new("L", (32, 32)).save(tmp_path / "in" / name)
    model = FIXTURES / "0.1.0" / "model.onnx"
    assert main(["apply", str(model), str(tmp_path / "in"), str(tmp_path / "out")]) == 1
    lines = [line for line in capsys.readouterr().err.splitlines() if "torchlift:" in line]
    assert len(lines) == 1
    assert "gives no image" in lines[0]
    assert not (tmp_path / "out").exists()
