"""Checking that an exported file is its model: what the file holds, and what it computes.

Nothing is taken over from the export: the file is read back and run in ONNX Runtime, beside the
PyTorch module.
"""

from __future__ import annotations

import os
import tempfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Unpack

import numpy as np
import torch
from torch import nn
from torch.utils import _pytree as pytree

from ...errors import TorchliftError, WriteError
from ...inference.errors import ProviderError
from ...inference.providers import Session, nodes_by_provider, open_session
from ...inference.torch_module import as_inputs, inference_copy, run
from ...saved import SavedModel
from ..errors import OnnxError
from ..exporter.export import ModelDetails, as_saved_model
from ..runtimes.installed import InstalledRuntime
from .batch_results import BatchResults, batch_in_front
from .check_inputs import CheckBatch, CheckInputs
from .divergence import check_nodes
from .edge_cases import check_edge_cases
from .foreign_runs import run_foreign
from .graph_checks import check_contents, check_reference
from .image_file import check_images, network_of
from .pair import ExportPair
from .profiles import Profile, choose_profile
from .report import CheckReport, Finding
from .rounding import allowed_rounding
from .runtime_checks import check_runtimes
from .thresholds import check_accuracy, check_outputs

#: How many nodes a finding names.
_NAMED = 3


def check(
    model: nn.Module | SavedModel,
    path: str | os.PathLike[str],
    inputs: Any = None,
    *,
    classes: np.ndarray | None = None,
    provider: str = "cpu",
    profile: str | Profile | None = None,
    tolerance: float | None = None,
    min_compared: float = 0.99,
    locate: bool = False,
    seed: int = 0,
    output_name: str | None = None,
    runtimes: Sequence[InstalledRuntime] = (),
    **details: Unpack[ModelDetails],
) -> CheckReport:
    """Check that an exported file holds and computes what its model does.

    The model and the file run batches of 1, 2 and 7 examples, and then the other examples. Images
    go through the preprocessing of each side: the model's own, and the one in the file. Then both
    run edge cases: zeros, constants, ties, tiny and huge values.

    Args:
        model: A `SavedModel`, or a module that takes (N, …).
        path: The `.onnx` file.
        inputs: Real examples: uint8 pixels (N, C, H, W), preprocessed inputs, or a list of arrays
            for a network with several inputs. By default the inputs are random.
        classes: (N,) the true class of each example, counted from 0.
        provider: `cpu`, `cuda`, `tensorrt` or `auto`.
        profile: The limits that apply, or their name in `PROFILES`; by default those of the file's
            arithmetic.
        tolerance: Largest error, relative to the largest output of the batch; replaces the
            profile's.
        min_compared: Smallest fraction of the file's numbers that must have been compared with the
            model's.
        locate: Find the first node whose result differs from the model's.
        seed: Seed of the random inputs.
        output_name: Which of the file's outputs is the model's, where it has several.
        runtimes: Other runtimes that must compute the same (see `find_runtimes`).
        details: `input_shape`, `labels`, `preprocessing` and `output_kind` (see `ModelDetails`),
            for a module, or to replace those of a `SavedModel`.

    Returns:
        A report that lists each finding. It does not pass if the file or the model cannot be run.

    Raises:
        OnnxError: If the file is missing or is not ONNX, if no random inputs can be generated for
            it, or if `classes` do not fit the examples.
        InferenceError: If `inputs` hold different numbers of examples.
        ProviderError: If the requested provider does not start.

    Example:
        >>> from tempfile import mkdtemp
        >>> from torchlift.converters.onnx import export
        >>> network = nn.Sequential(nn.Flatten(), nn.Linear(12, 5))
        >>> path = f"{mkdtemp()}/network.onnx"
        >>> exported = export(network, path, input_shape=(3, 2, 2))
        >>> report = check(network, path)
        >>> report.passed, report.agreement
        (True, (10, 10))
        >>> check(nn.Sequential(nn.Flatten(), nn.Linear(12, 5)), path).passed
        False
    """
    pair = ExportPair.open(as_saved_model(model, **details), path, output_name)
    with network_of(pair) as network:
        examples = CheckInputs(network, inputs, seed)
        if details.get("output_kind") is None:
            network = network.with_kind_of_outputs(next(iter(examples)).model)
            pair = replace(pair, model=network.model)
        if classes is not None and len(classes) != examples.count:
            raise OnnxError(f"{len(classes)} classes were given for {examples.count} examples")
        limits = partial(choose_profile, profile, tolerance, pair.metadata.precision)
        results = _run_batches(network, examples, provider, limits, seed)
        skipped = _reason_to_skip(network, examples)
        with full_float32():
            reference_findings = check_reference(network, next(iter(examples)).model, min_compared)
        images = [check_images(pair, network, inputs, provider)] if pair.takes_image else []
        findings = [
            *check_contents(pair),
            *reference_findings,
            *results.findings,
            *images,
            *check_outputs(results.comparisons, results.limits, pair.model.labels, skipped),
        ]
        if results.is_constant:
            findings.append(Finding("input", False, "the outputs do not depend on the input"))
        if results.edge_cases is not None:
            findings.append(results.edge_cases)
        if classes is not None and results.is_classifier and not skipped:
            predictions, ties = results.predictions(len(classes)), results.count_ties()
            findings.append(
                check_accuracy(np.asarray(classes), predictions, ties, results.limits.drop)
            )
        in_runtimes = check_runtimes(pair, examples, inputs, results.limits, runtimes, skipped)
        findings += [result.finding() for result in in_runtimes]
        if locate:
            findings.append(check_nodes(network, examples, results.limits.tolerance))
    return CheckReport(
        path=os.fspath(path),
        provider=results.provider,
        data=examples.description,
        profile=results.limits.name,
        tolerance=results.limits.tolerance,
        findings=findings,
        comparisons=results.comparisons,
        runtimes=in_runtimes,
    )


