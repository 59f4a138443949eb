"""What every image becomes: upright, 8 bits, gray or RGB; and which formats are read at all."""

from __future__ import annotations

import io
import os
import re
import struct
import subprocess
import sys
import warnings
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import PIL
import pytest
from PIL import Image, ImageOps
from support import ROOT

from torchlift.converters.images import ImageError, PreprocessingError, read_image
from torchlift.converters.images.decode import FORMATS, MAX_PIXELS, read_header, upright
from torchlift.converters.images.pixels import pixels_of

PIXELS = np.random.default_rng(0).integers(0, 256, (24, 20, 3), np.uint8)
IMAGE = Image.fromarray(PIXELS)
_READS_YCBCR = pytest.mark.skipif(
    int(PIL.__version__.split(".")[0]) < 13,
    reason="Pillow 12 and older read no uncompressed TIFF in YCbCr: such a file is refused",
)


def encoded(image: Image.Image, form: str, **options: Any) -> bytes:
    stream = io.BytesIO()
    image.save(stream, form, **options)
    return stream.getvalue()


def png(width: int, height: int, bits: int = 8, rows: bytes = b"") -> bytes:
    """An RGB PNG of any size and depth, made by hand."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
        )

    header = struct.pack(">IIBBBBB", width, height, bits, 2, 0, 0, 0)
    parts = chunk(b"IHDR", header), chunk(b"IDAT", zlib.compress(rows)), chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def tiff(bits: int) -> bytes:
    """An RGB TIFF of two pixels with so many bits a channel, made by hand."""
    size = bits * 6 // 8
    # The three numbers of bits stand behind the fields, at 122, and the pixels behind those.
    fields = {256: 2, 257: 1, 258: 122, 259: 1, 262: 2, 273: 128, 277: 3, 278: 1, 279: size}
    counts = {258: 3}
    entries = [struct.pack("<HHII", tag, 3, counts.get(tag, 1), n) for tag, n in fields.items()]
    header = struct.pack("<2sHIH", b"II", 42, 8, len(entries)) + b"".join(entries) + bytes(4)
    return header + struct.pack("<3H", *[bits] * 3) + bytes(range(size))


@pytest.mark.parametrize("form", ["PNG", "BMP", "PPM", "TIFF", "WEBP"])
def test_lossless_formats_give_the_pixels(form: str) -> None:
    data = encoded(IMAGE, form, **({"lossless": True} if form == "WEBP" else {}))
    assert np.array_equal(np.asarray(read_image(data)), PIXELS)
    assert read_header(data) == ((24, 20), False)


@pytest.mark.parametrize("form", ["JPEG", "GIF"])
def test_other_formats_give_what_pillow_decodes(form: str) -> None:
    data = encoded(IMAGE, form)
    expected = np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))
    assert np.array_equal(np.asarray(read_image(data)), expected)


@pytest.mark.parametrize("form", ["EPS", "PDF", "ICO", "TGA", "PCX", "SGI", "JPEG2000", "DDS"])
def test_other_formats_are_not_tried(form: str, tmp_path: Path) -> None:
    data = encoded(IMAGE, form)
    file = tmp_path / "image.png"
    file.write_bytes(data)
    for read in (read_image, read_header):
        with pytest.raises(ImageError, match=r"image\.png: not an image in a known format \(BMP, "):
            read(file)


def test_no_command_starts_ghostscript(tmp_path: Path) -> None:
    """An EPS file with the suffix of a JPEG, and a `gs` in front in PATH that leaves a trace."""
    trace, programs = tmp_path / "trace", tmp_path / "bin"
    programs.mkdir()
    for name in ("gs", "gswin32c", "gswin64c"):
        (programs / name).write_text(f'#!/bin/sh\necho "$@" >> {trace}\n')
        (programs / name).chmod(0o755)
    (tmp_path / "d" / "cat").mkdir(parents=True)
    data = encoded(IMAGE, "EPS")
    (tmp_path / "d" / "cat" / "1.jpg").write_bytes(data)
    code = (
        "import sys; from torchlift.cli.main import main\n"
        "from PIL import Image, EpsImagePlugin  # the plugin is there, and must not be asked\n"
        "model, folder = sys.argv[1:]\n"
        "print(main(['predict', model, folder]), main(['evaluate', model, folder]),\n"
        "      main(['train', 'softmax', folder, '--output', folder + '/run']),\n"
        "      main(['plot', 'samples', folder, '--output', folder + '/x.png']),\n"
        "      main(['split', folder, folder + '/x.npz']))"
    )
    model = ROOT / "fixtures" / "0.1.0" / "model"
    done = subprocess.run(
        [sys.executable, "-c", code, str(model), str(tmp_path / "d")],
        env={**os.environ, "PATH": f"{programs}{os.pathsep}{os.environ['PATH']}"},
        capture_output=True,
        text=True,
    )
    assert done.stdout.split()[-5:] == ["1"] * 5, done.stderr
    assert done.stderr.count("1.jpg: not an image in a known format") == 5
    assert not trace.exists()


@pytest.mark.parametrize("form", ["JPEG", "PNG", "TIFF", "WEBP"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_images_are_turned_upright(form: str, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encoded(IMAGE, form, exif=exif)
    plain = Image.open(io.BytesIO(encoded(IMAGE, form)))
    plain.load()
    plain.getexif()[0x0112] = orientation
    expected = ImageOps.exif_transpose(plain)
    image = read_image(data)
    assert np.array_equal(np.asarray(image), np.asarray(expected))
    assert read_header(data).size == (image.height, image.width)


@pytest.mark.parametrize(
    ("mode", "becomes"),
    [
        ("1", "L"),
        ("L", "L"),
        ("LA", "L"),
        ("P", "RGB"),
        ("RGB", "RGB"),
        ("RGBA", "RGB"),
        ("CMYK", "RGB"),
        pytest.param("YCbCr", "RGB", marks=_READS_YCBCR),
    ],
)
def test_every_mode_becomes_gray_or_rgb(mode: str, becomes: str) -> None:
    image = IMAGE.convert(mode)
    data = encoded(image, "TIFF")
    read = read_image(data)
    assert read.mode == becomes
    assert read_header(data).gray == (becomes == "L")
    expected = image.convert("RGB").convert(becomes) if mode == "1" else image.convert(becomes)
    assert np.array_equal(np.asarray(read), np.asarray(expected))


def test_alpha_is_dropped_and_not_blended() -> None:
    image = IMAGE.copy()
    image.putalpha(Image.new("L", image.size, 7))
    assert np.array_equal(np.asarray(read_image(encoded(image, "PNG"))), PIXELS)


def test_the_first_image_of_an_animation_counts() -> None:
    frames = [Image.new("L", (4, 4), value) for value in (10, 200)]
    data = encoded(frames[0], "GIF", save_all=True, append_images=frames[1:])
    assert np.unique(np.asarray(read_image(data))).tolist() == [10]


@pytest.mark.parametrize(
    ("data", "name"),
    [
        (encoded(Image.fromarray(PIXELS[..., 0].astype(np.uint16)), "PNG"), "16 bits"),
        (encoded(Image.fromarray(PIXELS[..., 0].astype(np.uint16)), "TIFF"), "16 bits"),
        (
            encoded(Image.fromarray(PIXELS[..., 0].astype(np.int32)), "TIFF"),
            "no 8-bit pixels .mode I",
        ),
        (encoded(Image.fromarray(PIXELS[..., 0].astype(np.float32)), "TIFF"), "pixels.*mode F"),
        (tiff(16), "16 bits"),
        (png(2, 1, 16, b"\0" + b"\0\1" * 6), "16 bits"),
        (b"P6\n2 1\n65535\n" + b"\0\1" * 6, "16 bits"),
        (b"P6\n2 1\n256\n" + b"\0\1" * 6, "16 bits"),
    ],
)
def test_more_than_8_bits_are_refused_by_name(data: bytes, name: str, tmp_path: Path) -> None:
    file = tmp_path / "deep.png"
    file.write_bytes(data)
    for read in (read_image, read_header):
        with pytest.raises(ImageError, match=rf"deep\.png: .*{name}.*save it with 8 bits"):
            read(file)


def test_a_bitmap_of_16_bits_a_pixel_is_read() -> None:
    """A BMP with 5, 6 and 5 bits has 16 bits a pixel, not a channel."""
    info = struct.pack("<IiiHHIIiiII", 40, 2, 1, 1, 16, 0, 4, 0, 0, 0, 0)
    data = b"BM" + struct.pack("<IHHI", 58, 0, 0, 54) + info + b"\x1f\x00\x1f\x00"
    assert read_image(data).mode == "RGB"


@pytest.mark.parametrize("limit", [Image.MAX_IMAGE_PIXELS, None])
@pytest.mark.parametrize("size", [(60_000, 60_000), (MAX_PIXELS // 1000 + 1, 1000)])
def test_too_many_pixels_are_refused_before_memory_is_asked_for(
    size: tuple[int, int], limit: int | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The files have headers only: decoding them would be another error.

    Also in a program that has switched off Pillow's own limit.
    """
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", limit)
    file = tmp_path / "bomb.png"
    file.write_bytes(png(*size))
    for read in (read_image, read_header):
        with pytest.raises(ImageError, match=rf"bomb\.png: .* pixels: at most {MAX_PIXELS:,}"):
            read(file)


