"""The folder of a run: what was asked for, what came out of it, and how to go on.

config.yaml       every option; `torchlift finetune … --config` takes it
run.json          versions, machine, fingerprints of model and data
metrics.csv       one row an epoch; metrics.jsonl holds the same
seconds.csv       what each epoch took: all else is the same whenever the run is repeated
checkpoints/      the last epoch and the best
model/            the saved model
evaluation.json   its results on the test part
"""

from __future__ import annotations

import csv
import importlib.metadata
import io
import json
import os
import platform
import shutil
from dataclasses import asdict, dataclass, is_dataclass
from pathlib import Path
from typing import Any

import yaml

from ... import __version__
from ..errors import TrainingError
from .checkpoints import Row

#: Options that may be different when a run goes on.
_FREE = {"epochs", "patience", "output", "tracker", "device", "threads", "workers"}
#: Options that had another name in 0.1.0, whose runs can be resumed.
_RENAMED = {
    "part": "split",
    "picture_size": "image_size",
    "val": "val_fraction",
    "test": "test_fraction",
}
_PACKAGES = ("torch", "torchvision", "accelerate", "numpy", "safetensors")


@dataclass(frozen=True)
class RunFolder:
    """The files of a run.

    Attributes:
        path: the folder.
    """

    path: Path

    @property
    def checkpoints(self) -> Path:
        """Where the checkpoints are."""
        return self.path / "checkpoints"

    @property
    def model(self) -> Path:
        """Where the saved model is, when the run has ended."""
        return self.path / "model"

    @property
    def evaluation(self) -> Path:
        """The results of the saved model; the last file that a run writes."""
        return self.path / "evaluation.json"

    def is_finished(self) -> bool:
        """Whether the run came to its end."""
        return self.evaluation.is_file()

    def write_metrics(self, history: list[Row], seconds: list[float]) -> None:
        """Write the results of all epochs so far, as CSV and as lines of JSON.

        Args:
            history: the results; without epochs the files have no rows.
            seconds: what each epoch took.
        """
        text = io.StringIO()
        writer = csv.DictWriter(
            text, list(history[-1] if history else ["epoch"]), lineterminator="\n"
        )
        writer.writeheader()
        writer.writerows(history)
        write_text(self.path / "metrics.csv", text.getvalue())
        lines = "".join(json.dumps(row) + "\n" for row in history)
        write_text(self.path / "metrics.jsonl", lines)
        rows = (f"{epoch},{value:.3f}\n" for epoch, value in enumerate(seconds, 1))
        write_text(self.path / "seconds.csv", "".join(["epoch,seconds\n", *rows]))

    def read_metrics(self) -> list[Row]:
        """The results of all epochs so far."""
        text = (self.path / "metrics.jsonl").read_text(encoding="utf-8")
        return [json.loads(line) for line in text.splitlines()]


def open_run(
    path: str | os.PathLike[str],
    config: dict[str, Any],
    inputs: dict[str, Any],
    resume: bool,
    overwrite: bool,
) -> RunFolder:
    """The folder of a new run, or of one that goes on.

    Args:
        path: the folder; made if it is not there.
        config: every option.
        inputs: what tells the model and the data from others: fingerprints.
        resume: go on with the run that is there, if there is one.
        overwrite: delete the run that is there.

    Raises:
        TrainingError: when the folder is taken, or holds a run of other options, model or data.
    """
    folder = RunFolder(Path(path))
    files = [folder.path / "config.yaml", folder.path / "run.json"]
    if all(file.is_file() for file in files) and not overwrite:
        if not resume:
            raise TrainingError(
                f"{path} holds a run: --resume auto goes on with it, --overwrite starts anew"
            )
        before = json.loads(files[1].read_text(encoding="utf-8"))["inputs"]
        _check_same(before, inputs, f"{path} is a run with another")
        stored = yaml.safe_load(files[0].read_text(encoding="utf-8"))
        options = {_RENAMED.get(key, key): value for key, value in stored.items()}
        _check_same(
            {key: value for key, value in options.items() if key not in _FREE},
            {key: value for key, value in config.items() if key not in _FREE},
            f"{path} is a run with another value of",
        )
        _write_facts(folder.path, config, inputs)
        return folder
    _clear(folder.path, overwrite)
    # Renamed when both files are there, so that a run is never half begun.
    temporary = folder.path.with_name(f".{folder.path.name}.{os.getpid()}.tmp")
    temporary.mkdir(parents=True)
    _write_facts(temporary, config, inputs)
    temporary.replace(folder.path)
    return folder


def flat_options(**groups: Any) -> dict[str, Any]:
    """Options by name, those of dataclasses beside the others.

    Whether a folder is resumed or overwritten is said anew each time.
    """
    flat: dict[str, Any] = {}
    for name, value in groups.items():
        flat |= asdict(value) if is_dataclass(value) else {name: value}  # type: ignore[arg-type]  # an instance, never a class
    return {name: value for name, value in flat.items() if name not in ("resume", "overwrite")}


def write_text(file: Path, text: str) -> None:
    """Write a file, all of it or nothing."""
    temporary = file.with_name(f".{file.name}.{os.getpid()}.tmp")
    temporary.write_text(text, encoding="utf-8")
    temporary.replace(file)


def _write_facts(path: Path, config: dict[str, Any], inputs: dict[str, Any]) -> None:
    facts = {
        "torchlift": __version__,
        "python": platform.python_version(),
        **{name: importlib.metadata.version(name) for name in _PACKAGES},
        "machine": platform.platform(),
        "inputs": inputs,
    }
    write_text(path / "run.json", json.dumps(facts, indent=1) + "\n")
    write_text(path / "config.yaml", yaml.safe_dump(config, sort_keys=False, allow_unicode=True))


def _clear(path: Path, overwrite: bool) -> None:
    """Make room for a new run; nothing but a run is ever deleted."""
    if not path.exists() or not any(path.iterdir()):
        return
    if not overwrite or not (path / "config.yaml").is_file():
        raise TrainingError(f"{path} is there already, and holds something else than a run")
    shutil.rmtree(path)


def _check_same(before: dict[str, Any], now: dict[str, Any], problem: str) -> None:
    changed = [key for key in {**before, **now} if before.get(key) != now.get(key)]
    if changed:
        said = ", ".join(f"{key} ({before.get(key)}, now {now.get(key)})" for key in changed)
        raise TrainingError(f"{problem} {said}; name another folder, or --overwrite it")
