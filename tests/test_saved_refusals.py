"""What a saved model's files may not hold, and what is told of a network that says little."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from saved_support import tiny
from torch import nn

from torchlift.converters import saved, t7
from torchlift.converters.images import Preprocessing
from torchlift.converters.modules.registry import layer, unregister_module
from torchlift.converters.saved import SavedModel, SavedModelError
from torchlift.converters.saved.shapes import input_hint
from torchlift.converters.saved.structure import build, describe
from torchlift.converters.t7 import LuaObject, LuaTable


@pytest.mark.parametrize(
    ("network", "hint"),
    [
        (nn.Linear(7, 2), "7"),
        (nn.Sequential(nn.Flatten(), nn.Linear(7, 2)), "7"),
        (nn.Conv2d(3, 2, 3), "3x?x?"),
        (nn.BatchNorm2d(4), "4x?x?"),
        (nn.Conv3d(3, 2, 3), "3x?x?x?"),
        (nn.BatchNorm3d(4), "4x?x?x?"),
        (nn.Conv1d(3, 2, 3), "?x3"),
        (nn.LSTM(3, 2), "?x3"),
        (nn.Embedding(9, 2), "?:int64"),
        (nn.Tanh(), ""),
    ],
)
def test_the_first_layer_with_weights_suggests_what_a_network_takes(
    network: nn.Module, hint: str
) -> None:
    assert input_hint(network) == hint


def test_another_resizing_may_be_said_of_a_saved_model(tmp_path: Path) -> None:
    model = tiny()
    model.preprocessing = Preprocessing("gray", size=(8, 8))
    folder = saved.save(model, tmp_path / "m")
    said = saved.open_model(folder, resize="pil-bicubic").preprocessing
    assert said == Preprocessing("gray", size=(8, 8), resize="pil-bicubic")
    assert saved.open_model(folder).preprocessing == model.preprocessing
    with pytest.raises(Exception, match=r"m: std=0\.5 is not the model's own, which is 1"):
        saved.open_model(folder, std=0.5)


@pytest.mark.parametrize("wrong", ["text", "other"])
def test_what_keeps_a_torch7_model_is_read_as_nothing_else(wrong: str, tmp_path: Path) -> None:
    fields = {"weight": torch.ones(2, 3).numpy(), "bias": torch.zeros(2).numpy()}
    file = tmp_path / "n.t7"
    t7.save(LuaObject("nn.Linear", LuaTable(fields)), file)
    folder = saved.save(saved.open_model(file), tmp_path / "m")
    kept = folder / "torch7.t7"
    assert kept.exists()
    assert saved.load(folder).module.in_features == 3
    if wrong == "text":
        kept.write_text("nothing")
    else:
        t7.save(LuaTable({"a": 1}), kept)
    match = r"torch7\.t7" if wrong == "text" else r"torch7\.t7: damaged: a .* was expected"
    with pytest.raises(SavedModelError, match=match):
        saved.save_t7(saved.load(folder), tmp_path / "again.t7")


def test_a_layer_keeps_its_arguments_as_attributes() -> None:
    try:

        @layer
        class Forgetful(nn.Module):
            def __init__(self, size: int, kept: int = 2) -> None:
                super().__init__()
                self.kept = kept

        with pytest.raises(SavedModelError, match=r"^0: Forgetful has no attribute 'size' that"):
            describe(nn.Sequential(Forgetful(3)))
    finally:
        unregister_module(__name__)


def test_a_list_of_modules_is_described_and_built_again() -> None:
    network = nn.Sequential(nn.ModuleList([nn.Linear(2, 3), nn.Tanh()]))
    again: Any = build(describe(network))
    assert isinstance(again[0], nn.ModuleList)
    assert [type(each).__name__ for each in again[0]] == ["Linear", "Tanh"]
    assert isinstance(SavedModel(network, "features").module, nn.Sequential)
