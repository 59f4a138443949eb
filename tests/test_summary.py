"""Summaries of networks: against torch's own layers, published counts, and sums by hand."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from support import FIXTURES
from torch import nn
from torchvision.models import get_model, get_model_weights

from torchlift.cli.main import main
from torchlift.cli.summary import summary
from torchlift.converters.modules.layers.container import Concat, ConcatTable
from torchlift.converters.modules.layers.table_arithmetic import CAddTable
from torchlift.converters.saved import open_model
from torchlift.transfer.errors import SummaryError
from torchlift.transfer.find_layers import follow_lua_path
from torchlift.transfer.networks import NETWORKS
from torchlift.transfer.summary import (
    LayerRow,
    Summary,
    formula,
    summarize,
    transposed_size,
    window_count,
)

ALEXNET = str(FIXTURES / "models" / "alexnetowtbn_small.t7")


def rows(summary: Summary) -> dict[str, LayerRow]:
    return {row.torch_path: row for row in summary.layers}


def evaluated(text: str) -> int:
    return int(eval(text.replace("·", "*").replace("−", "-")))


class TestFormula:
    @given(
        size=st.integers(1, 300),
        kernel=st.integers(1, 11),
        stride=st.integers(1, 7),
        padding=st.integers(0, 6),
        dilation=st.integers(1, 3),
    )
    def test_the_size_of_a_convolution_is_that_of_torch(
        self, size: int, kernel: int, stride: int, padding: int, dilation: int
    ) -> None:
        assume(size + 2 * padding >= dilation * (kernel - 1) + 1)
        real = nn.Conv1d(1, 1, kernel, stride, padding, dilation, device="meta")
        output = real(torch.empty(1, 1, size, device="meta"))
        assert output.shape[2] == window_count(size, kernel, stride, padding, dilation)
        text = formula(real, (1, size), tuple(output.shape[1:]))
        assert text is not None
        assert text.endswith(f"= {output.shape[2]}")

    @given(
        size=st.integers(1, 100),
        kernel=st.integers(1, 8),
        stride=st.integers(1, 8),
        padding=st.integers(0, 4),
        average=st.booleans(),
        ceil_mode=st.booleans(),
    )
    def test_the_size_of_a_pooling_layer_is_that_of_torch_in_both_rounding_modes(
        self, size: int, kernel: int, stride: int, padding: int, average: bool, ceil_mode: bool
    ) -> None:
        assume(padding <= kernel // 2 and size + 2 * padding >= kernel)
        kind: Any = nn.AvgPool1d if average else nn.MaxPool1d
        real = kind(kernel, stride, padding, ceil_mode=ceil_mode)
        output = real(torch.empty(1, 1, size, device="meta"))
        counted = window_count(size, kernel, stride, padding, ceil_mode=ceil_mode)
        assert output.shape[2] == counted
        text = formula(real, (1, size), (1, counted))
        assert text is not None
        # The formula is arithmetic that evaluates to the size.
        room, tail = text.removesuffix(f" = {counted}").split(f"/{stride}")
        exact = evaluated(room[1:]) / stride
        assert room[0] + tail[0] == ("⌈⌉" if ceil_mode else "⌊⌋")
        rounded = math.ceil(exact) if ceil_mode else math.floor(exact)
        assert rounded + evaluated(tail[1:]) == counted

    @given(
        size=st.integers(1, 60),
        kernel=st.integers(1, 7),
        stride=st.integers(1, 5),
        padding=st.integers(0, 3),
        dilation=st.integers(1, 2),
        extra=st.integers(0, 3),
    )
    def test_the_size_of_a_transposed_convolution_is_that_of_torch(
        self, size: int, kernel: int, stride: int, padding: int, dilation: int, extra: int
    ) -> None:
        assume(extra < max(stride, dilation))
        sizes = (kernel, stride, padding, dilation, extra)
        assume(transposed_size(size, *sizes) > 0)
        real = nn.ConvTranspose1d(
            1, 1, kernel, stride, padding, extra, dilation=dilation, device="meta"
        )
        output = real(torch.empty(1, 1, size, device="meta"))
        assert output.shape[2] == transposed_size(size, *sizes)
        assert formula(real, (1, size), tuple(output.shape[1:])) is not None

    def test_formulas_as_text(self) -> None:
        first = nn.Conv2d(3, 64, 11, stride=4, padding=2)
        assert (
            formula(first, (3, 224, 224), (64, 55, 55))
            == "⌊(224 + 2·2 − 1·(11 − 1) − 1)/4⌋ + 1 = 55"
        )
        wide = nn.MaxPool2d((1, 2), ceil_mode=True)
        assert formula(wide, (8, 5, 5), (8, 5, 3)) == (
            "H: ⌈(5 + 2·0 − 1·(1 − 1) − 1)/1⌉ + 1 = 5; W: ⌈(5 + 2·0 − 1·(2 − 1) − 1)/2⌉ + 1 = 3"
        )
        past = nn.MaxPool2d(1, 2, ceil_mode=True)
        assert formula(past, (8, 4, 4), (8, 2, 2)) == ("⌈(4 + 2·0 − 1·(1 − 1) − 1)/2⌉ + 1 − 1 = 2")
        same = nn.Conv2d(1, 1, 4, padding="same")
        assert formula(same, (1, 9, 9), (1, 9, 9)) == "9 (padding='same')"
        assert formula(nn.Flatten(), (256, 6, 6), (9216,)) == "256 × 6 × 6 = 9216"
        assert formula(nn.ReLU(), (3, 4, 4), (3, 4, 4)) is None
        # Unpooling follows another rule: no formula is better than a wrong one.
        assert formula(nn.MaxUnpool2d(2), (3, 4, 4), (3, 8, 8)) is None


@pytest.mark.parametrize(
    ("name", "depth"),
    [
        *(("alexnet", 8), ("vgg16", 16), ("resnet50", 50), ("densenet121", 121)),
        *(("mobilenet_v2", 53), ("googlenet", 22), ("vit_b_16", 50)),
    ],
)
def test_counts_are_those_that_torchvision_publishes(name: str, depth: int) -> None:
    """Compare with `_ops` and `num_params` of its weights; a number in a name is the depth."""
    published = next(iter(get_model_weights(name))).meta
    with torch.device("meta"):
        network = get_model(name, weights=None, num_classes=1000)
    if name == "googlenet":  # published without its auxiliary classifiers
        network.aux1 = network.aux2 = None
    summary = summarize(network, (3, 224, 224))
    assert summary.parameters == published["num_params"]
    assert summary.multiply_adds / 1e9 == pytest.approx(published["_ops"], abs=0.0005)
    assert summary.depth == depth
    assert summary.output_shape == (1000,)


def test_multiply_adds_and_bytes_of_a_small_network_are_those_counted_by_hand() -> None:
    summary = summarize(NETWORKS["convnet_bn"](), (3, 32, 32))
    by_name = rows(summary)
    # Each of 8·28·28 outputs is a sum over 3·5·5 products, and so on.
    products = {"0": 8 * 28 * 28 * 75, "4": 16 * 10 * 10 * 200}
    products |= {"9": 400 * 120, "11": 120 * 84, "13": 84 * 10}
    assert {
        row.torch_path: row.multiply_adds for row in summary.layers if row.multiply_adds
    } == products
    assert by_name["0"].parameters == 8 * 75 + 8
    assert by_name["0"].weight_bytes == 4 * (8 * 75 + 8)
    # Weight, bias, mean and variance; and an int64 that counts batches.
    assert by_name["1"].weight_bytes == 4 * 4 * 8 + 8
    assert by_name["3"].output_bytes == 4 * 8 * 14 * 14
    assert summary.depth == 5
    document = summary.to_json()
    layers = document.pop("layers")
    assert document == {
        "input_shape": [3, 32, 32],
        "output_shape": (10,),
        "depth": 5,
        "parameters": sum(each["parameters"] for each in layers),
        "weight_bytes": sum(each["weight_bytes"] for each in layers),
        "output_bytes": sum(each["output_bytes"] for each in layers),
        "multiply_adds": sum(products.values()),
    }
    assert [each["torch_path"] for each in layers] == list(by_name)


def test_every_output_has_the_shape_of_a_real_forward_pass() -> None:
    model = open_model(FIXTURES / "digits" / "digits-lenet5-bn.t7").module
    real: dict[str, tuple[int, ...]] = {}
    for name, layer in model.named_children():
        layer.register_forward_hook(
            lambda _layer, _inputs, output, name=name: real.update({name: tuple(output.shape[1:])})
        )
    model(torch.rand(3, 1, 32, 32))
    summary = summarize(model, (1, 32, 32))
    assert {row.torch_path: row.output_shape for row in summary.layers} == real
    assert not any(parameter.is_meta for parameter in model.parameters())


def test_lua_paths_name_the_same_layers() -> None:
    model = open_model(ALEXNET).module
    summary = summarize(model, (3, 224, 224))
    assert all(follow_lua_path(model, row.lua_path) == row.torch_path for row in summary.layers)
    assert rows(summary)["1.8"].lua_path == "get(2):get(9)"


def test_containers_have_a_row_only_if_they_change_the_output() -> None:
    branches = Concat(nn.Sequential(nn.Conv2d(3, 4, 1)), nn.MaxPool2d(1), dim=1)
    skip = nn.Sequential(ConcatTable(nn.Conv2d(7, 7, 1), nn.Identity()), CAddTable())
    summary = summarize(nn.Sequential(branches, skip), (3, 8, 8))
    assert [(row.torch_path, row.torch_class) for row in summary.layers] == [
        ("0.0.0", "Conv2d"),
        ("0.1", "MaxPool2d"),
        ("0", "Concat"),
        ("1.0.0", "Conv2d"),
        ("1.0.1", "Identity"),
        ("1.0", "ConcatTable"),
        ("1.1", "CAddTable"),
    ]
    assert rows(summary)["0"].output_shape == (7, 8, 8)
    assert rows(summary)["1.0"].output_shape == [(7, 8, 8), (7, 8, 8)]
    assert summary.depth == 2


def test_the_parameters_of_shared_layers_count_once() -> None:
    shared, separate = (
        summarize(NETWORKS[name](), (3, 32, 32)) for name in ("net_res_deep_shared", "net_res_deep")
    )
    assert shared.multiply_adds == separate.multiply_adds
    assert separate.parameters - shared.parameters == 9 * (32 * 32 * 9 + 2 * 32)
    assert len(shared.layers) == len(separate.layers)


def test_parameters_that_no_child_uses_belong_to_their_owner() -> None:
    """nn.MultiheadAttention uses the weights of its output layer without running it."""
    network = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
    summary = summarize(network, (5, 8))
    assert summary.parameters == sum(parameter.numel() for parameter in network.parameters())
    assert rows(summary)["self_attn"].parameters == 8 * 24 + 24 + 8 * 8 + 8


class Correlated(nn.Module):
    """Multiplies its input with itself, then returns what its layer returns."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Linear(5, 2, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.inner(x @ x.transpose(1, 2))  # type: ignore[no-any-return]  # torch's own


