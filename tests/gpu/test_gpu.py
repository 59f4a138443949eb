"""On a machine with CUDA: where a network runs changes neither the numbers nor the user's objects.

Without a GPU all of it is skipped. `make gpu` runs it, and measures.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from support import FIXTURES
from torch import nn

from torchlift.cli.main import main
from torchlift.converters.inference import (
    InferenceError,
    OnnxPredictor,
    ProviderError,
    TorchPredictor,
    provider_problem,
)
from torchlift.converters.inference import providers as runtime
from torchlift.converters.inference.provider_options import requested_providers
from torchlift.converters.onnx import check, export
from torchlift.converters.saved import SavedModel, load, open_model

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]

CIFAR = FIXTURES / "cifar" / "cifar-convnet-bn.t7"


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> tuple[SavedModel, Path]:
    model = open_model(CIFAR)
    path = tmp_path_factory.mktemp("gpu") / "cifar.onnx"
    export(model, path)
    return model, path


def inputs(count: int = 8) -> np.ndarray:
    return np.random.default_rng(0).standard_normal((count, 3, 32, 32), np.float32)


@pytest.mark.parametrize("provider", ["cuda", "tensorrt"])
def test_the_gpu_gives_what_the_cpu_gives(provider: str, exported: tuple[SavedModel, Path]) -> None:
    if provider == "tensorrt" and provider_problem("tensorrt"):
        pytest.skip("TensorRT is not installed")
    model, path = exported
    report = check(model, path, inputs(), provider=provider)
    # The line `provider` fails if a node with weights ran elsewhere.
    assert report.passed, list(report.lines())
    expected = OnnxPredictor(path, "cpu")(inputs())
    actual = OnnxPredictor(path, provider)(inputs())
    # Sums in another order, without TF32.
    np.testing.assert_allclose(actual, expected, atol=1e-3 * np.abs(expected).max())


def test_a_provider_that_falls_back_is_an_error(
    exported: tuple[SavedModel, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runtime, "requested_providers", lambda *_: ["CPUExecutionProvider"])
    with pytest.raises(ProviderError, match="cuda does not start"):
        runtime.open_session(exported[1], "cuda")
    monkeypatch.setattr(runtime, "requested_providers", requested_providers)
    assert provider_problem("cuda") is None


def test_the_users_module_is_not_moved(exported: tuple[SavedModel, Path]) -> None:
    model, path = exported
    before = {name: tensor.data_ptr() for name, tensor in model.module.state_dict().items()}
    predictor = TorchPredictor(model, "cuda")
    check(model, path, inputs(), provider="cuda")
    on_cpu = TorchPredictor(model, "cpu")(inputs())
    scale = np.abs(on_cpu).max()
    np.testing.assert_allclose(predictor(inputs()), on_cpu, atol=1e-3 * scale)
    state = model.module.state_dict()
    assert {name: tensor.data_ptr() for name, tensor in state.items()} == before
    assert {tensor.device.type for tensor in state.values()} == {"cpu"}


def test_a_training_resumes_to_the_bit(tmp_path: Path) -> None:
    data = str(FIXTURES / "digits" / "digits-test.t7")
    common = ["train", "lenet5", data, "--limit=128", "--deterministic", "--tracker=none",
              "--schedule=constant", "--device=cuda"]  # fmt: skip
    for words in (
        ["--epochs=4", f"--output={tmp_path / 'whole'}"],
        ["--epochs=2", f"--output={tmp_path / 'parts'}"],
        ["--epochs=4", f"--output={tmp_path / 'parts'}", "--resume=auto"],
    ):
        assert main([*common, *words]) == 0
    whole, parts = (load(tmp_path / name / "model").module for name in ("whole", "parts"))
    for one, other in zip(whole.parameters(), parts.parameters(), strict=True):
        assert torch.equal(one, other)


def test_each_device_has_its_number(exported: tuple[SavedModel, Path]) -> None:
    _, path = exported
    count = torch.cuda.device_count()
    for device in range(count):
        session = runtime.open_session(path, f"cuda:{device}")
        assert (session.device_id, session.provider) == (device, "CUDAExecutionProvider")
        assert session.run({"input": inputs()})[0].shape == (8, 10)
    with pytest.raises(InferenceError):
        runtime.open_session(path, f"cuda:{count}")


def test_too_little_memory_is_a_sentence() -> None:
    class Large(nn.Module):
        def forward(self, input: torch.Tensor) -> torch.Tensor:
            taken: Any = torch.empty(2**46, device=input.device)
            return input + taken[0]

    with pytest.raises(InferenceError, match="too little memory for a batch of 8"):
        TorchPredictor(SavedModel(Large(), "logits"), "cuda")(inputs())
