"""A file of `export --bake-resize` cannot be used wrongly: any image gives what `predict` gives.

`pytest -m slow -s tests/test_onnx_any_image.py` prints the figures of docs/protocol.md. A thousand
files, from 1×1 to 6000×4000, are opened as the page says, by Pillow alone.
"""

from __future__ import annotations

import csv
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from any_image_support import web_package, write_images
from bake_resize_support import baked_identity
from PIL import Image, ImageOps
from support import FIXTURES

from torchlift.cli.main import main
from torchlift.converters.images.preprocessing import Preprocessing
from torchlift.converters.images.resize import RESIZERS
from torchlift.converters.onnx import InstalledRuntime, find_runtimes
from torchlift.converters.onnx.runtimes.session import RuntimeSession

pytestmark = pytest.mark.slow

COUNT = int(os.environ.get("TORCHLIFT_IMAGES", "1000"))
PYTHON = os.environ.get("TORCHLIFT_RUNTIME_PYTHON")

#: Two classes tie if their probabilities differ by less.
TIE = 1e-4


def pixels(file: Path) -> np.ndarray:
    """Return the pixels of a file as docs/protocol.md says."""
    return np.asarray(ImageOps.exif_transpose(Image.open(file)).convert("RGB"))


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    return write_images(tmp_path_factory.mktemp("images"), COUNT)


@pytest.fixture(scope="module")
def baked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The network of Torch7's CIFAR lab, once plain and once with its preprocessing."""
    folder = tmp_path_factory.mktemp("network")
    cifar = FIXTURES / "cifar"
    words = ["export", str(cifar / "cifar-convnet-bn.t7")]
    words += [f"--mean-std={cifar / 'cifar_meanStd.t7'}"]
    assert main([*words, str(folder / "plain.onnx")]) == 0
    assert main([*words, str(folder / "baked.onnx"), "--bake-resize"]) == 0
    return folder / "baked.onnx"


@pytest.fixture(scope="module")
def predicted(files: list[Path], baked: Path) -> dict[str, list[tuple[str, float]]]:
    """The two most probable classes of each file, by `torchlift predict` on the plain network."""
    table = baked.with_name("results.csv")
    words = ["predict", str(baked.with_name("plain.onnx")), str(files[0].parent)]
    assert main([*words, "--top", "2", "-o", str(table)]) == 0
    rows: dict[str, list[tuple[str, float]]] = {}
    with table.open(encoding="utf-8", newline="") as stream:
        for row in csv.DictReader(stream):
            name = Path(row["input"]).name
            rows.setdefault(name, []).append((row["index"], float(row["probability"])))
    return rows


def other_answers(
    runtime: InstalledRuntime,
    baked: Path,
    files: list[Path],
    predicted: dict[str, list[tuple[str, float]]],
) -> list[str]:
    """Return the files to which a runtime gives another class, with the two probabilities."""
    found = []
    with RuntimeSession(runtime, baked) as session:
        for file in files:
            (scores,) = session.run({"image": pixels(file)}, ["log_probabilities"])
            (first, likeliest), (_, second) = predicted[file.name]
            if str(scores[0].argmax()) != first:
                found.append(f"{file.name}: {likeliest:.6f} and {second:.6f}")
                assert likeliest - second < TIE, found
    print(f"\n{runtime.name} {session.version}: {len(files)} images, {len(found)} ties {found}")
    return found


def test_a_thousand_images_get_the_class_that_predict_gives(
    files: list[Path], baked: Path, predicted: dict[str, list[tuple[str, float]]]
) -> None:
    (runtime,) = find_runtimes(["onnxruntime"])
    assert len(predicted) == len(files) == COUNT
    assert len({rows[0][0] for rows in predicted.values()}) > 5
    assert len(other_answers(runtime, baked, files, predicted)) <= 2


@pytest.mark.parametrize("name", ["openvino", "opencv", "web"])
def test_other_runtimes_give_the_same_class(
    name: str, files: list[Path], baked: Path, predicted: dict[str, list[tuple[str, float]]]
) -> None:
    """OpenVINO in float32."""
    if PYTHON is None and name != "web":
        pytest.skip("TORCHLIFT_RUNTIME_PYTHON names no Python with other runtimes")
    if name == "web" and not (web_package() / "package.json").is_file():
        pytest.skip("onnxruntime-web is not installed")
    (runtime,) = find_runtimes([name], PYTHON, web_package())
    precision = "f32" if name == "openvino" else ""
    runtime = InstalledRuntime(name, runtime.command, runtime.is_elsewhere, precision)
    assert len(other_answers(runtime, baked, files, predicted)) <= 2


@pytest.mark.parametrize("method", [name for name in RESIZERS if name != "none"])
def test_each_method_gives_the_bytes_of_predict(method: str, files: list[Path]) -> None:
    """99.9 % of the bytes of a hundred files are equal, none is more than 1 off, or 2 enlarged."""
    preprocessing = Preprocessing("RGB", size=(64, 48), resize=method, value_range=255)
    graph = baked_identity(preprocessing, (64, 48)).SerializeToString()
    session = onnxruntime.InferenceSession(graph, providers=["CPUExecutionProvider"])
    equal = total = 0
    farthest = [0.0, 0.0]
    # The largest show nothing of the weights that others do not.
    for file in [*files[:6], *files[8 :: max(1, COUNT // 100)]]:
        image = pixels(file)
        (output,) = session.run(None, {"image": image})
        off = np.abs(output[0] - preprocessing(image))
        # image.scale does not round: less than a fiftieth of a byte is another order of sums.
        equal, total = equal + int((off < 0.02).sum()), total + off.size
        is_enlarged = image.shape[0] < 64 or image.shape[1] < 48
        farthest[is_enlarged] = max(farthest[is_enlarged], float(off.max()))
    print(f"\n{method}: {equal / total:.5%} equal, at most {farthest} off")
    assert equal >= 0.999 * total
    assert farthest[0] <= 1.02
    assert farthest[1] <= 2.02


def test_an_image_of_24_million_pixels_takes_less_than_a_gigabyte(baked: Path) -> None:
    """The peak of a process that has only numpy and ONNX Runtime."""
    program = (
        "import re, sys, numpy, onnxruntime\n"
        "image = numpy.random.default_rng(0).integers(0, 256, (4000, 6000, 3), numpy.uint8)\n"
        "onnxruntime.InferenceSession(sys.argv[1]).run(None, {'image': image})\n"
        # What resource tells begins at the peak of the process that starts this one.
        "print(re.search(r'VmHWM:\\s+(\\d+)', open('/proc/self/status').read())[1])"
    )
    result = subprocess.run(
        [sys.executable, "-c", program, str(baked)], capture_output=True, text=True, check=True
    )
    peak = int(result.stdout) * 1024
    print(f"\n6000×4000: {peak / 1e6:.0f} MB")
    assert peak < 1e9
    # What is compared is a file with its preprocessing inside.
    assert onnx.load(baked).graph.input[0].name == "image"
