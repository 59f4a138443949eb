"""An error in a forward pass names the layer: its path in Lua and in PyTorch, and what came in."""

from __future__ import annotations

import copy
from pathlib import Path

import numpy as np
import pytest
import torch
from support import FIXTURES

from torchlift.converters import convert, t7
from torchlift.converters.inference.errors import InferenceError
from torchlift.converters.inference.torch_module import run
from torchlift.converters.modules.conversion import lua_paths
from torchlift.converters.modules.forward_errors import explain, note_layer
from torchlift.converters.saved import SavedModel, load, save

MODEL = FIXTURES / "digits" / "digits-lenet5-bn.t7"
TOO_SMALL = (
    r"layer model\.modules\[9\] \(in PyTorch 8\), View\(\[400\]\), got an input of shape "
    r"\(2, 16, 4, 4\) \(Map \(N, …\) to \(N, \*size\), or \(…\) to size\)"
)


def network() -> torch.nn.Module:
    return convert(t7.load(MODEL)).eval()


def test_a_converted_network_names_the_layer() -> None:
    with pytest.raises(RuntimeError, match=TOO_SMALL):
        network()(torch.zeros(2, 1, 28, 28))


def test_a_copy_and_a_saved_model_name_it_too(tmp_path: Path) -> None:
    save(SavedModel(network(), "logits"), tmp_path / "model")
    for model in (copy.deepcopy(network()), load(tmp_path / "model").module):
        with pytest.raises(RuntimeError, match=TOO_SMALL):
            model(torch.zeros(2, 1, 28, 28))


def test_the_command_lines_error_names_it() -> None:
    with pytest.raises(InferenceError, match=TOO_SMALL):
        run(network(), torch.zeros(2, 1, 28, 28))


def test_a_layer_in_a_container_is_named_by_its_whole_path() -> None:
    source = t7.load(FIXTURES / "fuzz" / "written_residual.t7")["module"]
    module = convert(source)
    names = [name for name, layer in module.named_modules() if isinstance(layer, torch.nn.Conv2d)]
    with pytest.raises(RuntimeError) as caught:
        module(torch.zeros(2, 7, 9, 9))
    assert f"(in PyTorch {names[0]})" in caught.value.__notes__[0]


def test_the_innermost_layer_is_named() -> None:
    """Not the container that called it, though that has a name and an input too."""
    inner = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(4, 2))
    model = torch.nn.Sequential(torch.nn.Identity(), torch.nn.Sequential(inner))
    with pytest.raises(RuntimeError) as caught:
        model(torch.zeros(3, 5, 1))
    text = explain(caught.value, model, lambda network: {})
    assert text is not None
    assert text.startswith("layer 1.0.1, Linear(in_features=4")
    assert text.endswith("got an input of shape (3, 5)")


def test_a_pass_without_an_error_is_left_alone() -> None:
    model, images = network(), torch.zeros(1, 1, 32, 32)
    error = ValueError("of the caller")
    try:
        raise error
    except ValueError:
        assert model(images).shape == (1, 10) or model(images).shape == (10,)
    assert not hasattr(error, "__notes__")


def failing(network: torch.nn.Module, width: int) -> RuntimeError:
    with pytest.raises(RuntimeError) as caught:
        network(torch.zeros(1, width))
    return caught.value


def test_an_error_of_the_network_itself_names_no_layer() -> None:
    linear = torch.nn.Linear(4, 2)
    error = failing(linear, 5)
    assert explain(error, linear, lambda network: {}) is None
    assert explain(error, torch.nn.Sequential(linear), lambda network: {"0": "model"}) is not None


def test_a_long_layer_is_named_by_its_class() -> None:
    inner = torch.nn.Sequential(*(torch.nn.Linear(4, 4) for _ in range(9)))
    network = torch.nn.Sequential(torch.nn.Sequential(inner, torch.nn.Tanh()))

    class Failing(torch.nn.Module):
        words = "many words " * 20

        def forward(self, input: torch.Tensor) -> torch.Tensor:
            raise RuntimeError("no")

        def extra_repr(self) -> str:
            return self.words

    network.append(Failing())
    text = explain(failing(network, 4), network, lambda network: {})
    assert text == "layer 1, Failing(…), got an input of shape (1, 4)"


def test_a_note_is_made_once_and_never_while_shapes_are_tried() -> None:
    network = torch.nn.Sequential(torch.nn.Linear(4, 2), torch.nn.Linear(2, 2, device="meta"))
    for parts, count in ((network, 0), (network[:1], 1)):
        notes = []
        try:
            parts(torch.zeros(1, 5))
        except RuntimeError as error:
            for _ in range(2):
                note_layer(lambda network: {}, parts, None, None)
            notes = getattr(error, "__notes__", [])
        assert len(notes) == count


@pytest.mark.parametrize(
    ("shapes", "text"), [([(2,), (3,)], "(2,) and (3,)"), ([], "unknown"), ([(1, 2)], "(1, 2)")]
)
def test_every_input_of_a_layer_is_named(shapes: list[tuple[int, ...]], text: str) -> None:
    class Failing(torch.nn.Module):
        def forward(self, input: list[torch.Tensor]) -> torch.Tensor:
            raise RuntimeError("no")

    network = torch.nn.Sequential(Failing())
    with pytest.raises(RuntimeError) as caught:
        network([torch.zeros(shape) for shape in shapes])
    found = explain(caught.value, network, lambda network: {})
    assert found == f"layer 0, Failing(), got an input of shape {text}"


@pytest.mark.parametrize(("length", "is_whole"), [(120, True), (121, False)])
def test_a_layer_is_shown_up_to_120_characters(length: int, is_whole: bool) -> None:
    words = "x" * (length - len("Failing()"))

    class Failing(torch.nn.Module):
        def forward(self, input: torch.Tensor) -> torch.Tensor:
            raise RuntimeError("no")

        def extra_repr(self) -> str:
            return words

    model = torch.nn.Sequential(Failing())
    text = explain(failing(model, 4), model, lambda network: {})
    assert text is not None
    assert (f"layer 0, Failing({words}), got" in text) is is_whole


def test_layers_inside_a_layer_of_torch7_have_no_path_of_their_own() -> None:
    """`nn.TemporalConvolution` is a layer of PyTorch in another one; a plain network has none."""
    fields = {"inputFrameSize": 2, "outputFrameSize": 3, "kW": 1, "dW": 1}
    weight = np.ones((3, 2), np.float32)
    layer = t7.LuaObject("nn.TemporalConvolution", t7.LuaTable({**fields, "weight": weight}))
    modules = t7.LuaTable({"modules": t7.LuaTable.from_list([layer])})
    network = convert(t7.LuaObject("nn.Sequential", modules))
    assert lua_paths(network) == {"": "model", "0": "model.modules[1]"}
    with pytest.raises(RuntimeError) as caught:
        network(torch.zeros(4, 7))
    assert caught.value.__notes__[0].startswith("layer 0.module, Conv1d(2, 3")
    assert lua_paths(torch.nn.Sequential(torch.nn.Tanh())) == {}
