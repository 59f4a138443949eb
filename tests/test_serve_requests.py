"""Requests of the inference protocol without a server: what is read, refused and answered."""

from __future__ import annotations

import asyncio
import json
import signal
import threading
from pathlib import Path
from queue import SimpleQueue
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from torchlift.cli.serve.errors import RequestError
from torchlift.cli.serve.inference_protocol import InferRequest, WantedOutput, answer, parse_infer
from torchlift.cli.serve.models import Models
from torchlift.cli.serve.settings import Settings
from torchlift.cli.serve.supervisor import _Supervisor
from torchlift.cli.serve.tensors import Tensor

MODEL: Any = SimpleNamespace(
    name="m",
    version="3",
    inputs=[
        Tensor("x", "FP32", (-1, 2), ("batch", None)),
        Tensor("n", "UINT8", (-1,), ("batch",)),
    ],
    outputs=[Tensor("y", "FP32", (-1, 3), ("batch", None))],
    has_batch=True,
    metadata=SimpleNamespace(labels=["a", "b", "c"]),
)
NUMBERS = np.array([[1, 2], [3, 4]], np.float32)


def inputs(**changed: Any) -> dict[str, Any]:
    """A request in JSON alone; `x` and `n` change the two inputs, None leaves one out."""
    x = {"name": "x", "datatype": "FP32", "shape": [2, 2], "data": [1, 2, 3, 4]}
    n = {"name": "n", "datatype": "UINT8", "shape": [2], "data": [0, 255]}
    changes = [(x, changed.pop("x", {})), (n, changed.pop("n", {}))]
    given = [entry | change for entry, change in changes if change is not None]
    return {"inputs": given} | changed


def parsed(head: dict[str, Any], binary: bytes = b"") -> InferRequest:
    text = json.dumps(head).encode()
    return parse_infer(text + binary, str(len(text)) if binary else None, MODEL)


def in_bytes(size: int) -> dict[str, Any]:
    """The input `x` as bytes behind the JSON."""
    entry = {"name": "x", "datatype": "FP32", "shape": [2, 2]}
    second = inputs()["inputs"][1]
    return {"inputs": [entry | {"parameters": {"binary_data_size": size}}, second]}


def test_numbers_come_as_json_or_as_bytes() -> None:
    for request in (parsed(inputs(id="7")), parsed(in_bytes(16) | {"id": "7"}, NUMBERS.tobytes())):
        assert request.id == "7"
        assert np.array_equal(request.inputs["x"], NUMBERS)
        assert request.inputs["n"].tolist() == [0, 255]
        assert request.outputs == [WantedOutput("y", binary=False)]


@pytest.mark.parametrize(
    ("head", "binary", "problem"),
    [
        (in_bytes(16), bytes(17), "1 bytes stand behind the last input"),
        (in_bytes(16), bytes(15), "binary_data_size goes beyond the body"),
        (in_bytes(-1), bytes(16), "binary_data_size goes beyond the body"),
        (in_bytes(17), bytes(16), "binary_data_size goes beyond the body"),
        (in_bytes(True), bytes(16), "binary_data_size goes beyond the body"),
        (in_bytes(0), bytes(16), "has 0 bytes, its shape 16"),
        (in_bytes(12), bytes(12), "has 12 bytes, its shape 16"),
        (in_bytes(16), np.full(4, np.nan, np.float32).tobytes(), "input 'x'"),
        (inputs(n=None), b"", "input 'n' is missing"),
        (inputs(n={"name": "z"}), b"", "no input 'z': the model has 'x', 'n'"),
        (inputs(n={"name": "x"}), b"", "a name stands twice in 'inputs'"),
        (inputs(n={"shape": [1], "data": [1]}), b"", "batches of different sizes"),
        (inputs(n={"data": [-1, 0]}), b"", "numbers beyond UINT8"),
        (inputs(n={"data": [0, 256]}), b"", "numbers beyond UINT8"),
        (inputs(x={"data": [1e39, 0, 0, 0]}), b"", "numbers beyond FP32"),
        (inputs(x={"shape": [0, 2], "data": []}), b"", "it is empty"),
        (inputs(x={"shape": [2, 3]}), b"", r"has shape \[2, 3\], \[-1, 2\] expected"),
        (inputs(x={"datatype": "FP64"}), b"", "has datatype 'FP64', FP32 expected"),
        (inputs(outputs=[{"name": "z"}]), b"", "no output 'z': the model has 'y'"),
        (
            inputs(outputs=[{"name": "y", "parameters": {"classification": -1}}]),
            b"",
            "classification is no whole number",
        ),
    ],
)
def test_what_does_not_fit_is_refused(head: dict[str, Any], binary: bytes, problem: str) -> None:
    with pytest.raises(RequestError, match=problem) as refused:
        parsed(head, binary)
    assert refused.value.status == 400


