"""`torchlift extract`."""

from __future__ import annotations

import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from rich.console import Group

from ..converters.errors import TorchliftError
from ..converters.files import check_output, discard
from ..converters.overwriting import check_replaceable
from ..transfer.features.settings import AS_THEY_ARE, Settings
from .data_options import ALL_DATA, DataOptions
from .errors import UsageError
from .model_options import FILE_DEFAULTS, ModelOptions
from .outputs import output_suffix
from .progress import progress
from .result import CommandResult
from .signals import said_when_stopped
from .terminal import console
from .values import Count, Provider

if TYPE_CHECKING:
    from ..transfer.data import Dataset, ImageFiles
    from ..transfer.features.extraction import ExtractionPlan
    from ..transfer.features.extractors import FeatureExtractor


def extract(
    model: str,
    data: str,
    output: str,
    *,
    layers: list[str] | None = None,
    backend: Literal["torch", "onnxruntime"] | None = None,
    provider: Provider = "auto",
    format: Literal["zarr", "t7", "npz"] | None = None,
    workers: Count | None = None,
    overwrite: bool = False,
    settings: Settings = AS_THEY_ARE,
    data_options: DataOptions = ALL_DATA,
    model_options: ModelOptions = FILE_DEFAULTS,
) -> CommandResult:
    """Write the features of any layers of a network to disk.

    Nothing after the last of these layers is computed. A run that was stopped is resumed when the
    command is given again; under torchrun or accelerate launch all processes share the work.

    Args:
        model: A .t7 file, a saved model's folder or an .onnx file; hf:FOLDER or hf:ORG/NAME;
            torchvision:NAME or timm:NAME; or python:package.module:function.
        data: A dataset: a .t7 or .npz file, a folder, CIFAR's or MNIST's files, or
            sklearn:digits.
        output: A folder for zarr; a name in .t7 or .npz for one file.
        layers: Names with commas between: penultimate (the input of the last Linear, the default),
            input, output (such as an embedding), a PyTorch name (1.8) or a Lua path
            (get(2):get(9)); of an .onnx file a value's name.
        backend: What computes; onnxruntime is faster on a CPU.
        provider: What to run on: auto, cpu, cuda or cuda:1; tensorrt or openvino for an .onnx
            file.
        format: The format of the output; by default by its suffix, else zarr.
        workers: How many batches are computed at once; by default one per core.
        overwrite: Replace features that are there.
        settings: How features are stored.
        data_options: Which images are used.
        model_options: How to open the model.
    """
    if data_options.match_classes != ALL_DATA.match_classes:
        raise UsageError("extract matches no classes: --match-classes is an option of probe")
    if format is None:
        output_suffix(output, ["", ".zarr", ".t7", ".npz"])
    from ..converters.inference.processes import joined_process
    from ..transfer.features.extraction import extract as extract_features
    from ..transfer.features.extraction import plan_extraction
    from ..transfer.features.files import format_of, write_features
    from ..transfer.features.model_source import ModelSource
    from ..transfer.features.store import STORE

    form, target = format_of(output, format), Path(output)
    # What becomes one file is collected beside it first.
    folder = target if form == "zarr" else target.with_name(f".{target.name}.zarr")
    if form != "zarr":
        if folder.exists():
            check_replaceable(folder, STORE)
            if target.exists() and not overwrite:
                discard(folder)  # Of a run that was killed when its file was whole.
        check_output(target, overwrite)
    with joined_process() as process:
        images = data_options.open(data)
        names = layers or ["penultimate"]
        source, model_notes = _source(model, images, names, backend, provider, model_options)
        place = ModelSource.of(model, model_options.weights, model_options.at)
        plan = plan_extraction(source, images, settings, place)
        if process.is_first:
            console(stderr=True).print(_announcement(plan, target))
        began = time.perf_counter()
        hint = f"{target}: the same command again goes on, if it is given without --overwrite"
        with (
            said_when_stopped(lambda: hint if process.is_first else ""),
            progress(len(images), shown=process.world_size == 1) as advance,
        ):
            store = extract_features(
                plan,
                folder,
                process=process,
                workers=workers,
                progress=advance,
                overwrite=overwrite,
            )
        seconds = time.perf_counter() - began
        if process.is_first and form != "zarr":
            write_features(store, target, form)
            discard(folder)
        first = process.is_first
    if not first:
        sys.exit(0)  # One report for all.
    notes = [*images.notes, *model_notes]
    return CommandResult(
        {
            "model": model,
            "data": data,
            "files": [str(target)],
            "format": form,
            "features": [
                {"layer": name, "shape": list(shape)} for name, shape in plan.shapes.items()
            ],
            "bytes": plan.bytes,
            "seconds": seconds,
            "backend": plan.manifest["backend"],
            "notes": notes,
        },
        Group(
            f"{target!s}: {len(images):,} examples in {seconds:.1f} s on "
            f"{plan.manifest['backend']}",
            *(f"note: {note}" for note in notes),
        ),
    )


def _source(
    model: str,
    images: Dataset | ImageFiles,
    names: list[str],
    backend: str | None,
    provider: str,
    model_options: ModelOptions,
) -> tuple[FeatureExtractor, list[str]]:
    """Return what computes the features, and the notes on its network."""
    from ..transfer.features.extraction import example_of
    from ..transfer.features.extractors import build_extractor, open_extractor

    if Path(model).suffix.lower() == ".onnx":
        others = replace(model_options, mean=None, std=None, color=None, value_range=None)
        if backend == "torch" or others != FILE_DEFAULTS:
            raise TorchliftError(f"{model}: an .onnx file runs in onnxruntime, with what it says")
        model_options.require_of_onnx(model)
        return open_extractor(model, names, provider), []
    opened = model_options.model(model)
    example = example_of(images, opened.preprocessing)
    return build_extractor(opened, names, example, backend or "torch", provider), opened.notes


def _announcement(plan: ExtractionPlan, target: Path) -> str:
    parts = [f"{name} {'×'.join(map(str, shape))}" for name, shape in plan.shapes.items()]
    return f"{target}: {', '.join(parts)} {plan.settings.dtype}, {plan.bytes / 1e6:,.1f} MB"
