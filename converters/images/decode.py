"""Decoding an image: which formats are read, and what every image becomes.

Only the formats of `FORMATS` are tried. Pillow would go by the content of a file and try all of its
plugins, of which some start other programs (Ghostscript for EPS).
"""

from __future__ import annotations

import io
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import BinaryIO, NamedTuple

from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError

from .errors import ImageError
from .files import local_path

#: The formats that are read, as Pillow calls them. PPM stands for PBM and PGM too.
FORMATS = ("BMP", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP")

#: Images of more pixels are refused before memory is allocated for them (Pillow's own limit).
MAX_PIXELS = 178_956_970

#: What an image can be read from: a file or its URI, the bytes of a file, or an open binary file.
ImageSource = str | os.PathLike[str] | bytes | bytearray | memoryview | BinaryIO

# What Pillow warns of, such as damaged EXIF entries, is either no harm or the error that follows.
warnings.filterwarnings("ignore", module=r"PIL\.")

_GRAY_MODES = ("1", "L", "LA", "La")
#: Formats whose RGB images may have 16 bits a channel, of which Pillow would drop eight.
_FORMATS_OF_16_BITS = ("PNG", "PPM", "TIFF")
_QUARTER_TURNS = range(5, 9)


class Header(NamedTuple):
    """What is known of an image before it is decoded.

    Attributes:
        size: (height, width) of the upright image.
        gray: Whether it has no colors.
    """

    size: tuple[int, int]
    gray: bool


def read_image(source: ImageSource, name: str = "") -> Image.Image:
    """Read an image: decoded, upright, and with 8 bits a channel, gray (`L`) or `RGB`.

    The EXIF orientation is applied, an alpha channel is dropped, a palette and CMYK become RGB, and
    of an animation the first image is taken.

    Args:
        source: A file on this machine (see `local_path`), the bytes of one, or an open binary file.
        name: What messages call it; by default the name of the file.

    Raises:
        ImageError: If it does not exist, is not an image in one of `FORMATS`, is damaged, has more
            than `MAX_PIXELS` pixels, or more than 8 bits a channel.

    Example:
        >>> from pathlib import Path
        >>> from tempfile import mkdtemp
        >>> file = Path(mkdtemp()) / "gray.png"
        >>> Image.new("L", (4, 3)).save(file)
        >>> read_image(file).size, read_image(file.read_bytes()).size
        ((4, 3), (4, 3))
    """
    with _opened(source, name) as image:
        image.load()
        return upright(image)


def read_header(source: ImageSource, name: str = "") -> Header:
    """Return the size and the kind of an image without decoding it.

    Args:
        source: As for `read_image`.
        name: As for `read_image`.

    Raises:
        ImageError: As `read_image`, but for damages behind the header.
    """
    with _opened(source, name) as image:
        height, width = image.height, image.width
        # A PNG may have its EXIF behind the pixels: PngImageFile.getexif would decode them. Pillow
        # turns the size of a TIFF itself.
        orientation = Image.Image.getexif(image).get(ExifTags.Base.Orientation)
        if orientation in _QUARTER_TURNS and image.format != "TIFF":
            height, width = width, height
        return Header((height, width), image.mode in _GRAY_MODES)


def upright(image: Image.Image) -> Image.Image:
    """Return an image turned as its EXIF orientation says, as `L` (gray) or `RGB`.

    Raises:
        ImageError: If it has more than 8 bits a channel.
        Exception: Whatever Pillow raises for an image that cannot be decoded or converted.
    """
    if image.mode.startswith(("I", "F")):
        raise ImageError(_too_many_bits(image))
    # Both functions would copy an image that needs neither.
    if image.getexif().get(ExifTags.Base.Orientation, 1) != 1:
        image = ImageOps.exif_transpose(image)
    mode = "L" if image.mode in _GRAY_MODES else "RGB"
    return image if image.mode == mode else image.convert(mode)


@contextmanager
def _opened(source: ImageSource, name: str) -> Iterator[Image.Image]:
    """Open an image whose header is acceptable; whatever goes wrong is an `ImageError`."""
    opened: str | os.PathLike[str] | BinaryIO
    if isinstance(source, (str, os.PathLike)):
        opened = local_path(source)
        name = name or str(opened)
    elif isinstance(source, (bytes, bytearray, memoryview)):
        opened, name = io.BytesIO(source), name or f"an image of {len(source):,} bytes"
    else:
        opened, name = source, name or str(getattr(source, "name", "an image"))
    try:
        with Image.open(opened, formats=FORMATS) as image:
            if image.width * image.height > MAX_PIXELS:
                raise ImageError(_too_many_pixels(f"{image.width}×{image.height}"))
            if _has_16_bits(image):
                raise ImageError(_too_many_bits(image))
            yield image
    except FileNotFoundError:
        raise ImageError(f"{name}: no such file") from None
    except IsADirectoryError:
        raise ImageError(f"{name}: a folder; an image was expected") from None
    except UnidentifiedImageError:
        raise ImageError(f"{name}: not an image in a known format ({', '.join(FORMATS)})") from None
    except Image.DecompressionBombError:
        raise ImageError(f"{name}: {_too_many_pixels('too many')}") from None
    except ImageError as error:
        raise ImageError(f"{name}: {error}") from None
    except Exception as error:  # Pillow's decoders raise any class of exception.
        reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
        raise ImageError(f"{name}: cannot be read: {reason}") from error


def _has_16_bits(image: Image.Image) -> bool:
    """Return whether the file has more than 8 bits a channel, which Pillow's mode may hide."""
    if image.mode.startswith(("I", "F")):
        return True
    if image.format not in _FORMATS_OF_16_BITS:
        return False
    for tile in image.tile:  # type: ignore[attr-defined]  # every opened file has it
        layout, *rest = (tile.args,) if isinstance(tile.args, str) else tile.args
        largest = rest[0] if image.format == "PPM" and rest else 0
        if ";16" in layout or (isinstance(largest, int) and largest > 255):
            return True
    return False


def _too_many_bits(image: Image.Image) -> str:
    bits = "16 bits a channel" if ";16" in image.mode or image.mode == "RGB" else "no 8-bit pixels"
    return f"{bits} (mode {image.mode}): save it with 8 bits a channel first"


def _too_many_pixels(count: str) -> str:
    return f"{count} pixels: at most {MAX_PIXELS:,} are read"
