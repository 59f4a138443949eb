"""AlexNet-OWT-BN at full width, in int8, on a page that needs no server.

What is protected: that 61 million weights load and classify in a browser as they do on the command
line. Sizes and times are printed (`-s`); those in `docs/deploy.md` are from here.
"""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from browser import DESKTOP, browser
from page_support import RUNTIME, opened
from PIL import Image
from test_alexnet_full_width import MEAN, STD, reference, save, write_images

from torchlift.converters import onnx
from torchlift.converters.saved import open_model

_LINES = """
() => [...document.querySelectorAll("article")].map((article) =>
  [...article.querySelectorAll("li")].map((line) => [
    Number(line.dataset.index), Number(line.dataset.probability)]))
"""


@pytest.mark.slow
def test_alexnet_in_int8_classifies_in_the_browser(tmp_path: Path) -> None:
    if not RUNTIME.is_dir():
        pytest.skip("onnxruntime-web is not installed (npm install onnxruntime-web)")
    save(reference(1), tmp_path / "alexnet.t7")
    images = write_images(tmp_path / "images")
    model = open_model(tmp_path / "alexnet.t7", mean=MEAN, std=STD, input_size=(224, 224))
    onnx.export(model, tmp_path / "float.onnx", bake_resize=True)
    quantized = tmp_path / "alexnet-int8.onnx"
    pixels = np.stack([np.asarray(Image.open(image)) for image in images])
    inputs = pixels.transpose(0, 3, 1, 2)
    # Random weights choose between classes that are all but equal.
    onnx.quantize(tmp_path / "float.onnx", quantized, inputs, max_drop=0.5)
    files = onnx.write_page(quantized, tmp_path / "page", onnxruntime_web=RUNTIME)
    photograph = tmp_path / "photograph.jpg"
    small = Image.fromarray(np.random.default_rng(5).integers(0, 256, (30, 40, 3), np.uint8))
    small.resize((4000, 3000), Image.Resampling.BICUBIC).save(photograph, quality=90)
    chosen = [*images[:3], photograph]
    expected = onnx.Classifier(quantized).predict([str(one) for one in chosen], top=1000)
    with browser() as chromium, opened(chromium, tmp_path / "page", DESKTOP) as (visit, _):
        ready = visit.page.inner_text("#status")
        visit.page.set_input_files("#file", chosen)
        visit.page.wait_for_function(
            "() => document.querySelectorAll('article ol:not(:empty)').length === 4",
            timeout=300_000,
        )
        found = visit.page.evaluate(_LINES)
        times = visit.page.eval_on_selector_all(
            "article p", "(all) => all.map((one) => one.textContent)"
        )
        memory = memory_of_tab()
    sizes = {name: (tmp_path / name).stat().st_size / 1e6 for name in ("alexnet.t7", "float.onnx")}
    sizes |= {file.name: file.stat().st_size / 1e6 for file in files if file.suffix != ".js"}
    print("; ".join(f"{name} {size:.1f} MB" for name, size in sizes.items()))
    print(f"{ready} {'; '.join(times)}; {memory / 1e6:.0f} MB of memory")
    for lines, wanted, file in zip(found, expected, chosen, strict=True):
        probabilities = {one.index: one.probability for one in wanted}
        # Sums of int8 are exact; scales are floats, and browsers decode JPEG a little differently.
        for index, probability in lines:
            assert probability == pytest.approx(probabilities[index], abs=1e-3)
        if file != photograph:
            assert lines[0][0] == wanted[0].index


def memory_of_tab() -> int:
    """Return how much memory the largest tab has had, in bytes; on Linux, else 0."""
    peaks = [0]
    for status in Path("/proc").glob("[0-9]*/status"):
        try:
            text = status.read_text(encoding="utf-8")
            command = (status.parent / "cmdline").read_bytes()
        except OSError:
            continue
        if b"--type=renderer" in command and (peak := re.search(r"VmHWM:\s+(\d+)", text)):
            peaks.append(int(peak[1]) * 1024)
    return max(peaks)
