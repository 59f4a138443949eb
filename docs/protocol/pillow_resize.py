"""Classify an image without torchlift: python pillow_resize.py MODEL.onnx IMAGE."""

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
size = steps["size"]
if isinstance(size, int):  # The length of the shorter side.
    size = [length * size // min(image.size) for length in (image.height, image.width)]
if size:  # The width first: Pillow 13 would not always begin with it.
    method = Image.Resampling[steps["resize"].removeprefix("pil-").upper()]
    image = image.resize((size[1], image.height), method).resize((size[1], size[0]), method)
pixels = np.atleast_3d(np.asarray(image)).astype(np.float32)
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
