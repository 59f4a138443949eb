"""Everything between an image file and a network's input: reading, resizing, preprocessing.

How preprocessing travels from the file that defines it to the input of the network:

1. It is read. `mean_std.from_mean_std` turns the table `{mean = …, std = …}` that Torch7 projects
   keep, in a file of its own or in the checkpoint beside the model, into a `Preprocessing`. One
   note says what the table leaves open: the value range, the order of the channels, the resizing.
   `saved.open_model` does this for a `.t7`. A saved model or an `.onnx` file holds a complete
   `Preprocessing`, so that nothing has to be inferred.
2. It is stored. `Preprocessing.to_json` becomes the entry `preprocessing` of a saved model's
   `config.json`, of an exported `.onnx` file's metadata (`inference.metadata`), and of the
   manifest of stored features. `Preprocessing.from_json` reads it back. What torchlift 0.1.0 wrote
   (format version 1) passes through `preprocessing_of_format_1` before.
3. It is applied. A `Preprocessing` is called with images and returns float32 inputs, in numpy and
   Pillow, without torch: this is what `inference.Classifier` does. `transfer.data.Batches`, for
   training and evaluation, calls `Preprocessing.pixels` instead, which stops at uint8 pixels (the
   floats of `image.scale` are rounded), and applies value range, mean and std in torch on the
   device. `onnx.export(…, bake_preprocessing=True)` writes these last steps into the graph,
   `onnx.export(…, bake_resize=True)` all of them.

The order of the steps is always: color, resize, crop, value range, minus mean, divided by std. The
name of a resizing method (`RESIZERS`) is a contract: a model that was saved with it gets the same
pixels from every later version of torchlift.
"""

from ..requirements import require

require("torchlift.converters.images", "PIL")

from .decode import read_image
from .errors import ImageError, PreprocessingError
from .files import find_images, local_path
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
