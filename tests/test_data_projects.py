"""Datasets as projects left them: lists, other suffixes, strings of `torch.serialize`, caches.

The truth are the arrays that the values were built from.
"""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cli_support import typed
from data_support import in_memory, png
from support import FIXTURES

from torchlift.converters import t7
from torchlift.converters.t7 import LuaObject, LuaTable
from torchlift.transfer.data import dataset_from
from torchlift.transfer.data.readers.torch7 import is_torch7_file
from torchlift.transfer.errors import DataError

PIXELS = np.random.default_rng(0).integers(0, 256, (6, 3, 4, 5), np.uint8)
LABELS = np.array([1, 2, 3, 1, 2, 3], np.uint8)
LISTED = LuaTable.from_list(list(PIXELS))
DIGITS = FIXTURES / "digits" / "digits-test.t7"


def table(**entries: Any) -> LuaTable:
    return LuaTable(entries)


def serialized(value: Any) -> np.ndarray:
    """What `torch.serializeToStorage` gives: the bytes of a `.t7`."""
    return t7.loads(t7.dumps(np.frombuffer(t7.dumps(value), np.uint8).copy()))


@pytest.mark.parametrize(
    "value",
    [
        table(data=LISTED, label=LABELS),
        table(data=LISTED, labels=LuaTable.from_list(LABELS.tolist())),
        table(data=table(images=PIXELS, targets=LABELS)),
        table(dataset=table(data=PIXELS, label=LABELS), size=6),
        LuaTable.from_list([LISTED, LABELS]),
        LuaTable.from_list([LABELS, PIXELS]),
        LuaTable.from_list([LISTED, LuaTable.from_list(LABELS.tolist())]),
        table(data=LuaObject("tds.Vec", LISTED), label=LABELS),
        table(data=LuaTable.from_list(list(map(png, PIXELS))), label=LABELS),
        table(
            data=LuaTable.from_list([np.frombuffer(png(image), np.uint8) for image in PIXELS]),
            label=LABELS,
        ),
        t7.dumps(table(data=PIXELS, label=LABELS)),
        table(data=t7.dumps(PIXELS), label=t7.dumps(LABELS)),
        table(data=serialized(LISTED), label=LABELS),
        LuaTable.from_list(
            [t7.dumps(table(image=PIXELS[i], label=int(LABELS[i]))) for i in range(6)]
        ),
        table(
            trainData=LuaTable.from_list(list(PIXELS[:4])),
            trainLabels=LABELS[:4],
            testData=LuaTable.from_list(list(PIXELS[4:])),
            testLabels=LABELS[4:],
        ),
    ],
)
def test_layouts_of_projects(value: Any) -> None:
    dataset = dataset_from(value)
    assert np.array_equal(dataset.images, PIXELS)
    assert dataset.classes is not None
    assert (dataset.classes + 1).tolist() == LABELS.tolist()


def test_a_list_of_images_alone_has_no_labels() -> None:
    for count in (2, 6):
        dataset = dataset_from(LuaTable.from_list(list(PIXELS[:count])))
        assert np.array_equal(dataset.images, PIXELS[:count])
        assert dataset.classes is None


def test_images_of_a_list_must_have_one_shape() -> None:
    images = LuaTable.from_list([PIXELS[0], PIXELS[1][:, :2]])
    with pytest.raises(DataError, match="images of different shapes"):
        dataset_from(table(data=images, label=LABELS[:2]))


def test_mean_and_std_beside_images_are_named() -> None:
    value = table(data=PIXELS, label=LABELS, mean=np.ones(3), std=np.ones(3))
    assert "not applied: mean and std, which stand beside the images" in dataset_from(value).notes


def test_names_of_entries_may_be_in_capitals() -> None:
    value = table(data=PIXELS, label=LABELS, Mean=np.ones(3), STD=np.ones(3))
    assert "not applied: mean and std, which stand beside the images" in dataset_from(value).notes


@pytest.mark.parametrize("name", ["digits-test.dat", "digits", "digits.th7b", "digits.t7.gz"])
def test_a_dataset_is_known_by_its_content(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    content = DIGITS.read_bytes()
    file = tmp_path / name
    file.write_bytes(gzip.compress(content) if name.endswith(".gz") else content)
    assert is_torch7_file(file)
    found, expected = in_memory(file), in_memory(DIGITS)
    assert np.array_equal(found.images, expected.images)
    assert found.classes is not None
    assert np.array_equal(found.classes, expected.classes)


def test_a_model_under_another_suffix_stays_one(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = tmp_path / "digits.net"
    model.write_bytes((FIXTURES / "digits" / "digits-lenet5.t7").read_bytes())
    code, out, _ = typed({}, capsys, "inspect", str(model))
    assert code == 0
    assert "nn.SpatialConvolution" in out
