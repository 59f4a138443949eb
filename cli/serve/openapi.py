"""The parts of the OpenAPI document: what each address takes and gives."""

from __future__ import annotations

import copy
from typing import Any

from fastapi import Response

#: What `FastAPI` is given, beside its title and version.
APP: dict[str, Any] = {
    "summary": "A checked classifier behind the Open Inference Protocol, version 2.",
    "license_info": {"name": "BSD-3-Clause", "identifier": "BSD-3-Clause"},
}

_ERROR = {
    "type": "object",
    "properties": {"error": {"type": "string"}},
    "required": ["error"],
    "additionalProperties": False,
}

_PROBLEMS = {
    400: "The request is wrong.",
    401: "A token is needed.",
    403: "A page of another origin asks.",
    404: "There is no such model.",
    408: "The body came too slowly.",
    413: "The body or an image is too large.",
    415: "The body is of another type.",
    422: "An image cannot be read, or a parameter is unknown or wrong.",
    503: "The queue is full, or the server is stopping.",
    504: "The time is over.",
}


def _responses(*statuses: int) -> dict[int | str, dict[str, Any]]:
    content = {"application/json": {"schema": _ERROR}}
    return {
        status: {"description": _PROBLEMS[status], "content": content}
        for status in (401, *statuses)
    }


def _answer(content: dict[str, Any], *statuses: int, **extra: Any) -> dict[str, Any]:
    success = {"description": "The answer.", "content": content}
    return {"responses": {200: success, **_responses(*statuses)}, **extra}


_OBJECT = {"application/json": {"schema": {"type": "object"}}}
_BODY = (400, 408, 413, 415, 503)

_MODEL_PARAMETER = {
    "name": "model",
    "in": "path",
    "required": True,
    "schema": {"type": "string", "minLength": 1},
}
_PARAMETERS = {"parameters": [_MODEL_PARAMETER]}

#: The second parameter of the addresses of one version.
VERSION: dict[str, Any] = {
    "name": "version",
    "in": "path",
    "required": True,
    "schema": {"type": "string", "minLength": 1},
}

ANSWER = _answer(_OBJECT)
# Every process is asked, and one may not answer in time.
STATISTICS = _answer(_OBJECT, 504)
# `FastAPI` describes an answer without a body as JSON unless it is said to be a plain response.
EMPTY = _answer({}, response_class=Response)
READY = _answer({}, 503, response_class=Response)
TEXT = _answer({"text/plain": {"schema": {"type": "string"}}})
MODEL = _answer(_OBJECT, 404, openapi_extra=_PARAMETERS)
MODEL_STATISTICS = _answer(_OBJECT, 404, 504, openapi_extra=_PARAMETERS)
MODEL_EMPTY = _answer({}, 404, openapi_extra=_PARAMETERS, response_class=Response)

_TENSOR = {
    "type": "object",
    "properties": {
        "name": {"type": "string"},
        "datatype": {"type": "string"},
        "shape": {"type": "array", "items": {"type": "integer"}},
        "parameters": {"type": "object"},
        "data": {"type": "array"},
    },
    "required": ["name", "datatype", "shape"],
}
_INFER_REQUEST = {
    "type": "object",
    "properties": {
        "id": {"type": "string"},
        "parameters": {"type": "object"},
        "inputs": {"type": "array", "items": _TENSOR, "minItems": 1},
        "outputs": {
            "type": "array",
            "items": {
                "type": "object",
                "properties": {"name": {"type": "string"}, "parameters": {"type": "object"}},
                "required": ["name"],
            },
        },
    },
    "required": ["inputs"],
}
_INFER_RESPONSE = {
    "type": "object",
    "properties": {
        "model_name": {"type": "string"},
        "model_version": {"type": "string"},
        "id": {"type": "string"},
        "outputs": {"type": "array", "items": _TENSOR},
    },
    "required": ["model_name", "model_version", "outputs"],
}
_BINARY = {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}}

INFER = _answer(
    {"application/json": {"schema": _INFER_RESPONSE}, **_BINARY},
    *(404, 504, *_BODY),
    openapi_extra={
        **_PARAMETERS,
        "requestBody": {
            "required": True,
            "content": {"application/json": {"schema": _INFER_REQUEST}, **_BINARY},
        },
    },
)

_TOP = {
    "name": "top",
    "in": "query",
    "description": "How many classes are listed for each image.",
    "schema": {"type": "integer", "minimum": 1, "default": 5},
}
_WHICH = {
    "name": "model",
    "in": "query",
    "description": "The model; needed where several are served.",
    "schema": {"type": "string", "minLength": 1},
}
_IMAGES = {
    "type": "object",
    "properties": {
        "images": {
            "type": "array",
            "items": {"type": "string", "contentEncoding": "base64"},
            "minItems": 1,
        }
    },
    "required": ["images"],
}
_FORM = {
    "type": "object",
    "properties": {"image": {"type": "string", "format": "binary"}},
    "required": ["image"],
}
_PREDICTION = {
    "type": "object",
    "properties": {
        "label": {"type": "string"},
        "index": {"type": "integer", "minimum": 0},
        "probability": {"type": ["number", "null"]},
    },
    "required": ["label", "index", "probability"],
}
_RESULT = {
    "type": "object",
    "properties": {
        "input": {"type": ["string", "null"]},
        "predictions": {"type": "array", "items": _PREDICTION},
        "problem": {"type": ["string", "null"]},
    },
    "required": ["input", "predictions", "problem"],
}
_PREDICTIONS = {
    "type": "object",
    "properties": {
        "model": {"type": "string"},
        "provider": {"type": "string"},
        "results": {"type": "array", "items": _RESULT},
    },
    "required": ["model", "provider", "results"],
}

PREDICT = _answer(
    {"application/json": {"schema": _PREDICTIONS}},
    *(404, 422, 504, *_BODY),
    openapi_extra={
        "parameters": [_TOP, _WHICH],
        "requestBody": {
            "required": True,
            "content": {
                "application/json": {"schema": _IMAGES},
                "multipart/form-data": {"schema": _FORM},
                "image/png": {"schema": {"type": "string", "format": "binary"}},
                "image/jpeg": {"schema": {"type": "string", "format": "binary"}},
                **_BINARY,
            },
        },
    },
)

CARD = _answer(_OBJECT, 400, 404, 422, openapi_extra={"parameters": [_WHICH]})

_INDEX = {"type": "object", "properties": {"ready": {"type": "boolean"}}}
INDEX = _answer(
    {"application/json": {"schema": {"type": "array", "items": {"type": "object"}}}},
    *_BODY,
    openapi_extra={"requestBody": {"content": {"application/json": {"schema": _INDEX}}}},
)

_CHANGE = {"type": "object", "properties": {"parameters": {"type": "object"}}}
CHANGE = _answer(
    _OBJECT,
    *(403, 404, 504, *_BODY),
    openapi_extra={
        **_PARAMETERS,
        "requestBody": {"content": {"application/json": {"schema": _CHANGE}}},
    },
)


def with_parameters(described: dict[str, Any], extra: dict[str, Any]) -> dict[str, Any]:
    """Return a description with one more parameter, if there is one."""
    copied = copy.deepcopy(described)
    if extra:
        copied["openapi_extra"]["parameters"].append(extra)
    return copied
