"""What is no figure, no curve, no image and no weight, and names that are what they seem."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from plots_support import model_of
from torch import nn

from torchlift.converters.errors import NotFiniteError
from torchlift.converters.saved import SavedModel
from torchlift.transfer.errors import LayerError, PlotError
from torchlift.transfer.plots.curves import read_curve
from torchlift.transfer.plots.figures import check_figure_name, new_figure, save_figure
from torchlift.transfer.plots.tensors import Weights, weights_of, weights_of_file
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
        with pytest.raises(PlotError, match=f"is no convolution of .* names: {similar}"):
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


class Buffered(nn.Module):
    """What it calls its weight is no parameter."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("weight", torch.ones(2, 2))


def test_weights_are_the_parameters_of_convolutions_and_linear_layers() -> None:
    """As float32, whatever they are kept as; a batch normalization has none of them."""
    network = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), Buffered(), nn.Linear(2, 2))
    model = SavedModel(network.half(), "logits", (1, 3, 3), ["a", "b"], notes=["n"])
    found = weights_of(model)
    assert list(found.layers) == ["0", "3"]
    assert {array.dtype for array in found.layers.values()} == {np.dtype("float32")}
    assert np.array_equal(found.layers["3"], network[3].weight.detach().float().numpy())
    assert (found.input_shape, found.labels, found.notes) == ((1, 3, 3), ["a", "b"], ["n"])
    assert found.network is network


@pytest.mark.parametrize("kind", ["Transpose", "DequantizeLinear", "Constant"])
def test_weights_of_a_file_that_are_computed_are_not_guessed(kind: str, tmp_path: Path) -> None:
    make = onnx.helper.make_node
    before = {
        "Transpose": [make("Transpose", ["w"], ["t"])],
        "DequantizeLinear": [make("DequantizeLinear", ["x", "s"], ["t"])],
        "Constant": [make("Constant", [], ["t"], value_floats=[1.0, 2.0])],
    }[kind]
    nodes = [*before, make("MatMul", ["x", "t"], ["z"]), make("MatMul", ["z", "v"], ["y"])]
    ones = np.ones((2, 2), np.float32)
    model = model_of(nodes, ["n", 2], w=ones, v=ones, s=np.array(1, np.float32))
    onnx.save(model, tmp_path / "m.onnx")
    assert list(weights_of_file(tmp_path / "m.onnx").layers) == ["v"]
