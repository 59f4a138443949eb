"""Cutting a network behind a layer: when a row is only shortened, and what the rest is kept for."""

from __future__ import annotations

from collections import OrderedDict

import pytest
import torch
from torch import nn

from torchlift.converters.modules.layers.shape import View
from torchlift.converters.saved import SavedModel, UpToLayer
from torchlift.converters.saved.standalone import standalone_source
from torchlift.converters.saved.structure import describe
from torchlift.transfer.features.cut_network import cut_network
from torchlift.transfer.find_layers import find_tap


def named(**layers: nn.Module) -> nn.Sequential:
    return nn.Sequential(OrderedDict(layers))


class Doubled(nn.Sequential):
    """A row with code of its own."""

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        return 2 * super().forward(input)


@pytest.mark.parametrize(
    ("layer", "classes"),
    [
        ("stem", ["Linear"]),
        ("body.first", ["Linear", "Sequential(ReLU)"]),
        ("body.inner", ["Linear", "Sequential(ReLU, Sequential(Linear, Tanh))"]),
        ("body.inner.second", ["Linear", "Sequential(ReLU, Sequential(Linear, Tanh))"]),
        ("penultimate", ["Linear", "Sequential(ReLU, Sequential(Linear, Tanh))"]),
        ("output", ["Linear", "Sequential(ReLU, Sequential(Linear, Tanh))", "Linear"]),
        ("input", []),
    ],
)
def test_rows_within_rows_are_shortened(layer: str, classes: list[str]) -> None:
    """Whatever the names of their layers are; the weights stay the same objects."""
    body = named(first=nn.ReLU(), inner=named(one=nn.Linear(3, 3), second=nn.Tanh()))
    whole = named(stem=nn.Linear(4, 3), body=body, head=nn.Linear(3, 2)).eval()
    cut = cut_network(whole, find_tap(whole, layer), torch.rand(2, 4))

    def shown(module: nn.Module) -> str:
        children = ", ".join(map(shown, module.children()))
        return type(module).__name__ + (f"({children})" if children else "")

    assert [shown(each) for each in cut.children()] == classes
    assert {id(weight) for weight in cut.parameters()} <= {id(w) for w in whole.parameters()}
    inputs = torch.rand(5, 4)
    expected = {
        "stem": lambda: whole.stem(inputs),
        "body.first": lambda: whole.stem(inputs).relu(),
        "input": lambda: inputs,
        "output": lambda: whole(inputs),
    }.get(layer, lambda: whole.body(whole.stem(inputs)))
    assert torch.equal(cut(inputs), expected())


def test_a_row_with_code_of_its_own_is_not_shortened() -> None:
    """What it does with the outputs of its layers would be lost."""
    for whole in (
        Doubled(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2)),
        nn.Sequential(Doubled(nn.Linear(4, 3), nn.ReLU()), nn.Linear(3, 2)),
    ):
        layer = "1" if isinstance(whole, Doubled) else "0.1"
        cut = cut_network(whole.eval(), find_tap(whole, layer), torch.rand(2, 4))
        assert isinstance(cut, UpToLayer)
        inputs = torch.rand(5, 4)
        linear = whole.get_submodule("0" if layer == "1" else "0.0")
        assert torch.equal(cut(inputs), linear(inputs).relu())


@pytest.mark.parametrize("depth", [1, 2, 3])
def test_what_comes_before_the_last_layer_of_a_row_is_kept_however_deep_it_is(depth: int) -> None:
    whole: nn.Module = nn.Sequential(nn.ReLU(), nn.Linear(3, 2))
    for _ in range(depth - 1):
        whole = nn.Sequential(nn.Linear(3, 3), whole)
    tap = find_tap(whole.eval(), "penultimate")
    cut = cut_network(whole, tap, torch.rand(2, 3))
    kinds = [type(module).__name__ for module in cut.modules()]
    assert kinds == ["Sequential", "Linear"] * (depth - 1) + ["Sequential", "ReLU"]


class Rests(nn.Module):
    """Behind its first layer come layers of buffers alone and of nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(4, 3)
        self.statistics = nn.BatchNorm1d(3, affine=False)
        self.nothing = nn.ReLU()

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        return self.nothing(self.statistics(self.first(input)))  # type: ignore[no-any-return]


def test_only_layers_that_hold_numbers_are_left_out_and_nothing_stays_behind() -> None:
    """Parameters or buffers; a layer without any costs nothing. No hook and no grad remains."""
    whole = Rests().eval()
    cut = cut_network(whole, find_tap(whole, "first"), torch.rand(2, 4))
    assert isinstance(cut, UpToLayer)
    assert cut.unused == ["statistics"]
    for module in cut.modules():
        assert not module._forward_hooks
        assert not module._forward_pre_hooks
    assert cut(torch.rand(2, 4)).requires_grad
    assert isinstance(cut.network.get_submodule("nothing"), nn.ReLU)


class Chosen(nn.Module):
    """Does not run without its last layer, whose place it looks at."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(4, 3), nn.Linear(3, 2)

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        return self.last(self.first(input)) + self.last.bias  # type: ignore[no-any-return]


def test_trying_to_run_without_layers_leaves_the_network_as_it_is() -> None:
    whole = Chosen().eval()
    cut = cut_network(whole, find_tap(whole, "first"), torch.rand(2, 4))
    assert isinstance(cut, UpToLayer)
    assert not cut.unused
    assert isinstance(whole.last, nn.Linear)
    assert torch.equal(cut.network(torch.ones(2, 4)), whole(torch.ones(2, 4)))


def test_the_code_of_a_cut_network_has_the_layers_of_what_is_cut() -> None:
    """They stand in an argument of it, and not among its children."""
    cut = UpToLayer(nn.Sequential(View([4]), nn.Linear(4, 2)), "0")
    code = standalone_source(SavedModel(cut, "features"), describe(cut), {})
    assert "class UpToLayer(" in code
    assert "class View(" in code
    assert "nn.Sequential(View([4]), nn.Linear(4, 2))" in code


class Listed(nn.Module):
    """Its layers stand in a list, which is not called itself; the last one is never used."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList([nn.Linear(4, 3), nn.Linear(3, 3), nn.Linear(3, 2)])

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        return self.layers[1](self.layers[0](input).relu())  # type: ignore[no-any-return]


@pytest.mark.parametrize(
    ("layer", "unused"),
    [("layers.0", ["layers.1", "layers.2"]), ("layers.1", ["layers.2"])],
)
def test_layers_of_a_list_are_left_out_one_by_one(layer: str, unused: list[str]) -> None:
    whole = Listed().eval()
    tap = find_tap(whole, layer)
    cut = cut_network(whole, tap, torch.rand(2, 4))
    assert isinstance(cut, UpToLayer)
    assert (cut.before, cut.unused) == (False, unused)


def test_a_network_of_its_own_code_ends_before_its_last_layer() -> None:
    """With the input of that layer, whose weights are not needed."""
    whole = Rests().eval()
    cut = cut_network(whole, find_tap(whole, "penultimate"), torch.rand(2, 4))
    inputs = torch.rand(5, 4)
    assert torch.equal(cut(inputs), inputs)
    assert isinstance(cut, UpToLayer)
    assert (cut.before, cut.unused) == (True, ["first", "statistics"])
    # Where that layer cannot be left out, too.
    chosen = Chosen().eval()
    cut = cut_network(chosen, find_tap(chosen, "penultimate"), torch.rand(2, 4))
    assert torch.equal(cut(inputs), chosen.first(inputs))
