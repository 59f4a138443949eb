"""Random networks: what must hold of every network, whatever Torch7 computes.

The networks are drawn as LuaObjects (see `random_networks_support`). In evaluation mode a network
gives the same bits when it is saved and opened, by its `model.py`, and when it is written to a
`.t7` and read again; a batch gives what its examples give one by one, with and without a batch
dimension; single and double precision agree; ONNX Runtime agrees.

`make test` runs a few networks of a fixed seed; `make soak` draws `TORCHLIFT_NETWORKS` new ones.
"""

from __future__ import annotations

import importlib.util
import math
import os
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from random_networks_support import KINDS, Network, networks
from torch import nn

from torchlift.converters import convert, t7
from torchlift.converters.modules import keep_batch_dimension
from torchlift.converters.onnx import export
from torchlift.converters.saved import SavedModel, load, save, save_t7

#: Networks of a long run, 0 for the few that every run draws.
SOAK = int(os.environ.get("TORCHLIFT_NETWORKS", "0"))

#: Sums in another order: single precision has 1e-7, and a few layers multiply it.
ORDER = 1e-5
#: Single against double precision, through up to ten layers.
PRECISION = 1e-4


def trials(few: int, share: float) -> settings:
    """Return how many networks a test draws: a few of a fixed seed, or a share of a long run."""
    return settings(
        max_examples=math.ceil(SOAK * share) if SOAK else few,
        derandomize=not SOAK,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
    )


def run(module: nn.Module, input: np.ndarray) -> torch.Tensor:
    # Layers in place write into their input.
    with torch.no_grad():
        output: torch.Tensor = module(torch.from_numpy(input.copy()))
    return output


def standalone(folder: Path) -> nn.Module:
    """Return the network that the `model.py` in a folder builds."""
    spec = importlib.util.spec_from_file_location("model", folder / "model.py")
    assert spec is not None
    assert spec.loader is not None
    source = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(source)
    network: nn.Module = source.load()
    return network


def assert_same_bits(actual: torch.Tensor, expected: torch.Tensor, what: str) -> None:
    assert actual.shape == expected.shape, what
    assert torch.equal(actual.nan_to_num(), expected.nan_to_num()), what


def assert_close(actual: Any, expected: Any, error: float, what: str) -> None:
    """Compare values in memory order; Torch7 drops or adds a batch dimension of one in places."""
    actual, expected = (np.asarray(value, "f8").ravel() for value in (actual, expected))
    assert actual.shape == expected.shape, what
    scale = max(1.0, float(np.abs(expected).max(initial=0)))
    np.testing.assert_allclose(actual, expected, rtol=0, atol=error * scale, err_msg=what)


@pytest.mark.parametrize("kind", KINDS)
@trials(few=25, share=1 / 3)
@given(data=st.data())
def test_every_way_of_keeping_a_network_keeps_its_bits(kind: str, data: st.DataObject) -> None:
    network = data.draw(networks(kind))
    module = convert(network.source).eval()
    expected = run(module, network.input)
    with tempfile.TemporaryDirectory() as name:
        folder = save(SavedModel(module, "features"), Path(name) / "model")
        assert_same_bits(run(load(folder).module, network.input), expected, "saved")
        assert_same_bits(run(standalone(folder), network.input), expected, "model.py")
        for model in (SavedModel(module, "features"), load(folder)):
            file = save_t7(model, Path(name) / "model.t7", overwrite=True)
            written = convert(t7.load(file)).eval()
            assert_same_bits(run(written, network.input), expected, "written to .t7")
    assert_same_bits(run(module, network.input), expected, "run again")
    assert_consistent(network, module, expected)


def assert_consistent(network: Network, module: nn.Module, expected: torch.Tensor) -> None:
    """Check batches against single examples, and single against double precision."""
    singles = [run(module, network.input[i : i + 1]) for i in range(len(network.input))]
    # Every View of these networks knows how many dimensions an example has: the batch is kept.
    assert {single.shape for single in singles} == {(1, *expected.shape[1:])}
    assert_close(torch.cat(singles), expected, ORDER, "batches of one")
    if network.has_single:
        alone = [run(module, example).flatten() for example in network.input]
        assert_close(torch.stack(alone), expected, ORDER, "without a batch")
    if network.is_continuous:
        double = run(convert(network.source).eval().double(), network.input.astype("f8"))
        assert double.dtype == torch.float64
        assert_close(expected, double, PRECISION, "double precision")


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
@trials(few=8, share=1 / 100)
@given(data=st.data())
def test_onnx_runtime_computes_the_same_for_every_batch(kind: str, data: st.DataObject) -> None:
    network = data.draw(networks(kind, deepest=4))
    module = convert(network.source).eval()
    keep_batch_dimension(module)
    with tempfile.TemporaryDirectory() as name:
        file = Path(name) / "model.onnx"
        example = torch.from_numpy(network.input.copy())
        export(SavedModel(module, "features"), file, inputs=example)
        session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    (input,) = session.get_inputs()
    for size in (1, len(network.input)):
        batch = network.input[:size]
        (output,) = session.run(None, {input.name: batch})
        assert_close(output, run(module, batch), ORDER, f"batch of {size}")
