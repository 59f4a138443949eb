"""What is recorded of a run that an error ended, and what is left of one that could not begin."""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml

from torchlift.converters.errors import TorchliftError, WriteError
from torchlift.transfer.errors import DivergedError, TrainingError
from torchlift.transfer.training.experiment import _failure_recorded, _kept_if_begun
from torchlift.transfer.training.options import (
    ADDED_OPTIONS,
    AUGMENTATION,
    DISTILLATION,
    FREEZING,
    OPTIMIZATION,
    RENAMED_OPTIONS,
    RUN,
    SPLIT_OPTIONS,
)
from torchlift.transfer.training.resuming import check_resumable
from torchlift.transfer.training.run_folder import flat_options, open_run
from torchlift.transfer.training.status import Failure


@pytest.mark.parametrize(
    ("error", "recorded"),
    [
        (TrainingError("no such head"), Failure("failed", "no such head")),
        (DivergedError("the loss is nan", 3), Failure("diverged", "the loss is nan")),
        (RuntimeError("shapes differ\n at …"), Failure("failed", "RuntimeError: shapes differ")),
        (MemoryError(), Failure("failed", "MemoryError")),
        # It goes on from its checkpoint.
        (KeyboardInterrupt(), None),
        (SystemExit(143), None),
        (OSError(28, "full"), None),
        (WriteError("full"), None),
    ],
    ids=repr,
)
@pytest.mark.parametrize("is_main", [True, False])
def test_an_error_that_ended_a_run_is_recorded_by_the_first_process(
    error: BaseException, recorded: Failure | None, is_main: bool
) -> None:
    told: list[Any] = []
    folder: Any = SimpleNamespace(add_facts=lambda **facts: told.append(facts))
    with pytest.raises(type(error)), _failure_recorded(folder, is_main):
        raise error
    expected = [] if recorded is None or not is_main else [{"failure": vars(recorded)}]
    assert told == expected


@pytest.mark.parametrize("second", [OSError(28, "full"), TorchliftError("damaged")])
def test_the_error_itself_is_raised_where_it_cannot_be_recorded(second: Exception) -> None:
    def fail(**facts: Any) -> None:
        raise second

    folder: Any = SimpleNamespace(add_facts=fail)
    with pytest.raises(RuntimeError, match="the first"), _failure_recorded(folder, True):
        raise RuntimeError("the first")


@pytest.mark.parametrize("is_new", [True, False])
@pytest.mark.parametrize(
    ("error", "removes"),
    [(OSError(28, "full"), True), (WriteError("full"), True), (RuntimeError("odd"), False)],
    ids=repr,
)
def test_only_a_new_run_that_could_not_be_written_is_removed(
    error: Exception, removes: bool, is_new: bool
) -> None:
    removed: list[bool] = []
    folder: Any = SimpleNamespace(remove_unstarted=lambda: removed.append(True))
    with pytest.raises(type(error)), _kept_if_begun(folder, is_new):
        raise error
    assert removed == [True] * (removes and is_new)


def resumed(folder: Path, stored: dict[str, Any], config: dict[str, Any], **inputs: Any) -> None:
    """Go on with a run that was written with some options."""
    (folder / "config.yaml").write_text(yaml.safe_dump(stored), encoding="utf-8")
    facts = {"torchlift": "0.1.0", "inputs": inputs.pop("before", {})}
    check_resumable(folder, facts, config, inputs)


def test_a_run_goes_on_with_more_epochs_or_on_another_machine_and_else_as_it_began(
    tmp_path: Path,
) -> None:
    may_change = {"epochs", "patience", "output", "tracker", "device", "threads", "workers"}
    groups = (OPTIMIZATION, FREEZING, AUGMENTATION, DISTILLATION, SPLIT_OPTIONS, RUN)
    options = flat_options(**{str(number): group for number, group in enumerate(groups)}, seed=0)
    assert may_change < set(options)
    refused = set()
    for name in options:
        before, now = {**options, name: "this"}, {**options, name: "that"}
        with suppress(TrainingError):
            resumed(tmp_path, before, now)
            continue
        refused.add(name)
    assert refused == set(options) - may_change


def test_options_of_0_1_0_have_their_names_of_today(tmp_path: Path) -> None:
    old = {"part": "train", "picture_size": "32", "val": 0.2, "test": 0.1}
    new = {"split": "train", "image_size": "32", "val_fraction": 0.2, "test_fraction": 0.1}
    assert {RENAMED_OPTIONS[name] for name in old} == set(new)
    resumed(tmp_path, old, new)
    with pytest.raises(TrainingError, match=r"is a run with val_fraction=0\.2, now val_fraction=0"):
        resumed(tmp_path, old, new | {"val_fraction": 0.3})


