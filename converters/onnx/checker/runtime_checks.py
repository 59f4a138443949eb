"""Checking a file in other runtimes: what each computes, beside what the model computes."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np
from torch import nn

from ...errors import TorchliftError
from ...images.errors import PreprocessingError
from ...images.preprocessing import Preprocessing
from ...inference.errors import ModelInputError
from ...inference.prepare import prepare
from ...inference.torch_module import as_inputs, inference_copy, run
from ..errors import OnnxError
from ..exporter.bake_resize import IMAGE, image_preprocessing
from ..runtimes.installed import InstalledRuntime
from ..runtimes.session import RuntimeSession
from .batch_results import compare_outputs
from .check_inputs import CheckBatch
from .comparison import Comparison
from .foreign_runs import run_foreign
from .image_file import odd_images
from .pair import ExportPair
from .profiles import Profile
from .report import RuntimeResult
from .rounding import allowed_rounding
from .runtime_divergence import first_divergence
from .thresholds import check_outputs

#: The least tolerance for a file that takes images, of which a few pixels may be off by one.
_IMAGE_TOLERANCE = 1e-3

#: For a runtime, how the worker is told a more exact arithmetic, and how its users ask for it.
_CURES = {
    "openvino": ("f32", "INFERENCE_PRECISION_HINT=f32"),
    "opencv": ("no-winograd", "enableWinograd(False)"),
}


@dataclass(frozen=True)
class _Case:
    """One run: what a file is given, and what the model computes of it.

    Attributes:
        batch: What the model takes.
        feeds: What the file takes, by the names of its inputs.
        expected: The outputs of the model.
    """

    batch: CheckBatch
    feeds: dict[str, np.ndarray]
    expected: list[np.ndarray]


@dataclass(frozen=True)
class _Cases:
    """The runs of a check, which can be iterated more than once.

    Attributes:
        pair: The model and the file.
        module: The network, on the CPU.
        batches: The batches of a file that takes batches.
        images: Images (H, W, C) for a file that takes one image.
    """

    pair: ExportPair
    module: nn.Module
    batches: Iterable[CheckBatch]
    images: Sequence[np.ndarray]

    def __iter__(self) -> Iterator[_Case]:
        used = {name for node in self.pair.onnx_model.graph.node for name in node.input}
        if self.pair.takes_image:
            yield from self._of_images(self.pair.model.preprocessing)
            return
        for batch in self.batches:
            inputs = self.pair.file_inputs(batch.file)
            feeds = {name: array for name, array in inputs.items() if name in used}
            yield _Case(batch, feeds, self._expected(batch.model))

    def _of_images(self, preprocessing: Preprocessing | None) -> Iterator[_Case]:
        assert preprocessing is not None
        for index, image in enumerate(self.images):
            try:
                inputs = prepare([image], preprocessing)
            except PreprocessingError:
                continue  # Too small for the crop, for one.
            pixels = np.asarray(prepare([image], image_preprocessing(preprocessing)), np.uint8)
            batch = CheckBatch(np.array([index]), inputs, None, is_real=True)
            feeds = {IMAGE: pixels[0].transpose(1, 2, 0)}
            try:
                expected = self._expected(inputs)
            except ModelInputError:
                continue  # Too small for the network itself.
            yield _Case(batch, feeds, expected)

    def _expected(self, inputs: Any) -> list[np.ndarray]:
        outputs = run(self.module, as_inputs(self.module, inputs))
        return [output.float().cpu().numpy() for output in outputs]


@dataclass
class _Outcome:
    """What a runtime computed.

    Attributes:
        version: The runtime's version; empty if it did not open the file.
        arithmetic: What it says that it computes in.
        comparisons: Its outputs, compared with the model's.
        problem: Why it could not run the file; empty if it ran all.
        worst: What the file was given where the error was largest.
    """

    version: str = ""
    arithmetic: str = ""
    comparisons: list[Comparison] = field(default_factory=list)
    problem: str = ""
    worst: dict[str, np.ndarray] = field(default_factory=dict)
    _error: float = -1.0

    def add(self, comparisons: list[Comparison], feeds: dict[str, np.ndarray]) -> None:
        """Add the comparisons of one case."""
        self.comparisons += comparisons
        # NaN is the worst error.
        error = max(math.inf if math.isnan(one.error) else one.error for one in comparisons)
        if error > self._error:
            self.worst, self._error = feeds, error


def check_runtimes(
    pair: ExportPair,
    batches: Iterable[CheckBatch],
    inputs: Any,
    limits: Profile,
    runtimes: Sequence[InstalledRuntime],
    skipped: str = "",
) -> list[RuntimeResult]:
    """Run a file in other runtimes, and compare what they compute with what the model does.

    Args:
        pair: The model and the file.
        batches: What they run, if the file takes batches.
        inputs: As for `check`: images for a file that takes one; made where none are given.
        limits: What passes.
        runtimes: The runtimes.
        skipped: Why the outputs cannot be judged; empty if they can.
    """
    if not runtimes:
        return []
    images: Sequence[np.ndarray] = []
    if pair.takes_image:
        baked = pair.metadata.baked_preprocessing
        pair = replace(
            pair, model=replace(pair.model, preprocessing=pair.model.preprocessing or baked)
        )
        assert pair.model.preprocessing is not None
        images = odd_images(inputs, pair.model.preprocessing.channels)
        limits = replace(limits, tolerance=max(limits.tolerance, _IMAGE_TOLERANCE))
    cases = _Cases(pair, inference_copy(pair.module, device="cpu"), batches, images)
    return [_check(runtime, cases, limits, skipped) for runtime in runtimes]


def _check(
    runtime: InstalledRuntime, cases: _Cases, limits: Profile, skipped: str
) -> RuntimeResult:
    outcome = _run(runtime, cases, limits)
    labels = cases.pair.model.labels

    def failures(outcome: _Outcome) -> list[str]:
        findings = check_outputs(outcome.comparisons, limits, labels, skipped)
        problem = [outcome.problem] if outcome.problem else []
        return problem + [finding.text for finding in findings if not finding.passed]

    failed, node, cure = failures(outcome), None, None
    if failed and cases.images and outcome.worst:
        height, width = outcome.worst[IMAGE].shape[:2]
        failed.append(f"worst for an image of {height}×{width}")
    if failed and outcome.comparisons:
        setting, name = _CURES.get(runtime.name, ("", ""))
        if setting and runtime.precision != setting:
            cured = _run(replace(runtime, precision=setting), cases, limits)
            cure = None if failures(cured) else name
        if not outcome.problem and cure is None:
            graph = cases.pair.onnx_model
            node = first_divergence(runtime, graph, outcome.worst, limits.tolerance)
    errors = [comparison.error for comparison in outcome.comparisons]
    agreeing = [comparison.agreeing for comparison in outcome.comparisons]
    has_classes = bool(agreeing) and None not in agreeing
    return RuntimeResult(
        runtime=runtime.name,
        version=outcome.version,
        arithmetic=outcome.arithmetic,
        python=runtime.command[0] if runtime.is_elsewhere else None,
        passed=not failed,
        error=max(errors) if errors and all(map(math.isfinite, errors)) else None,
        agreeing=sum(count or 0 for count in agreeing) if has_classes else None,
        count=sum(comparison.batch for comparison in outcome.comparisons),
        problem="; ".join(failed) or None,
        node=node,
        cure=cure,
        skipped=skipped or None,
    )


def _run(runtime: InstalledRuntime, cases: _Cases, limits: Profile) -> _Outcome:
    """Run all cases; what the runtime cannot run ends it."""
    outcome = _Outcome()
    is_classifier = cases.pair.model.output_kind != "features"
    session = RuntimeSession(runtime, cases.pair.path)
    try:
        with session:
            for case in cases:
                actual = _outputs(cases.pair, session, case)
                rounding = partial(allowed_rounding, cases.module, case.batch.model, limits.name)
                outputs = list(zip(case.expected, actual, strict=True))
                compared = compare_outputs(case.batch, outputs, limits, is_classifier, rounding)
                outcome.add(compared, case.feeds)
    except TorchliftError as error:
        outcome.problem = str(error)
    outcome.version, outcome.arithmetic = session.version, session.arithmetic
    if not (outcome.comparisons or outcome.problem):
        outcome.problem = "the model takes none of the images"
    return outcome


def _outputs(pair: ExportPair, session: RuntimeSession, case: _Case) -> list[np.ndarray]:
    """Return the outputs of a file, in the shapes of the model's.

    Raises:
        OnnxError: If the runtime cannot run it, or gives other shapes.
    """
    shapes = [output.shape for output in case.expected]
    if pair.is_foreign:
        actual = run_foreign(pair, session, case.feeds, shapes)
    else:
        actual = session.run(case.feeds, [value.name for value in pair.onnx_model.graph.output])
    if [output.shape for output in actual] != shapes:
        raise OnnxError(
            f"its outputs have the shapes {[output.shape for output in actual]}, where {shapes} "
            f"was expected, of inputs of {[array.shape for array in case.feeds.values()]}"
        )
    return actual
