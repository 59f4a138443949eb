"""`.pt2` and `.t7` of a model: what they take, what they carry, and what a failure leaves."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from saved_support import tiny
from torch import nn

from torchlift.converters import t7
from torchlift.converters.errors import WriteError
from torchlift.converters.input_shapes import parse_inputs
from torchlift.converters.modules.errors import ConversionError
from torchlift.converters.saved import SavedModel, SavedModelError, save_pt2, save_t7
from torchlift.converters.saved.folder import metadata


class Both(nn.Module):
    """It adds a vector to each step of a sequence, whose batch is not in front."""

    def forward(self, inputs: list[torch.Tensor]) -> torch.Tensor:
        vector, sequence = inputs
        return sequence + vector.sum(1)


def test_free_axes_and_the_batch_are_free_wherever_they_are(tmp_path: Path) -> None:
    model = SavedModel(Both(), "features")
    model.set_inputs(parse_inputs("3,?xN"))
    program = torch.export.load(save_pt2(model, tmp_path / "m.pt2")).module()
    for batch, steps in ((2, 5), (7, 3), (4, 40)):
        inputs = [torch.rand(batch, 3), torch.rand(steps, batch)]
        assert torch.equal(program(inputs), Both()(inputs))


def test_a_free_axis_is_tried_with_a_size_that_the_network_takes(tmp_path: Path) -> None:
    """Most networks take 64; this one needs more."""
    network = nn.Sequential(nn.Conv2d(1, 1, 100), nn.AdaptiveAvgPool2d(1)).eval()
    model = SavedModel(network, "features")
    model.set_inputs(parse_inputs("1x?x?"))
    program = torch.export.load(save_pt2(model, tmp_path / "m.pt2")).module()
    for size in (101, 131):
        images = torch.rand(3, 1, size, size + 2)
        torch.testing.assert_close(program(images), network(images))


def test_a_network_is_written_at_rest_with_all_that_is_known(tmp_path: Path) -> None:
    model = tiny(labels=["zéro", "b", "c"], notes=["a note"])
    model.module.append(nn.Dropout(0.9))
    model.module.train()
    file = save_pt2(model, tmp_path / "m.pt2")
    extra = {"config.json": ""}
    program = torch.export.load(file, extra_files=extra).module()
    images = torch.rand(3, 1, 8, 8)
    torch.testing.assert_close(program(images), model.module[:-1](images))
    said = json.loads(extra["config.json"])
    assert said == json.loads(json.dumps(metadata(model)))
    assert (said["labels"], said["input_shape"]) == (["zéro", "b", "c"], [1, 8, 8])
    assert "zéro" in extra["config.json"]


def test_numbers_of_tokens_stay_whole_numbers(tmp_path: Path) -> None:
    network = nn.Sequential(nn.Embedding(7, 3), nn.Linear(3, 2)).double().eval()
    model = SavedModel(network, "features")
    model.set_inputs(parse_inputs("?:int64"))
    program = torch.export.load(save_pt2(model, tmp_path / "m.pt2")).module()
    tokens = torch.tensor([[0, 6, 3, 1, 2]])
    torch.testing.assert_close(program(tokens), network(tokens))


class Decides(nn.Module):
    """Its code goes by a value, which no graph can."""

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        return input if input.sum().item() > 0 else -input


def test_a_network_that_cannot_be_traced_leaves_the_file_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "m.pt2"
    file.write_bytes(b"mine")
    model = SavedModel(Decides(), "features", (1, 2, 2))
    with pytest.raises(SavedModelError, match=r"m\.pt2: torch\.export cannot trace the network: "):
        save_pt2(model, file, overwrite=True)
    with pytest.raises(WriteError, match="already exists"):
        save_pt2(tiny(), file)

    def cut(_: Any, stream: Any, **__: Any) -> None:
        stream.write(b"a part")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(torch.export, "save", cut)
    with pytest.raises(WriteError, match="No space left"):
        save_pt2(tiny(), file, overwrite=True)
    assert file.read_bytes() == b"mine"
    assert [path.name for path in tmp_path.iterdir()] == ["m.pt2"]


def test_a_t7_needs_the_shape_of_what_is_flattened_and_replaces_nothing_unasked(
    tmp_path: Path,
) -> None:
    file = save_t7(tiny(), tmp_path / "m.t7")
    view = t7.load(file)["modules"][3]
    assert view.class_name == "nn.View"
    assert view["size"].tolist() == [72]
    before = file.read_bytes()
    with pytest.raises(WriteError, match=r"m\.t7 already exists; overwrite=True"):
        save_t7(tiny(), file)
    unknown = tiny()
    unknown.input_shape = None
    with pytest.raises(ConversionError):
        save_t7(unknown, file, overwrite=True)
    assert file.read_bytes() == before
    other = tiny()
    nn.init.zeros_(other.module[3].bias)
    save_t7(other, file, overwrite=True)
    assert t7.load(file)["modules"][4]["bias"].tolist() == [0, 0, 0]
