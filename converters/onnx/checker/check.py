"""Whether an exported file is the model: what it holds, and what it computes.

Nothing is taken from the exporter: the file is read back and run in ONNX Runtime, beside the
PyTorch module.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from onnx import helper
from torch import nn
from torch.utils import _pytree as pytree

from ...errors import TorchliftError
from ...images.preprocessing import Preprocessing
from ...inference.errors import ProviderError
from ...inference.predictors import as_numbers
from ...inference.providers import Session, nodes_by_provider, open_session
from ...inference.torch_module import as_inputs, inference_copy, run
from ...saved import SavedModel
from ..errors import OnnxError
from ..exporter.export import as_saved_model
from ..exporter.tracing import SIZE_AXES
from ..onnx_file import axes, read_file
from .check_inputs import CheckBatch, CheckInputs
from .comparison import Comparison, compare
from .divergence import first_divergence
from .graph_checks import check_contents
from .profiles import PROFILES, Profile, find_profile, profile_for
from .report import CheckReport, Finding
from .thresholds import check_accuracy, check_errors

#: What passes in single precision on a CPU.
TOLERANCE = PROFILES["fp32-cpu"].tolerance


def check(
    model: nn.Module | SavedModel,
    path: str | os.PathLike[str],
    inputs: Any = None,
    *,
    classes: np.ndarray | None = None,
    input_shape: Sequence[int] | None = None,
    labels: Sequence[str] | None = None,
    preprocessing: Preprocessing | None = None,
    output_kind: str | None = None,
    provider: str = "cpu",
    profile: str | None = None,
    tolerance: float | None = None,
    locate: bool = False,
    seed: int = 0,
) -> CheckReport:
    """Compare an exported file with the model that it should be.

    Both run batches of 1, 2 and 7 examples, and the rest of the data. Pixels go through each
    side's own preprocessing: the model's, and the one that the file names.

    Args:
        model: the module, or the saved model.
        path: the `.onnx` file.
        inputs: real examples: uint8 pixels (N, C, H, W), or inputs that are ready; a list of
            arrays for a network of several inputs. Without, noise from a seed is taken.
        classes: (N,) the right class of each example, counted from 0.
        input_shape: (C, H, W) of one example, where `model` does not know it; by default what the
            file says.
        labels: the names of the outputs, in the place of the model's.
        preprocessing: in the place of the model's.
        output_kind: what the outputs mean, in the place of the model's.
        provider: `cpu`, `cuda`, `tensorrt` or `auto`.
        profile: what passes, a name of `PROFILES`; by default that of the file's arithmetic.
        tolerance: largest error that passes, relative to the largest output of the batch; by
            default the profile's.
        locate: find the first node whose result is not the model's.
        seed: of the noise.

    Raises:
        OnnxError: when the file is missing or is no ONNX, when no noise can be made for its
            inputs, or when the inputs given hold different numbers of examples.
        ProviderError: when the provider was named and does not start.
    """
    described = as_saved_model(
        model, input_shape=input_shape, labels=labels, preprocessing=preprocessing, output_kind=output_kind
    )
    stored, metadata = read_file(path)
    examples = CheckInputs(described, stored, metadata, inputs, seed)
    if classes is not None and len(classes) != examples.count:
        raise OnnxError(f"{len(classes)} classes were given for {examples.count} examples")
    module = inference_copy(described.module)
    expected = find_profile(profile) if profile else profile_for(metadata.precision, "")
    results = _Results()
    findings: list[Finding] = []
    try:
        with tempfile.TemporaryDirectory() as folder, full_float32():
            session = open_session(path, provider, profile=Path(folder) / "nodes")
            if profile is None:
                expected = profile_for(metadata.precision, session.provider)
            expected = replace(expected, tolerance=tolerance or expected.tolerance)
            comparing = _Comparing(module, session, stored, described.output_kind, expected)
            for number, trial in enumerate(examples):
                comparing.run(trial, results)
                if number == 0:
                    findings.append(_provider(session))
    except ProviderError:
        raise
    except TorchliftError as error:
        findings.append(Finding("run", False, str(error)))
    findings = check_contents(described, module, path, stored, metadata, expected) + findings
    findings += check_errors(results.comparisons, expected, described.labels)
    if classes is not None and results.predicted and results.comparisons[0].agreeing is not None:
        ours, theirs = results.predictions(len(classes))
        ties = len({tie.example for part in results.comparisons for tie in part.ties})
        findings.append(check_accuracy(np.asarray(classes), ours, theirs, ties, expected.drop))
    if locate:
        findings.append(_locate(module, path, stored, examples, expected))
    return CheckReport(
        path=os.fspath(path),
        provider=results.provider,
        data=examples.said,
        profile=expected.name,
        tolerance=expected.tolerance,
        findings=findings,
        comparisons=results.comparisons,
    )


@contextmanager
def full_float32() -> Iterator[None]:
    """Keep PyTorch from rounding products to TF32 on a GPU, as ONNX Runtime is told not to."""
    matmul, cudnn = torch.backends.cuda.matmul, torch.backends.cudnn
    before = matmul.allow_tf32, cudnn.allow_tf32
    matmul.allow_tf32 = cudnn.allow_tf32 = False
    try:
        yield
    finally:
        matmul.allow_tf32, cudnn.allow_tf32 = before


@dataclass
class _Results:
    """What the batches gave."""

    provider: str = ""
    comparisons: list[Comparison] = field(default_factory=list)
    predicted: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = field(default_factory=list)

    def predictions(self, count: int) -> tuple[np.ndarray, np.ndarray]:
        """The predicted class of each example, in the model and in the file."""
        both = np.zeros((2, count), np.int64)
        for examples, *sides in self.predicted:
            both[:, examples] = sides
        return both[0], both[1]


class _Comparing:
    """A model and a file, run on the same batches."""

    def __init__(
        self,
        module: nn.Module,
        session: Session,
        stored: onnx.ModelProto,
        output_kind: str,
        profile: Profile,
    ) -> None:
        gpu = session.device == "cuda" and torch.cuda.is_available()
        self._module = module.to("cuda") if gpu else module
        self._session, self._stored = session, stored
        self._classes, self._profile = output_kind != "features", profile

    def run(self, trial: CheckBatch, results: _Results) -> None:
        """Run one batch and compare the outputs."""
        results.provider = self._session.provider
        inputs = as_inputs(self._module, trial.model)
        expected = [out.float().cpu().numpy() for out in run(self._module, inputs)]
        actual = _run_session(self._session, self._stored, trial.file)
        pairs = _pairs(expected, actual)
        size = tuple(pytree.tree_leaves(trial.model)[0].shape[1:])
        results.comparisons += [
            compare(first, second, trial.examples, self._profile.tolerance, self._classes, size)
            for first, second in pairs
        ]
        if trial.real and pairs[0][0].ndim == 2:
            first, second = pairs[0]
            results.predicted.append((trial.examples, first.argmax(1), second.argmax(1)))


def named_inputs(stored: onnx.ModelProto, inputs: Any) -> dict[str, np.ndarray]:
    """Arrays by the names of a file's inputs, in their number types."""
    arrays = [np.asarray(array) for array in pytree.tree_leaves(inputs)]
    return {
        value.name: as_numbers(
            array, helper.tensor_dtype_to_np_dtype(value.type.tensor_type.elem_type)
        )
        for value, array in zip(stored.graph.input, arrays, strict=False)
    }