def test_the_highest_scores_come_first_with_their_labels() -> None:
    """Of equal ones the first; as `value:index:label`."""
    wanted = InferRequest("7", {}, [WantedOutput("y", binary=False, classification=2)])
    scores = np.array([[0.5, 2, 2], [3, -1, 0]], np.float32)
    body, length = answer(wanted, [scores], MODEL)
    assert length is None
    document = json.loads(body)
    assert (document["model_name"], document["model_version"], document["id"]) == ("m", "3", "7")
    (output,) = document["outputs"]
    assert (output["datatype"], output["shape"]) == ("BYTES", [2, 2])
    assert output["data"] == ["2.0:1:b", "2.0:2:c", "3.0:0:a", "0.0:2:c"]


def test_outputs_are_bytes_where_that_is_asked_for() -> None:
    head = inputs(outputs=[{"name": "y", "parameters": {"binary_data": True}}])
    body, length = answer(parsed(head), [np.arange(6, dtype=np.float32).reshape(2, 3)], MODEL)
    assert length is not None
    assert json.loads(body[:length])["outputs"][0]["parameters"] == {"binary_data_size": 24}
    assert np.frombuffer(body[length:], "<f4").tolist() == [0, 1, 2, 3, 4, 5]


@pytest.mark.parametrize(
    ("whole", "own", "binary"),
    [
        ({}, {}, False),
        ({"binary_data_output": True}, {}, True),
        ({"binary_data_output": True}, {"binary_data": False}, False),
        ({"binary_data_output": False}, {"binary_data": True}, True),
    ],
)
def test_an_output_is_sent_as_it_asks_for_or_else_as_the_request_does(
    whole: dict[str, bool], own: dict[str, bool], binary: bool
) -> None:
    asked = inputs(parameters=whole, outputs=[{"name": "y", "parameters": own}])
    assert parsed(asked).outputs == [WantedOutput("y", binary)]
    if not own:
        assert parsed(inputs(parameters=whole)).outputs == [WantedOutput("y", binary)]
        assert parsed(inputs(parameters=whole, outputs=[])).outputs == [WantedOutput("y", binary)]


@pytest.mark.parametrize(
    ("body", "length", "problem"),
    [
        (b"{}", "3", "no length within the body"),
        (b"{}", "-1", "no length within the body"),
        (b"{}", "1" * 19, "no length within the body"),
        # `int` reads no more than 4,300 digits.
        pytest.param(b"{}", "1" * 5000, "no length within the body", id="many digits"),
        # A digit to `isdigit`, but not to `int`; a header may hold it.
        (b"{}", "\xb2", "no length within the body"),
        (b"{}", "0", "the body is no JSON"),
        pytest.param(b'{"a":' * 100_000, None, "it is nested too deeply", id="nested"),
        (b'{"id": "\xff"}', None, "the body is no JSON: "),
        (b"[]", None, "the body is no JSON object"),
        (b'{"id": NaN}', None, "NaN is no number"),
        (b'{"id": -Infinity}', None, "-Infinity is no number"),
        (b'{"id": 3}', None, "'id' is no text"),
        (b'{"id": 0}', None, "'id' is no text"),
        (b'{"parameters": []}', None, "'parameters' of the request is no JSON object"),
        (b'{"inputs": {}}', None, "'inputs' is no list of JSON objects"),
        (b'{"inputs": [3]}', None, "'inputs' is no list of JSON objects"),
        (b'{"inputs": [{"name": "x"}, 3]}', None, "'inputs' is no list of JSON objects"),
        (b'{"inputs": [{"name": 3}]}', None, "an entry of 'inputs' has no name"),
        (b'{"inputs": [{"name": "x"}, {}]}', None, "an entry of 'inputs' has no name"),
    ],
)
def test_a_body_that_is_no_request_is_refused(
    body: bytes, length: str | None, problem: str
) -> None:
    with pytest.raises(RequestError, match=problem) as refused:
        parse_infer(body, length, MODEL)
    assert refused.value.status == 400