def test_multiply_adds_that_no_child_does_belong_to_their_owner() -> None:
    """Though it has no parameters, and its output is that of its last child."""
    summary = summarize(nn.Sequential(Correlated(), nn.Sequential(nn.ReLU())), (5, 8))
    assert [(row.torch_path, row.multiply_adds) for row in summary.layers] == [
        ("0.inner", 5 * 5 * 2),
        ("0", 5 * 5 * 8),
        ("1.0", 0),
    ]
    assert summary.multiply_adds == 5 * 5 * (2 + 8)


def test_an_error_names_the_layer_that_does_not_accept_the_input() -> None:
    with pytest.raises(SummaryError, match=r"does not take 3×20×20: layer 7, Linear\("):
        summarize(NETWORKS["convnet"](), (3, 20, 20))


def printed(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    code = main(["summary", *words])
    captured = capsys.readouterr()
    return captured.out if code == 0 else captured.err


def test_the_command_shows_why_alexnet_flattens_to_9216(capsys: pytest.CaptureFixture[str]) -> None:
    text = printed(capsys, "alexnet_owt_bn", "--formulas")
    assert "256 × 6 × 6 = 9216" in text
    assert "⌊(224 + 2·2 − 1·(11 − 1) − 1)/4⌋ + 1 = 55" in text
    assert "61,119,528" in text


def test_the_command_takes_files_and_prints_json(
    capsys: pytest.CaptureFixture[str],
) -> None:
    facts = json.loads(printed(capsys, ALEXNET, "--json"))
    assert facts["input_shape"] == [3, 224, 224]
    assert facts["parameters"] == sum(row["parameters"] for row in facts["layers"])
    assert facts["multiply_adds"] == sum(row["multiply_adds"] for row in facts["layers"])
    first, last = facts["layers"][0], facts["layers"][-1]
    assert (first["torch_path"], first["lua_path"]) == ("0.0", "get(1):get(1)")
    assert first["torch_class"] == "Conv2d"
    assert first["kernel_size"] == [11, 11]
    assert last["output_shape"] == [100]
    assert "get(2):get(9)" in printed(capsys, ALEXNET)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["convnet", "--input", "3x20x20"], "does not take 3×20×20: layer 7, Linear("),
        ([ALEXNET, "--classes", "3"], "--classes is for built-in networks"),
        (["no_such_network"], "no_such_network"),
        (["model.onnx"], "give the model that it was exported from"),
    ],
)
def test_what_cannot_be_summarized_is_refused(
    words: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert message in printed(capsys, *words)


def test_an_invalid_shape_is_a_usage_error(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_:
        main(["summary", "convnet", "--input", "3xBIG"])
    assert exit_.value.code == 2
    assert "a shape such as 3x224x224" in capsys.readouterr().err


def test_the_channels_and_classes_of_a_built_in_network_can_be_chosen(
    capsys: pytest.CaptureFixture[str],
) -> None:
    facts = json.loads(printed(capsys, "lenet5", "--input", "1x32x32", "--classes", "3", "--json"))
    assert facts["input_shape"] == [1, 32, 32]
    assert facts["output_shape"] == [3]


def test_a_network_of_any_size_says_what_its_first_layer_takes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for layer, hint in ((nn.Conv2d(5, 3, 3), "; the first layer suggests '5x"), (nn.ReLU(), "")):
        monkeypatch.setattr(
            "torchlift.cli.summary._network", lambda *_, layer=layer: (layer, None, [])
        )
        with pytest.raises(SummaryError) as refused:
            summary("m.t7")
        said = "m.t7 takes inputs of more than one size: give input='SIZE'"
        assert str(refused.value).startswith(said + hint)
        assert ("suggests" in str(refused.value)) == bool(hint)


class Refuses(nn.Module):
    """Fails before it runs a layer, or behind one."""

    def __init__(self, first: bool) -> None:
        super().__init__()
        self.inner, self.first = nn.Linear(4, 2), first

    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        if self.first or self.inner(x).shape[-1] == 2:
            raise ValueError("nothing fits\nhere")
        return {}


@pytest.mark.parametrize("first", [True, False])
def test_an_error_of_the_network_itself_is_of_none_of_its_layers(first: bool) -> None:
    """A layer that has ended is not to blame; one in which it was raised is named."""
    with pytest.raises(SummaryError, match=r"^the network does not take 4: Refuses: nothing fits$"):
        summarize(Refuses(first), (4,))
    with pytest.raises(SummaryError, match=r"does not take 4: layer 0, Refuses\("):
        summarize(nn.Sequential(Refuses(first)), (4,))


def test_the_shapes_of_a_layer_with_named_outputs_are_those_of_each() -> None:
    class Named(nn.Module):
        def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
            return {"pixels": x, "mean": x.mean(-1)}

    class Summed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.named = Named()

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            found: dict[str, torch.Tensor] = self.named(x)
            return found["pixels"].sum(-1) + found["mean"]

    summary = summarize(Summed(), (5, 4))
    assert [row.output_shape for row in summary.layers] == [[(5, 4), (5,)], (5,)]
