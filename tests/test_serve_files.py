"""Files of special kinds behind the server: all of preprocessing in the graph, mixed batches.

What is protected: `/predict` gives what `torchlift predict` gives, and a file whose answer for an
image depends on the other images of a batch never sees another client's image.
"""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper, save_model
from PIL import Image
from serve_support import Server, form, serving
from support import FIXTURES

from torchlift.cli.main import main
from torchlift.converters.images import Preprocessing
from torchlift.converters.inference.metadata import Metadata

DIGITS = FIXTURES / "digits"


def png(pixels: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


@pytest.fixture(scope="module")
def images() -> list[bytes]:
    """Images of any size, color and gray."""
    rng = np.random.default_rng(4)
    shapes = [(*(int(side) for side in rng.integers(9, 70, 2)), 3) for _ in range(6)]
    pixels = [rng.integers(0, 256, shape, np.uint8) for shape in shapes]
    return [png(one[..., 0] if number % 2 else one) for number, one in enumerate(pixels)]


@pytest.mark.slow
def test_predict_of_a_file_with_all_preprocessing_in_the_graph(
    images: list[bytes], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = tmp_path / "digits.onnx"
    options = [f"--labels={DIGITS / 'digits_classes.t7'}", "--bake-resize"]
    options.append(f"--mean-std={DIGITS / 'digits_meanStd.t7'}")
    assert main(["export", str(DIGITS / "digits-lenet5-bn.t7"), str(model), *options]) == 0
    files = [tmp_path / f"{number}.png" for number in range(len(images))]
    for file, image in zip(files, images, strict=True):
        file.write_bytes(image)
    capsys.readouterr()
    assert main(["predict", str(model), *map(str, files), "--json"]) == 0
    expected = json.loads(capsys.readouterr().out)["results"]
    body, headers = form(
        [("image", file.name, image) for file, image in zip(files, images, strict=True)]
    )
    with serving(model) as server:
        answers = server.ask("POST", "/predict", body, headers).json["results"]
        answers += [server.ask("POST", "/predict", one).json["results"][0] for one in images]
    assert [one["input"] for one in answers[: len(files)]] == [file.name for file in files]
    for found, wanted in zip(answers, expected * 2, strict=True):
        # One image a run, in the same graph: the same numbers.
        assert found["predictions"] == wanted["predictions"]


def mixing_classifier(file: Path, *, mixes: bool, says_so: bool) -> Path:
    """Write a classifier of two pixels; where it mixes, the batch's mean is taken away."""
    takes = helper.make_tensor_value_info("input", TensorProto.FLOAT, ["batch", 1, 1, 2])
    gives = helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", 2])
    axes = helper.make_tensor("axes", TensorProto.INT64, [1], [0])
    nodes = [
        helper.make_node("Flatten", ["input"], ["flat"]),
        helper.make_node("ReduceMean", ["flat", "axes"], ["mean"], keepdims=1),
        helper.make_node("Sub", ["flat", "mean" if mixes else "zero"], ["less"]),
        helper.make_node("Add", ["less", "flat"], ["logits"]),
    ]
    zero = helper.make_tensor("zero", TensorProto.FLOAT, [1], [0.0])
    graph = helper.make_graph(nodes, "g", [takes], [gives], [axes, zero])
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    metadata = Metadata(
        labels=["left", "right"],
        output_kind="logits",
        preprocessing=Preprocessing("gray", size=(1, 2)),
        depends_on_batch=True if says_so else None,
    )
    helper.set_model_props(made, metadata.to_props())
    save_model(made, file)
    return file


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Three classifiers, behind a server that waits long for others to join a batch."""
    folder = tmp_path_factory.mktemp("mixing")
    mixing_classifier(folder / "said.onnx", mixes=True, says_so=True)
    mixing_classifier(folder / "found.onnx", mixes=True, says_so=False)
    mixing_classifier(folder / "apart.onnx", mixes=False, says_so=False)
    with serving(folder, "--max-delay-ms=150") as running:
        yield running


@pytest.mark.slow
@pytest.mark.parametrize("model", ["said", "found", "apart"])
def test_no_image_meets_another_client_s_where_answers_depend_on_the_batch(
    model: str, server: Server
) -> None:
    pixels = [np.array([[20 * one, 255 - 30 * one]], np.uint8) for one in range(8)]
    path = f"/predict?model={model}"

    def ask(one: np.ndarray) -> Any:
        (result,) = server.ask("POST", path, png(one)).json["results"]
        return {entry["label"]: entry["probability"] for entry in result["predictions"]}

    alone = [ask(one) for one in pixels]
    count = f'torchlift_batch_size_count{{model="{model}"}}'
    before = server.metric(count)
    with ThreadPoolExecutor(8) as clients:
        together = list(clients.map(ask, pixels))
    runs = server.metric(count) - before
    assert (runs == len(pixels)) == (model != "apart")
    for found, wanted in zip(together, alone, strict=True):
        assert found == pytest.approx(wanted, abs=1e-6)
    inputs = np.stack(pixels).astype(np.float32)[:, None] / 255
    with ThreadPoolExecutor(8) as clients:
        rows = list(clients.map(lambda one: server.infer(one[None], model), inputs))
    expected = [server.infer(one[None], model) for one in inputs]
    np.testing.assert_allclose(rows, expected, atol=1e-6)
