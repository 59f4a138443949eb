"""Batches: inputs equal to those of `Preprocessing`, in an order set by the seed and the epoch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional

from torchlift.converters.images.errors import ImageError
from torchlift.converters.images.preprocessing import Preprocessing
from torchlift.transfer.data import (
    Augmentation,
    Batches,
    BatchPlan,
    Dataset,
    ImageFiles,
    class_weights,
    open_data,
    stream_folder,
)
from torchlift.transfer.data.augmentation import draw, jitter, mix
from torchlift.transfer.data.batches import _Normalization
from torchlift.transfer.errors import DataError

MEAN, STD = (0.49, 0.45, 0.41), (0.22, 0.25, 0.27)
COLOR = Preprocessing("RGB", mean=MEAN, std=STD)


def images(count: int, channels: int = 3, size: tuple[int, int] = (12, 10)) -> Dataset:
    random = np.random.default_rng(4)
    pixels = random.integers(0, 256, (count, channels, *size), np.uint8)
    return Dataset(pixels, random.integers(0, 5, count), tuple("abcde"))


def batches_of(
    data: Dataset | ImageFiles,
    preprocessing: Preprocessing | None,
    batch_size: int,
    *,
    augmentation: Augmentation | None = None,
    keep: bool = True,
    workers: int = 2,
    **plan: Any,
) -> Batches:
    """Return batches with a plan of these options."""
    return Batches(
        data,
        preprocessing,
        BatchPlan(len(data), batch_size, **plan),
        augmentation=augmentation,
        keep=keep,
        workers=workers,
    )


def concatenate(batches: list[tuple[torch.Tensor, torch.Tensor]]) -> list[torch.Tensor]:
    return [torch.cat(tensors) for tensors in zip(*batches, strict=True)]


def order(batches: Batches, epoch: int) -> list[int]:
    """Return the index of the image at each position of all batches."""
    whole = batches.plan.order(epoch)
    return [
        index for batch_slice in batches.plan.slices() for index in whole[batch_slice.positions()]
    ]


@pytest.mark.parametrize(
    "preprocessing",
    [
        COLOR,
        Preprocessing("BGR", mean=MEAN, std=STD, value_range=255),
        Preprocessing("gray", (8, 8), mean=(0.4,), std=(0.3,)),
        Preprocessing("RGB", 16, crop=(14, 13)),
        Preprocessing("RGB", value_range=255, mean=(120.0,)),
    ],
)
@pytest.mark.parametrize("keep", [True, False])
def test_inputs_equal_those_of_the_preprocessing_bit_by_bit(
    preprocessing: Preprocessing, keep: bool
) -> None:
    data = images(23)
    batches = batches_of(data, preprocessing, 5, keep=keep, workers=0)
    assert len(batches) == 5
    inputs, targets = concatenate(list(batches))
    assert inputs.dtype == torch.float32
    assert targets.dtype == torch.int64
    assert np.array_equal(inputs.numpy(), preprocessing(data.images))
    assert np.array_equal(targets.numpy(), data.classes)  # type: ignore[arg-type]


def test_floats_are_inputs_already() -> None:
    data = Dataset(np.random.default_rng(0).normal(size=(7, 2, 3, 3)))
    inputs, targets = concatenate(list(batches_of(data, None, 3)))
    assert np.array_equal(inputs.numpy(), data.images.astype(np.float32))
    assert targets.tolist() == [-1] * 7
    with pytest.raises(DataError, match="need a preprocessing"):
        batches_of(images(3), None, 2)
    with pytest.raises(DataError, match="a plan for 4 images, but 3 images"):
        Batches(images(3), COLOR, BatchPlan(4, 2))


def test_each_epoch_has_its_own_order_of_all_images() -> None:
    data = images(50)
    batches = batches_of(data, COLOR, 8, shuffle_seed=3)
    orders = [order(batches, epoch) for epoch in range(3)]
    for each in orders:
        assert sorted(each) == list(range(50))
    assert len({tuple(each) for each in orders}) == 3
    inputs, targets = concatenate(list(batches.epoch(2)))
    assert np.array_equal(inputs.numpy(), COLOR(data.images[orders[2]]))
    assert np.array_equal(targets.numpy(), data.classes[orders[2]])  # type: ignore[index]
    other = batches_of(data, COLOR, 8, shuffle_seed=4)
    assert order(other, 0) != orders[0]
    assert len(list(batches_of(data, COLOR, 8, drop_last=True))) == 6


def test_drawing_with_replacement_repeats_some_and_leaves_out_others() -> None:
    count = 20_000
    plan = BatchPlan(count, 64, 3, sampling="replacement")
    first, second = plan.order(1), plan.order(2)
    assert len(first) == count
    assert not np.array_equal(first, second)
    assert np.array_equal(first, BatchPlan(count, 64, 3, sampling="replacement").order(1))
    # A fraction of 1 - 1/e is drawn at all, and e**-1 / k! k times; the deviation is 0.002.
    assert len(np.unique(first)) / count == pytest.approx(1 - np.exp(-1), abs=0.01)
    times = np.bincount(np.bincount(first, minlength=count))
    np.testing.assert_allclose(times[:3] / count, np.exp(-1) / np.array([1, 1, 2]), atol=0.02)


def test_weighted_drawing_has_every_class_as_often() -> None:
    count = 20_000
    labels = (np.arange(count) % 20 == 0).astype(np.int64)
    weights = class_weights(Dataset(np.zeros((count, 1, 1, 1), np.uint8), labels))[labels]
    plan = BatchPlan(count, 64, 3, sampling="weighted", weights=weights.astype(np.float64))
    first = plan.order(1)
    # The deviation of a fraction of one half is 0.0035.
    assert labels[first].mean() == pytest.approx(0.5, abs=0.015)
    assert len(np.unique(first[labels[first] == 1])) == (labels == 1).sum()
    assert np.array_equal(first, plan.order(1))
    assert not np.array_equal(first, plan.order(2))


def test_one_order_can_be_kept_for_all_epochs() -> None:
    plan = BatchPlan(50, 8, 3, sampling="shuffle-once")
    assert np.array_equal(plan.order(1), plan.order(7))
    assert sorted(plan.order(1)) == list(range(50))
    assert not np.array_equal(plan.order(1), BatchPlan(50, 8, 4, sampling="shuffle-once").order(1))


ALL = Augmentation(
    flip=True, crop_padding=2, brightness=0.4, contrast=0.4, saturation=0.4, mixup=0.5, cutmix=1.0
)


def test_a_resumed_epoch_equals_an_uninterrupted_one() -> None:
    data = images(50)
    whole = list(batches_of(data, COLOR, 8, augmentation=ALL, shuffle_seed=1).epoch(5))
    resumed = list(batches_of(data, COLOR, 8, augmentation=ALL, shuffle_seed=1).epoch(5, start=3))
    for (inputs, targets), (again, targets_again) in zip(whole[3:], resumed, strict=True):
        assert torch.equal(inputs, again)
        assert torch.equal(targets, targets_again)
    other = next(batches_of(data, COLOR, 8, augmentation=ALL, shuffle_seed=1).epoch(6))
    assert not torch.equal(other[0], whole[0][0])


@pytest.mark.parametrize("world_size", [2, 3, 8, 11])
@pytest.mark.parametrize("augmentation", [None, ALL])
def test_the_slices_of_all_processes_are_the_batch(
    world_size: int, augmentation: Augmentation | None
) -> None:
    data = images(50)

    def of(rank: int, world: int) -> list[tuple[torch.Tensor, torch.Tensor]]:
        return list(
            batches_of(
                data, COLOR, 8, augmentation=augmentation, shuffle_seed=1,
                rank=rank, world_size=world,
            ).epoch(2)
        )  # fmt: skip

    slices = [of(rank, world_size) for rank in range(world_size)]
    for step, (inputs, targets) in enumerate(of(0, 1)):
        joined = concatenate([batches[step] for batches in slices if len(batches[step][0])])
        assert torch.equal(joined[0], inputs)
        assert torch.equal(joined[1], targets)


def test_each_image_is_mixed_with_the_one_before_it_in_its_batch() -> None:
    positions = [
        [
            batch_slice.with_neighbor().tolist()
            for batch_slice in BatchPlan(7, 4, rank=rank, world_size=2).slices()
        ]
        for rank in range(2)
    ]
    assert positions == [[[3, 0, 1], [6, 4]], [[1, 2, 3], [4, 5, 6]]]


def test_each_epoch_and_seed_has_its_own_random_numbers() -> None:
    random_numbers = [draw(seed, epoch, 4).tobytes() for seed in (0, 1) for epoch in (0, 1)]
    assert len(set(random_numbers)) == 4
    assert draw(1, 1, 4).tobytes() == random_numbers[-1]


def test_batches_that_cannot_be_divided_are_refused() -> None:
    with pytest.raises(DataError, match="batch_size=0: expected at least 1"):
        BatchPlan(10, 0)
    with pytest.raises(DataError, match="rank=2: expected 0 to 1 for world_size=2"):
        BatchPlan(10, 2, rank=2, world_size=2)


def test_flips_and_crops_equal_torchvisions() -> None:
    pixels = torch.from_numpy(images(200).images)
    random_numbers = draw(0, 0, 200)
    output = Augmentation(flip=True, crop_padding=3)(pixels, random_numbers)
    seen = set()
    for image, (flip, down, across, *_), result in zip(pixels, random_numbers, output, strict=True):
        expected = functional.horizontal_flip(image) if flip < 0.5 else image
        top, left = int(down * 7), int(across * 7)
        padded = functional.pad(expected, [3])
        assert torch.equal(functional.crop(padded, top, left, 12, 10), result)
        seen.add((flip < 0.5, top, left))
    # All 7×7 shifts, flipped or not, are equally probable; most of them occur in 200 images.
    assert len(seen) > 75
    assert {shift[1] for shift in seen} == {shift[2] for shift in seen} == set(range(7))


@pytest.mark.parametrize("channels", [1, 3])
def test_jitter_equals_torchvisions(channels: int) -> None:
    pixels = torch.from_numpy(images(60, channels).images)
    factors = [torch.rand(60, generator=torch.Generator().manual_seed(i)) * 2 for i in range(3)]
    output = jitter(pixels, factors)
    different = 0
    for image, brightness, contrast, saturation, result in zip(
        pixels, *factors, output, strict=True
    ):
        expected = functional.adjust_brightness(image, float(brightness))
        expected = functional.adjust_contrast(expected, float(contrast))
        expected = functional.adjust_saturation(expected, float(saturation))
        # A product close to an integer may be rounded differently, which the next step can double.
        assert (expected.int() - result.int()).abs().max() <= 2
        different += int((expected != result).sum())
    assert different < 0.01 * output.numel()
    assert torch.equal(jitter(pixels, [torch.ones(60)] * 3), pixels)
    if channels == 3:
        reversed_output = jitter(pixels.flip(1), factors, bgr=True).flip(1)
        assert (reversed_output.int() - output.int()).abs().max() <= 1


def test_mixing_equals_torchvisions() -> None:
    inputs = torch.rand(9, 3, 16, 12)
    inputs = torch.cat([inputs[-1:], inputs])
    targets = nn.functional.one_hot(torch.tensor([8, *range(9)]), 9).float()

    class Draws:
        """A generator with known results, so that torchvision can use the same ones."""

        fraction = 0.3

        def random(self) -> float:
            return 0.9

        def beta(self, *_: float) -> float:
            return self.fraction

        def integers(self, high: int) -> int:
            return high // 3

    # MixUp and CutMix of torchvision roll the batch by one: the same neighbor.
    output, labels = mix(inputs, targets, Augmentation(mixup=1.0), Draws())  # type: ignore[arg-type]  # the methods that are called
    mixup = v2.MixUp(num_classes=9)
    classes = torch.arange(9)
    parameters = {"lam": 0.3, "labels": classes, "batch_size": 9}
    assert torch.allclose(output, mixup.transform(inputs[1:], parameters))
    assert torch.allclose(labels, mixup.transform(classes, parameters))

    output, labels = mix(inputs, targets, Augmentation(cutmix=1.0), Draws())  # type: ignore[arg-type]  # the methods that are called
    # The formula of torchvision's CutMix.make_params, for the same center and fraction.
    half = 0.5 * 0.7**0.5
    x1, x2 = max(4 - int(half * 12), 0), min(4 + int(half * 12), 12)
    y1, y2 = max(5 - int(half * 16), 0), min(5 + int(half * 16), 16)
    box = {"box": (x1, y1, x2, y2), "lam_adjusted": 1 - (x2 - x1) * (y2 - y1) / (12 * 16)}
    cutmix = v2.CutMix(num_classes=9)
    parameters = {**box, "labels": classes, "batch_size": 9}
    assert torch.allclose(output, cutmix.transform(inputs[1:], parameters))
    assert torch.allclose(labels, cutmix.transform(classes, parameters))


def test_mixed_targets_are_fractions() -> None:
    batches = batches_of(
        images(40), COLOR, 16, augmentation=Augmentation(mixup=0.4, cutmix=1), shuffle_seed=0
    )
    fractions = set()
    for inputs, targets in batches:
        assert inputs.shape[0] == targets.shape[0]
        assert targets.shape[1] == 5
        assert torch.allclose(targets.sum(1), torch.ones(len(targets)))
        fractions.update(targets.unique().tolist())
        nn.functional.cross_entropy(torch.zeros(len(targets), 5), targets)
    assert len(fractions) > 4


def test_jitter_needs_pixels() -> None:
    data = Dataset(np.zeros((2, 1, 4, 4), np.float32))
    with pytest.raises(DataError, match="need pixels"):
        next(iter(batches_of(data, None, 2, augmentation=Augmentation(brightness=0.1))))
    with pytest.raises(DataError, match="crop_padding=-1: expected at least 0"):
        Augmentation(crop_padding=-1)


def write(folder: Path, sizes: list[tuple[int, int]]) -> None:
    random = np.random.default_rng(1)
    folder.mkdir(parents=True)
    for number, size in enumerate(sizes):
        pixels = random.integers(0, 256, (*size, 3), np.uint8)
        Image.fromarray(pixels).save(folder / f"{number}.png")


@pytest.mark.parametrize("keep", [True, False])
def test_a_folder_is_decoded_by_workers_behind_the_same_interface(
    tmp_path: Path, keep: bool
) -> None:
    write(tmp_path / "a", [(20, 30), (31, 18), (16, 16)])
    write(tmp_path / "b", [(22, 22), (40, 17)])
    data = stream_folder(tmp_path)
    preprocessing = Preprocessing("RGB", 16, crop=(16, 16), mean=MEAN, std=STD)
    batches = batches_of(data, preprocessing, 2, shuffle_seed=5, keep=keep, workers=2)
    inputs, targets = concatenate(list(batches.epoch(1)))
    expected = [data[index] for index in order(batches, 1)]
    assert np.array_equal(inputs.numpy(), preprocessing(expected))
    assert data.classes is not None
    assert targets.tolist() == data.classes[order(batches, 1)].tolist()
    augmented = batches_of(
        data, preprocessing, 2, augmentation=ALL, shuffle_seed=5, keep=keep, workers=1
    )
    pixels = preprocessing.pixels([data[index] for index in range(5)])
    in_memory = Dataset(pixels.transpose(0, 3, 1, 2), data.classes, data.names)
    expected = batches_of(in_memory, preprocessing, 2, augmentation=ALL, shuffle_seed=5)
    for actual, same in zip(augmented.epoch(3), expected.epoch(3), strict=True):
        assert torch.equal(actual[0], same[0])


def test_errors_of_workers_name_the_problem(tmp_path: Path) -> None:
    write(tmp_path / "a", [(20, 20), (20, 20), (20, 21)])
    data = stream_folder(tmp_path)
    batches = batches_of(data, COLOR, 2, keep=False, workers=1)
    with pytest.raises(DataError, match="images of 20×20 and 20×21: the preprocessing must"):
        list(batches)
    whole = (tmp_path / "a" / "1.png").read_bytes()
    (tmp_path / "a" / "1.png").write_bytes(whole[:200])
    with pytest.raises(ImageError, match=r"a/1\.png: cannot be read"):
        list(batches)


def test_images_are_prepared_once_and_normalized_a_batch_at_a_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """This is what makes batches fast; it is counted, not timed."""
    prepared: list[int] = []
    normalized: list[int] = []
    sized, normalize = Preprocessing._sized, _Normalization.__call__
    monkeypatch.setattr(
        Preprocessing,
        "_sized",
        lambda self, images: prepared.append(1) or sized(self, images),
    )
    monkeypatch.setattr(
        _Normalization,
        "__call__",
        lambda self, pixels: normalized.append(len(pixels)) or normalize(self, pixels),
    )
    batches = batches_of(images(100, size=(32, 32)), COLOR, 40, shuffle_seed=0)
    for epoch in (1, 2):
        list(batches.epoch(epoch))
    assert len(prepared) <= 101
    assert normalized == [40, 40, 20] * 2


def test_batches_of_digits_equal_the_preprocessing() -> None:
    data = open_data("sklearn:digits", limit=64)
    preprocessing = Preprocessing("gray", (32, 32), mean=(60.0,), std=(85.0,), value_range=255)
    inputs, _ = concatenate(list(batches_of(data, preprocessing, 10)))
    assert isinstance(data, Dataset)
    assert np.array_equal(inputs.numpy(), preprocessing(data.images))
