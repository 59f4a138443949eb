"""`/predict` without a server: images run together by size, and what cannot be answered is said."""

from __future__ import annotations

import asyncio
import io
import threading
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from torchlift.cli.serve import classify as file
from torchlift.cli.serve.classify import classify
from torchlift.cli.serve.errors import RequestError
from torchlift.cli.serve.images import SentImage
from torchlift.converters.errors import TorchliftError
from torchlift.converters.images import Preprocessing


def sent(*pixels: list[int], name: str | None = None) -> SentImage:
    """Return a gray image of these rows."""
    file = io.BytesIO()
    Image.fromarray(np.array(pixels, np.uint8)).save(file, "PNG")
    return SentImage(file.getvalue(), name)


class Model:
    """A network whose scores are its two pixels."""

    def __init__(self, **changed: Any) -> None:
        self.batches: list[tuple[int, ...]] = []
        self.factor = 1.0
        model = {
            "name": "m",
            "provider": "here",
            "predictor": SimpleNamespace(output_kind="logits"),
            "not_a_classifier": "it has two inputs",
            "preprocessing": Preprocessing("gray"),
            "takes_image": False,
            "may_batch": True,
            "inputs": [SimpleNamespace(name="x", dtype=np.dtype(np.float32))],
            "metadata": SimpleNamespace(output_kind="logits", labels=["left", "right"]),
        }
        self.model = SimpleNamespace(**model | changed)
        self.batcher = SimpleNamespace(submit=self.submit)

    async def submit(self, inputs: dict[str, np.ndarray], ticket: Any) -> list[np.ndarray]:
        (batch,) = inputs.values()
        self.batches.append(batch.shape)
        return [batch.reshape(len(batch), -1) * np.float32(self.factor)]


def answer(loaded: Any, *images: SentImage, max_pixels: int = 2) -> dict[str, Any]:
    with ThreadPoolExecutor(2) as decoders:
        ticket: Any = None
        return asyncio.run(classify(loaded, images, 1, ticket, max_pixels, decoders))


def test_images_of_a_size_run_together_and_answers_keep_their_order() -> None:
    images = [
        sent([0, 255], name="folder/a.png"),
        sent([255], [0]),
        sent([255, 0], name="c.png"),
        sent([0], [255]),
    ]
    for may_batch, batches in ((True, [(2, 1, 1, 2), (2, 1, 2, 1)]), (False, [])):
        loaded = Model(may_batch=may_batch)
        found = answer(loaded, *images)
        labels = [result["predictions"][0]["label"] for result in found["results"]]
        assert labels == ["right", "left", "left", "right"]
        assert [result["input"] for result in found["results"]][::2] == ["folder/a.png", "c.png"]
        assert sorted(loaded.batches) == (batches or [(1, 1, 1, 2)] * 2 + [(1, 1, 2, 1)] * 2)


def test_bytes_of_a_name_that_are_no_text_are_spelled_out_as_predict_does() -> None:
    (result,) = answer(Model(), sent([0, 255], name="cat-\udcff.png"))["results"]
    assert result["input"] == r"cat-\udcff.png"


def test_scores_that_are_no_numbers_are_no_answer() -> None:
    loaded = Model()
    loaded.factor = float("nan")
    with pytest.raises(RequestError, match="m") as refused:
        answer(loaded, sent([0, 255]))
    assert refused.value.status == 422


def test_an_image_is_as_large_as_it_may_be() -> None:
    assert answer(Model(), sent([0, 255]), max_pixels=2)["results"]
    with pytest.raises(RequestError, match=r"images\[1\] \(b\): 2×1 pixels, at most 1") as refused:
        answer(Model(), sent([0]), sent([0, 255], name="b"), max_pixels=1)
    assert refused.value.status == 413


@pytest.mark.parametrize(
    ("changed", "problem"),
    [
        ({"predictor": None}, "'m' is no classifier: it has two inputs"),
        ({"predictor": SimpleNamespace(output_kind="features")}, "it gives features"),
        ({"preprocessing": None}, "no preprocessing"),
    ],
)
def test_what_is_no_classifier_of_images_says_why(changed: dict[str, Any], problem: str) -> None:
    with pytest.raises(RequestError, match=problem) as refused:
        answer(Model(**changed), sent([0, 255]))
    assert refused.value.status == 400


def test_images_that_do_not_fit_are_the_clients_fault() -> None:
    loaded = Model()

    async def fail(*_: Any) -> None:
        raise TorchliftError("no such size")

    loaded.batcher = SimpleNamespace(submit=fail)
    with pytest.raises(RequestError, match="does not run on images of") as refused:
        answer(loaded, sent([0, 255]))
    assert refused.value.status == 422
    with pytest.raises(RequestError, match=r"images\[0\]") as refused:
        answer(Model(), SentImage(b"no image"))
    assert refused.value.status == 422


