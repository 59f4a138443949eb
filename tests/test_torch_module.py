"""A PyTorch network on a device starts or is an error; the user's own module stays as it is."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from torchlift.converters.inference import InferenceError, ProviderError, TorchPredictor
from torchlift.converters.inference.torch_module import inference_copy
from torchlift.converters.saved import SavedModel
from torchlift.transfer.features.extractors import TorchExtractor


def test_too_little_memory_is_a_sentence() -> None:
    class Full(nn.Module):
        def forward(self, input: torch.Tensor) -> torch.Tensor:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB")

    predictor = TorchPredictor(SavedModel(Full(), "logits"), "cpu")
    with pytest.raises(InferenceError, match="too little memory for a batch of 7; run smaller"):
        predictor(np.zeros((7, 1, 2, 2), np.float32))


def test_whatever_a_forward_raises_is_a_sentence() -> None:
    class Divides(nn.Module):
        def forward(self, input: torch.Tensor) -> torch.Tensor:
            return input.reshape(7 // (len(input) - 7))

    with pytest.raises(InferenceError, match=r"inputs of shape \(7, 1, 2, 2\): .*division"):
        TorchPredictor(SavedModel(Divides(), "logits"), "cpu")(np.zeros((7, 1, 2, 2), np.float32))


def test_a_pytorch_device_that_does_not_start_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    model = SavedModel(nn.Linear(2, 2), "logits")
    for name in ("tensorrt", "openvino", "openvino:bf16"):
        with pytest.raises(ProviderError, match=r"is for \.onnx files; PyTorch runs on auto"):
            TorchPredictor(model, name)
        with pytest.raises(ProviderError, match=r"is for \.onnx files; PyTorch runs on auto"):
            TorchExtractor(model, ["input"], name)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ProviderError, match="cuda does not start: PyTorch finds no GPU"):
        TorchPredictor(model, "cuda")


def test_a_copy_on_another_device_leaves_the_model_where_it_is() -> None:
    model = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))
    moved = inference_copy(model, device="meta")
    assert {tensor.device.type for tensor in moved.state_dict().values()} == {"meta"}
    assert {tensor.device.type for tensor in model.state_dict().values()} == {"cpu"}
    # Without need no memory is taken, and what moves the copy leaves the model as it is.
    shared = inference_copy(model, torch.float32, "cpu")
    assert [p.data_ptr() for p in shared.parameters()] == [p.data_ptr() for p in model.parameters()]
    shared.to(torch.float64)
    assert {p.dtype for p in model.parameters()} == {torch.float32}
