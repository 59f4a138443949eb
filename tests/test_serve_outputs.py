"""Several outputs of a model, in the order that a request asks for, and inputs without a batch."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

pytest.importorskip("fastapi")

from torchlift.cli.serve.errors import RequestError
from torchlift.cli.serve.inference_protocol import InferRequest, WantedOutput, answer, parse_infer
from torchlift.cli.serve.tensors import Tensor

#: What the model gives: one row of three scores, and two whole numbers.
SCORES, COUNTS = np.array([[1, 3, 2]], np.float32), np.array([[7, -1]], np.int16)


def model(**changed: Any) -> Any:
    both = [
        Tensor("scores", "FP32", (-1, 3), ("batch", None)),
        Tensor("counts", "INT16", (-1, 2), ("batch", None)),
    ]
    given = {
        "name": "m",
        "version": "3",
        "inputs": [Tensor("a", "UINT8", (-1,), ("n",)), Tensor("b", "UINT8", (-1,), ("m",))],
        "outputs": both,
        "has_batch": True,
        "metadata": SimpleNamespace(labels=None),
    }
    return SimpleNamespace(**given | changed)


def answered(*wanted: WantedOutput, identity: str | None = None) -> tuple[dict[str, Any], bytes]:
    """The JSON of an answer and the bytes behind it."""
    body, length = answer(InferRequest(identity, {}, [*wanted]), [SCORES, COUNTS], model())
    end = len(body) if length is None else length
    return json.loads(body[:end]), body[end:]


def test_outputs_come_in_the_order_asked_for_and_bytes_in_that_of_their_entries() -> None:
    head, behind = answered(WantedOutput("scores", True), WantedOutput("counts", True))
    assert [(one["name"], one["datatype"], one["shape"]) for one in head["outputs"]] == [
        ("scores", "FP32", [1, 3]),
        ("counts", "INT16", [1, 2]),
    ]
    sizes = [one["parameters"]["binary_data_size"] for one in head["outputs"]]
    assert (sizes, behind) == ([12, 4], SCORES.tobytes() + COUNTS.tobytes())
    # 7 and -1 in two bytes each, the lower one first.
    assert behind[12:] == b"\x07\x00\xff\xff"


def test_one_output_may_come_as_bytes_and_another_as_json() -> None:
    head, behind = answered(WantedOutput("scores", False), WantedOutput("counts", True))
    first, second = head["outputs"]
    assert (first["data"], "parameters" in first) == ([1, 3, 2], False)
    assert (second["parameters"], "data" in second) == ({"binary_data_size": 4}, False)
    assert behind == COUNTS.tobytes()


@pytest.mark.parametrize("names", [["scores", "counts"], ["counts", "scores"], ["counts"]])
def test_of_several_outputs_those_come_that_are_asked_for(names: list[str]) -> None:
    head, behind = answered(*(WantedOutput(name, False) for name in names))
    values = {"scores": [1, 3, 2], "counts": [7, -1]}
    assert [(one["name"], one["data"]) for one in head["outputs"]] == [
        (name, values[name]) for name in names
    ]
    assert behind == b""


@pytest.mark.parametrize("identity", ["", "0", "seven"])
def test_a_request_gets_its_own_name_back(identity: str) -> None:
    head, _ = answered(WantedOutput("counts", False), identity=identity)
    assert head["id"] == identity


def test_scores_may_have_further_axes_of_one() -> None:
    """As a convolution gives them."""
    maps = SCORES.reshape(1, 3, 1, 1).repeat(2, axis=0)
    wanted = InferRequest(None, {}, [WantedOutput("scores", False, classification=2)])
    one = model(outputs=[Tensor("scores", "FP32", (-1, 3, 1, 1), ("batch", None, None, None))])
    body, _ = answer(wanted, [maps], one)
    (output,) = json.loads(body)["outputs"]
    assert (output["shape"], output["data"]) == ([2, 2], ["3.0:1", "2.0:2"] * 2)


@pytest.mark.parametrize("has_batch", [True, False])
def test_inputs_of_a_model_without_a_batch_have_any_sizes(has_batch: bool) -> None:
    inputs = [
        {"name": "a", "datatype": "UINT8", "shape": [2], "data": [1, 2]},
        {"name": "b", "datatype": "UINT8", "shape": [3], "data": [3, 4, 5]},
    ]
    body = json.dumps({"inputs": inputs}).encode()
    if has_batch:
        with pytest.raises(RequestError, match="batches of different sizes"):
            parse_infer(body, None, model())
        return
    found = parse_infer(body, None, model(has_batch=False)).inputs
    assert {name: array.tolist() for name, array in found.items()} == {"a": [1, 2], "b": [3, 4, 5]}


def test_bytes_of_a_second_input_begin_behind_those_of_the_first() -> None:
    """It may not be longer than what is left, though the body is long enough."""
    inputs = [
        {"name": name, "datatype": "UINT8", "shape": [2], "parameters": {"binary_data_size": size}}
        for name, size in (("a", 2), ("b", 3))
    ]
    text = json.dumps({"inputs": inputs}).encode()
    with pytest.raises(RequestError, match="input 'b': binary_data_size goes beyond the body"):
        parse_infer(text + bytes(4), str(len(text)), model())