def test_options_that_0_1_0_did_not_have_are_as_it_would_have_had_them(tmp_path: Path) -> None:
    """They are today's usual ones: what it did is what is done without a word."""
    from torchlift.cli.parser import arguments_of
    from torchlift.cli.train import train

    usual = {one.name: one.default for one in arguments_of(train) if not one.positional}
    known = {name: value for name, value in ADDED_OPTIONS.items() if name in usual}
    assert set(ADDED_OPTIONS) - set(known) == {"unfreeze"}
    assert known == {name: usual[name] for name in known}
    resumed(tmp_path, {"lr": 0.1}, {"lr": 0.1, **ADDED_OPTIONS})
    # What was stored counts, and so does what is asked for.
    resumed(tmp_path, {"lr": 0.1, "rotation": 5}, {"lr": 0.1, "rotation": 5})
    for stored, now in (
        ({"rotation": 5}, {"rotation": 0}),
        ({"lr": 0.1}, {"lr": 0.1, "rotation": 5}),
    ):
        with pytest.raises(TrainingError, match="rotation="):
            resumed(tmp_path, stored, now)


def test_other_contents_are_said_where_no_option_says_it(tmp_path: Path) -> None:
    before = {"model": "a", "data": "b"}
    resumed(tmp_path, {"lr": 1}, {"lr": 1}, before=before, model="a", data="b")
    for changes, said in (
        ({"model": "x", "data": "b"}, "model of the same name, but with other contents"),
        ({"model": "x", "data": "y"}, "model and data of the same name"),
        ({"model": "a", "data": "b", "teacher": "t"}, "teacher of the same name"),
        ({"model": "a"}, "data of the same name"),
    ):
        with pytest.raises(TrainingError, match=said):
            resumed(tmp_path, {"lr": 1}, {"lr": 1}, before=before, **changes)
    # Another option explains them.
    with pytest.raises(TrainingError, match="is a run with lr=1, now lr=2; name another folder"):
        resumed(tmp_path, {"lr": 1}, {"lr": 2}, before=before, model="x", data="b")


def test_what_a_run_was_made_with_is_recorded_as_it_is_read_again(tmp_path: Path) -> None:
    config = flat_options(kind="größe", lr=1, alpha=2, download=True, repeats=3, classes=["b", "a"])
    run = open_run(tmp_path / "new" / "run", config, {"model": "m"}, False, False, processes=3)
    text = (run.path / "config.yaml").read_text(encoding="utf-8")
    # In the order of the options, and as people wrote them.
    assert text == "kind: größe\nlr: 1\nalpha: 2\nclasses:\n- b\n- a\n"
    facts = json.loads((run.path / "run.json").read_text(encoding="utf-8"))
    assert (facts["processes"], facts["inputs"]) == (3, {"model": "m"})
    assert "lr" not in facts
    assert run.processes() == 3


@pytest.mark.parametrize(
    ("changes", "processes"), [({}, 1), ({"processes": 4}, 4), ({"processes": "4"}, None)]
)
def test_a_run_that_does_not_say_it_was_made_by_one_process(
    changes: dict[str, Any], processes: int | None, tmp_path: Path
) -> None:
    run = open_run(tmp_path / "run", {}, {}, False, False)
    facts = {"torchlift": "0.1.0", "inputs": {}, "lr": "high", **changes}
    (run.path / "run.json").write_text(json.dumps(facts), encoding="utf-8")
    assert run.processes() == processes
    assert run.found_rate() is None


@pytest.mark.parametrize(
    ("found", "monitor"), [("f1", "f1"), ("beauty", "accuracy"), (3, "accuracy")]
)
def test_a_metric_that_nobody_knows_is_the_accuracy(
    found: Any, monitor: str, tmp_path: Path
) -> None:
    assert open_run(tmp_path / "run", {"monitor": found}, {}, False, False).monitor() == monitor


def test_of_all_options_only_what_changes_no_result_may_change(tmp_path: Path) -> None:
    """The number of epochs, and where and on what a run computes and tells of it."""
    usual = flat_options(
        optimization=OPTIMIZATION,
        freezing=FREEZING,
        augmentation=AUGMENTATION,
        distillation=DISTILLATION,
        split_options=SPLIT_OPTIONS,
        run=RUN,
        seed=0,
    )
    assert {"precision", "keep_best", "batch_size", "val_fraction"} < usual.keys()
    changeable = set()
    for name in usual:
        with suppress(TrainingError):
            resumed(tmp_path, {name: 1}, {name: 2})
            changeable.add(name)
    assert changeable == {
        *("epochs", "patience", "output", "tracker", "device", "threads", "workers")
    }
