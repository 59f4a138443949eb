"""Rules of summaries that most networks do not show: dtypes, several inputs, texts of layers."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from torchlift.converters.input_shapes import parse_inputs
from torchlift.transfer.errors import SummaryError
from torchlift.transfer.find_layers import follow_lua_path
from torchlift.transfer.summary import formula, summarize


class Trained(nn.Module):
    """Gives more while it is trained, as GoogLeNet does."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Linear(4, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor | list[torch.Tensor]:
        found: torch.Tensor = self.inner(x)
        return [found, found] if self.training else found + 1


def test_a_network_is_summarized_at_rest_and_stays_as_it_was() -> None:
    network = Trained().train()
    network.inner.weight.data.fill_(2)
    summary = summarize(network, (4,))
    assert summary.output_shape == (3,)
    assert network.training
    assert network.inner.weight[0, 0] == 2
    assert not network.inner._forward_hooks
    assert not network.inner._forward_pre_hooks


@pytest.mark.parametrize(
    ("dtype", "width"), [(torch.float64, 8), (torch.float32, 4), (torch.float16, 2)]
)
def test_bytes_are_those_of_the_networks_numbers(dtype: torch.dtype, width: int) -> None:
    """Of its first parameter that is no whole number."""
    network = nn.Sequential(nn.ReLU(), nn.Linear(4, 3)).to(dtype)
    network.register_parameter("count", nn.Parameter(torch.ones(1, dtype=torch.int64), False))
    rows = summarize(network, (5, 4)).layers
    assert [row.output_bytes for row in rows[:2]] == [5 * 4 * width, 5 * 3 * width]
    assert rows[1].weight_bytes == (4 * 3 + 3) * width


class Several(nn.Module):
    """Takes an image and the number of a word; its layers get them in several ways."""

    def __init__(self) -> None:
        super().__init__()
        self.words = nn.Embedding(9, 4)
        self.join = nn.Bilinear(4, 4, 2)
        self.heads = nn.ModuleDict({"one": nn.Linear(2, 3)})

    def forward(self, given: list[torch.Tensor]) -> dict[str, torch.Tensor]:
        image, word = given
        joined = self.join(image, self.words(word))
        return {"one": self.heads["one"](joined), "two": joined}


def test_a_network_of_several_inputs_has_their_shapes() -> None:
    """Numbers of words are whole ones, one for each example."""
    summary = summarize(Several(), parse_inputs("4, scalar:int64"))
    assert summary.input_shape == [(4,), ()]
    assert summary.output_shape == [(3,), (2,)]
    rows = {row.torch_path: row for row in summary.layers}
    assert (rows["words"].input_shape, rows["words"].output_shape) == ((), (4,))
    assert rows["join"].input_shape == [(4,), (4,)]
    assert (rows["join"].formula, rows["join"].parameters) == (None, 2 * 4 * 4 + 2)
    assert rows["heads.one"].lua_path == "get(3):get(1)"
    document = summary.to_json()
    assert (document["input_shape"], document["parameters"]) == ([[4], []], 36 + 34 + 9)


def test_a_free_axis_has_a_size_with_which_the_network_runs() -> None:
    """An image of any size is one that the layers take."""
    network = nn.Sequential(nn.Conv2d(1, 2, 5), nn.MaxPool2d(2), nn.Flatten(2), nn.Flatten())
    summary = summarize(network, parse_inputs("1x?x?"))
    (channels, height, width) = summary.input_shape
    assert channels == 1
    assert isinstance(height, int)
    assert height == width >= 6
    side = (height - 4) // 2
    assert summary.output_shape == (2 * side * side,)
    with pytest.raises(SummaryError, match=r"the network does not take 3×\?×\?: "):
        summarize(network, parse_inputs("3x?x?"))


def test_a_row_says_how_its_layer_was_made() -> None:
    network = nn.Sequential(nn.Conv2d(1, 2, (3, 2), bias=False), nn.MaxPool2d(2), nn.Flatten())
    rows = summarize(network, (1, 8, 7)).layers
    assert [row.kernel_size for row in rows] == [[3, 2], [2], None]
    assert rows[0].settings == "1, 2, kernel_size=(3, 2), stride=(1, 1), bias=False"
    assert [row.lua_path for row in rows] == ["get(1)", "get(2)", "get(3)"]
    assert summarize(nn.Linear(2, 2), (2,)).layers[0].lua_path == ""


