"""The images of a request to `/predict`, without a server: raw, in a form, in JSON."""

from __future__ import annotations

import base64
import json
import tempfile

import pytest
from serve_support import form

from torchlift.cli.serve.errors import RequestError
from torchlift.cli.serve.images import images_of

ONE, TWO = b"\x89PNG one", b"GIF two\r\n--xyz"


def in_json(*images: bytes) -> bytes:
    return json.dumps({"images": [base64.b64encode(one).decode() for one in images]}).encode()


def in_form(*parts: tuple[str, str | None, bytes]) -> tuple[str, bytes]:
    body, headers = form([*parts])
    return headers["Content-Type"], body


@pytest.mark.parametrize(
    ("kind", "body", "expected"),
    [
        ("", ONE, [(ONE, None)]),
        ("image/PNG", ONE, [(ONE, None)]),
        ("IMAGE/png", ONE, [(ONE, None)]),
        ("image/webp; q=1", ONE, [(ONE, None)]),
        (" Application/JSON ; charset=utf-8", in_json(ONE), [(ONE, None)]),
        ("Application/Octet-Stream", ONE, [(ONE, None)]),
        ("application/x-www-form-urlencoded", ONE, [(ONE, None)]),
        (
            "application/json; charset=utf-8",
            in_json(ONE, TWO, ONE),
            [(ONE, None), (TWO, None), (ONE, None)],
        ),
        (
            *in_form(("image", "a.png", ONE), ("images", None, b"GIF")),
            [(ONE, "a.png"), (b"GIF", None)],
        ),
    ],
)
def test_images_come_in_their_order_with_their_names(
    kind: str, body: bytes, expected: list[tuple[bytes, str | None]]
) -> None:
    assert [(image.data, image.name) for image in images_of(kind, body)] == expected


@pytest.mark.parametrize(
    ("kind", "body", "status", "problem"),
    [
        ("", b"", 422, "no image"),
        ("text/html", ONE, 415, "not 'text/html'"),
        ("application/json", b'{"images": []}', 422, "no image"),
        ("application/json", b'{"images": ["a b"]}', 422, "is no base64"),
        # Without the blank or the end of the line these are texts in base64; nothing is skipped.
        ("application/json", b'{"images": ["QUFB", "QU JD"]}', 422, r"images\[1\] is no base64"),
        ("application/json", b'{"images": ["QUFB\\n"]}', 422, r"images\[0\] is no base64"),
        ("application/json", '{"images": ["QUFé"]}'.encode(), 422, r"images\[0\] is no base64"),
        ("application/json", b'{"images": ["QUFBQQ"]}', 422, r"images\[0\] is no base64"),
        ("application/json", in_json(*[ONE] * 1025), 413, "at most 1,024"),
        (*in_form(*[("image", None, ONE)] * 1025), 413, "at most 1,024"),
        (*in_form(("picture", "a.png", ONE)), 422, "a part is called 'picture'"),
        (*in_form(("", "a.png", ONE)), 422, "a part is called ''"),
        (*in_form(("image", "a.png", ONE), ("other", None, ONE)), 422, "a part is called 'other'"),
        ("multipart/form-data; boundary=xyz", in_form(("image", None, ONE))[1][:-9], 422, "is cut"),
        ("application/json", b'{"images": "a"}', 422, "no list 'images'"),
        ("application/json", b'{"images": [7]}', 422, r"images\[0\] is no text in base64"),
        ("multipart/form-data", ONE, 422, "the form is damaged"),
    ],
)
def test_what_has_no_image_or_too_many_is_refused(
    kind: str, body: bytes, status: int, problem: str
) -> None:
    with pytest.raises(RequestError, match=problem) as refused:
        images_of(kind, body)
    assert refused.value.status == status


def test_as_many_as_are_taken_are_taken() -> None:
    assert len(images_of("application/json", in_json(*[ONE] * 1024))) == 1024
    assert len(images_of(*in_form(*[("image", None, ONE)] * 1024))) == 1024


def test_a_large_image_of_a_form_is_written_to_no_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("a file is made")

    for name in ("TemporaryFile", "NamedTemporaryFile"):
        monkeypatch.setattr(tempfile, name, refuse)
    large = bytes(range(256)) * 2**14
    (image,) = images_of(*in_form(("image", "a.png", large)))
    assert (image.data, image.name) == (large, "a.png")


def test_a_name_that_is_no_text_is_no_damage() -> None:
    """As Latin-1 wrote it: one sign stands for what cannot be read."""
    kind, body = in_form(("image", "a.png", ONE))
    (image,) = images_of(kind, body.replace(b"a.png", b"\xe9.png"))
    assert (image.data, image.name) == (ONE, "\ufffd.png")
    with pytest.raises(RequestError, match="a part is called '\ufffd': 'image'"):
        images_of(kind, body.replace(b'name="image"', b'name="\xe9"'))


def test_an_error_repeats_no_more_than_the_beginning_of_a_name() -> None:
    with pytest.raises(RequestError, match="a part is called 'xxx") as refused:
        images_of(*in_form(("x" * 1000, "a.png", ONE)))
    assert len(str(refused.value)) < 250


def test_a_field_without_a_value_is_an_empty_image() -> None:
    """It is refused as one that cannot be read, not as a fault of the server."""
    assert images_of(*in_form(("image", None, b"")))[0].data == b""


def test_images_of_json_and_of_a_form_keep_their_order() -> None:
    files = [b"first", b"second", b"third"]
    encoded = json.dumps({"images": [base64.b64encode(one).decode() for one in files]}).encode()
    body, headers = form([("image", f"{index}.png", file) for index, file in enumerate(files)])
    for kind, content in (("application/json", encoded), (headers["Content-Type"], body)):
        assert [image.data for image in images_of(kind, content)] == files
