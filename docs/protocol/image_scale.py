"""Classify an image without torchlift: python image_scale.py MODEL.onnx IMAGE."""

import json
import sys

import numpy as np
import onnxruntime
from PIL import Image, ImageOps

session = onnxruntime.InferenceSession(sys.argv[1], providers=["CPUExecutionProvider"])
props = session.get_modelmeta().custom_metadata_map
labels, steps, kind = (json.loads(props[k]) for k in ("labels", "preprocessing", "output_kind"))
image = ImageOps.exif_transpose(Image.open(sys.argv[2]))
mode = "L" if image.mode in ("1", "L", "LA", "La") else "RGB"
image = image.convert(mode).convert("L" if steps["color"] == "gray" else "RGB")
pixels, size = np.atleast_3d(np.asarray(image)).astype(np.float32), steps["size"]
(height, width), method = pixels.shape[:2], steps["resize"].removeprefix("image.scale-")
size = f"^{size}" if isinstance(size, int) else size  # A number is the shorter side.
if isinstance(size, str) and "x" in size:
    size = [int(length) for length in reversed(size.split("x"))]
elif isinstance(size, str):  # ^256 the shorter side, 256 the longer one, *1/2 or *0.5 a factor.
    factor, _, divisor = size.lstrip("^*").partition("/")
    by = {"^": min(height, width), "*": int(divisor or 1)}.get(size[0], max(height, width))
    size = [int(length * float(factor) / by) for length in (height, width)]
for axis in (0, 1) if size else ():
    old, new, source = pixels.shape[axis], size[axis], np.float32(range(pixels.shape[axis]))
    edges = np.arange(new + 1, dtype=np.float32)[:, None] * (np.float32(old) / np.float32(new))
    position = np.float32(range(new))[:, None] * np.float32((old - 1) / max(new - 1, 1))
    first = np.minimum(np.floor(position), old - 2)
    x, taps = position - first, [0, first + 1 - position, position - first, 0]
    if old in (1, new) or method == "simple":
        first, taps = np.floor(edges[:-1]).clip(max=old - 1), [0, 1, 0, 0]
    elif method == "bicubic":  # Neighbors outside are extrapolated.
        taps = [x * (-1 + x * (2 - x)) / 2, 1 + x * x * (3 * x - 5) / 2]
        taps += [x * (1 + x * (4 - 3 * x)) / 2, x * x * (x - 1) / 2]
        a, b = taps[0] * (first == 0), taps[3] * (first + 2 >= old)
        taps = [taps[0] - a, taps[1] + 2 * a - b, taps[2] + 2 * b - a, taps[3] - b]
    matrix = sum((source == first + k - 1) * tap for k, tap in enumerate(taps))
    if method == "bilinear" and new < old:  # The mean over the area that a new pixel covers.
        matrix = (np.minimum(edges[1:], source + 1) - np.maximum(edges[:-1], source)).clip(0)
        matrix /= matrix.sum(axis=1, keepdims=True)
    pixels = np.moveaxis(np.tensordot(np.float32(matrix), pixels, (1, axis)), 0, axis)
pixels = np.rint(pixels.clip(0, 255)) if steps["round_pixels"] else pixels
if steps["crop"]:  # The center; half a pixel is rounded down.
    top, left = ((a - b) // 2 for a, b in zip(pixels.shape, steps["crop"], strict=False))
    pixels = pixels[top : top + steps["crop"][0], left : left + steps["crop"][1]]
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