def test_a_layer_that_runs_again_is_counted_once_and_costs_twice() -> None:
    shared = nn.Linear(4, 4)
    summary = summarize(nn.Sequential(shared, nn.ReLU(), shared), (4,))
    assert [row.parameters for row in summary.layers] == [20, 0, 0]
    # Its name is the first one, as in the list of its weights.
    assert [row.torch_path for row in summary.layers] == ["0", "1", "0"]
    assert [row.weight_bytes for row in summary.layers] == [80, 0, 0]
    assert [row.multiply_adds for row in summary.layers] == [16, 0, 16]
    assert summary.depth == 2


class Crossed(nn.Module):
    """Two ways to the sum: one layer deep, and three; a product of results is no layer."""

    def __init__(self) -> None:
        super().__init__()
        self.short = nn.Linear(4, 4)
        self.long = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 4))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        both: torch.Tensor = self.short(x) @ self.long(x).transpose(1, 2)
        return both


class Shifted(nn.Module):
    """A product of its input with itself, to which numbers are added in the same step."""

    def __init__(self) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(2))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.addmm(self.bias, x, x.t())


def test_the_depth_is_that_of_the_longest_way_and_of_weights_alone() -> None:
    summary = summarize(Crossed(), (5, 4))
    assert summary.depth == 3
    assert summary.multiply_adds == 4 * (5 * 4 * 4) + 5 * 5 * 4
    assert summarize(nn.Sequential(nn.ReLU(), nn.Flatten()), (2, 3)).depth == 0
    # A bias alone is no layer.
    shifted = summarize(Shifted(), (4,))
    assert (shifted.depth, shifted.multiply_adds) == (0, 2 * 2 * 4 // 2)


@pytest.mark.parametrize(
    ("layer", "shapes", "text"),
    [
        (
            nn.ConvTranspose2d(2, 1, 4, stride=2, padding=1, output_padding=1, dilation=3),
            ((2, 7, 7), (1, 21, 21)),
            "(7 − 1)·2 − 2·1 + 3·(4 − 1) + 1 + 1 = 21",
        ),
        (
            nn.Conv2d(1, 1, 3, padding="valid", dilation=2),
            ((1, 9, 9), (1, 5, 5)),
            "⌊(9 + 2·0 − 2·(3 − 1) − 1)/1⌋ + 1 = 5",
        ),
        (
            nn.Conv3d(1, 1, (1, 2, 3), stride=(1, 2, 3)),
            ((1, 4, 4, 9), (1, 4, 2, 3)),
            "T: ⌊(4 + 2·0 − 1·(1 − 1) − 1)/1⌋ + 1 = 4; H: ⌊(4 + 2·0 − 1·(2 − 1) − 1)/2⌋ + 1 = 2; "
            "W: ⌊(9 + 2·0 − 1·(3 − 1) − 1)/3⌋ + 1 = 3",
        ),
        (nn.AvgPool1d(2, ceil_mode=True), ((1, 6), (1, 3)),
         "⌈(6 + 2·0 − 1·(2 − 1) − 1)/2⌉ + 1 = 3"),
        (nn.MaxPool1d(2, stride=2, dilation=3, ceil_mode=True), ((1, 5), (1, 2)),
         "⌈(5 + 2·0 − 3·(2 − 1) − 1)/2⌉ + 1 = 2"),
        # What is not flattened, or has no channels, has no formula.
        (nn.Linear(6, 6), ((6,), (6,)), None),
        (nn.Linear(6, 5), ((1, 6), (5,)), None),
        (nn.Conv2d(1, 1, 3), ((1, 9, 9), (1, 8, 8)), None),
    ],
)  # fmt: skip
def test_the_formula_of_a_layer_has_its_own_numbers(
    layer: nn.Module, shapes: tuple[tuple[int, ...], tuple[int, ...]], text: str | None
) -> None:
    assert formula(layer, *shapes) == text


class Summed(nn.Module):
    """Gives one result for all examples."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.sum(0)


def test_an_output_of_all_examples_together_has_all_of_its_axes() -> None:
    """Only a batch in front is left out."""
    summary = summarize(nn.Sequential(nn.ReLU(), Summed()), (5, 4))
    assert [row.output_shape for row in summary.layers] == [(5, 4), (5, 4)]


def test_results_of_a_layer_that_are_several_have_their_shapes() -> None:
    """A recurrent layer gives its outputs, and the pair of its last states."""
    summary = summarize(nn.LSTM(3, 4, batch_first=True), (5, 3))
    assert summary.output_shape == [(5, 4), [(1, 2, 4), (1, 2, 4)]]
    (row,) = summary.layers
    assert row.output_shape == summary.output_shape
    assert row.output_bytes == 4 * (5 * 4 + 2 * 4)
    assert row.formula is None


class Pair(nn.Module):
    """Gives a deep result before a shallow one."""

    def __init__(self) -> None:
        super().__init__()
        self.near, self.far = nn.Linear(4, 4), nn.Linear(4, 2)

    def forward(self, x: torch.Tensor) -> list[torch.Tensor]:
        near = self.near(x)
        return [self.far(near), near, x]


def test_the_depth_of_several_results_is_that_of_the_deepest() -> None:
    summary = summarize(Pair(), (4,))
    assert summary.depth == 2
    assert summary.output_shape == [(2,), (4,), (4,)]


class Holder(nn.Module):
    """Hands on what its layer gives, and has a number that it does not use there."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.inner = nn.Linear(4, 3)
        if kind == "parameter":
            self.extra = nn.Parameter(torch.zeros(5))
        elif kind == "buffer":
            self.register_buffer("extra", torch.zeros(5))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        found: torch.Tensor = self.inner(x)
        return found


@pytest.mark.parametrize(
    ("kind", "rows"),
    [
        ("none", [("inner", 15, 60)]),
        ("parameter", [("inner", 15, 60), ("", 5, 20)]),
        ("buffer", [("inner", 15, 60), ("", 0, 20)]),
    ],
)
def test_a_container_has_a_row_for_numbers_of_its_own(
    kind: str, rows: list[tuple[str, int, int]]
) -> None:
    found = summarize(Holder(kind), (4,)).layers
    assert [(row.torch_path, row.parameters, row.weight_bytes) for row in found] == rows


class WithoutAuxiliary(nn.Module):
    """Has an empty place, as GoogLeNet without its auxiliary heads."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(4, 4), nn.Linear(4, 4)
        self._modules = {"first": self.first, "aux": None, "last": self.last}

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        last: torch.Tensor = self.last(self.first(x))
        return last


def test_a_lua_path_leads_to_its_layer_where_another_was_taken_away() -> None:
    """An empty place is no child: `extract` would take the features of another layer."""
    network = WithoutAuxiliary()
    paths = {row.torch_path: row.lua_path for row in summarize(network, (4,)).layers}
    assert {path: follow_lua_path(network, lua) for path, lua in paths.items()} == {
        path: path for path in ("first", "last")
    }


class Halved(nn.Module):
    """Goes on with the second of two halves."""

    def __init__(self) -> None:
        super().__init__()
        self.near, self.far = nn.Linear(4, 6), nn.Linear(3, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        far: torch.Tensor = self.far(self.near(x).chunk(2, dim=1)[1])
        return far


def test_each_result_of_a_step_has_its_depth() -> None:
    assert summarize(Halved(), (4,)).depth == 2


@pytest.mark.parametrize(
    ("input", "output"), [((4,), (4,)), ((1, 4), (1, 2, 2)), ((1,) * 5, (1,) * 5)]
)
def test_windows_of_other_axes_have_no_formula(
    input: tuple[int, ...], output: tuple[int, ...]
) -> None:
    assert formula(nn.MaxPool1d(1), input, output) is None
    assert formula(nn.MaxPool1d(1), (2, 4), (2, 4)) is not None