def _reason_to_skip(pair: ExportPair, examples: CheckInputs) -> str:
    """Return why outputs cannot be judged, which leaves the verdict to the other findings."""
    if pair.random_operators:
        return "random"
    if pair.metadata.precision == "int8" and examples.is_random:
        return "no data: an int8 file is calibrated for images, not for noise"
    return ""


def _run_batches(
    pair: ExportPair,
    batches: Iterable[CheckBatch],
    provider: str,
    limits: Callable[[str], Profile],
    seed: int,
) -> BatchResults:
    """Run a model and its file on the same batches; a run that fails is a finding.

    Args:
        pair: The model and the file.
        batches: What they run.
        provider: As for `check`.
        limits: Returns what passes on an execution provider.
        seed: Seed of the edge cases.

    Raises:
        ProviderError: If the requested provider does not start.
    """
    results = BatchResults(limits(""))
    example: Any = None
    is_classifier = pair.model.output_kind != "features"
    precision = pair.metadata.precision or "fp32"
    try:
        with tempfile.TemporaryDirectory() as folder, full_float32():
            session = open_session(pair.path, provider, profile=Path(folder) / "nodes")
            results.limits = limits(session.provider)
            # Whatever runs the file, the reference is what PyTorch computes on the CPU.
            module = inference_copy(pair.module, device="cpu")

            def run_both(batch: CheckBatch) -> list[tuple[np.ndarray, np.ndarray]]:
                outputs = _run_both(pair, module, session, batch)
                results.note_variation(
                    batch_in_front(pytree.tree_leaves(batch.model), pair.input_batch_axes),
                    batch_in_front([expected for expected, _ in outputs], pair.output_batch_axes),
                )
                return outputs

            for batch in batches:
                results.provider = session.provider
                rounding = partial(allowed_rounding, module, batch.model, results.limits.name)
                results.add(batch, run_both(batch), is_classifier, rounding)
                if not results.findings:
                    results.findings.append(_provider_finding(session, precision))
                example = batch.model
            if not (pair.needs_images or precision == "int8" or pair.random_operators):
                results.edge_cases = check_edge_cases(
                    example,
                    run_both,
                    results.limits.tolerance,
                    scales=precision != "fp16",
                    seed=seed,
                    batch_axes=pair.input_batch_axes,
                    in_float64=partial(_in_float64, pair),
                )
    except (ProviderError, WriteError):
        raise
    except TorchliftError as error:
        results.findings.append(Finding("run", False, str(error)))
    return results


@contextmanager
def full_float32() -> Iterator[None]:
    """Keep PyTorch from rounding products to TF32 on a GPU, as ONNX Runtime does not either."""
    matmul, cudnn = torch.backends.cuda.matmul, torch.backends.cudnn
    before = matmul.allow_tf32, cudnn.allow_tf32
    matmul.allow_tf32 = cudnn.allow_tf32 = False
    try:
        yield
    finally:
        matmul.allow_tf32, cudnn.allow_tf32 = before


def _in_float64(pair: ExportPair, inputs: Any) -> list[np.ndarray]:
    """Return the outputs of the module in double precision."""
    module = inference_copy(pair.module, torch.float64)
    outputs = run(module, as_inputs(module, inputs))
    return [output.double().numpy() for output in outputs]


def _run_both(
    pair: ExportPair, module: nn.Module, session: Session, batch: CheckBatch
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Return each output of the module with that of the file."""
    outputs = run(module, as_inputs(module, batch.model))
    expected = [output.float().cpu().numpy() for output in outputs]
    # ONNX Runtime drops an input that no output depends on.
    names = {value.name for value in session.runtime.get_inputs()}
    inputs = {name: array for name, array in pair.file_inputs(batch.file).items() if name in names}
    if pair.is_foreign:
        actual = run_foreign(pair, session, inputs, [output.shape for output in expected])
    else:
        actual = session.run(inputs)
    model_shapes, file_shapes = (
        [output.shape for output in outputs] for outputs in (expected, actual)
    )
    if model_shapes != file_shapes:
        raise OnnxError(
            f"the outputs of the model have the shapes {model_shapes}, those of the file "
            f"{file_shapes}"
        )
    return list(zip(expected, actual, strict=True))


def _provider_finding(session: Session, precision: str) -> Finding:
    """Return which provider ran how many of the nodes, after the first batch."""
    nodes = nodes_by_provider(session)
    elsewhere = [node for node in nodes if node.provider != session.provider]
    count, total = len(nodes) - len(elsewhere), len(nodes)
    text = f"{session.provider} ran {count} of {total} nodes"
    if elsewhere:
        providers = Counter(node.provider for node in elsewhere)
        others = ", ".join(f"{n} on {name}" for name, n in providers.items())
        text = f"{text}, {count / total:.0%} ({others})"
    if precision == "fp16" and session.device == "cpu":
        text += "; float16 is mostly computed in float32 there"
    left = [node.name for node in elsewhere if node.has_weights]
    if left:
        text += f"; nodes with weights ran elsewhere: {', '.join(left[:_NAMED])}"
    return Finding(
        "provider", count > 0 and not left, f"{session.note}; {text}" if session.note else text
    )
