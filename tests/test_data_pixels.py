"""Where batches get their pixels from, in chunks or one by one, and the slices of few images."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from torchlift.converters.images.preprocessing import Preprocessing
from torchlift.transfer.data import Augmentation, Batches, BatchPlan, Dataset, ImageFiles
from torchlift.transfer.data import pixels as pixels_file
from torchlift.transfer.data.pixels import pixel_source
from torchlift.transfer.errors import DataError

PIXELS = np.random.default_rng(0).integers(0, 256, (130, 3, 4, 5), np.uint8)


def inputs_of(data: Dataset | ImageFiles, preprocessing: Preprocessing, **options: Any) -> Any:
    batches = Batches(data, preprocessing, BatchPlan(len(data), 50), workers=0, **options)
    return torch.cat([inputs for inputs, _ in batches.epoch(1)]).numpy()


@pytest.mark.parametrize(
    ("preprocessing", "black", "white"),
    [
        (Preprocessing(value_range=(-1, 1)), -1, 1),
        (Preprocessing(value_range=(2, 5)), 2, 5),
        (Preprocessing(value_range=(-1, 1), mean=(0.5,), std=(0.25,)), -6, 2),
        (Preprocessing("gray", value_range=(0, 2), mean=(1.0,)), -1, 1),
        (Preprocessing(value_range=255, std=(51.0,)), 0, 5),
    ],
)
def test_what_is_black_and_white_is_that_of_the_network(
    preprocessing: Preprocessing, black: float, white: float
) -> None:
    """Batches are normalized apart from `Preprocessing`, and give the same."""
    extremes = np.zeros((2, 3, 4, 5), np.uint8)
    extremes[1] = 255
    found = inputs_of(Dataset(extremes), preprocessing)
    np.testing.assert_allclose(found[0], black, rtol=1e-6)
    np.testing.assert_allclose(found[1], white, rtol=1e-6)
    data = Dataset(PIXELS[:7])
    np.testing.assert_array_equal(inputs_of(data, preprocessing), preprocessing(data.images))


@pytest.mark.parametrize("kind", ["memory", "files"])
def test_images_of_several_chunks_come_in_their_order(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of more than 64 images in memory, and of files that are decoded two at a time."""
    data: Dataset | ImageFiles = Dataset(PIXELS)
    if kind == "files":
        monkeypatch.setattr(pixels_file, "_CHUNK", 2)
        files = np.empty(5, object)
        for index in range(5):
            files[index] = tmp_path / f"{index}.png"
            Image.fromarray(PIXELS[index].transpose(1, 2, 0)).save(files[index])
        data = ImageFiles(files)
    expected = PIXELS[: len(data)].astype(np.float32)
    np.testing.assert_array_equal(inputs_of(data, Preprocessing(value_range=255)), expected)


@pytest.mark.parametrize(("spare", "kept"), [(0, True), (-1, False)])
@pytest.mark.parametrize("keep", [True, False])
def test_pixels_are_kept_if_they_are_few_and_if_that_is_wanted(
    spare: int, kept: bool, keep: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of ten gray images of 4×5 in the network's own size."""
    monkeypatch.setattr(pixels_file, "MEMORY_LIMIT", 200 + spare)
    source = pixel_source(
        Dataset(PIXELS[:10]), Preprocessing("gray"), Augmentation(), keep=keep, workers=0
    )
    assert isinstance(source, pixels_file._Loader) is not (kept and keep)
    (batch,) = source([np.array([3, 1])], [np.array([0, 0])])
    expected = Preprocessing("gray").pixels(PIXELS[[3, 1]]).transpose(0, 3, 1, 2)
    assert np.array_equal(batch.numpy(), expected)


def test_a_slice_without_images_stays_one() -> None:
    """Of two images, one of three processes has none to change, to erase or to mix."""
    data = Dataset(PIXELS[:2], np.array([0, 1]))
    for augmentation in (
        Augmentation(erasing=1.0, flip=True),
        Augmentation(rotation=20),
        Augmentation(mixup=0.5),
    ):
        shapes = []
        for rank in range(3):
            plan = BatchPlan(2, 2, 0, rank=rank, world_size=3)
            batches = Batches(data, Preprocessing(), plan, augmentation=augmentation, workers=0)
            ((inputs, targets),) = batches.epoch(1)
            assert len(inputs) == len(targets)
            shapes.append(tuple(inputs.shape))
        assert shapes == [(0, 3, 4, 5), (1, 3, 4, 5), (1, 3, 4, 5)]


@pytest.mark.parametrize("count", [48, 50])
@pytest.mark.parametrize("drop_last", [False, True])
def test_the_last_batch_is_left_out_only_if_it_is_smaller(count: int, drop_last: bool) -> None:
    plan = BatchPlan(count, 8, drop_last=drop_last)
    sizes = [len(batch_slice.positions()) for batch_slice in plan.slices()]
    assert sizes == [8] * 6 + ([2] if count == 50 and not drop_last else [])
    assert len(plan) == len(sizes)
    assert [each.batch_start for each in plan.slices(start=5)] == [40, 48][: len(sizes) - 5]


@pytest.mark.parametrize(("rank", "world_size"), [(-1, 2), (2, 2), (0, 0)])
def test_a_process_is_one_of_those_that_there_are(rank: int, world_size: int) -> None:
    with pytest.raises(DataError, match=f"rank={rank}: expected 0 to {world_size - 1}"):
        BatchPlan(10, 2, rank=rank, world_size=world_size)


def test_mixed_targets_have_a_column_for_each_name() -> None:
    """Also for a class of which there are no images, as a network has an output for it."""
    data = Dataset(PIXELS[:4], np.array([0, 1, 0, 1]), ("a", "b", "c"))
    augmentation = Augmentation(mixup=1.0)
    ((_, targets),) = Batches(data, Preprocessing(), BatchPlan(4, 4), augmentation=augmentation)
    assert targets.shape == (4, 3)
    assert not targets[:, 2].any()
