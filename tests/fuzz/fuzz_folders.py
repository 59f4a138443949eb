"""Fuzz what models, features and runs say of themselves: `fuzz_folders.py --minutes 40`.

Saved models, .onnx files, stores of features and folders of runs get entries that nobody writes,
and damaged files. Whatever stands in them, opening one gives it or raises a `TorchliftError`, in
bounded time and memory. `tests/test_folders_fuzz.py` replays the findings.
"""

from __future__ import annotations

import random
import sys
import tempfile
import warnings
from argparse import ArgumentTypeError
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import nn

from torchlift.cli.config_files import read_config
from torchlift.converters import TorchliftError
from torchlift.converters.inference import OnnxPredictor, TorchPredictor
from torchlift.converters.onnx import describe_file
from torchlift.converters.saved import SavedModel, describe_folder, is_saved_model, load, save
from torchlift.transfer.evaluation import read_evaluation
from torchlift.transfer.features.files import read_features
from torchlift.transfer.features.store import describe_store
from torchlift.transfer.network_by_name import new_network
from torchlift.transfer.training.checkpoints import TrainingState, load_last_checkpoint
from torchlift.transfer.training.run_folder import RunFolder, open_run

# The package `fuzz`, of which this script is a part, is in the folder of the tests.
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from fuzz.folder_mutations import Files, mutate_files, pack, read_folder, unpack
from fuzz.rounds import FINDINGS, Fuzzer, main

FIXTURES = Path(__file__).resolve().parents[2] / "fixtures" / "0.1.0"


def open_saved_model(folder: Path) -> None:
    """Describe, load and run a saved model."""
    is_saved_model(folder)
    describe_folder(folder)
    model = load(folder)
    if model.input_shape is not None and np.prod(model.input_shape) < 2**20:
        TorchPredictor(model, "cpu")(np.zeros((1, *model.input_shape), np.float32))


def open_onnx(folder: Path) -> None:
    """Describe and run an .onnx file."""
    describe_file(folder / "model.onnx")
    predictor = OnnxPredictor(folder / "model.onnx", "cpu")
    if predictor.preprocessing is not None:
        predictor(predictor.preprocessing(np.zeros((1, 1, 32, 32), np.uint8)))


def open_features(folder: Path) -> None:
    """Describe and read a store of features."""
    describe_store(folder)
    read_features(folder)


def open_run_folder(folder: Path) -> None:
    """Read everything in the folder of a run, and resume it."""
    run = RunFolder(folder)
    attempts: list[Callable[[], object]] = [
        run.read_metrics,
        lambda: read_evaluation(run.evaluation),
        lambda: open_run(folder, {"epochs": 5}, {}, resume=True, overwrite=False),
        lambda: load_last_checkpoint(run.checkpoints, _training_state()),
        lambda: read_config((folder / "config.yaml").read_text(encoding="utf-8"), {"lr": float}),
        lambda: open_saved_model(run.model),
    ]
    problems: list[Exception] = []
    for attempt in attempts:
        try:
            attempt()
        # What the parser of the command line expects of config files.
        except (TorchliftError, FileNotFoundError, UnicodeDecodeError, ArgumentTypeError) as error:
            problems.append(error)
    # Two are always refused: the run is of other options, and its config has more than one.
    if len(problems) > 2:
        raise TorchliftError(str(problems[0]))


#: How each kind is opened.
KINDS: dict[str, Callable[[Path], None]] = {
    "model": open_saved_model,
    "onnx": open_onnx,
    "features": open_features,
    "run": open_run_folder,
}


def exercise(data: bytes) -> bool:
    """Open what is in an archive, by the name of its outermost folder.

    Returns:
        Whether it could be opened.

    Raises:
        Exception: Any exception but a TorchliftError.
    """
    with warnings.catch_warnings(), tempfile.TemporaryDirectory() as folder:
        warnings.simplefilter("ignore")
        unpack(data, Path(folder))
        (kind,) = Path(folder).iterdir()
        try:
            KINDS[kind.name.split("-")[0]](kind)
        except TorchliftError as error:
            if not str(error):
                raise RuntimeError("an error without a message") from error
            return False
    return True


def seeds() -> dict[str, list[Files]]:
    """Return the folders to begin with, by their kind."""
    network = nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU(), nn.Flatten(), nn.Linear(72, 3)).eval()
    with tempfile.TemporaryDirectory() as folder:
        fresh = save(SavedModel(network, "logits", (1, 8, 8), list("abc")), Path(folder) / "m")
        return {
            "model": [read_folder(fresh), read_folder(FIXTURES / "model")],
            "onnx": [{"model.onnx": (FIXTURES / "model.onnx").read_bytes()}],
            "features": [read_folder(FIXTURES / "features")],
            "run": [read_folder(FIXTURES / "run")],
        }


def draw(rng: random.Random, corpus: dict[str, list[Files]]) -> bytes:
    """Return an archive with one mutated folder."""
    kind = rng.choice(sorted(corpus))
    files = mutate_files(rng.choice(corpus[kind]), rng)
    return pack({f"{kind}/{name}": content for name, content in files.items()})


def _training_state() -> TrainingState:
    network = new_network("softmax", 1, 10)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1, momentum=0.9)
    return TrainingState(network, optimizer, None, None)


if __name__ == "__main__":
    torch.set_num_threads(1)
    CORPUS = seeds()
    # What is imported and reserved at the first use is not the input's.
    for name, folders in CORPUS.items():
        exercise(pack({f"{name}/{file}": content for file, content in folders[0].items()}))
    main(
        Fuzzer(
            script=__file__,
            suffix=".zip",
            findings=FINDINGS / "folders",
            draw=lambda rng: draw(rng, CORPUS),
            exercise=exercise,
            inputs=3_000,
            seconds=10,
            memory=512 << 20,
            memory_factor=20,
        )
    )