@pytest.mark.parametrize(
    ("head", "problem"),
    [
        (inputs(x={"parameters": {"binary_data_size": 16}}), "'data' and 'binary_data_size'"),
        (inputs(x={"parameters": {"shared_memory_region": "r"}}), "input 'x' is in shared memory"),
        (inputs(x={"parameters": {"a": 1, "shared_memory_offset": 2}}), "input 'x' is in shared"),
        (inputs(parameters={"shared_memory_region": "r", "a": 1}), "the request is in shared"),
        (
            inputs(outputs=[{"name": "y", "parameters": {"a": 1, "shared_memory_region": "r"}}]),
            "output 'y' is in shared memory",
        ),
        (inputs(parameters={"binary_data_output": 1}), "binary_data_output is no boolean"),
        (inputs(x={"shape": [2**39, 2]}), "too large"),
        (inputs(outputs=[{"name": "y"}, "y"]), "'outputs' is no list of JSON objects"),
        (inputs(outputs=[{"name": "y"}, {"name": None}]), "an entry of 'outputs' has no name"),
        (inputs(x={"shape": [2**37, 2]}), "holds 4 values"),
        (
            inputs(outputs=[{"name": "y"}, {"name": "y"}]),
            "a name stands twice in 'outputs'",
        ),
        (
            inputs(outputs=[{"name": "y", "parameters": {"classification": True}}]),
            "classification is no whole number",
        ),
        (
            inputs(outputs=[{"name": "y", "parameters": {"binary_data": "no"}}]),
            "binary_data is no boolean",
        ),
    ],
)
def test_parameters_that_cannot_be_are_refused(head: dict[str, Any], problem: str) -> None:
    with pytest.raises(RequestError, match=problem) as refused:
        parsed(head)
    assert refused.value.status == 400


def test_texts_have_no_scores_to_classify() -> None:
    model = SimpleNamespace(**vars(MODEL) | {"outputs": [Tensor("y", "BYTES", (-1,), ("n",))]})
    head = inputs(outputs=[{"name": "y", "parameters": {"classification": 1}}])
    with pytest.raises(RequestError, match="output 'y' has no numbers to classify") as refused:
        parse_infer(json.dumps(head).encode(), None, model)  # type: ignore[arg-type]
    assert refused.value.status == 400


def test_several_inputs_in_bytes_stand_one_behind_the_other() -> None:
    x, n = inputs()["inputs"]
    for entry, size in ((x, 16), (n, 2)):
        del entry["data"]
        entry["parameters"] = {"binary_data_size": size}
    request = parsed({"inputs": [n, x]}, bytes([7, 9]) + NUMBERS.tobytes())
    assert request.inputs["n"].tolist() == [7, 9]
    assert np.array_equal(request.inputs["x"], NUMBERS)


@pytest.mark.parametrize(
    ("dtype", "shown"), [(np.float16, "0.1"), (np.float32, "0.1"), (np.float64, "0.1"), (int, "0")]
)
def test_a_score_has_as_many_digits_as_its_type_needs(dtype: Any, shown: str) -> None:
    wanted = InferRequest(None, {}, [WantedOutput("y", binary=False, classification=1)])
    body, _ = answer(wanted, [np.array([[0.1, -1, -2]]).astype(dtype)], MODEL)
    assert json.loads(body)["outputs"][0]["data"] == [f"{shown}:0:a"]


def test_the_head_may_be_the_whole_body() -> None:
    text = json.dumps(inputs()).encode()
    assert np.array_equal(parse_infer(text, str(len(text)), MODEL).inputs["x"], NUMBERS)


@pytest.mark.parametrize(
    ("labels", "shown"),
    [(["a", "b", "c"], ["3:2:c", "1:0:a"]), (["a", "b"], ["3:2", "1:0"]), (None, ["3:2", "1:0"])],
)
def test_labels_are_those_of_the_outputs_or_none(labels: Any, shown: list[str]) -> None:
    """Labels of another number, fewer or more, are those of something else."""
    more = [*(labels or []), "d", "e"] if labels and len(labels) == 2 else labels
    for names in (labels, more):
        model = SimpleNamespace(**{**vars(MODEL), "metadata": SimpleNamespace(labels=names)})
        wanted = InferRequest(None, {}, [WantedOutput("y", binary=False, classification=2)])
        body, _ = answer(wanted, [np.array([[1, 0, 3]], np.uint8)], model)
        assert json.loads(body)["outputs"][0]["data"] == shown
        assert "id" not in json.loads(body)


def test_of_many_equal_scores_the_first_classes_are_listed() -> None:
    wanted = InferRequest(None, {}, [WantedOutput("y", binary=False, classification=40)])
    scores = np.zeros((1, 100), np.float32)
    scores[0, 60:] = 1
    body, _ = answer(wanted, [scores], MODEL)
    indices = [int(text.split(":")[1]) for text in json.loads(body)["outputs"][0]["data"]]
    assert indices == list(range(60, 100))


