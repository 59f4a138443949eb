"""Every option of every command reaches what computes, under its own name and with its value.

Each command is run up to the first call of the library that takes its options: that call is
recorded and goes no further. An option that is not passed on, or takes another's place, is missing
in what was recorded. Tested elsewhere are options that say what is written (`test_overwriting`),
and those in `ELSEWHERE`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from cli_options_support import (
    COMMANDS,
    ELSEWHERE,
    END,
    PLAIN,
    RENAMED,
    ReachedError,
    record,
)
from cli_values_support import another_value

from torchlift.cli.commands import load_commands
from torchlift.cli.data_options import DataOptions
from torchlift.cli.main import main
from torchlift.cli.model_options import ModelOptions
from torchlift.cli.parser import arguments_of, parse_command
from torchlift.cli.plot import _KINDS, _OF_AUGMENTATION
from torchlift.cli.values import ColumnRange
from torchlift.converters.input_shapes import parse_inputs
from torchlift.transfer.training.run_folder import flat_options


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
        # Changed samples need both that and how.
        changed = {"augmented": "--flip"} | dict.fromkeys(_OF_AUGMENTATION, "--augmented")
        needed = changed.get(argument.name, "") if name == "plot" else ""
        line = f"{name} {first} {another_value(name, argument)} {needed}".split()
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
    # These are of one call: what happens to earlier runs, how many there are, and downloads.
    assert names - {"resume", "overwrite", "download", "repeats"} == set(config)
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
        ("torchlift.transfer.network_by_name.load_network", lambda: FILE_OPTIONS.model("m.t7")),
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
    given = {name: value for name, value in given.items() if value not in (None, False)}
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
