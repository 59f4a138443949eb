"""What is said of an `.onnx` file beside it: added where the file says nothing, else the same."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from torchlift.converters.errors import TorchliftError
from torchlift.converters.images import Preprocessing
from torchlift.converters.images.normalization import Normalization
from torchlift.converters.inference.metadata import Metadata
from torchlift.converters.inference.onnx_interface import NetworkInput
from torchlift.converters.inference.onnx_overrides import OnnxOverrides
from torchlift.converters.t7 import LuaTable

OWN = Preprocessing(size=9, crop=(8, 8), mean=(0.5, 0.25, 0.1), std=(0.5, 1.0, 0.75))
FILE = Metadata(labels=["a", "b"], preprocessing=OWN, output_kind="logits", output_name="y")
FOREIGN = Metadata(torchlift_version=None, format_version=None)


def said(
    metadata: Metadata = FILE, axes: tuple[int | None, ...] = (None, 3, 8, 8), **options: Any
) -> tuple[Metadata, list[str]]:
    network = NetworkInput("x", axes, np.dtype(np.float32))
    return OnnxOverrides.of(**options).over(
        metadata, network, 2, lambda: ("log_probabilities", "LogSoftmax")
    )


def test_what_the_file_says_may_be_repeated() -> None:
    repeated = {
        "labels": ["a", "b"],
        "output_kind": "logits",
        "output_name": "y",
        "input_size": (8, 8),
        "resize": "pil-bilinear",
        "mean": OWN.mean,
    }
    for name, value in repeated.items():
        assert said(**{name: value}) == (FILE, [])


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"labels": ["b", "a"]}, r"labels=… is not the file's own$"),
        ({"labels": ["a", "b", "c"], "replaces": True}, "3 "),
        ({"output_kind": "probabilities"}, "output_kind=… is not the file's own: logits"),
        ({"output_kind": "scores"}, "output_kind=scores: logits, "),
        ({"output_name": "z"}, "output_name=… is not the file's own: y"),
        ({"resize": "pil-nearest"}, "resize=… is not the file's own: "),
        ({"mean": (0.1, 0.2, 0.3)}, "mean=… is not|mean"),
        ({"input_size": (7, 8)}, r"input_size=7x8, but the graph takes 8×8"),
        (
            {"input_size": (7, 8), "axes": (None, 3, None, None)},
            "input_size=… is not the file's own",
        ),
    ],
)
def test_something_else_is_an_error(options: dict[str, Any], problem: str) -> None:
    with pytest.raises(TorchliftError, match=problem):
        said(**options)


def test_what_replaces_counts_over_the_file_and_keeps_the_rest() -> None:
    found, _ = said(labels=["c", "d"], mean=(0.1, 0.2, 0.3), resize="pil-nearest", replaces=True)
    assert found.labels == ["c", "d"]
    assert found.output_kind == "logits"
    assert found.preprocessing == replace(OWN, mean=(0.1, 0.2, 0.3), resize="pil-nearest")
    # The cropped size is what the network takes: the same size changes nothing, another one all.
    assert said(axes=(None, 3, None, None), input_size=(8, 8), replaces=True)[0] == FILE
    found, _ = said(axes=(None, 3, None, None), input_size=(6, 7), replaces=True)
    assert found.preprocessing == replace(OWN, size=(6, 7), crop=None)
    # The crop of a resizing that is said beside it is to the size that is said.
    both = {"input_size": (6, 7), "resize": "pil-box:^7"}
    found, _ = said(axes=(None, 3, None, None), **both, replaces=True)
    assert found.preprocessing == replace(OWN, size="^7", crop=(6, 7), resize="pil-box")


def test_numbers_above_1_are_for_pixels_to_255() -> None:
    found, _ = said(mean=(104.0, 117.0, 123.0), std=(1.0, 1.0, 1.0), replaces=True)
    assert found.preprocessing is not None
    assert found.preprocessing.value_range == 255
    # Numbers that fit any range are for that of the file.
    found, _ = said(mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0), replaces=True)
    assert found.preprocessing == replace(OWN, mean=(0.0,) * 3, std=(1.0,) * 3)


def test_what_is_in_the_graph_cannot_be_replaced() -> None:
    baked = replace(FILE, baked_preprocessing=OWN)
    with pytest.raises(TorchliftError, match="its preprocessing is in the graph"):
        said(baked, mean=(0.1, 0.2, 0.3), replaces=True)


@pytest.mark.parametrize(
    ("channels", "options", "shape"),
    [
        (None, {"mean": (0.5,), "color": "gray"}, ("gray", 1)),
        (None, {"mean": (0.5, 0.5, 0.5)}, ("RGB", 3)),
        (1, {"mean": (0.5,)}, ("gray", 1)),
        # As many channels as numbers, where nobody says how many.
        (None, {"mean": (0.5,)}, ("gray", 1)),
        (None, {"value_range": 1, "color": "gray"}, ("gray", 0)),
    ],
)
def test_a_file_of_another_program_is_told_by_its_graph(
    channels: int | None, options: dict[str, Any], shape: tuple[str, int]
) -> None:
    found, notes = said(
        FOREIGN,
        axes=(None, channels, None, None),
        std=options.get("mean"),
        input_size=(6, 7),
        **options,
    )
    assert found.output_kind == "log_probabilities"
    assert "the outputs are taken for log probabilities: the graph ends in LogSoftmax" in notes
    assert found.preprocessing is not None
    assert (found.preprocessing.color, len(found.preprocessing.mean)) == shape
    assert found.preprocessing.size == (6, 7)


def test_nothing_said_is_nothing_changed() -> None:
    assert OnnxOverrides.of(replaces=True).is_empty
    assert not OnnxOverrides.of(resize="pil-nearest").is_empty
    assert said() == (FILE, [])


@pytest.mark.parametrize(
    ("options", "preprocessing"),
    [
        # Three channels where nobody says how many.
        ({"value_range": 1}, Preprocessing(size=(6, 7))),
        ({"value_range": 255, "resize": "pil-nearest"}, "pil-nearest"),
        ({"value_range": 1, "resize": "pil-box:^9"}, "pil-box"),
    ],
)
def test_a_file_of_another_program_is_told_its_size_and_how_images_get_it(
    options: dict[str, Any], preprocessing: Any
) -> None:
    found, notes = said(FOREIGN, axes=(None, None, None, None), input_size=(6, 7), **options)
    own = found.preprocessing
    assert own is not None
    if isinstance(preprocessing, str):
        assert (own.color, own.resize) == ("RGB", preprocessing)
        assert (own.crop or own.size) == (6, 7)
        assert f"by {preprocessing}" in notes[-1]
    else:
        assert own == preprocessing
        assert notes[-1].endswith("images are resized to 6×7 by pil-bilinear")


def test_a_graph_tells_how_many_channels_images_of_any_size_have() -> None:
    for channels, color in ((1, "gray"), (3, "RGB")):
        found, _ = said(FOREIGN, axes=(None, channels, None, None), value_range=1)
        assert found.preprocessing == Preprocessing(color)


def test_what_a_graph_does_itself_is_what_may_be_repeated() -> None:
    """Outside of it images are only decoded, which nobody says."""
    outside = Preprocessing(resize="none", value_range=255)
    baked = replace(FILE, preprocessing=outside, baked_preprocessing=OWN)
    assert said(baked, mean=OWN.mean, std=OWN.std, value_range=1) == (baked, [])
    with pytest.raises(TorchliftError, match="value_range=255 is not the model's own, which is 1"):
        said(baked, value_range=255)


def test_a_note_says_what_replaces_and_how_images_are_resized_then() -> None:
    _, notes = said(mean=(0.1, 0.2, 0.3), resize="pil-nearest", replaces=True)
    assert notes == [
        "mean 0.1… and std 0.5… are used for values from 0 to 1, with channels in the order RGB; "
        "images are resized to 9 by pil-nearest and cropped to 8×8"
    ]


@pytest.mark.parametrize(
    ("own", "given", "expected"),
    [
        # What is not given stays, the range too, if the numbers can be for it.
        ({"value_range": (-1, 1)}, {"mean": (0.5,)}, {"value_range": (-1, 1), "mean": (0.5,)}),
        ({"mean": (9.0,), "value_range": 255}, {"std": 0.5}, {"std": (0.5,)}),
        ({"mean": (0.5,), "std": (0.25,)}, {"std": 0.5}, {"std": (0.5,)}),
        ({"mean": (0.5,), "std": (0.25,)}, {"value_range": 255}, {"value_range": 255}),
        ({"mean": (0.5,), "std": (0.25,)}, {"color": "BGR"}, {"color": "BGR"}),
        ({"color": "BGR"}, {"mean": 0.5}, {"mean": (0.5,)}),
        # Numbers above 1 are for another range than 0 to 1, and for any that was chosen.
        ({"mean": (0.5,), "std": (0.25,)}, {"std": 2}, {"std": (2.0,), "value_range": 255}),
        ({"mean": (0.5,), "std": (0.25,)}, {"mean": 1.5}, {"mean": (1.5,), "value_range": 255}),
        ({"value_range": (0, 2)}, {"mean": 1.5}, {"mean": (1.5,)}),
        ({"mean": (0.5,), "std": (0.25,)}, {"mean": 90}, {"mean": (90.0,), "value_range": 255}),
    ],
)
def test_each_number_that_is_given_replaces_its_own_alone(
    own: dict[str, Any], given: dict[str, Any], expected: dict[str, Any]
) -> None:
    before = Preprocessing(size=(8, 8), **own)
    found, _ = said(replace(FILE, preprocessing=before), replaces=True, **given)
    after = replace(before, **expected)
    # What nobody says is a mean of 0 and a std of 1.
    assert found.preprocessing is not None
    numbers = (found.preprocessing.mean or (0,), found.preprocessing.std or (1,))
    assert numbers == (after.mean or (0,), after.std or (1,))
    assert replace(found.preprocessing, mean=after.mean, std=after.std) == after


def test_labels_and_a_table_of_mean_and_std_are_read_of_their_files(tmp_path: Path) -> None:
    (tmp_path / "names.txt").write_text("cat\ndog\n", encoding="utf-8")
    (tmp_path / "pixels.json").write_text('{"mean": 0.5, "std": [0.1, 0.2, 0.3]}', encoding="utf-8")
    for labels in (tmp_path / "names.txt", str(tmp_path / "names.txt"), ("cat", "dog")):
        found = OnnxOverrides.of(labels=labels, mean_std=tmp_path / "pixels.json", color="BGR")
        assert found.labels == ["cat", "dog"]
        assert found.normalization == Normalization((0.5,), (0.1, 0.2, 0.3), "BGR")
    table = LuaTable({"mean": 0.5})
    assert OnnxOverrides.of(mean_std=table).normalization == Normalization((0.5,))
    with pytest.raises(TorchliftError, match="leave out mean=… and std=…"):
        OnnxOverrides.of(mean_std=table, mean=0.5)
    with pytest.raises(TorchliftError, match=r"^mean_std: a table"):
        OnnxOverrides.of(mean_std=LuaTable({"std": 0.5}))
