"""`torchlift check`."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from rich.console import Group, RenderableType
from rich.text import Text

from .data_options import ALL_DATA, DataOptions, given_options
from .errors import UsageError
from .model_options import FILE_DEFAULTS, ModelOptions
from .result import CommandResult, table
from .values import Count, Fraction, NotNegative, Provider, in_precision

if TYPE_CHECKING:
    from ..converters.modules.selfcheck import SelfCheck
    from ..converters.saved import SavedModel
    from ..transfer.data import Dataset, ImageFiles

#: Largest relative error of a layer against the activations that a `.t7` keeps.
LAYER_TOLERANCE = 1e-4

#: How a layer's status is shown.
_MARKS = {
    "equal": Text("equal", "green"),
    "differs": Text("DIFFERS", "bold red"),
    "unchecked": Text("unchecked", "dim"),
}


def check(
    model: str,
    onnx: str | None = None,
    *,
    data: str | None = None,
    examples: Count | None = None,
    provider: Provider = "cpu",
    precision: Literal["f32", "bf16"] | None = None,
    profile: Literal["fp32-cpu", "fp32-gpu", "fp16", "int8"] | None = None,
    tolerance: NotNegative | None = None,
    min_compared: Fraction = 0.99,
    locate: bool = False,
    output_name: str | None = None,
    report: bool = False,
    runtime: list[Literal["onnxruntime", "reference", "openvino", "opencv", "web"]] | None = None,
    runtime_python: str | None = None,
    onnxruntime_web: str | None = None,
    data_options: DataOptions = ALL_DATA,
    model_options: ModelOptions = FILE_DEFAULTS,
) -> CommandResult:
    """Compare an .onnx file with its model; exit code 1 if it does not compute the same.

    Without an .onnx file, a .t7 checkpoint is checked against the activations that it still
    holds: each layer is run again and compared with what Torch7 computed.

    Args:
        model: The exported model: a .t7 file, a saved model's folder, hf:FOLDER or hf:ORG/NAME,
            torchvision:NAME or timm:NAME, or python:package.module:function.
        onnx: The exported file.
        data: A dataset to run both on; without it, noise.
        examples: How many of its images to use at most, evenly spread; all by default.
        provider: What ONNX Runtime runs on: auto, cpu, cuda or cuda:1, tensorrt, openvino.
        precision: What OpenVINO computes in: f32 (as it does here by default as a provider; as a
            runtime it chooses itself) or bf16.
        profile: Tolerances for fp32-cpu, fp32-gpu, fp16 or int8; by default by the file's
            precision and the provider.
        tolerance: Largest error that passes, relative to the largest output of a batch; by
            default the profile's.
        min_compared: Smallest fraction of the file's numbers that must have been compared with the
            model's.
        locate: Name the first node whose result differs from the model's.
        output_name: Which output of the file is the model's, where another program's has several.
        report: Write the report beside the .onnx file, as .check.json and .check.txt.
        runtime: Other programs that must compute the same, each in a process of its own:
            onnxruntime, reference (the evaluator of the ONNX project), openvino, opencv,
            web (onnxruntime-web in node).
        runtime_python: A Python interpreter, such as VENV/bin/python, whose runtimes are taken
            where it has them.
        onnxruntime_web: The folder of the npm package onnxruntime-web; by default
            node_modules/onnxruntime-web here or above.
        data_options: Which images are used.
        model_options: How to open the model.
    """
    if onnx is None:
        from ..converters.saved.hub import model_path

        given = {
            "data": data,
            "examples": examples,
            "profile": profile,
            "output_name": output_name,
            "runtime": runtime,
        }
        flags = {"locate": locate, "report": report}
        unused = [name for name, value in {**given, **flags}.items() if value]
        if unused or model_path(model).is_dir() or Path(model).suffix.lower() == ".onnx":
            raise UsageError(
                f"{model}: name the .onnx file too: torchlift check MODEL FILE.onnx; without one, "
                "a .t7 is compared with the activations that it holds"
            )
        limit = LAYER_TOLERANCE if tolerance is None else tolerance
        return _check_activations(model, model_options, limit)
    unused = given_options(data_options, ALL_DATA) + (["examples"] if examples else [])
    if data is None and unused:
        raise UsageError(f"{unused[0]}=… is for the images of data=…")
    if runtime_python is not None and not runtime:
        raise UsageError("--runtime-python is for --runtime")
    if onnxruntime_web is not None and "web" not in (runtime or ()):
        raise UsageError("--onnxruntime-web is for --runtime web")
    if "openvino" not in (runtime or ()):
        provider = in_precision(provider, precision)
    elif provider == "openvino" and precision:
        provider = f"{provider}:{precision}"
    from ..converters.onnx import check as check_onnx
    from ..converters.onnx import find_runtimes, write_check_report
    from ..converters.onnx.checker.report import check_report_targets

    if report:
        check_report_targets(onnx)
    runtimes = [
        replace(found, precision=precision) if precision and found.name == "openvino" else found
        for found in find_runtimes(runtime or [], runtime_python, onnxruntime_web)
    ]
    opened = model_options.model(model)
    is_said = model_options.input is not None or model_options.input_size is not None
    if Path(model).is_file() and not is_said:
        _take_sizes(opened, model, onnx)
    inputs: Any = None
    classes: Any = None
    notes: list[str] = []
    if data is not None:
        images, notes = data_options.open_for_onnx(data, onnx, opened.labels)
        inputs, classes = _examples(images, examples)
    found = check_onnx(
        opened,
        onnx,
        inputs,
        classes=classes,
        provider=provider,
        profile=profile,
        tolerance=tolerance,
        min_compared=min_compared,
        locate=locate,
        output_name=output_name,
        runtimes=runtimes,
    )
    lines = [*found.lines(), *(f"note: {note}" for note in notes)]
    if report:
        lines += [f"wrote {file}" for file in write_check_report(found)]
    return CommandResult(
        {"model": model, **found.to_json(), "notes": notes}, "\n".join(lines), found.passed
    )


def _take_sizes(opened: SavedModel, model: str, onnx: str) -> None:
    """Set the sizes of an `.onnx` file, where those of a `.t7` are only inferred and others fit."""
    from ..converters.onnx.checker.pair import ExportPair
    from ..converters.saved.errors import SavedModelError
    from ..converters.saved.overrides import apply_overrides

    pair = ExportPair.open(opened, onnx)
    if pair.metadata.baked_preprocessing is None:
        with suppress(SavedModelError):
            apply_overrides(opened, model, input=pair.shapes)


def _examples(images: Dataset | ImageFiles, count: int | None) -> tuple[Any, Any]:
    """Return images and their classes, as `check` takes them."""
    import numpy as np

    from ..transfer.data import Dataset

    if count is not None and count < len(images):
        images = images.take(np.linspace(0, len(images) - 1, count).astype(int))
    return images.images if isinstance(images, Dataset) else images, images.classes


def _check_activations(model: str, model_options: ModelOptions, tolerance: float) -> CommandResult:
    found = model_options.self_check(model, tolerance)
    data = {"model": model, "passed": found.first_difference is None, **found.to_json()}
    return CommandResult(data, Group(_layers(found), "", verdict(found)), data["passed"])


def _layers(found: SelfCheck) -> RenderableType:
    view = table("layer", "class", "error", "", "", right=("error",))
    for layer in found.layers:
        error = "" if layer.error is None else f"{layer.error:.1e}"
        mark = _MARKS[layer.status]
        view.add_row(layer.path, layer.class_name, error, mark, layer.reason)
    return view


def verdict(found: SelfCheck) -> str:
    """Return the result of a self-check in one sentence."""
    equal, unchecked = found.count("equal"), found.count("unchecked")
    first = found.first_difference
    if first is not None:
        return f"{first.path} ({first.class_name}) is the first layer that differs"
    if not equal:
        return "the file keeps no activations to compare with: it was cleared before it was saved"
    return (
        f"{equal} of {equal + unchecked} layers compute what Torch7 computed "
        f"(largest error {found.largest_error:.1e}, {found.tolerance:.0e} allowed)"
        + (f", {unchecked} could not be checked" if unchecked else "")
    )
