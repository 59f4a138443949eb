"""Classify an image without torchlift, resized by image.scale: python image_scale.py MODEL.onnx IMAGE."""

import json
import sys

import numpy as np
import onnxruntime
from PIL import Image, ImageOps

session = onnxruntime.InferenceSession(sys.argv[1], providers=["CPUExecutionProvider"])
props = session.get_modelmeta().custom_metadata_map
labels, steps, kind = (json.loads(props[k]) for k in ("labels", "preprocessing", "output_kind"))
# Gray images are gray before they become RGB; other modes become RGB before they become gray.
image = ImageOps.exif_transpose(Image.open(sys.argv[2]))
image = image.convert("L" if image.mode in ("1", "L", "LA", "La") else "RGB")
image = image.convert("L" if steps["color"] == "gray" else "RGB")


def weights(old: int, new: int) -> np.ndarray:
    """Return the weights of the old pixels (columns) in each new one (rows)."""
    pixels, step = np.arange(old, dtype=np.float32), np.float32(old) / np.float32(new)
    edges = np.arange(new + 1, dtype=np.float32)[:, None] * step
    if old in (1, new) or method == "simple":
        return np.float32(pixels == np.floor(edges[:-1]).clip(max=old - 1))
    if new < old and method == "bilinear":  # The mean over the area that a new pixel covers.
        area = (np.minimum(edges[1:], pixels + 1) - np.maximum(edges[:-1], pixels)).clip(0)
        return area / area.sum(axis=1, keepdims=True)
    position = np.arange(new, dtype=np.float32)[:, None] * np.float32((old - 1) / max(new - 1, 1))
    position[-1] = old - 1  # The first and the last pixel keep their places.
    first = np.minimum(np.floor(position), old - 2)
    x = position - first
    taps = [0 * x, 1 - x, x, 0 * x]
    if method == "bicubic":  # Neighbors outside are extrapolated.
        taps = [x * (-1 + x * (2 - x)) / 2, 1 + x * x * (3 * x - 5) / 2]
        taps += [x * (1 + x * (4 - 3 * x)) / 2, x * x * (x - 1) / 2]
        a, b = taps[0] * (first == 0), taps[3] * (first + 2 >= old)
        taps = [taps[0] - a, taps[1] + 2 * a - b, taps[2] + 2 * b - a, taps[3] - b]
    return sum((pixels == first + k - 1) * tap for k, tap in enumerate(taps))


pixels, size = np.atleast_3d(np.asarray(image)).astype(np.float32), steps["size"]
height, width, method = *pixels.shape[:2], steps["resize"].removeprefix("image.scale-")
if isinstance(size, str) and "x" in size:
    size = [int(length) for length in reversed(size.split("x"))]
elif isinstance(size, int | str):  # ^256 or a number: the shorter side; 256: the longer; *1/2.
    factor, _, divisor = str(size).lstrip("^*").partition("/")
    sides = {"^": min(height, width), "*": int(divisor or 1)}
    by = sides.get(str(size)[0] if isinstance(size, str) else "^", max(height, width))
    size = [int(length * float(factor) / by) for length in (height, width)]
if size:
    tall = np.einsum("yi,ixc->yxc", weights(height, size[0]), pixels)
    pixels = np.einsum("xi,yic->yxc", weights(width, size[1]), tall)
if steps["crop"]:  # The center; half a pixel is rounded down.
    top, left = ((a - b) // 2 for a, b in zip(pixels.shape, steps["crop"], strict=False))
    pixels = pixels[top : top + steps["crop"][0], left : left + steps["crop"][1]]
# Channels, value range, mean and std, in single precision.
inputs = (pixels[..., ::-1] if steps["color"] == "BGR" else pixels).transpose(2, 0, 1)[None]
if steps["value_range"] == 1:
    inputs = inputs / np.float32(255)
elif steps["value_range"] != 255:
    low, high = steps["value_range"]
    inputs = inputs * np.float32((high - low) / 255) + np.float32(low)
inputs = inputs - np.float32(steps["mean"] or 0).reshape(-1, 1, 1)
inputs = inputs / np.float32(steps["std"] or 1).reshape(-1, 1, 1)
scores = session.run(None, {"input": np.ascontiguousarray(inputs)})[0][0]
if kind == "logits":
    scores = scores - scores.max() - np.log(np.exp(scores - scores.max()).sum())
probabilities = scores if kind == "probabilities" else np.exp(scores)
for index in np.argsort(-probabilities, kind="stable")[:5]:
    print(labels[index], float(probabilities[index]))
