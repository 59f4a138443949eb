"""`POST /predict`: images in, the document of `predict --json` out.

What is protected: the numbers and the form of the command line, whatever way an image comes in.
"""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest
from PIL import Image
from serve_support import Server, digit_images, digits_model, form, serving
from support import ROOT

from torchlift.cli.main import main

IMAGES = digit_images(12)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model repository with `digits.onnx`, and files of ten digits beside it."""
    folder = tmp_path_factory.mktemp("serve")
    digits_model(folder, "repository/digits.onnx")
    for index, image in enumerate(IMAGES):
        (folder / f"{index:02}.png").write_bytes(image)
    return folder


@pytest.fixture(scope="module")
def server(folder: Path) -> Iterator[Server]:
    with serving(folder / "repository", "--max-pixels", "1M") as running:
        yield running


@pytest.fixture(scope="module")
def expected(folder: Path) -> list[list[dict[str, Any]]]:
    """What `torchlift predict --json` prints of each image."""
    out = io.StringIO()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.stdout", out)
        words = [str(file) for file in sorted(folder.glob("*.png"))]
        assert main(["predict", str(folder / "repository/digits.onnx"), *words, "--json"]) == 0
    return [result["predictions"] for result in json.loads(out.getvalue())["results"]]


def assert_equal(found: list[dict[str, Any]], expected: list[dict[str, Any]]) -> None:
    for ours, theirs in zip(found, expected, strict=True):
        assert (ours["label"], ours["index"]) == (theirs["label"], theirs["index"])
        # Batches of another size are added up in another order: float32 rounds elsewhere.
        assert abs(ours["probability"] - theirs["probability"]) < 1e-6


@pytest.mark.parametrize(
    "content_type",
    [
        "image/png",
        "image/jpeg",
        "application/octet-stream",
        "application/x-www-form-urlencoded",
        None,
    ],
)
def test_a_raw_body_is_an_image_whatever_it_is_called(
    content_type: str | None, server: Server, expected: Any
) -> None:
    headers = {"Content-Type": content_type} if content_type else {}
    answer = server.ask("POST", "/predict", IMAGES[0], headers)
    assert answer.status == 200, answer.body
    document = answer.json
    schema = json.loads((ROOT / "docs/schemas/predict.json").read_text(encoding="utf-8"))
    (result,) = document["results"]
    assert result["input"] is None
    result["input"] = "a name, as every input of the command line has one"
    jsonschema.validate(document, schema)
    assert document["model"] == "digits"
    assert document["provider"] == "CPUExecutionProvider"
    assert result["problem"] is None
    assert_equal(result["predictions"], expected[0])


def test_a_form_has_several_images_and_their_names(server: Server, expected: Any) -> None:
    parts = [("image", "a.png", IMAGES[0]), ("images", None, IMAGES[1])]
    parts += [("image", "../../b.png", IMAGES[2])]
    answer = server.ask("POST", "/predict?top=3", *form(parts))
    assert answer.status == 200, answer.body
    results = answer.json["results"]
    assert [result["input"] for result in results] == ["a.png", None, "../../b.png"]
    for result, predictions in zip(results, expected, strict=False):
        assert_equal(result["predictions"], predictions[:3])


def test_json_has_several_images(server: Server, expected: Any) -> None:
    texts = [base64.b64encode(image).decode() for image in IMAGES]
    body = json.dumps({"images": texts}).encode()
    answer = server.ask("POST", "/predict?top=1000", body, {"Content-Type": "application/json"})
    assert answer.status == 200, answer.body
    for result, predictions in zip(answer.json["results"], expected, strict=True):
        assert len(result["predictions"]) == 10
        assert_equal(result["predictions"][:5], predictions)


@pytest.mark.parametrize("top", ["0", "-1", "1.5", "x", "", "5 ", "٣"])
def test_top_is_a_whole_number(top: str, server: Server) -> None:
    from urllib.parse import quote

    answer = server.ask("POST", f"/predict?top={quote(top)}", IMAGES[0])
    assert (answer.status, list(answer.json)) == (422, ["error"])


def test_what_cannot_be_read_is_named(server: Server) -> None:
    for body, headers, status, problem in (
        (b"not an image", {}, 422, "not an image in a known format"),
        (b"", {}, 422, "no image"),
        (IMAGES[0][:200], {}, 422, "cannot be read"),
        (IMAGES[0], {"Content-Type": "text/plain"}, 415, "text/plain"),
        (b"{}", {"Content-Type": "application/json"}, 422, "no list 'images'"),
        (b"{", {"Content-Type": "application/json"}, 400, "no JSON"),
        (b'{"images": ["%"]}', {"Content-Type": "application/json"}, 422, "no base64"),
        (b'{"images": [3]}', {"Content-Type": "application/json"}, 422, "no text"),
        (*form([("file", "a.png", IMAGES[0])]), 422, "a part is called 'file'"),
        (form([("image", "a.png", IMAGES[0])])[0][:-9], form([])[1], 422, "the form is cut"),
        (*form([("image", "a.png", IMAGES[0]), ("image", "b.png", b"x")]), 422, "(b.png)"),
    ):
        answer = server.ask("POST", "/predict", body, headers)
        assert (answer.status, list(answer.json)) == (status, ["error"]), answer.body
        assert problem in answer.json["error"]


def test_an_image_of_too_many_pixels_is_refused_before_it_is_decoded(server: Server) -> None:
    file = io.BytesIO()
    Image.new("L", (1001, 1000)).save(file, "PNG")
    answer = server.ask("POST", "/predict", file.getvalue())
    assert answer.status == 413
    assert "1001×1000 pixels, at most 1,000,000" in answer.json["error"]


def test_colors_and_sizes_become_the_networks(folder: Path, server: Server) -> None:
    """An RGB JPEG of another size: the preprocessing of the file, not of the client."""
    rng = np.random.default_rng(0)
    image = Image.fromarray(rng.integers(0, 256, (97, 61, 3), np.uint8))
    image.save(folder / "photo.jpg")
    out = io.StringIO()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.stdout", out)
        words = [str(folder / "repository/digits.onnx"), str(folder / "photo.jpg")]
        assert main(["predict", *words, "--json"]) == 0
    answer = server.ask("POST", "/predict", (folder / "photo.jpg").read_bytes())
    (result,) = json.loads(out.getvalue())["results"]
    assert_equal(answer.json["results"][0]["predictions"], result["predictions"])


def test_the_model_is_named_where_several_are_served(folder: Path) -> None:
    repository = folder / "two"
    for name in ("plain.onnx", "triton/1/model.onnx", "triton/3/model.onnx"):
        digits_model(repository, name)
    with serving(repository) as server:
        answer = server.ask("POST", "/predict", IMAGES[0])
        assert answer.status == 400
        assert "plain, triton" in answer.json["error"]
        assert server.ask("POST", "/predict?model=plain", IMAGES[0]).status == 200
        assert server.ask("POST", "/predict?model=nothing", IMAGES[0]).status == 404
        found = server.get("/v2/models/triton").json
        assert found["versions"] == ["1", "3"]
        assert server.get("/v2/models/triton/versions/1/ready").status == 200
        assert server.get("/v2/models/triton/versions/2/ready").status == 404
