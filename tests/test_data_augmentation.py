"""The strength of random changes to images, and what their random numbers depend on."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from torchlift.converters.images import Preprocessing
from torchlift.transfer.data import Batches, BatchPlan, Dataset, ImageFiles
from torchlift.transfer.data.augmentation import Augmentation, draw, mix
from torchlift.transfer.data.image_changes import seeds_of_images, seeds_of_inputs
from torchlift.transfer.errors import DataError


@pytest.mark.parametrize(("number", "expected"), [(0.0, 50), (0.5, 100), (1.0, 150)])
def test_brightness_is_from_one_minus_b_to_one_plus_b(number: float, expected: int) -> None:
    numbers = np.full((1, 6), 0.5, np.float32)
    numbers[0, 3] = number
    pixels = torch.full((1, 1, 2, 2), 100, dtype=torch.uint8)
    assert Augmentation(brightness=0.5)(pixels, numbers).unique().tolist() == [expected]
    # A factor below 0 would be a negative image.
    assert Augmentation(brightness=3)(pixels, numbers).min() >= 0


def test_each_jitter_has_its_own_random_number() -> None:
    pixels = torch.randint(60, 200, (1, 3, 4, 4), dtype=torch.uint8)
    for name, column in (("brightness", 3), ("contrast", 4), ("saturation", 5)):
        numbers = np.full((1, 6), 0.5, np.float32)
        augmentation = Augmentation(**{name: 0.5})
        assert torch.equal(augmentation(pixels, numbers), pixels)
        numbers[0, column] = 0.0
        assert not torch.equal(augmentation(pixels, numbers), pixels)


@pytest.mark.parametrize(
    "name", ["crop_padding", "brightness", "contrast", "saturation", "mixup", "cutmix"]
)
def test_a_negative_strength_is_refused(name: str) -> None:
    with pytest.raises(DataError, match=f"{name}=-1"):
        Augmentation(**{name: -1})


def test_mixing_differs_by_seed_epoch_and_batch_and_is_repeatable() -> None:
    data = Dataset(np.zeros((8, 1, 2, 2), np.uint8), np.arange(8))

    def fractions(seed: int, epoch: int) -> list[float]:
        plan = BatchPlan(8, 4, shuffle_seed=seed, sampling="shuffle-once")
        batches = Batches(data, Preprocessing("gray"), plan, augmentation=Augmentation(mixup=1.0))
        return [float(targets.max()) for _, targets in batches.epoch(epoch)]

    first = fractions(0, 1)
    assert first == fractions(0, 1)
    drawn = [*first, *fractions(0, 2), *fractions(1, 1)]
    assert len(set(drawn)) == 6


def test_random_numbers_of_images_differ_by_seed_and_epoch() -> None:
    assert np.array_equal(draw(0, 1, 3), draw(0, 1, 3))
    assert not np.intersect1d(draw(0, 1, 3), draw(0, 2, 3)).size
    assert not np.intersect1d(draw(0, 1, 3), draw(1, 1, 3)).size


def test_an_epoch_of_files_draws_one_number_of_the_network(tmp_path: Path) -> None:
    """As a DataLoader without workers that stay does it: dropout goes on as in earlier versions."""
    for index in range(3):
        Image.new("L", (4, 4), 80 * index).save(tmp_path / f"{index}.png")
    files = np.array([tmp_path / f"{index}.png" for index in range(3)], object)
    plan = BatchPlan(3, 2, shuffle_seed=1)
    data = ImageFiles(files, np.arange(3), color="gray")
    batches = Batches(data, Preprocessing("gray"), plan, keep=False, workers=0)
    for epoch in (1, 2):
        torch.manual_seed(epoch)
        list(batches.epoch(epoch))
        found = torch.rand(3)
        torch.manual_seed(epoch)
        torch.empty((), dtype=torch.int64).random_()
        assert torch.equal(found, torch.rand(3))


def test_the_random_numbers_of_a_seed_are_the_same_in_every_version() -> None:
    """A run that is resumed goes on with them: each kind has its own stream of seed and epoch."""

    def stream(*key: int) -> np.random.Generator:
        return np.random.default_rng(key)

    assert np.array_equal(draw(7, 3, 2), stream(7, 3, 1).random((2, 6), np.float32))
    for seeds, kind in ((seeds_of_images, 3), (seeds_of_inputs, 4)):
        expected = stream(7, 3, kind).integers(2**63 - 1, size=5)
        assert np.array_equal(seeds(7, 3, 5), expected)
    assert np.array_equal(BatchPlan(9, 4, 7).order(3), stream(7, 3).permutation(9))
    again = BatchPlan(9, 4, 7, sampling="replacement")
    assert np.array_equal(again.order(3), stream(7, 3).integers(9, size=9))
    weights = np.arange(9.0)
    weighted = BatchPlan(9, 4, 7, sampling="weighted", weights=weights)
    assert np.array_equal(weighted.order(3), stream(7, 3).choice(9, size=9, p=weights / 36))
    once = BatchPlan(9, 4, 7, sampling="shuffle-once")
    assert np.array_equal(once.order(3), stream(7, 0).permutation(9))


def test_one_way_of_mixing_is_as_likely_as_the_other() -> None:
    """Beta(a, a) of a large a is one half; no box within 5×5 pixels has half of them."""
    inputs, targets = torch.rand(3, 1, 5, 5), torch.eye(3)
    both = Augmentation(mixup=1e9, cutmix=1e-9)
    mixed = [mix(inputs, targets, both, np.random.default_rng(seed))[1] for seed in range(400)]
    halves = sum(abs(fractions[0, 1].item() - 0.5) < 1e-3 for fractions in mixed)
    # The deviation is 10.
    assert halves == pytest.approx(200, abs=40)


def test_a_box_at_the_edge_counts_with_the_area_that_it_has() -> None:
    """Around the last pixel of 6×8, a box of half the area is 3×3: two to each side, cut off."""

    class Corner:
        def beta(self, *_: float) -> float:
            return 0.5

        def integers(self, high: int) -> int:
            return high - 1

    inputs, targets = torch.rand(3, 2, 6, 8), torch.eye(3)
    mixed, fractions = mix(inputs, targets, Augmentation(cutmix=1.0), Corner())  # type: ignore[arg-type]  # the methods that are called
    expected = inputs[1:].clone()
    expected[:, :, 3:, 5:] = inputs[:-1, :, 3:, 5:]
    assert torch.equal(mixed, expected)
    own = 1 - 9 / 48
    torch.testing.assert_close(fractions, targets[1:] * own + targets[:-1] * (1 - own))


@pytest.mark.parametrize(("padding", "fits"), [(4, True), (8, True), (9, False)])
def test_images_are_shifted_by_no_more_than_their_larger_side(padding: int, fits: bool) -> None:
    """Of 4×8 pixels: by up to eight in each direction."""
    pixels = torch.full((1, 1, 4, 8), 255, dtype=torch.uint8)
    numbers = np.full((1, 6), 0.5, np.float32)
    augmentation = Augmentation(crop_padding=padding)
    if fits:
        assert torch.equal(augmentation(pixels, numbers), pixels)
        # Nothing of the image is left where it is shifted by all of its height.
        numbers[0, 1] = 0.0
        assert not augmentation(pixels, numbers).any()
    else:
        with pytest.raises(DataError, match="crop_padding=9: at most the larger side of the imag"):
            augmentation(pixels, numbers)
