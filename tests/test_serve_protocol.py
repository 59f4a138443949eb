"""The Open Inference Protocol, with Triton's own client as it comes.

What is protected: a program written for Triton works unchanged, and gets the bytes that ONNX
Runtime gives for the same arrays.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
from serve_support import Server, digits_model, serving
from support import ROOT

triton = pytest.importorskip("tritonclient.http")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return digits_model(tmp_path_factory.mktemp("serve"))


@pytest.fixture(scope="module")
def session(model: Path) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(model, options)


@pytest.fixture(scope="module")
def server(model: Path) -> Iterator[Server]:
    # Long enough for the client's requests to meet.
    with serving(model, "--max-delay-ms=20") as running:
        yield running


@pytest.fixture(scope="module")
def client(server: Server) -> Iterator[Any]:
    with triton.InferenceServerClient(f"127.0.0.1:{server.port}", concurrency=8) as one:
        yield one


def inputs(array: np.ndarray, binary: bool = True) -> list[Any]:
    tensor = triton.InferInput("input", array.shape, "FP32")
    tensor.set_data_from_numpy(array, binary_data=binary)
    return [tensor]


def test_the_client_of_the_page_is_answered(server: Server, session: Any) -> None:
    text = (ROOT / "docs" / "serve.md").read_text(encoding="utf-8")
    (program,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    names: dict[str, Any] = {}
    exec(compile(program.replace(":8000", f":{server.port}"), "docs/serve.md", "exec"), names)
    expected = session.run(None, {"input": np.zeros((1, 1, 32, 32), np.float32)})[0]
    np.testing.assert_array_equal(names["result"], expected)


def examples(count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).random((count, 1, 32, 32), np.float32)


def test_health_and_metadata(client: Any) -> None:
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready("digits")
    assert client.is_model_ready("digits", "1")
    assert not client.is_model_ready("digits", "2")
    assert not client.is_model_ready("nothing")
    assert "binary_tensor_data" in client.get_server_metadata()["extensions"]
    found = client.get_model_metadata("digits")
    assert found == client.get_model_metadata("digits", "1")
    assert found["inputs"] == [{"name": "input", "datatype": "FP32", "shape": [-1, 1, 32, 32]}]
    assert found["outputs"] == [
        {"name": "log_probabilities", "datatype": "FP32", "shape": [-1, 10]}
    ]
    config = client.get_model_config("digits")
    assert config["max_batch_size"] == 32
    assert config["input"] == [{"name": "input", "data_type": "TYPE_FP32", "dims": [1, 32, 32]}]


@pytest.mark.parametrize("packing", [None, "gzip", "deflate"])
@pytest.mark.parametrize("binary_output", [None, True, False])
@pytest.mark.parametrize("binary_input", [True, False])
def test_results_are_the_bytes_of_a_bare_session(
    client: Any,
    session: onnxruntime.InferenceSession,
    binary_input: bool,
    binary_output: bool | None,
    packing: str | None,
) -> None:
    """One client at a time: nothing is batched with something else."""
    outputs = None
    if binary_output is not None:
        outputs = [triton.InferRequestedOutput("log_probabilities", binary_data=binary_output)]
    for count in (1, 3, 8):
        array = examples(count)
        result = client.infer(
            "digits",
            inputs(array, binary_input),
            outputs=outputs,
            request_id="seven",
            request_compression_algorithm=packing,
            response_compression_algorithm=packing,
        )
        expected = session.run(None, {"input": array})[0]
        assert result.as_numpy("log_probabilities").tobytes() == expected.tobytes()
        assert result.get_response()["id"] == "seven"


def test_a_request_larger_than_a_batch_runs_in_pieces(
    client: Any, session: onnxruntime.InferenceSession, server: Server
) -> None:
    array = examples(70)
    before = server.metric('torchlift_batch_size_count{model="digits"}')
    result = client.infer("digits", inputs(array)).as_numpy("log_probabilities")
    assert server.metric('torchlift_batch_size_count{model="digits"}') - before == 3
    # Batches of another size are added up in another order: float32 rounds elsewhere.
    np.testing.assert_allclose(result, session.run(None, {"input": array})[0], atol=1e-6, rtol=0)


def test_many_clients_at_once_are_batched_and_agree(
    client: Any, session: onnxruntime.InferenceSession, server: Server
) -> None:
    arrays = [examples(1 + seed % 3, seed) for seed in range(60)]
    ran = server.metric('torchlift_batch_size_count{model="digits"}')
    waiting = [client.async_infer("digits", inputs(array)) for array in arrays]
    for array, one in zip(arrays, waiting, strict=True):
        result = one.get_result().as_numpy("log_probabilities")
        expected = session.run(None, {"input": array})[0]
        np.testing.assert_allclose(result, expected, atol=1e-6, rtol=0)
    ran = server.metric('torchlift_batch_size_count{model="digits"}') - ran
    assert ran < len(arrays)


def test_classification_gives_value_index_and_label(
    client: Any, session: onnxruntime.InferenceSession
) -> None:
    array = examples(3)
    wanted = [triton.InferRequestedOutput("log_probabilities", class_count=4)]
    found = client.infer("digits", inputs(array), outputs=wanted).as_numpy("log_probabilities")
    expected = session.run(None, {"input": array})[0]
    names = json.loads(session.get_modelmeta().custom_metadata_map["labels"])
    assert found.shape == (3, 4)
    for row, scores in zip(found, expected, strict=True):
        best = np.argsort(-scores, kind="stable")[:4]
        for text, index in zip(row, best, strict=True):
            value, number, label = text.decode().split(":")
            assert (np.float32(value), int(number), label) == (scores[index], index, names[index])


@pytest.mark.parametrize(
    ("name", "shape", "datatype", "problem"),
    [
        ("picture", (1, 1, 32, 32), "FP32", "no input 'picture': the model has 'input'"),
        ("input", (1, 1, 32, 31), "FP32", r"shape \[1, 1, 32, 31\], \[-1, 1, 32, 32\] expected"),
        ("input", (1, 32, 32), "FP32", "shape"),
        ("input", (0, 1, 32, 32), "FP32", "it is empty"),
        ("input", (1, 1, 32, 32), "FP64", "datatype 'FP64', FP32 expected"),
        ("input", (1, 1, 32, 32), "INT8", "datatype"),
    ],
)
def test_what_does_not_fit_is_named(
    client: Any, name: str, shape: tuple[int, ...], datatype: str, problem: str
) -> None:
    kinds = {"FP32": np.float32, "FP64": np.float64, "INT8": np.int8}
    tensor = triton.InferInput(name, shape, datatype)
    tensor.set_data_from_numpy(np.zeros(shape, kinds[datatype]))
    with pytest.raises(triton.InferenceServerException, match=problem) as raised:
        client.infer("digits", [tensor])
    assert raised.value.status() == "400"


def test_wrong_names_of_models_versions_and_outputs(client: Any) -> None:
    for arguments, options in (
        (("nothing",), {}),
        (("digits",), {"model_version": "7"}),
        (("digits",), {"outputs": [triton.InferRequestedOutput("nothing")]}),
    ):
        with pytest.raises(triton.InferenceServerException) as raised:
            client.infer(*arguments, inputs(examples(1)), **options)
        assert raised.value.status() in ("400", "404")


def test_not_a_number_is_refused(client: Any) -> None:
    array = examples(2)
    array[1, 0, 3, 4] = np.nan
    with pytest.raises(
        triton.InferenceServerException, match=r"input 'input'\[1, 0, 3, 4\] is nan"
    ):
        client.infer("digits", inputs(array))


def test_statistics_count_what_ran(client: Any) -> None:
    def count() -> int:
        (found,) = client.get_inference_statistics("digits")["model_stats"]
        return int(found["inference_count"])

    before = count()
    client.infer("digits", inputs(examples(5)))
    assert count() - before == 5
    (every,) = client.get_inference_statistics()["model_stats"]
    assert every["name"] == "digits"


def test_models_are_unloaded_and_loaded(client: Any) -> None:
    assert client.get_model_repository_index() == [
        {"name": "digits", "version": "1", "state": "READY", "reason": ""}
    ]
    client.unload_model("digits")
    assert not client.is_model_ready("digits")
    assert client.get_model_repository_index()[0]["state"] == "UNAVAILABLE"
    with pytest.raises(triton.InferenceServerException, match="not loaded"):
        client.infer("digits", inputs(examples(1)))
    client.load_model("digits")
    assert client.is_model_ready("digits")
    with pytest.raises(triton.InferenceServerException, match="no model 'nothing'"):
        client.load_model("nothing")
    with pytest.raises(triton.InferenceServerException, match="own files only"):
        client.load_model("digits", config="{}")