def _run_session(session: Session, stored: onnx.ModelProto, inputs: Any) -> list[np.ndarray]:
    # ONNX Runtime drops an input that no output depends on.
    used = {value.name for value in session.runtime.get_inputs()}
    named = {name: array for name, array in named_inputs(stored, inputs).items() if name in used}
    try:
        return session.run(named)
    except Exception as error:  # ONNX Runtime's errors share no other base class.
        reason = str(error).splitlines()[0]
        count = len(pytree.tree_leaves(inputs)[0])
        raise OnnxError(f"ONNX Runtime fails at a batch of {count}: {reason}") from error


def _pairs(
    expected: list[np.ndarray], actual: list[np.ndarray]
) -> list[tuple[np.ndarray, np.ndarray]]:
    ours, theirs = ([array.shape for array in arrays] for arrays in (expected, actual))
    if ours != theirs:
        raise OnnxError(f"the model gives outputs of shape {ours}, the file {theirs}")
    return list(zip(expected, actual, strict=True))


def _provider(session: Session) -> Finding:
    """What really ran, after the first batch: the provider, and its share of the nodes."""
    nodes = nodes_by_provider(session)
    count, total = nodes[session.provider], sum(nodes.values())
    others = ", ".join(f"{n} on {name}" for name, n in nodes.items() if name != session.provider)
    text = f"{session.provider} ran {count} of {total} nodes" + (f" ({others})" if others else "")
    return Finding("provider", count > 0, f"{session.note}; {text}" if session.note else text)


def _locate(
    module: nn.Module,
    path: str | os.PathLike[str],
    stored: onnx.ModelProto,
    examples: CheckInputs,
    profile: Profile,
) -> Finding:
    trial = next(part for part in examples if len(part.examples) > 1)
    any_size = axes(stored.graph.input[0])[2:] == [*SIZE_AXES]
    try:
        found, compared = first_divergence(
            module,
            path,
            (trial.model, named_inputs(stored, trial.file)),
            profile.tolerance,
            any_size,
        )
    except Exception as error:  # A file that cannot be run has no values inside.
        return Finding("locate", False, f"the nodes cannot be run: {str(error).splitlines()[0]}")
    if found is None:
        return Finding("locate", True, f"{compared} nodes compared, none diverges")
    return Finding(
        "locate",
        False,
        f"the first node that diverges is {found.node} ({found.operator}), layer {found.layer}: "
        f"error {found.error:.1e}, {profile.tolerance:g} allowed",
    )
