"""The images of a request to `/predict`: raw, in a form, or in JSON."""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass
from typing import Any

from python_multipart.multipart import FormParser, parse_options_header

from .errors import RequestError
from .inference_protocol import read_json

#: Types of a body whose content decides what it is, as curl sends it.
_ANY = ("", "application/octet-stream", "application/x-www-form-urlencoded")

#: The names of a form's parts that hold images.
_PARTS = ("image", "images")

#: The most images of one request.
_MOST_IMAGES = 1024


@dataclass(frozen=True)
class SentImage:
    """An image of a request.

    Attributes:
        data: The bytes of its file.
        name: The name of its file, if the client gave one.
    """

    data: bytes
    name: str | None = None


def images_of(content_type: str, body: bytes) -> list[SentImage]:
    """Return the images of a request, in the order sent.

    Args:
        content_type: The header; empty if there was none.
        body: The body.

    Raises:
        RequestError: If the type is that of something else, or there is no image.
    """
    kind = content_type.partition(";")[0].strip().lower()
    if kind == "multipart/form-data":
        images = _of_form(content_type, body)
    elif kind == "application/json":
        images = _of_json(body)
    elif kind.startswith("image/") or kind in _ANY:
        images = [SentImage(body)] if body else []
    else:
        raise RequestError(
            415,
            f"an image, multipart/form-data or application/json is expected, not {_short(kind)}",
            {"Accept": "image/*, application/octet-stream, multipart/form-data, application/json"},
        )
    if not images:
        raise RequestError(422, "the request has no image")
    if len(images) > _MOST_IMAGES:
        raise _too_many()
    return images


def _of_json(body: bytes) -> list[SentImage]:
    listed = read_json(body).get("images")
    if not isinstance(listed, list):
        raise RequestError(422, "the JSON has no list 'images'")
    images = []
    for index, text in enumerate(listed):
        if not isinstance(text, str):
            raise RequestError(422, f"images[{index}] is no text in base64")
        try:
            images.append(SentImage(base64.b64decode(text, validate=True)))
        except (binascii.Error, ValueError):
            raise RequestError(422, f"images[{index}] is no base64") from None
    return images


def _of_form(content_type: str, body: bytes) -> list[SentImage]:
    images: list[SentImage] = []
    ended = False

    def add(field: bytes | None, data: bytes, file: bytes | None) -> None:
        part = (field or b"").decode("utf-8", "replace")
        if part not in _PARTS:
            raise RequestError(422, f"a part is called {_short(part)}: 'image' is expected")
        if len(images) == _MOST_IMAGES:
            raise _too_many()
        images.append(SentImage(data, file.decode("utf-8", "replace") if file else None))

    def on_file(file: Any) -> None:
        file.file_object.seek(0)
        add(file.field_name, file.file_object.read(), file.file_name)

    def on_field(field: Any) -> None:
        add(field.field_name, field.value or b"", None)

    def on_end() -> None:
        nonlocal ended
        ended = True

    try:
        _, options = parse_options_header(content_type)
        parser = FormParser(
            "multipart/form-data",
            on_field,
            on_file,
            on_end,
            options[b"boundary"],
            # The body is in memory: nothing of it is written to a disk.
            config={"MAX_MEMORY_FILE_SIZE": float("inf")},
        )
        parser.write(body)
        parser.finalize()
    except RequestError:
        raise
    except Exception:  # The parser raises its own errors, and AssertionError for some damages.
        raise RequestError(422, "the form is damaged") from None
    if not ended:
        raise RequestError(422, "the form is cut")
    return images


def _too_many() -> RequestError:
    return RequestError(413, f"too many images: at most {_MOST_IMAGES:,} are taken")


def _short(text: str) -> str:
    shown = repr(text)
    return shown if len(shown) <= 80 else f"{shown[:80]}…"
