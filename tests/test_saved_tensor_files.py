"""Files of tensors: read and filled in by torch alone, and written so that a full disk is told."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any, BinaryIO

import pytest
import torch
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import nn

from torchlift.converters.saved import SavedModel, load, save, tensor_files
from torchlift.converters.saved.loader import DTYPES, fill, read_tensors


def test_every_type_of_a_tensor_file_is_read_as_safetensors_writes_it(tmp_path: Path) -> None:
    """Also what other programs say of a file in its header."""
    numbers = torch.tensor([[0, 1, 2], [3, 100, 7]])
    tensors = {name: numbers.to(dtype) for name, dtype in DTYPES.items()}
    tensors["empty"], tensors["scalar"] = torch.zeros(0, 4), torch.tensor(-2.5)
    save_file(tensors, tmp_path / "t.safetensors", metadata={"format": "pt"})
    found = read_tensors(tmp_path / "t.safetensors")
    assert found.keys() == tensors.keys()
    for name, tensor in tensors.items():
        assert found[name].dtype == tensor.dtype
        assert torch.equal(found[name], tensor)


def test_tensors_are_filled_in_with_ties_and_statistics_in_evaluation_mode() -> None:
    with torch.device("meta"):
        network = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2), nn.Linear(2, 2)).train()
    names = list(network.state_dict())
    tensors = {
        name: torch.full(value.shape, float(number)).to(value.dtype)
        for number, (name, value) in enumerate(network.state_dict().items())
    }
    del tensors["2.weight"]
    filled: Any = fill(network, dict(tensors), {"2.weight": "0.weight"})
    assert filled[2].weight is filled[0].weight
    assert isinstance(filled[0].weight, nn.Parameter)
    assert not isinstance(filled[1].running_mean, nn.Parameter)
    assert not filled.training
    assert [float(filled.state_dict()[name].flatten()[0]) for name in names] == [
        *(0, 1, 2, 3, 4, 5, 6, 0, 8)
    ]


@pytest.mark.parametrize(
    ("text", "number", "said"),
    [
        ("Error: No space left on device (os error 28)", errno.ENOSPC, os.strerror(28)),
        ("Error: Read-only file system (os error 30)", errno.EROFS, os.strerror(30)),
        ("Error of another kind", None, "Error of another kind"),
    ],
)
def test_a_tensor_file_that_cannot_be_written_is_an_error_of_the_system(
    text: str, number: int | None, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any) -> None:
        raise SafetensorError(text)

    monkeypatch.setattr(tensor_files, "save_file", refuse)
    with pytest.raises(OSError, match=said) as caught:
        tensor_files.write_tensors({"a": torch.zeros(1)}, tmp_path / "t")
    assert caught.value.errno == number
    assert caught.value.strerror == (None if number is None else said)


def test_what_torch_saves_is_written_once_it_is_whole(tmp_path: Path) -> None:
    file = tmp_path / "t.bin"

    def save(stream: BinaryIO) -> None:
        stream.write(b"a part")
        assert not file.exists()
        stream.seek(0)
        stream.write(b"A")

    tensor_files.write_buffered(save, file)
    assert file.read_bytes() == b"A part"
    with pytest.raises(IsADirectoryError):
        tensor_files.write_buffered(lambda stream: None, tmp_path)


def test_weights_that_lie_in_memory_as_columns_are_saved_as_rows(tmp_path: Path) -> None:
    network = nn.Sequential(nn.Linear(3, 4), nn.Conv2d(2, 3, 3))
    network[0].weight = nn.Parameter(torch.randn(3, 4).T)
    network[1].to(memory_format=torch.channels_last)
    assert not any(layer.weight.is_contiguous() for layer in network)
    expected = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    again = load(save(SavedModel(network.eval(), "features"), tmp_path / "m")).module.state_dict()
    assert list(again) == list(expected)
    assert all(torch.equal(again[name], tensor) for name, tensor in expected.items())


def test_what_is_loaded_can_be_trained_and_statistics_stay_what_they_are(tmp_path: Path) -> None:
    network = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4)).eval()
    loaded = load(save(SavedModel(network, "features"), tmp_path / "m")).module
    assert all(isinstance(one, nn.Parameter) and one.requires_grad for one in loaded.parameters())
    assert not any(one.requires_grad for one in loaded.buffers())
    assert [name for name, _ in loaded.named_buffers()] == [
        f"1.{name}" for name in ("running_mean", "running_var", "num_batches_tracked")
    ]