def test_scores_of_a_model_without_a_batch_are_one_row() -> None:
    model: Any = SimpleNamespace(**{**vars(MODEL), "has_batch": False})
    wanted = InferRequest(None, {}, [WantedOutput("y", binary=True, classification=2)])
    body, length = answer(wanted, [np.array([1.5, 0, 3], np.float64)], model)
    assert length is not None
    assert json.loads(body[:length])["outputs"][0]["shape"] == [2]
    assert body[length:] == b"\7\0\0\x003.0:2:c\7\0\0\x001.5:0:a"


def test_half_a_surrogate_pair_ends_no_answer() -> None:
    """JSON can hold one, and UTF-8 cannot."""
    request = parsed(inputs(id="seven \ud800"))
    body, _ = answer(request, [np.zeros((2, 3), np.float32)], MODEL)
    assert json.loads(body)["id"] == "seven ?"


def test_a_model_that_is_unloaded_is_said_to_be(tmp_path: Path) -> None:
    models = Models(Settings(str(tmp_path)), set())
    models._loaded = {"m": {}}
    asyncio.run(models.unload("m"))
    with pytest.raises(RequestError, match="model 'm' is not loaded"):
        models.find("m")
    with pytest.raises(RequestError, match="no model 'other'"):
        asyncio.run(models.unload("other"))


def test_a_file_that_cannot_be_opened_is_not_tried_again_until_it_changes(tmp_path: Path) -> None:
    """A file counts as written when two looks agree; a request to reload tries at once."""
    file = tmp_path / "m.onnx"
    file.write_bytes(b"half")
    models = Models(Settings(str(tmp_path)), set())
    looks = [models._has_changed("m", "1", file, at_once=False) for _ in range(3)]
    assert looks == [False, True, True]
    models._seen["m", "1"].has_failed = True
    assert not models._has_changed("m", "1", file, at_once=False)
    assert models._has_changed("m", "1", file, at_once=True)
    file.write_bytes(b"the whole")
    looks = [models._has_changed("m", "1", file, at_once=False) for _ in range(2)]
    assert looks == [False, True]
    file.unlink()
    assert not models._has_changed("m", "1", file, at_once=True)


def test_a_hangup_reloads_and_a_second_signal_to_stop_changes_nothing() -> None:
    """What does not stop is killed later, by a thread that keeps nobody from ending."""
    told: list[Any] = []
    late: SimpleQueue[bool] = SimpleQueue()
    supervisor = _Supervisor.__new__(_Supervisor)
    supervisor._is_stopping = False
    vars(supervisor).update(
        _tell_all=told.append, _kill_late=lambda: late.put(threading.current_thread().daemon)
    )
    supervisor._on_signal(signal.SIGHUP)
    assert late.empty()
    for number in (signal.SIGTERM, signal.SIGINT):
        supervisor._on_signal(number)
    assert told == [("reload",), ("stop",)]
    assert late.get(timeout=10) is True


def test_the_latest_version_is_the_largest_number() -> None:
    models = Models(Settings("."), {"off"})
    loaded: dict[str, Any] = {"9": "nine", "10": "ten"}
    models._loaded = {"m": loaded}
    assert (models.find("m"), models.find("m", "9")) == ("ten", "nine")
    assert models.versions("m") == ["9", "10"]
    for name, version, problem in (
        ("m", "8", "model 'm' has no version '8': 9, 10"),
        ("off", None, "model 'off' is not loaded"),
        ("none", None, "no model 'none'"),
    ):
        with pytest.raises(RequestError, match=problem) as refused:
            models.find(name, version)
        assert refused.value.status == 404


@pytest.mark.parametrize(
    ("kind", "count", "fits"),
    [("FP32", 1, True), ("INT64", 1, True), ("UINT8", 1, True),
     ("BYTES", 1, False), ("BOOL", 1, False), ("BYTES", 0, True)],
)  # fmt: skip
def test_only_numbers_are_classified(
    kind: str, count: int, fits: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(MODEL, "outputs", [Tensor("y", kind, (-1, 3), ("batch", None))])
    wanted = {"name": "y", "parameters": {"classification": count}}
    if fits:
        assert parsed(inputs(outputs=[wanted])).outputs == [WantedOutput("y", False, count)]
    else:
        with pytest.raises(RequestError, match="output 'y' has no numbers to classify"):
            parsed(inputs(outputs=[wanted]))
