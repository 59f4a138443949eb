"""What is recorded of each command while it runs."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Iterator
from contextlib import nullcontext
from pkgutil import resolve_name
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from torch import nn

# A module that is imported first while functions are replaced would keep what replaces them.
import torchlift.converters.saved.torch7  # noqa: F401
from torchlift.converters.saved import SavedModel
from torchlift.converters.vocabulary import Vocabulary
from torchlift.transfer.data import Dataset, Splits


class ReachedError(Exception):
    """The last call of a command that is of interest."""


PLAIN = (bool, int, float, str)

#: Stands for a result: the call is the last.
END = object()

NETWORK = SavedModel(nn.Sequential(nn.Flatten(), nn.Linear(4, 2)).eval(), "logits", (1, 2, 2))
IMAGES = Dataset(np.zeros((8, 1, 2, 2), np.uint8), np.arange(8) % 2)
FEATURES = {name: Dataset(np.ones((8, 3), np.float32), np.arange(8) % 2) for name in ("x", "y")}
SPLITS = Splits(IMAGES, IMAGES, IMAGES)
PLAN = SimpleNamespace(shapes={}, bytes=0, settings=SimpleNamespace(dtype="float32"))

OPENED = {"torchlift.cli.model_options.ModelOptions.model": NETWORK}
DATA = {
    "torchlift.cli.data_options.DataOptions.open": IMAGES,
    "torchlift.cli.data_options.DataOptions.open_for_onnx": (IMAGES, []),
}
TRAINED = {
    **OPENED,
    **DATA,
    "torchlift.transfer.training.draw_splits.split": SPLITS,
    "torchlift.transfer.training.teacher.open_teacher": None,
    "torchlift.transfer.training.experiment.run_experiment": END,
}

CLASSIFIERS = "torchlift.transfer.training.classifiers"

#: The words of each command, and what is recorded while it runs, with its result.
COMMANDS: dict[str, tuple[str, dict[str, Any]]] = {
    "inspect": (
        "f.t7",
        {
            "torchlift.cli.inspect.run_plugin": None,
            "torchlift.converters.t7.inspection.inspect": END,
        },
    ),
    "summary": ("torchvision:x", {**OPENED, "torchlift.transfer.summary.summarize": END}),
    "cat": (
        "f.t7 x --output o.npy",
        {
            "torchlift.cli.model_options.run_plugin": None,
            "torchlift.converters.files.check_output": None,
            "torchlift.converters.t7.reading.load.read_file": END,
        },
    ),
    "diff": (
        "a.t7 b.t7",
        {
            "torchlift.cli.model_options.run_plugin": None,
            "torchlift.converters.comparing.compare_files": END,
        },
    ),
    "convert": (
        "m.t7 o",
        {
            **OPENED,
            "torchlift.converters.files.check_output": None,
            "torchlift.cli.model_options.OutputOptions.set_on": None,
            "torchlift.converters.saved.save": END,
        },
    ),
    "export": (
        "m.t7 o.onnx",
        {
            **OPENED,
            "torchlift.cli.model_options.OutputOptions.set_on": None,
            "torchlift.converters.onnx.export": END,
        },
    ),
    "check": (
        "m.t7 f.onnx --data d --runtime web",
        {
            **OPENED,
            **DATA,
            "torchlift.converters.onnx.find_runtimes": [],
            "torchlift.converters.onnx.check": END,
        },
    ),
    "annotate": (
        "f.onnx --labels x --output o.onnx",
        {
            "torchlift.converters.inference.onnx_overrides.OnnxOverrides.of": None,
            "torchlift.converters.onnx.annotate": END,
        },
    ),
    "quantize": (
        "f.onnx o.onnx --data d",
        {
            **DATA,
            "torchlift.converters.inference.onnx_overrides.OnnxOverrides.of": SimpleNamespace(
                labels=None
            ),
            "torchlift.converters.onnx.quantize": END,
        },
    ),
    "predict": (
        "m.t7 x.npz --output o.csv",
        {
            "torchlift.cli.model_options.ModelOptions.predictor": None,
            "torchlift.converters.inference.results.open_results": nullcontext(),
            "torchlift.cli.predict.gives_features": False,
            "torchlift.converters.inference.Classifier": SimpleNamespace(note=""),
            "torchlift.transfer.data.open_data": IMAGES,
            "torchlift.converters.inference.predict_array": END,
        },
    ),
    "evaluate": (
        "m.t7 d --output o",
        {
            **DATA,
            "torchlift.cli.evaluate.check_output_folder": None,
            "torchlift.cli.model_options.ModelOptions.predictor": None,
            "torchlift.transfer.evaluation.evaluate": END,
        },
    ),
    "sample": (
        "m.t7",
        {
            "torchlift.cli.sample.run_plugin": None,
            "torchlift.converters.inference.text.open_language_model": SimpleNamespace(
                vocabulary=Vocabulary("vocab", ("x", "y"))
            ),
            "torchlift.converters.inference.text.Tokenizer.encode": None,
            "torchlift.converters.inference.text.sample_tokens": END,
        },
    ),
    "apply": (
        "m.t7 x.png o.png",
        {
            "torchlift.converters.files.check_output": None,
            "torchlift.converters.images.read_image": None,
            "torchlift.cli.model_options.ModelOptions.predictor": SimpleNamespace(note=""),
            "torchlift.cli.model_options.OutputOptions.said": None,
            "torchlift.converters.inference.image_model.ImageModel": END,
        },
    ),
    "extract": (
        "m.t7 d o",
        {
            **OPENED,
            **DATA,
            "torchlift.transfer.features.files.format_of": "zarr",
            "torchlift.transfer.features.extraction.example_of": None,
            "torchlift.transfer.features.extractors.build_extractor": None,
            "torchlift.transfer.features.model_source.ModelSource.of": None,
            "torchlift.transfer.features.extraction.plan_extraction": PLAN,
            "torchlift.transfer.features.extraction.extract": END,
        },
    ),
    "probe": (
        "f --csv o.csv --save s",
        {
            "torchlift.cli.probe.run_plugin": None,
            "torchlift.converters.files.check_output": None,
            "torchlift.converters.overwriting.check_output_folder": None,
            "torchlift.transfer.features.files.read_features": FEATURES,
            "torchlift.transfer.features.store.is_feature_store": True,
            "torchlift.transfer.features.store.open_store": None,
            "torchlift.transfer.features.model_source.reopen": NETWORK,
            "torchlift.transfer.probe_network.feature_network": None,
            "torchlift.transfer.probe.probe": END,
        },
    ),
    "calibrate": (
        "m.t7 d o",
        {
            **OPENED,
            **DATA,
            "torchlift.converters.overwriting.check_output_folder": None,
            "torchlift.converters.inference.TorchPredictor": None,
            "torchlift.transfer.evaluation.evaluate": END,
        },
    ),
    "train": (
        "softmax d",
        {**TRAINED, "torchlift.transfer.training.classifiers.new_classifier": NETWORK},
    ),
    "finetune": (
        "m.t7 d",
        {**TRAINED, "torchlift.transfer.training.classifiers.adapted_classifier": NETWORK},
    ),
    "sweep": (
        "train softmax d lr=0.1",
        {
            "torchlift.transfer.sweep.plan_trials": [{}],
            "torchlift.transfer.sweep.Sweep": END,
        },
    ),
    "runs": (
        "d",
        {"torchlift.converters.files.check_output": None, "torchlift.transfer.runs.find_runs": END},
    ),
    "dump": (
        "d o",
        {
            **DATA,
            "torchlift.converters.files.check_output": None,
            "torchlift.transfer.data.write_image_folder.write_image_folder": END,
        },
    ),
    "split": (
        "d o.npz",
        {
            **DATA,
            "torchlift.converters.files.check_output": None,
            "torchlift.transfer.training.draw_splits.split": END,
        },
    ),
    "plot": (
        "",
        {"torchlift.converters.files.check_output": None, "torchlift.cli.plot.PlotRequest": END},
    ),
    "serve": (
        "f.onnx",
        {
            "torchlift.cli.serve.repository.find_models": {},
            "torchlift.cli.serve.command._listen": None,
            "torchlift.cli.serve.command._address": "",
            "torchlift.cli.serve.command._read_token": "t",
            "torchlift.cli.serve.logs.configure_logs": None,
            "torchlift.cli.serve.worker.serve_alone": END,
            "torchlift.cli.serve.supervisor.supervise": END,
        },
    ),
    "page": ("f.onnx p", {"torchlift.converters.onnx.page.write_page": END}),
    "lab": (
        "blitz",
        {
            "torchlift.transfer.labs.steps.Steps": None,
            "torchlift.transfer.labs.run.do_lab": END,
        },
    ),
}

#: Options that show or write more, and are no arguments of the library's first calls.
ELSEWHERE = {
    ("summary", "formulas"),
    ("summary", "classes"),
    ("summary", "input"),
    ("convert", "all"),
    ("check", "precision"),
    ("evaluate", "precision"),
    ("predict", "precision"),
    ("export", "triton"),
    ("export", "name"),
    ("check", "examples"),
    ("check", "report"),
    ("evaluate", "vocab"),
    ("sample", "prime"),
    # Images of a generator, in tests/test_sample_images.py.
    *(("sample", name) for name in ("grid", "noise", "output", "overwrite", "output_range")),
    *(("sample", name) for name in ("output_color", "output_mean")),
    ("extract", "match_classes"),
    ("sweep", "base"),
    # Several runs, in tests/test_repeats.py; and tests/test_runs.py.
    *((name, "repeats") for name in ("train", "finetune")),
    *(("runs", name) for name in ("format", "sort", "overwrite")),
    # Refused: an image alone cannot be mixed.
    ("plot", "mixup"),
    ("plot", "cutmix"),
    # In other units, and as another type.
    ("serve", "max_delay_ms"),
    ("serve", "cors_origin"),
}

#: Names that the library has for options.
RENAMED = {
    ("cat", "plugin"): "file",
    ("diff", "plugin"): "file",
    ("extract", "format"): "named",
    ("inspect", "plugin"): "file",
    ("sample", "plugin"): "file",
    ("apply", "mask"): "source",
    ("calibrate", "provider"): "device",
    ("check", "runtime"): "names",
    ("check", "runtime_python"): "python",
    ("probe", "csv"): "target",
    ("probe", "save"): "target",
    ("probe", "plugin"): "file",
    ("serve", "token_file"): "file",
    ("probe", "layers"): "name",
    ("probe", "methods"): "method",
    ("probe", "test"): "path",
    **{(name, "data"): "source" for name in ("check", "quantize")},
    **{(name, "test_data"): "source" for name in ("train", "finetune", "split", "calibrate")},
    **{(name, "output"): "path" for name in ("predict", "train", "finetune", "sweep")},
    **{(name, "output"): "target" for name in ("annotate", "cat", "evaluate", "plot", "runs")},
    ("lab", "output"): "folder",
}


def record(monkeypatch: pytest.MonkeyPatch, target: str, result: Any, seen: list[Any]) -> None:
    """Put in the place of a function one that keeps its arguments by name."""
    place, _, name = target.rpartition(".")
    function = resolve_name(target)
    signature = inspect.signature(function)
    kinds = {parameter.kind: parameter.name for parameter in signature.parameters.values()}
    others = kinds.get(inspect.Parameter.VAR_KEYWORD, "")

    def stand_in(*args: Any, **kwargs: Any) -> Any:
        given = signature.bind(*args, **kwargs).arguments
        seen.extend(_flat(given | given.get(others, {})))
        if result is END:
            raise ReachedError
        return result

    monkeypatch.setattr(resolve_name(place), name, stand_in)


def _flat(arguments: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    """Arguments, and in the place of a dataclass its fields; `config` only repeats the options."""
    for name, value in arguments.items():
        if name in ("config", "facts"):
            continue
        yield name, value
        if dataclasses.is_dataclass(value) and not isinstance(value, type):
            fields = dataclasses.fields(value)
            yield from _flat({field.name: getattr(value, field.name) for field in fields})
