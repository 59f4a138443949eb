"""Everything between an image file and a network's input: reading, resizing, preprocessing."""

from .errors import ImageError, PreprocessingError
from .files import find_images, local_path, read_image
from .preprocessing import Preprocessing
from .resize import RESIZERS

__all__ = [
    "RESIZERS",
    "ImageError",
    "Preprocessing",
    "PreprocessingError",
    "find_images",
    "local_path",
    "read_image",
]
