"""A PyTorch network on a device starts or is an error; the user's own module stays as it is."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from torchlift.converters.inference import (
    InferenceError,
    ProviderError,
    TorchPredictor,
    torch_module,
)
from torchlift.converters.inference.torch_module import _is_on, as_inputs, inference_copy, run
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


@pytest.mark.parametrize(
    ("provider", "has_gpu", "device"),
    [
        *(("auto", False, "cpu"), ("auto", True, "cuda"), ("cpu", True, "cpu")),
        *(("cuda", True, "cuda"), ("cuda:1", True, "cuda:1")),
    ],
)
def test_a_network_is_copied_to_the_device_that_is_asked_for(
    provider: str, has_gpu: bool, device: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    copied: list[Any] = []

    def copy(module: nn.Module, *_: Any, device: Any) -> nn.Module:
        copied.append(device)
        return module

    monkeypatch.setattr(torch.cuda, "is_available", lambda: has_gpu)
    monkeypatch.setattr(torch_module, "inference_copy", copy)
    predictor = TorchPredictor(SavedModel(nn.Linear(2, 2), "logits"), provider)
    assert (copied, predictor.provider) == ([device], f"PyTorch ({device})")


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


def test_inputs_get_the_dtype_of_the_first_number_with_a_fraction() -> None:
    """Also that of a buffer; numbers of classes, words or pixels stay whole."""
    module = nn.Module()
    module.register_buffer("count", torch.zeros(1, dtype=torch.int64))
    arrays = {"x": np.ones(2, np.float32), "list": [np.arange(3), torch.ones(1).half()]}
    for dtype in (torch.float32, torch.float64):
        found = as_inputs(module, arrays)
        assert (found["x"].dtype, found["list"][0].dtype) == (dtype, torch.int64)
        assert found["list"][1].dtype == dtype
        module.register_buffer("mean", torch.zeros(1, dtype=torch.float64))
    module.weight = nn.Parameter(torch.zeros(1, dtype=torch.float16))
    assert as_inputs(module, arrays["x"]).dtype == torch.float16


def test_a_copy_in_another_precision_has_whole_numbers_as_they_were() -> None:
    model = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))
    copy = inference_copy(model, torch.float64)
    kinds = {name: tensor.dtype for name, tensor in copy.state_dict().items()}
    assert kinds.pop("1.num_batches_tracked") == torch.int64
    assert set(kinds.values()) == {torch.float64}
    assert {p.dtype for p in model.parameters()} == {torch.float32}
    same = inference_copy(model, torch.float32, "cpu:0")
    assert same[0].weight.dtype == torch.float32


@pytest.mark.parametrize(
    ("device", "is_there"),
    [(None, True), ("cuda", True), ("cuda:1", True), ("cuda:0", False), ("cpu", False)],
)
def test_a_gpu_without_a_number_is_any(device: str | None, is_there: bool) -> None:
    tensor: Any = SimpleNamespace(device=torch.device("cuda:1"))
    assert _is_on(tensor, None if device is None else torch.device(device)) is is_there


@pytest.mark.parametrize("error", [IndexError, KeyError, ValueError, TypeError, RuntimeError])
def test_an_error_of_a_layer_says_what_it_was_given(error: type[Exception]) -> None:
    class Fails(nn.Module):
        def forward(self, input: torch.Tensor) -> torch.Tensor:
            raise error("no such place")

    predictor = TorchPredictor(SavedModel(Fails(), "logits"), "cpu")
    with pytest.raises(InferenceError, match=r"inputs of shape \(2, 3\): .*no such place"):
        predictor(np.zeros((2, 3), np.float32))


@pytest.mark.parametrize("words", [(), ("",), ("\n",)])
def test_an_error_of_a_layer_without_words_is_named_by_its_class(words: tuple[str, ...]) -> None:
    """As `assert` and many libraries raise them."""

    class Fails(nn.Module):
        def forward(self, input: torch.Tensor) -> torch.Tensor:
            raise RuntimeError(*words)

    predictor = TorchPredictor(SavedModel(Fails(), "logits"), "cpu")
    with pytest.raises(InferenceError, match=r"inputs of shape \(2, 3\): RuntimeError"):
        predictor(np.zeros((2, 3), np.float32))


def test_outputs_remember_nothing_of_how_they_were_computed() -> None:
    """A network whose weights may still be trained keeps no graph of a pass."""
    network = nn.Linear(2, 3)
    (output,) = run(network, torch.ones(1, 2))
    assert not output.requires_grad
    assert torch.is_grad_enabled()
    scores = TorchPredictor(SavedModel(network, "logits"), "cpu")(np.ones((1, 2), np.float32))
    np.testing.assert_allclose(scores, output.numpy(), rtol=1e-6)
