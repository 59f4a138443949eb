"""What is no figure, no curve, no image and no weight, and names that are what they seem."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from torch import nn

from torchlift.converters.errors import NotFiniteError
from torchlift.converters.saved import SavedModel
from torchlift.transfer.errors import LayerError, PlotError
from torchlift.transfer.plots.curves import read_curve
from torchlift.transfer.plots.figures import check_figure_name, new_figure, save_figure
from torchlift.transfer.plots.tensors import Weights, weights_of
from torchlift.transfer.plots.weights import image_shape, unit_panel


@pytest.mark.parametrize(
    ("name", "start"), [("a.PNG", b"\x89PNG"), ("b.Svg", b"<?xml"), ("c.png", b"\x89PNG")]
)
def test_the_suffix_of_a_figure_may_be_in_any_case(name: str, start: bytes, tmp_path: Path) -> None:
    file = save_figure(new_figure(1, 1), tmp_path / "new" / name)
    assert file.read_bytes().startswith(start)
    assert [*file.parent.iterdir()] == [file]


@pytest.mark.parametrize("name", ["a.pdf", "png", "a.png.txt", ".svg"])
def test_a_figure_of_another_kind_is_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(PlotError, match=r"the name of a figure ends in \.png or \.svg"):
        check_figure_name(Path(name))
    with pytest.raises(PlotError, match=r"the name of a figure ends in \.png or \.svg"):
        save_figure(new_figure(1, 1), tmp_path / name)
    assert not [*tmp_path.iterdir()]


LAYERS = {
    "first": np.ones((2, 1, 3, 3), np.float32),
    "second": np.full((2, 2, 3, 3), np.nan, np.float32),
    "head": np.ones((2, 4), np.float32),
    "tail": np.full((2, 4), np.inf, np.float32),
}


@pytest.mark.parametrize("name", ["second", "second.weight"])
def test_weights_that_are_no_numbers_are_named_whether_or_not_they_are_asked_for(name: str) -> None:
    whole = Weights(LAYERS, None)
    for asked, rank, found in ((None, 4, "first"), ("first.weight", 4, "first"), (None, 2, "head")):
        assert whole.of(asked, rank)[0] == found
    with pytest.raises(NotFiniteError, match=r"second\.weight"):
        whole.of(name, 4)
    for rank, first in ((4, "second"), (2, "tail")):
        damaged = Weights({first: LAYERS[first]}, None)
        with pytest.raises(NotFiniteError, match=rf"{first}\.weight"):
            damaged.of(None, rank)


def test_a_layer_of_another_kind_is_none_though_it_has_weights() -> None:
    network = nn.Sequential(nn.Conv2d(1, 2, 3), nn.Flatten(), nn.Linear(8, 2)).eval()
    whole = weights_of(SavedModel(network, "logits"))
    assert whole.of("get(3)", 2)[0] == whole.of("2.weight", 2)[0] == "2"
    for name in ("2", "get(3)"):
        with pytest.raises(PlotError, match="is no convolution of the network; similar names: 0"):
            whole.of(name, 4)
    with pytest.raises(LayerError):
        whole.of("3", 4)
    # Without any that are similar, the first ones are named.
    for name, similar in (("firs", "first$"), ("0", "first, second$")):
        with pytest.raises(
            PlotError, match=f"is no convolution of .* names: {similar}"
        ):
            Weights(LAYERS, None).of(name, 4)


@pytest.mark.parametrize(
    ("inputs", "given", "expected"),
    [
        (16, None, (1, 4, 4)),
        (75, None, (3, 5, 5)),
        (12, None, (3, 2, 2)),
        (13, None, None),
        (14, None, None),
        (18, (2, 3, 3), (2, 3, 3)),
        (16, (2, 3, 3), None),
    ],
)
def test_values_of_a_square_are_an_image_of_one_or_three_channels(
    inputs: int, given: tuple[int, int, int] | None, expected: tuple[int, int, int] | None
) -> None:
    """Where the size of the network's images is not known; else they are such an image or none."""
    if expected is None:
        with pytest.raises(PlotError, match=f"{inputs} inputs are not the network's image"):
            image_shape(inputs, given)
    else:
        assert image_shape(inputs, given) == expected
        panel, limit = unit_panel("", np.zeros((5, inputs), np.float32), expected)
        assert (len(panel.tiles), limit) == (10 if expected[0] == 2 else 5, "")


@pytest.mark.parametrize(
    "text",
    [
        "epoch,train_loss\n1,0.5,7\n",
        "epoch,train_loss\n1,low\n",
        "epoch,val_loss\n1,0.5\n",
        "epoch,train_loss\n",
        "",
        "\n\n",
    ],
)
def test_a_table_of_other_things_is_no_curve(text: str, tmp_path: Path) -> None:
    (tmp_path / "metrics.csv").write_text(text, encoding="utf-8")
    with pytest.raises(PlotError, match=r"metrics\.csv: "):
        read_curve(tmp_path)
