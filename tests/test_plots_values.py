"""What parts of figures show of odd values: gaps, values beyond a scale, inputs, shared layers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from checkpoint_support import linear, sequential

from torchlift.converters import t7
from torchlift.transfer.data import Dataset
from torchlift.transfer.data.augmentation import Augmentation
from torchlift.transfer.errors import PlotError
from torchlift.transfer.plots import augmented
from torchlift.transfer.plots.augmented import with_augmented
from torchlift.transfer.plots.curves import read_curve
from torchlift.transfer.plots.mosaic import Panel, _Block, _Mosaic
from torchlift.transfer.plots.photographs import open_image
from torchlift.transfer.plots.samples import Sample, images_of
from torchlift.transfer.plots.sizes import sizes_in_t7


def test_a_metric_that_an_epoch_does_not_have_is_a_gap(tmp_path: Path) -> None:
    table = "epoch,train_loss,val_f1\n1,0.5,\n2,0.25,0.75\n"
    (tmp_path / "metrics.csv").write_text(table, encoding="utf-8")
    assert read_curve(tmp_path).rows == [
        {"epoch": 1, "train_loss": 0.5},
        {"epoch": 2, "train_loss": 0.25, "val_f1": 0.75},
    ]
    (tmp_path / "metrics.csv").write_text("epoch,train_loss\n1,low\n", encoding="utf-8")
    with pytest.raises(PlotError, match="not a table of numbers"):
        read_curve(tmp_path)


@pytest.mark.parametrize(
    ("values", "ends"),
    [
        ([-1.0, 1.0], "neither"),
        ([-1.1, 1.0], "min"),
        ([-1.0, 1.1], "max"),
        ([-2.0, 2.0], "both"),
        ([np.nan, 0.0], "neither"),
    ],
)
def test_a_color_bar_points_where_values_go_on(values: list[float], ends: str) -> None:
    inside, given = (np.array(each).reshape(2, 1, 1) for each in ([0.5, -0.5], values))
    block = _Block([_Mosaic.of(Panel("", inside)), _Mosaic.of(Panel("", given))], (-1.0, 1.0))
    assert block._extend((-1.0, 1.0)) == ends


def test_inputs_are_shown_from_their_lowest_to_their_highest_value() -> None:
    inputs = np.array([2.0, 3.0, 4.0, 2.5], np.float32).reshape(1, 1, 2, 2)
    (image,) = images_of(Dataset(inputs))
    assert image.tolist() == [[0, 127], [255, 63]]
    # All alike: nothing to divide by.
    assert images_of(Dataset(np.full((1, 1, 2, 2), 7, np.float32)))[0].tolist() == [[0, 0], [0, 0]]
    # Of two channels, which are no colors, the first.
    pairs = np.arange(16, dtype=np.uint8).reshape(2, 2, 2, 2)
    assert [image.tolist() for image in images_of(Dataset(pairs))] == pairs[:, 0].tolist()


def test_a_layer_that_stands_twice_in_a_t7_counts_once(tmp_path: Path) -> None:
    shared = linear(4, 4)
    t7.save(sequential(shared, linear(4, 3), shared), tmp_path / "shared.t7")
    layers = sizes_in_t7(tmp_path / "shared.t7")
    assert sum(layer.parameters for layer in layers) == 4 * 4 + 4 + 4 * 3 + 3
    assert sum(layer.bytes for layer in layers) == (tmp_path / "shared.t7").stat().st_size


@pytest.mark.parametrize(("index", "is_there"), [(-1, False), (0, True), (1, True), (2, False)])
def test_an_image_of_a_dataset_is_named_from_0(index: int, is_there: bool, tmp_path: Path) -> None:
    pixels = np.arange(8, dtype=np.uint8).reshape(2, 1, 2, 2)
    data = Dataset(pixels)
    if is_there:
        assert np.array_equal(
            np.asarray(open_image("d.npz", index, lambda name: data)), pixels[index]
        )
        return
    with pytest.raises(PlotError, match=r"no image index=-?\d: they count from 0 to 1"):
        open_image("d.npz", index, lambda name: data)


def test_an_erased_box_has_the_rounded_mean_color(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of 0, 0 and 2 (twice over) the mean is 2/3, whose nearest pixel is 1."""
    image = np.array([[0, 0, 2], [0, 0, 2]], np.uint8)

    def erased(inputs: torch.Tensor, probability: float, seeds: np.ndarray) -> torch.Tensor:
        return torch.zeros_like(inputs)

    monkeypatch.setattr(augmented, "erase", erased)
    shown = with_augmented([Sample(image, ["a"])], Augmentation(erasing=1.0), 0)
    assert len(shown) == 1 + augmented.VERSIONS
    assert np.array_equal(shown[0].image, image)
    for sample in shown[1:]:
        assert (sample.image == 1).all()
