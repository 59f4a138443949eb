"""A size that is only the batch of the training is not kept: the network takes any batch."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from checkpoint_support import convolution, linear, module, sequential, view, write

from torchlift.converters import load_model, saved
from torchlift.converters.onnx import check, export
from torchlift.converters.t7 import LuaObject

#: The batch that the networks were trained with.
BATCH = 4


def reshape(*sizes: int) -> LuaObject:
    size = np.array(sizes, np.int64)
    return module("nn.Reshape", size=size, nelement=int(size.prod()))


def network(middle: LuaObject, last: LuaObject) -> LuaObject:
    """DeepMask's shape: a View of the training batch, features, and a View to a mask."""
    layers = convolution(3, 2, 3, 1), middle, linear(128, 9), last
    return sequential(*layers)


LAYERS = [
    (view(BATCH, 128), view(BATCH, 1, 3, 3)),
    (reshape(BATCH, 128), reshape(BATCH, 3, 3)),
    (view(BATCH, 128), reshape(9)),
]


@pytest.mark.parametrize("layers", LAYERS)
def test_any_batch_gives_what_torch7_gives_at_its_own(
    layers: tuple[LuaObject, LuaObject], tmp_path: Path
) -> None:
    file = write(network(*layers), tmp_path)
    model = saved.open_model(file)
    images = torch.rand(2 * BATCH, 3, 8, 8)
    with torch.no_grad():
        # load_model keeps Torch7's own rules, which run with this batch alone.
        halves = [load_model(file)(half) for half in images.split(BATCH)]
        expected = torch.cat([half.reshape(BATCH, 9) for half in halves])
        for count in (1, 2, BATCH, 5, 2 * BATCH):
            found = model.module(images[:count])
            assert len(found) == count
            # Products of matrices round differently with another batch.
            torch.testing.assert_close(found.flatten(1), expected[:count], rtol=1e-5, atol=1e-5)
    noted = [note for note in model.notes if f"{BATCH} is the batch of its training" in note]
    assert noted[0].startswith("model.modules[2] (")


def test_saved_and_exported_models_take_any_batch(tmp_path: Path) -> None:
    model = saved.open_model(write(network(*LAYERS[0]), tmp_path), input_size=(8, 8))
    saved.save(model, tmp_path / "saved")
    images = torch.rand(5, 3, 8, 8)
    expected = model.module(images).detach()
    specification = importlib.util.spec_from_file_location("m", tmp_path / "saved" / "model.py")
    assert specification is not None
    assert specification.loader is not None
    standalone = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(standalone)
    assert torch.equal(standalone.load()(images), expected)
    assert saved.load(tmp_path / "saved").notes == model.notes
    export(model, tmp_path / "net.onnx")
    session = onnxruntime.InferenceSession(tmp_path / "net.onnx")
    [found] = session.run(None, {"input": images.numpy()})
    np.testing.assert_allclose(found, expected.numpy(), rtol=1e-5, atol=1e-5)
    assert check(model, tmp_path / "net.onnx").passed


def test_a_size_of_an_example_stays(tmp_path: Path) -> None:
    """All sizes together are those of one example: the first is no batch."""
    file = write(sequential(linear(6, 12), view(4, 3)), tmp_path)
    model = saved.open_model(file)
    assert model.module(torch.rand(5, 6)).shape == (5, 4, 3)
    assert model.module(torch.rand(4, 6)).shape == (4, 4, 3)
    assert not [note for note in model.notes if "training" in note]