def test_an_image_may_have_as_many_pixels_as_the_message_says() -> None:
    height = 10
    assert MAX_PIXELS % height == 0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        assert read_header(png(MAX_PIXELS // height, height)).size == (height, MAX_PIXELS // height)


@pytest.mark.parametrize("form", FORMATS)
def test_a_truncated_image_is_an_error_with_its_name(form: str, tmp_path: Path) -> None:
    data = encoded(IMAGE, form)
    file = tmp_path / "half"
    for size in (0, 5, 30, len(data) // 3, len(data) // 2, len(data) * 9 // 10):
        file.write_bytes(data[:size])
        with pytest.raises(ImageError, match=r"half: (not an image|cannot be read)"):
            read_image(file)


def test_an_image_that_ends_early_is_an_error_of_the_preprocessing() -> None:
    """Pillow reads pixels late, and raises whatever its decoders raise."""
    whole = io.BytesIO()
    pixels = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    Image.fromarray(pixels).save(whole, "PNG")
    assert np.array_equal(pixels_of(Image.open(whole)), pixels)
    with pytest.raises(PreprocessingError, match=r"an image cannot be read: .*truncated"):
        pixels_of(Image.open(io.BytesIO(whole.getvalue()[:2000])))


@pytest.mark.parametrize(
    ("mode", "allowed"),
    [
        ("L", True),
        ("1", True),
        ("P", True),
        ("CMYK", True),
        ("I", False),
        ("I;16", False),
        ("F", False),
    ],
)
def test_an_image_has_8_bits_a_channel(mode: str, allowed: bool) -> None:
    image = Image.new(mode, (3, 2))
    if allowed:
        assert upright(image).mode == ("L" if mode in ("L", "1") else "RGB")
    else:
        with pytest.raises(ImageError, match="bits"):
            upright(image)


def test_a_tiff_of_8_bits_a_channel_is_read() -> None:
    assert np.asarray(read_image(tiff(8))).tolist() == [[[0, 1, 2], [3, 4, 5]]]


def test_messages_call_an_image_by_its_name_or_by_what_it_is(tmp_path: Path) -> None:
    file = tmp_path / "a b.png"
    file.write_bytes(b"no image")
    with file.open("rb") as stream:
        sources: list[tuple[Any, str, str]] = [
            (file, "", str(file)),
            (file.as_uri(), "", str(file)),
            (str(file), "mine", "mine"),
            (b"no image", "", "an image of 8 bytes"),
            (bytearray(1234), "", "an image of 1,234 bytes"),
            (memoryview(b"no image"), "mine", "mine"),
            (io.BytesIO(b"no image"), "", "an image"),
            (stream, "", str(file)),
            (stream, "mine", "mine"),
        ]
        for source, name, begin in sources:
            for read in (read_image, read_header):
                with pytest.raises(ImageError, match=f"^{re.escape(begin)}: not an image in"):
                    read(source, name)


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (PermissionError(13, "Permission denied", "x.png"), "Permission denied"),
        (SyntaxError("broken data"), "broken data"),
        (EOFError(), "EOFError"),
    ],
)
def test_whatever_pillow_raises_has_a_reason(
    error: Exception, reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise error

    monkeypatch.setattr(Image, "open", fail)
    with pytest.raises(ImageError, match=f"^x: cannot be read: {reason}$"):
        read_image(b"", "x")


def test_a_file_that_is_not_there_and_a_folder_are_told_apart(tmp_path: Path) -> None:
    for read in (read_image, read_header):
        with pytest.raises(ImageError, match=r"gone\.png: no such file$"):
            read(tmp_path / "gone.png")
        with pytest.raises(ImageError, match=f"^{re.escape(str(tmp_path))}: a folder; "):
            read(tmp_path)
