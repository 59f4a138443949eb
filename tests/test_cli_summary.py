"""What the command `summary` says of a network: what fits it, its channels, and paths of Lua."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
from cli_support import shown
from support import FIXTURES

from torchlift.cli.model_options import ModelOptions
from torchlift.cli.summary import _words, summary
from torchlift.converters.input_shapes import parse_inputs
from torchlift.transfer.errors import SummaryError
from torchlift.transfer.networks import NETWORKS


def test_an_input_that_does_not_fit_is_said_with_one_that_does(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    small = parse_inputs("1x4x4")
    with pytest.raises(SummaryError, match=r"; 1×32×32 fits$"):
        summary("lenet5", model_options=ModelOptions(input=small))
    # Where nobody has asked for a size, none is suggested.
    monkeypatch.setattr(
        "torchlift.cli.summary._network", lambda *given: (NETWORKS["lenet5"](), small, [])
    )
    with pytest.raises(SummaryError) as caught:
        summary("lenet5")
    assert "fits" not in str(caught.value)


@pytest.mark.parametrize("channels", [1, 3])
def test_a_built_in_network_has_the_channels_of_its_input(channels: int) -> None:
    options = ModelOptions(input=parse_inputs(f"{channels}x32x32"))
    first = summary("lenet5", model_options=options).data["layers"][0]
    # 6 filters of 5 × 5.
    assert first["parameters"] == 6 * (25 * channels + 1)


def test_only_a_network_of_lua_has_paths_in_lua(tmp_path: Path) -> None:
    of_lua = FIXTURES / "models" / "alexnetowtbn_small.t7"
    copied = Path(shutil.copy(of_lua, tmp_path / "NET.T7"))
    for file in (of_lua, copied):
        assert "Lua path" in shown(summary(str(file)).view)[0]
    assert "Lua path" not in shown(summary("lenet5").view)[0]


@pytest.mark.parametrize("name", ["net.onnx", "NET.ONNX"])
def test_a_graph_has_no_layers_to_sum_up(name: str) -> None:
    with pytest.raises(SummaryError, match=f"^{name} is a graph without layers"):
        summary(name)


def test_a_network_of_a_library_is_no_file() -> None:
    """1,235,496 parameters, as torchvision publishes."""
    assert summary("torchvision:squeezenet1_1").data["parameters"] == 1_235_496


def test_how_each_size_is_computed_stands_between_what_goes_in_and_what_comes_out() -> None:
    """LeNet-5: two convolutions of 5 × 5, each with a pooling of 2 × 2."""
    lines = shown(summary("lenet5", formulas=True).view)
    start = lines.index("layer class input shape output shape how")
    rows = [line.split()[1:4] for line in lines[start + 1 :]]
    assert rows[:2] == [["Conv2d", "3×32×32", "6×28×28"], ["MaxPool2d", "6×28×28", "6×14×14"]]
    assert [row[0] for row in rows[2:]] == ["Conv2d", "MaxPool2d", "Flatten"]
    assert lines[start + 1].endswith(" = 28")


@pytest.mark.parametrize(
    ("shape", "text"),
    [((3, 32, 32), "3×32×32"), ((), "1"), ([(2, 3), (4,)], "2×3, 4"), ([(), [(5,)]], "1, 5")],
)
def test_a_number_for_each_example_has_the_size_1(shape: Any, text: str) -> None:
    assert _words(shape) == text
