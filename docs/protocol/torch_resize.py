"""Classify an image without torchlift: python torch_resize.py MODEL.onnx IMAGE."""

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
pixels, method = np.atleast_3d(np.asarray(image)).astype(np.float32), steps["resize"]
size = steps["size"]
if isinstance(size, int):  # The length of the shorter side.
    size = [length * size // min(image.size) for length in (image.height, image.width)]
for axis in (1, 0) if size else ():
    old, new, half = pixels.shape[axis], size[axis], np.float32(0.5)
    source, scale = np.arange(old, dtype=np.float32), np.float32(old) / np.float32(new)
    center = scale * (np.arange(new, dtype=np.float32)[:, None] + half * (method[6:] != "nearest"))
    position = center - half if "bicubic" in method else np.maximum(center - half, 0)
    first, a = np.floor(position), np.float32(-0.5 if "antialias" in method else -0.75)
    taps = [(first + k, np.abs(position - first - k)) for k in range(-1, 3)]
    if "antialias" in method:
        taps = [(source, np.abs(source - center + half) / max(scale, 1))]
    elif "nearest" in method:
        taps = [(np.floor(center), np.float32(0))]
    matrix = np.zeros((new, old), np.float32)  # The weights of the old pixels in each new one.
    for place, x in taps:
        weight, outer = np.maximum(1 - x, 0), ((a * x - 5 * a) * x + 8 * a) * x - 4 * a
        if "bicubic" in method:
            inner = ((a + 2) * x - (a + 3)) * x * x + 1
            weight = np.where(x < 1, inner, np.where(x < 2, outer, 0))
        matrix += (source == place.clip(0, old - 1)) * weight
    matrix /= matrix.sum(axis=1, keepdims=True) if "antialias" in method else 1
    pixels = np.moveaxis(np.tensordot(matrix, pixels, (1, axis)), 0, axis)
pixels = np.rint(pixels.clip(0, 255))
if steps["crop"]:  # The center; half a pixel is rounded to the even number.
    top, left = (round((a - b) / 2) for a, b in zip(pixels.shape, steps["crop"], strict=False))
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
