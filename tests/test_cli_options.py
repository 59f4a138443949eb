"""Every option of every command reaches what computes, under its own name and with its value.

Each command is run up to the first call of the library that takes its options: that call is
recorded and goes no further. An option that is not passed on, or takes another's place, is missing
in what was recorded. Tested elsewhere are options that say what is written (`test_overwriting`),
and those in `ELSEWHERE`.
"""

from __future__ import annotations

import dataclasses
import inspect
import typing
from collections.abc import Callable, Iterator
from contextlib import nullcontext, suppress
from pathlib import Path
from pkgutil import resolve_name
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from torch import nn

from torchlift.cli.commands import load_commands
from torchlift.cli.data_options import DataOptions
from torchlift.cli.main import main
from torchlift.cli.model_options import ModelOptions
from torchlift.cli.parser import Argument, arguments_of, parse_command
from torchlift.cli.plot import _KINDS
from torchlift.cli.values import ColumnRange
from torchlift.converters.input_shapes import parse_inputs
from torchlift.converters.saved import SavedModel
from torchlift.converters.vocabulary import Vocabulary
from torchlift.transfer.data import Dataset, Splits
from torchlift.transfer.training.run_folder import flat_options


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
    "torchlift.transfer.data.split": SPLITS,
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
    "convert": (
        "m.t7 o",
        {
            **OPENED,
            "torchlift.converters.files.check_output": None,
            "torchlift.converters.saved.save": END,
        },
    ),
    "export": ("m.t7 o.onnx", {**OPENED, "torchlift.converters.onnx.export": END}),
    "check": (
        "m.t7 f.onnx --data d",
        {
            **OPENED,
            **DATA,
            "torchlift.converters.onnx.check": END,
        },
    ),
    "quantize": (
        "f.onnx o.onnx --data d",
        {
            **DATA,
            "torchlift.cli.model_options.PreprocessingOptions.require_of_onnx": None,
            "torchlift.converters.onnx.quantize": END,
        },
    ),
    "predict": (
        "m.t7 x.npz --output o.csv",
        {
            "torchlift.cli.model_options.ModelOptions.predictor": None,
            "torchlift.converters.inference.results.open_results": nullcontext(),
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
    "extract": (
        "m.t7 d o",
        {
            **OPENED,
            **DATA,
            "torchlift.transfer.features.files.format_of": "zarr",
            "torchlift.transfer.features.extraction.example_of": None,
            "torchlift.transfer.features.extractors.build_extractor": None,
            "torchlift.transfer.features.extraction.plan_extraction": PLAN,
            "torchlift.transfer.features.extraction.extract": END,
        },
    ),
    "probe": (
        "f --csv o.csv",
        {
            "torchlift.converters.files.check_output": None,
            "torchlift.transfer.features.files.read_features": FEATURES,
            "torchlift.transfer.probe.probe": END,
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
            "torchlift.transfer.data.split": END,
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
    ("check", "examples"),
    ("check", "report"),
    ("evaluate", "vocab"),
    ("sample", "prime"),
    ("extract", "match_classes"),
    ("sweep", "base"),
    # In other units, and as another type.
    ("serve", "max_delay_ms"),
    ("serve", "cors_origin"),
}

#: Values for options that do not take every one of their type.
VALUES = {
    "resize": "pil-bicubic",
    "ema": "0.5",
    "layer_decay": "0.5",
    "schedule": "constant",
    "freeze": "all-but-head",
    "unfreeze_at": "7 --freeze all-but-head",
    "output": "o7.npz",
    "csv": "o7.csv",
    "arrays": "o7.npz",
    "input": "1x2x3",
    "columns": "1:2",
    "max_body": "7M",
    "max_pixels": "7M",
    "mean": "3,5,7",
    "std": "3,5,7",
    "color": "BGR",
    "value_range": "-1,1",
}
OUTPUTS = {"predict": "o7.csv", "plot": "o7.png", "cat": "o7.npy"}

#: Names that the library has for options.
RENAMED = {
    ("cat", "plugin"): "file",
    ("extract", "format"): "named",
    ("inspect", "plugin"): "file",
    ("sample", "plugin"): "file",
    ("probe", "csv"): "target",
    ("serve", "token_file"): "file",
    ("probe", "layers"): "name",
    ("probe", "methods"): "method",
    ("probe", "test"): "path",
    **{(name, "data"): "source" for name in ("check", "quantize")},
    **{(name, "test_data"): "source" for name in ("train", "finetune", "split")},
    **{(name, "output"): "path" for name in ("predict", "train", "finetune", "sweep")},
    **{(name, "output"): "target" for name in ("cat", "evaluate", "plot")},
    ("lab", "output"): "folder",
}


def another_value(command: str, argument: Argument) -> str:
    """Words that give an option another value than its default."""
    if argument.type is bool:
        return argument.flag
    value = VALUES.get(argument.name) or _of_type(argument.type, argument.default)
    if argument.name == "output":
        value = OUTPUTS.get(command, "o7")
    return f"{argument.flag} {value}"


def _of_type(kind: Any, default: Any) -> str:
    if typing.get_origin(kind) is typing.Literal:
        return next(str(choice) for choice in typing.get_args(kind) if choice != default)
    if typing.get_origin(kind) in (typing.Union, type(int | None)):
        return _of_type(typing.get_args(kind)[0], default)
    if typing.get_origin(kind) is typing.Annotated:
        return "0.25" if typing.get_args(kind)[0] is float else "7"
    if typing.get_origin(kind) is list:
        return _of_type(typing.get_args(kind)[0], default)
    return {str: "x", int: "7", float: "0.25"}.get(kind, "3x5")


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


def comparable(value: Any) -> Any:
    """A value as the command line and the library have it alike."""
    value = str(value) if isinstance(value, Path) else value
    return value[0] if isinstance(value, list) and len(value) == 1 else value


@pytest.mark.parametrize("name", COMMANDS)
def test_every_option_reaches_what_computes(
    name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    words, recorded = COMMANDS[name]
    seen: list[tuple[str, Any]] = []
    for target, result in recorded.items():
        record(monkeypatch, target, result, seen)
    (command,) = load_commands([name])
    lost = {}
    for argument in arguments_of(command):
        if argument.positional or (name, argument.name) in ELSEWHERE:
            continue
        kinds = [kind for kind, (_, taken) in _KINDS.items() if argument.name in taken]
        first = f"{[*kinds, 'filters'][0]} m.t7" if name == "plot" else words
        line = f"{name} {first} {another_value(name, argument)}".split()
        seen.clear()
        with suppress(ReachedError):
            main([*line, "--debug"])
        value = parse_command((command,), line)[1][argument.name]
        value = (value.first, value.last) if isinstance(value, ColumnRange) else value
        assert value != argument.default
        key = RENAMED.get((name, argument.name), argument.name)
        found = [comparable(each) for place, each in seen if place == key]
        # Under its own name it has this value everywhere; arrays have names of their own.
        others = [each for each in found if isinstance(each, PLAIN) and each != comparable(value)]
        if comparable(value) not in found or (key == argument.name and others):
            lost[argument.name] = (value, found)
    assert not lost


@pytest.mark.parametrize("name", ["train", "finetune"])
def test_the_config_of_a_run_holds_every_option(
    name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A run is resumed, and done again, by its config.yaml."""
    monkeypatch.chdir(tmp_path)
    words, recorded = COMMANDS[name]
    seen: list[tuple[str, Any]] = []
    for target, result in recorded.items():
        record(monkeypatch, target, result, seen)
    with pytest.raises(ReachedError):
        main([name, *words.split(), "--lr", "0.25", "--output", "r", "--debug"])
    config = dict(seen)["experiment"].config
    (command,) = load_commands([name])
    names = {argument.name for argument in arguments_of(command)}
    # These say what happens to an earlier run, and are not part of this one.
    assert names - {"resume", "overwrite"} == set(config)
    assert (config["data"], config["lr"], config["output"]) == ("d", 0.25, "r")


def test_all_commands_with_options_are_here() -> None:
    given = {command.__name__: arguments_of(command) for command in load_commands([])}
    assert set(COMMANDS) == {name for name, arguments in given.items() if arguments} - {"demo"}


FILE_OPTIONS = ModelOptions(
    weights="w",
    at="a",
    labels="l",
    mean_std="m",
    color="BGR",
    value_range=[-1.0, 1.0],
    input_size=(3, 5),
    resize="pil-bicubic",
    plugin="p.py",
)


@pytest.mark.parametrize(
    ("target", "open_with"),
    [
        ("torchlift.transfer.load_network.load_network", lambda: FILE_OPTIONS.model("m.t7")),
        (
            "torchlift.converters.inference.open_predictor",
            lambda: FILE_OPTIONS.predictor("m.onnx", "cpu"),
        ),
    ],
    ids=["a model", "an .onnx file"],
)
def test_every_option_of_a_model_reaches_what_opens_it(
    target: str, open_with: Callable[[], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    plugins: list[Any] = []
    seen: list[Any] = []
    record(monkeypatch, "torchlift.cli.model_options.run_plugin", None, plugins)
    record(monkeypatch, target, END, seen)
    with pytest.raises(ReachedError):
        open_with()
    assert plugins == [("file", "p.py")]
    options = dict(seen)
    given = dataclasses.asdict(FILE_OPTIONS)
    # Neither what was left out nor the plugin, which was run, goes on.
    given = {name: value for name, value in given.items() if value is not None}
    del given["plugin"]
    assert given.items() <= options.items()


def test_every_option_of_data_reaches_what_opens_it(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Any] = []
    record(monkeypatch, "torchlift.converters.labels.read_labels", ["p", "q"], [])
    record(monkeypatch, "torchlift.transfer.data.open_data", END, seen)
    options = DataOptions(["b", "a"], "names.txt", "name", "val", 7, 3, (5, 6), "skip", 9)
    expected = {
        "source": "d",
        "class_names": ["p", "q"],
        "default_class_names": ["p", "q"],
        "classes": ["b", "a"],
        "limit": 7,
        "first_label": 3,
        "size": (5, 6),
        "split": "val",
        "on_error": "skip",
        "seed": 9,
    }
    with pytest.raises(ReachedError):
        options.open("d")
    assert dict(seen) == expected
    seen.clear()
    with pytest.raises(ReachedError):
        options.open("d", as_test_data=True)
    assert dict(seen) == expected | {"class_names": None}


def test_a_config_holds_shapes_as_they_are_written() -> None:
    """What `--config` reads again is what the command line takes."""
    options = ModelOptions(input=parse_inputs("16,?x20:int64"), mean=[0.5], std=[0.25])
    config = flat_options(model="m.t7", model_options=options)
    assert config["input"] == "16,?x20:int64"
    assert config["mean"] == [0.5]