def test_half_precision_is_no_half_of_a_probability() -> None:
    loaded = Model()

    async def halves(inputs: dict[str, np.ndarray], ticket: Any) -> list[np.ndarray]:
        return [np.array([[5.5, 1.25]], np.float16)]

    loaded.batcher = SimpleNamespace(submit=halves)
    (best,) = answer(loaded, sent([0, 255]))["results"][0]["predictions"]
    assert best["label"] == "left"
    assert best["probability"] == pytest.approx(1 / (1 + np.exp(1.25 - 5.5)), abs=1e-6)


def test_a_graph_that_takes_an_image_gets_its_pixels_in_three_colors() -> None:
    loaded = Model(takes_image=True, may_batch=False, preprocessing=None)

    async def left(inputs: dict[str, np.ndarray], ticket: Any) -> list[np.ndarray]:
        (pixels,) = inputs.values()
        loaded.batches.append(pixels.shape)
        assert pixels.dtype == np.uint8
        return [pixels[0, :, 0].astype(np.float32)]

    loaded.batcher = SimpleNamespace(submit=left)
    found = answer(loaded, sent([0, 255]), sent([255, 0]))
    labels = [result["predictions"][0]["label"] for result in found["results"]]
    assert labels == ["right", "left"]
    assert loaded.batches == [(1, 2, 3)] * 2


def test_an_image_that_no_decoder_reads_for_its_size_is_too_large(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("torchlift.converters.images.decode.MAX_PIXELS", 1)
    with pytest.raises(RequestError, match="pixels: at most 1 are read") as refused:
        answer(Model(), sent([0, 255]))
    assert refused.value.status == 413


@pytest.mark.parametrize("crop", [(1, 2), (2, 2)])
def test_an_image_that_is_too_small_to_be_cropped_is_the_clients_fault(
    crop: tuple[int, int],
) -> None:
    model = Model(preprocessing=Preprocessing("gray", crop=crop))
    if crop == (1, 2):
        assert len(answer(model, sent([0, 255]))["results"]) == 1
        return
    with pytest.raises(RequestError, match=r"images\[0\] \(a\.png\): .*too small") as refused:
        answer(model, sent([0, 255], name="a.png"))
    assert refused.value.status == 422


def test_a_network_of_half_precision_gets_halves() -> None:
    loaded = Model(inputs=[SimpleNamespace(name="x", dtype=np.dtype(np.float16))])
    given: list[np.ndarray] = []

    async def keep(inputs: dict[str, np.ndarray], ticket: Any) -> list[np.ndarray]:
        given.extend(inputs.values())
        return [np.array([[0, 1]], np.float32)]

    loaded.batcher = SimpleNamespace(submit=keep)
    answer(loaded, sent([0, 255]))
    (pixels,) = given
    assert (pixels.dtype, pixels.tolist()) == (np.float16, [[[[0, 1]]]])


def test_scores_of_which_nothing_is_said_are_logits_and_the_first_output_counts() -> None:
    """The softmax of (0, 1): the larger has 1 / (1 + 1/e)."""
    loaded = Model(metadata=SimpleNamespace(output_kind=None, labels=["left", "right"]))

    async def two(inputs: dict[str, np.ndarray], ticket: Any) -> list[np.ndarray]:
        return [np.array([[0, 1]], np.float32), np.array([[9, 0]], np.float32)]

    loaded.batcher = SimpleNamespace(submit=two)
    (best,) = answer(loaded, sent([0, 255]))["results"][0]["predictions"]
    assert best["label"] == "right"
    assert best["probability"] == pytest.approx(1 / (1 + np.exp(-1)), abs=1e-6)


def test_images_behind_one_that_cannot_be_read_are_not_decoded(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A request of a thousand images must not keep the decoders when it has failed already."""
    decoded: list[int] = []
    may_end = threading.Event()

    def decode(image: SentImage, index: int, *_: Any) -> None:
        decoded.append(index)
        if index == 0:
            raise RequestError(422, "no image")
        assert may_end.wait(20)

    monkeypatch.setattr(file, "_input_of", decode)
    loaded, ticket = Model(), None
    images = [sent([0, 255])] * 9
    with ThreadPoolExecutor(1) as decoders:
        try:
            with pytest.raises(RequestError, match="no image"):
                asyncio.run(classify(loaded, images, 1, ticket, 2, decoders))  # type: ignore[arg-type]
        finally:
            may_end.set()
    # The decoder may have taken one more before that was called off.
    assert decoded[0] == 0
    assert len(decoded) <= 2
