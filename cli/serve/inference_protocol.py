"""Requests and answers of the Open Inference Protocol, in JSON with binary tensors behind it."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ...converters.finite import first_not_finite
from .errors import RequestError
from .model import ServedModel
from .tensors import Tensor, datatype_of, from_bytes, from_json, to_bytes, to_json


@dataclass(frozen=True)
class WantedOutput:
    """An output that a request asks for.

    Attributes:
        name: Its name.
        binary: Whether it is wanted as bytes behind the JSON.
        classification: How many of the largest values are wanted as texts; 0 for the tensor.
    """

    name: str
    binary: bool
    classification: int = 0


@dataclass(frozen=True)
class InferRequest:
    """A request to run a model.

    Attributes:
        id: What the client calls it, or None.
        inputs: An array for each input of the model.
        outputs: What is wanted, in this order.
    """

    id: str | None
    inputs: dict[str, np.ndarray]
    outputs: list[WantedOutput]


def parse_infer(body: bytes, header_length: str | None, model: ServedModel) -> InferRequest:
    """Return what a body asks for.

    Args:
        body: JSON, with the bytes of binary inputs behind it.
        header_length: `Inference-Header-Content-Length`: how long the JSON is; None for all.
        model: The model that is to run.

    Raises:
        RequestError: If the body is no such request, or does not fit the model.
    """
    length = len(body)
    if header_length is not None:
        if not header_length.isdecimal() or len(header_length) > 18 or int(header_length) > length:
            raise RequestError(400, "Inference-Header-Content-Length is no length within the body")
        length = int(header_length)
    head = read_json(body[:length] if length < len(body) else body)
    binary = memoryview(body)[length:]
    identity = head.get("id")
    if identity is not None and not isinstance(identity, str):
        raise RequestError(400, "'id' is no text")
    parameters = _parameters(head, "the request")
    inputs = _inputs(head, model, binary)
    return InferRequest(identity, inputs, _wanted(head, parameters, model))


def read_json(body: bytes) -> dict[str, Any]:
    """Return the JSON object that a body is.

    Raises:
        RequestError: If it is something else; NaN and infinity are no JSON.
    """
    try:
        value = json.loads(body, parse_constant=_refuse)
    except RequestError:
        raise
    except (ValueError, RecursionError) as error:
        reason = "it is nested too deeply" if isinstance(error, RecursionError) else str(error)
        raise RequestError(400, f"the body is no JSON: {reason[:200]}") from None
    if not isinstance(value, dict):
        raise RequestError(400, "the body is no JSON object")
    return value


def _refuse(name: str) -> None:
    raise RequestError(400, f"the body is no JSON: {name} is no number")


def _parameters(holder: dict[str, Any], what: str) -> dict[str, Any]:
    parameters = holder.get("parameters")
    if parameters is None:
        return {}
    if not isinstance(parameters, dict):
        raise RequestError(400, f"'parameters' of {what} is no JSON object")
    if any(name.startswith("shared_memory") for name in parameters):
        raise RequestError(400, f"{what} is in shared memory, which this server does not read")
    return parameters


def _entries(head: dict[str, Any], key: str) -> list[dict[str, Any]]:
    entries = head.get(key)
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise RequestError(400, f"{key!r} is no list of JSON objects")
    if not all(isinstance(entry.get("name"), str) for entry in entries):
        raise RequestError(400, f"an entry of {key!r} has no name")
    names = [entry["name"] for entry in entries]
    if len(set(names)) != len(names):
        raise RequestError(400, f"a name stands twice in {key!r}")
    return entries


def _inputs(head: dict[str, Any], model: ServedModel, binary: memoryview) -> dict[str, np.ndarray]:
    tensors = {tensor.name: tensor for tensor in model.inputs}
    given: dict[str, np.ndarray] = {}
    position = 0
    for entry in _entries(head, "inputs"):
        tensor = tensors.get(entry["name"])
        if tensor is None:
            raise RequestError(
                400, f"no input {_short(entry['name'])}: the model has {_names(tensors)}"
            )
        parameters = _parameters(entry, f"input {tensor.name!r}")
        shape = tensor.check(entry.get("datatype"), entry.get("shape"))
        if math.prod(shape) * max(tensor.dtype.itemsize, 1) > 2**40:
            raise RequestError(400, f"input {tensor.name!r} has shape {list(shape)}: too large")
        size = parameters.get("binary_data_size")
        if size is None:
            given[tensor.name] = from_json(entry.get("data"), tensor, shape)
            continue
        if "data" in entry:
            raise RequestError(400, f"input {tensor.name!r} has 'data' and 'binary_data_size'")
        if type(size) is not int or not 0 <= size <= len(binary) - position:
            raise RequestError(400, f"input {tensor.name!r}: binary_data_size goes beyond the body")
        given[tensor.name] = from_bytes(binary[position : position + size], tensor, shape)
        position += size
    if missing := [name for name in tensors if name not in given]:
        raise RequestError(400, f"input {missing[0]!r} is missing")
    if position != len(binary):
        raise RequestError(400, f"{len(binary) - position:,} bytes stand behind the last input")
    if model.has_batch and len({len(array) for array in given.values()}) > 1:
        raise RequestError(400, "the inputs have batches of different sizes")
    for name, array in given.items():
        if place := first_not_finite(array):
            raise RequestError(400, f"input {name!r}{place}")
    return given


def _wanted(
    head: dict[str, Any], parameters: dict[str, Any], model: ServedModel
) -> list[WantedOutput]:
    all_binary = _flag(parameters, "binary_data_output", False)
    if head.get("outputs") is None or head["outputs"] == []:
        return [WantedOutput(tensor.name, all_binary) for tensor in model.outputs]
    tensors = {tensor.name: tensor for tensor in model.outputs}
    wanted = []
    for entry in _entries(head, "outputs"):
        name = entry["name"]
        if name not in tensors:
            raise RequestError(400, f"no output {_short(name)}: the model has {_names(tensors)}")
        options = _parameters(entry, f"output {name!r}")
        count = options.get("classification", 0)
        if type(count) is not int or count < 0:
            raise RequestError(400, f"output {name!r}: classification is no whole number")
        if count and tensors[name].dtype.kind not in "fiu":
            raise RequestError(400, f"output {name!r} has no numbers to classify")
        wanted.append(WantedOutput(name, _flag(options, "binary_data", all_binary), count))
    return wanted


def _flag(parameters: dict[str, Any], name: str, default: bool) -> bool:
    value = parameters.get(name, default)
    if not isinstance(value, bool):
        raise RequestError(400, f"{name} is no boolean")
    return value


def answer(
    request: InferRequest, outputs: Sequence[np.ndarray], model: ServedModel
) -> tuple[bytes, int | None]:
    """Return the body of an answer, and how long its JSON is if tensors stand behind it.

    Args:
        request: What was asked for.
        outputs: What the model gave, in the order of the file.
        model: The model.
    """
    arrays = dict(zip((tensor.name for tensor in model.outputs), outputs, strict=True))
    described, binary = [], []
    for wanted in request.outputs:
        values = arrays[wanted.name]
        if wanted.classification:
            values = _classified(values, wanted.classification, model)
        entry: dict[str, Any] = {
            "name": wanted.name,
            "datatype": datatype_of(values),
            "shape": list(values.shape),
        }
        if wanted.binary:
            data = to_bytes(values)
            entry["parameters"] = {"binary_data_size": len(data)}
            binary.append(data)
        else:
            entry["data"] = to_json(values)
        described.append(entry)
    head: dict[str, Any] = {"model_name": model.name, "model_version": model.version}
    if request.id is not None:
        head["id"] = request.id
    head["outputs"] = described
    text = json.dumps(head, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "replace")
    return (b"".join([text, *binary]), len(text)) if binary else (text, None)


def _classified(values: np.ndarray, count: int, model: ServedModel) -> np.ndarray:
    """Return the largest values of each example as `value:index:label`, the largest first."""
    rows = values.reshape(len(values), -1) if model.has_batch else values.reshape(1, -1)
    order = np.argsort(-rows.astype(np.float64), axis=1, kind="stable")[:, :count]
    labels = model.metadata.labels
    if labels is not None and len(labels) != rows.shape[1]:
        labels = None
    texts = [
        [
            f"{_number(row[index])}:{index}" + (f":{labels[index]}" if labels else "")
            for index in indices
        ]
        for row, indices in zip(rows, order, strict=True)
    ]
    found = np.array(texts, object)
    return found if model.has_batch else found[0]


def _number(value: Any) -> str:
    """Return a value as text: as many digits as its type needs."""
    return str(value)


def _names(tensors: dict[str, Tensor]) -> str:
    return ", ".join(map(repr, tensors))


def _short(text: str) -> str:
    shown = repr(text)
    return shown if len(shown) <= 80 else f"{shown[:80]}…"
