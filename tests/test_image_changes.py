"""Crops, rotations, policies and erasing are torchvision's, by seed, epoch and position alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms import InterpolationMode, v2

from torchlift.cli.main import main
from torchlift.converters.images import Preprocessing
from torchlift.transfer.data import Batches, BatchPlan, Dataset, ImageFiles
from torchlift.transfer.data.augmentation import Augmentation
from torchlift.transfer.data.image_changes import erase, seeds_of_images, seeds_of_inputs
from torchlift.transfer.errors import DataError

BILINEAR = InterpolationMode.BILINEAR
PIXELS = np.random.default_rng(0).integers(0, 256, (10, 3, 20, 16)).astype(np.uint8)
EVERYTHING = Augmentation(
    flip=True, resized_crop=0.3, rotation=20, auto_augment="randaugment", erasing=0.5
)


def batches(data: Any, augmentation: Augmentation, **plan: Any) -> Batches:
    preprocessing = Preprocessing(size=(12, 12), mean=(0.5,), std=(0.25,))
    planned = BatchPlan(len(data), 5, shuffle_seed=7, **plan)
    return Batches(data, preprocessing, planned, augmentation=augmentation)


@pytest.mark.parametrize(
    ("augmentation", "step"),
    [
        (Augmentation(rotation=30), v2.RandomRotation(30, interpolation=BILINEAR)),
        (
            Augmentation(auto_augment="randaugment", magnitude=20),
            v2.RandAugment(magnitude=20, interpolation=BILINEAR),
        ),
        (
            Augmentation(auto_augment="trivialaugment"),
            v2.TrivialAugmentWide(interpolation=BILINEAR),
        ),
        (
            Augmentation(resized_crop=0.2),
            v2.RandomResizedCrop((12, 12), (0.2, 1), interpolation=BILINEAR),
        ),
    ],
    ids=["rotation", "randaugment", "trivialaugment", "resized crop"],
)
@pytest.mark.parametrize("channels", [1, 3])
def test_single_images_are_changed_as_torchvision_does(
    augmentation: Augmentation, step: Any, channels: int
) -> None:
    pixels = PIXELS[:, :channels, :, :] if channels == 3 else PIXELS[:, 0]
    images = [Image.fromarray(x.transpose(1, 2, 0) if channels == 3 else x) for x in pixels]
    preprocessing = Preprocessing("gray" if channels == 1 else "BGR", size=(12, 12))
    data = Dataset(PIXELS[:, :channels], np.arange(10))
    plan = BatchPlan(10, 10, shuffle_seed=7)
    found, order = next(Batches(data, preprocessing, plan, augmentation=augmentation).epoch(2))
    for position, seed in enumerate(seeds_of_images(7, 2, 10).tolist()):
        image = images[int(order[position])]
        if augmentation.resized_crop is None:
            image = image.resize((12, 12), Image.Resampling.BILINEAR)
        torch.manual_seed(seed)
        expected = np.atleast_3d(np.asarray(step(image)))[..., ::-1].transpose(2, 0, 1)
        shown = (found[position] * 255).round().byte().numpy()
        assert np.array_equal(shown, expected), position


def test_boxes_are_erased_as_torchvision_does() -> None:
    plain, order = next(batches(Dataset(PIXELS, np.arange(10)), Augmentation()).epoch(3))
    found, _ = next(batches(Dataset(PIXELS, np.arange(10)), Augmentation(erasing=0.6)).epoch(3))
    erasing = v2.RandomErasing(0.6)
    for position in range(len(order)):
        torch.manual_seed(int(seeds_of_inputs(7, 3, 10)[position]))
        assert torch.equal(found[position], erasing(plain[position]))
    assert 0 < int((found == 0).any(1).flatten(1).any(1).sum()) < len(order)


@pytest.mark.parametrize(
    ("probability", "fewest", "most"), [(0.0, 0, 0), (0.1, 1, 12), (1.0, 36, 40)]
)
def test_boxes_are_erased_as_often_as_asked(probability: float, fewest: int, most: int) -> None:
    inputs = torch.ones(40, 1, 8, 8)
    erased = (erase(inputs, probability, np.arange(40)) == 0).flatten(1).any(1)
    assert fewest <= int(erased.sum()) <= most
    assert (inputs == 1).all()


def test_no_process_and_no_resuming_changes_an_image() -> None:
    data = Dataset(PIXELS, np.arange(10))
    mixed = Augmentation(resized_crop=0.3, auto_augment="trivialaugment", erasing=0.5, mixup=0.4)
    for augmentation in (EVERYTHING, mixed):
        whole = list(batches(data, augmentation).epoch(4))
        resumed = list(batches(data, augmentation).epoch(4, start=1))
        assert torch.equal(resumed[0][0], whole[1][0])
        slices = [list(batches(data, augmentation, rank=r, world_size=2).epoch(4)) for r in (0, 1)]
        for batch, *parts in zip(whole, *slices, strict=True):
            torch.testing.assert_close(torch.cat([part[0] for part in parts]), batch[0])
    other = next(batches(data, EVERYTHING).epoch(5))[0]
    assert not torch.equal(other, next(batches(data, EVERYTHING).epoch(4))[0])


def test_files_give_the_same_as_memory(tmp_path: Path) -> None:
    files = []
    for index, image in enumerate(PIXELS):
        files.append(tmp_path / f"{index}.png")
        Image.fromarray(image.transpose(1, 2, 0)).save(files[-1])
    streamed = ImageFiles(np.array(files, object), np.arange(10), ids=np.arange(10))
    for augmentation in (EVERYTHING, Augmentation(rotation=9)):
        pairs = zip(
            batches(streamed, augmentation).epoch(1),
            batches(Dataset(PIXELS, np.arange(10)), augmentation).epoch(1),
            strict=True,
        )
        assert all(torch.equal(one[0], other[0]) for one, other in pairs)


def test_the_generator_of_the_network_is_left_alone() -> None:
    torch.manual_seed(3)
    expected = torch.rand(2)
    torch.manual_seed(3)
    # Making an iterator draws one number, with or without changes; none is drawn by the changes.
    state = torch.get_rng_state()
    changing = batches(Dataset(PIXELS, np.arange(10)), Augmentation(erasing=0.5)).epoch(1)
    list(changing)
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(torch.rand(2), expected)


def test_seeds_differ_by_seed_epoch_and_kind() -> None:
    drawn = [seeds_of_images(0, 1, 3), seeds_of_images(0, 2, 3), seeds_of_images(1, 1, 3)]
    assert np.array_equal(drawn[0], seeds_of_images(0, 1, 3))
    assert len(np.unique([*drawn, seeds_of_inputs(0, 1, 3)])) == 12


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"resized_crop": 0.0}, "resized_crop=0.0: expected above 0"),
        ({"resized_crop": 1.5}, "resized_crop=1.5"),
        ({"rotation": 181}, "rotation=181: expected 0 to 180"),
        ({"erasing": float("nan")}, "erasing=nan: expected 0 to 1"),
        ({"magnitude": 5}, "magnitude=5: it is for auto_augment='randaugment'"),
    ],
)
def test_impossible_changes_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=message):
        Augmentation(**options)


def test_inputs_that_are_no_pixels_are_refused() -> None:
    data = Dataset(np.zeros((3, 1, 4, 4), np.float32), np.arange(3))
    with pytest.raises(DataError, match="need pixels, not floats"):
        Batches(data, None, BatchPlan(3, 3), augmentation=Augmentation(rotation=5))


def test_a_sheet_of_augmented_images(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    line = ["plot", "samples", "sklearn:digits", "--limit", "2", "-o", str(tmp_path / "a.png")]
    words = ["--augmented", "--rotation", "30", "--erasing", "1", "--resized-crop", "0.5"]
    assert main([*line, *words]) == 0
    with Image.open(tmp_path / "a.png") as sheet:
        wide, high = sheet.size
    assert main([*line, "--overwrite"]) == 0
    with Image.open(tmp_path / "a.png") as sheet:
        # Two images: one row of two, or two rows of six.
        assert wide > 2 * sheet.width
        assert high > 1.5 * sheet.height
    for mistake, message in (
        (["--rotation", "30"], "changes nothing without --augmented"),
        (["--augmented"], "--augmented needs to know how"),
        (["--augmented", "--mixup", "0.2"], "plot samples takes no --mixup"),
    ):
        capsys.readouterr()
        assert main([*line, "--overwrite", *mistake]) == 2
        assert message in capsys.readouterr().err
