"""The labs without their commands: each command has a result that is made up, in no time."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

from support import FIXTURES

from torchlift.transfer.labs.options import LabOptions
from torchlift.transfer.labs.run import LABS, do_lab
from torchlift.transfer.labs.steps import Steps
from torchlift.transfer.networks import NETWORKS
from torchlift.transfer.reports import Figure, Page, Table, Text

#: What the made-up file of AlexNet holds: bytes of each group, 2.5 MiB in all.
MIB = 2**20
FILE_BYTES = {"weights": MIB, "gradients": MIB, "running_statistics": 60, "buffers": MIB // 2 - 60}


def finished_steps(folder: Path) -> list[dict[str, Any]]:
    """Return the words, the result and the seconds of each finished command of a lab."""
    lines = (folder / "steps.jsonl").read_text(encoding="utf-8").splitlines()
    return [step for step in map(json.loads, lines) if "words" in step]


def size_of(network: str) -> int:
    """Return the number from which all results of a network are made: another for each."""
    name = Path(network).parts[0]
    return [*NETWORKS].index(name) + 1 if name in NETWORKS else 50


class MadeUp:
    """Runs no command: it keeps the words, writes empty figures, and returns made-up results.

    Args:
        folder: The folder of the lab, which is left out of the words.
        shape: The shape of the images.
    """

    def __init__(self, folder: Path, shape: tuple[int, int, int] = (3, 32, 32)) -> None:
        self.folder, self.shape = folder, shape
        self.words: list[list[str]] = []

    def __call__(self, words: list[str]) -> Any:
        places = (f"{self.folder}/", f"{FIXTURES}/")
        self.words.append([_short(word, places) for word in words])
        options = dict(itertools.pairwise(words))
        result = getattr(self, words[0])(words, options)
        if words[0] == "plot":
            Path(options["--output"]).touch()
        return result

    def lines(self, *kinds: str) -> list[str]:
        """Return the commands of some kinds; by default of all but the trainings."""
        return [
            " ".join(words)
            for words in self.words
            if (words[0] in kinds if kinds else words[0] != "train")
        ]

    def split(self, words: list[str], options: dict[str, str]) -> Any:
        counts = {"train": 300, "val": 100, "test": 400}
        return {
            "classes": [
                {"label": "cat", "train": 100, "val": 40, "test": 150},
                {"label": "dog", "train": 200, "val": 60, "test": 250},
            ],
            "image_shape": list(self.shape),
            "splits": [{"split": name, "count": count} for name, count in counts.items()],
            "notes": ["labels 1 to 2, counted from 1 as found"],
        }

    def summary(self, words: list[str], options: dict[str, str]) -> Any:
        size = size_of(words[1])
        return {
            "input_shape": [3, 8, 8],
            "output_shape": [2],
            "depth": size,
            "parameters": 1000 * (100 - size),
            "weight_bytes": 2 * size * MIB,
            "output_bytes": 3 * size * MIB,
            "multiply_adds": 1_000_000 * (size % 25) ** 3,
            "layers": [
                _layer("3.0.0", "Conv2d", [3, 8, 8], [4, 8, 8], 112, 300, [3, 3], "⌊8⌋ = 8"),
                _layer("1", "ReLU", [4, 8, 8], [4, 8, 8], 0, 0, None, None),
                _layer("2", "Conv2d", [4, 8, 8], [5, 4, 4], 30, 200, [5, 5], "⌊4⌋ = 4"),
                _layer("3", "ReLU", [5, 4, 4], [5, 4, 4], 0, 0, None, None),
                _layer("4", "Flatten", [5, 4, 4], [80], 0, 0, None, "5 × 4 × 4 = 80"),
                _layer("5", "MaxPool2d", [80], [80], 0, 0, [2, 2], None),
            ],
        }

    def train(self, words: list[str], options: dict[str, str]) -> Any:
        """Of two epochs the first is the best; without epochs there is no history."""
        size = size_of(words[1])
        history = [
            {
                "epoch": epoch,
                "train_loss": size / 10 + epoch,
                "train_accuracy": size / 40 + epoch / 1000,
                "val_loss": size / 20 + epoch,
                "val_accuracy": size / 80 - epoch / 1000,
            }
            for epoch in (1, 2)
            if options["--epochs"] != "0"
        ]
        return {
            "parameters": 1000 * size,
            "epoch_seconds": [size, 2.0][: len(history)],
            "history": history,
            "evaluation": {
                "epoch": 1 if history else 0,
                **_evaluation(size / 50 if history else 0.25),
            },
        }

    finetune = train

    def evaluate(self, words: list[str], options: dict[str, str]) -> Any:
        accuracy = size_of(Path(words[1]).parent.name) / 30 if "train" in words else 0.75
        return {**_evaluation(accuracy), "provider": "CPUExecutionProvider"}

    def inspect(self, words: list[str], options: dict[str, str]) -> Any:
        if words[1].endswith("model"):
            count = self.shape[0]
            mean, std = [0.1, 0.2, 0.3][:count], [0.4, 0.5, 0.6][:count]
            color = "RGB" if count == 3 else "gray"
            return {"preprocessing": {"color": color, "mean": mean, "std": std, "value_range": 1}}
        small, large = {"weights": MIB // 4, "buffers": 7}, {"weights": MIB, "gradients": MIB // 4}
        return {
            "bytes": 5 * MIB // 2,
            "bytes_by_group": _groups(FILE_BYTES),
            "parameters": MIB // 4,
            "layers": [
                _stored("nn.SpatialConvolution", "get(1)", None, small),
                _stored("nn.Linear", "get(2)", None, large),
                _stored("nn.ReLU", None, "model:get(3)", {}),
            ],
        }

    def plot(self, words: list[str], options: dict[str, str]) -> Any:
        layers = [
            {
                "layer": name,
                "torch_class": "ReLU" if index else "Conv2d",
                "shape": [4, 6, 7],
                "lowest": -1.5,
                "highest": 2.5,
                "average": 0.25,
                "zeros": 0.125,
            }
            for index, name in enumerate(options.get("--layers", "0").split(","))
        ]
        return {"layers": layers}

    def predict(self, words: list[str], options: dict[str, str]) -> Any:
        return {"results": [{"predictions": [{"label": "cat", "probability": 0.7}]}]}

    def convert(self, words: list[str], options: dict[str, str]) -> Any:
        return {}

    def extract(self, words: list[str], options: dict[str, str]) -> Any:
        return {"features": [{"shape": [int(options.get("--limit", 300)), 84]}]}

    def probe(self, words: list[str], options: dict[str, str]) -> Any:
        return {
            "results": [
                {"method": name, "dimensions": 84, "val_accuracy": val, "test_accuracy": val + 0.1}
                for name, val in (("network", 0.6), ("logistic", 0.5))
            ]
        }


def _short(word: str, places: tuple[str, ...]) -> str:
    for place in places:
        word = word.replace(place, "")
    return word


def _evaluation(accuracy: float) -> dict[str, Any]:
    return {
        "accuracy": accuracy,
        "precision": accuracy - 0.125,
        "correct": round(400 * accuracy),
        "count": 400,
        "loss": 1 - accuracy,
        "classes": [
            {"label": "cat", "accuracy": 0.5, "precision": 0.6, "correct": 75, "count": 150},
            {"label": "dog", "accuracy": 0.9, "precision": 0.8, "correct": 225, "count": 250},
        ],
        "confusion": [[75, 75], [25, 225]],
    }


def _layer(
    name: str,
    kind: str,
    before: list[int],
    after: list[int],
    parameters: int,
    multiply_adds: int,
    kernel: list[int] | None,
    formula: str | None,
) -> dict[str, Any]:
    return {
        "torch_path": name,
        "torch_class": kind,
        "input_shape": before,
        "output_shape": after,
        "parameters": parameters,
        "multiply_adds": multiply_adds,
        "kernel_size": kernel,
        "formula": formula,
    }


def _stored(kind: str, get: str | None, path: str | None, counts: dict[str, int]) -> dict[str, Any]:
    return {
        "lua_class": kind,
        "lua_get": get,
        "lua_path": path,
        "bytes": sum(counts.values()),
        "bytes_by_group": _groups(counts),
    }


def _groups(counts: dict[str, int]) -> list[dict[str, Any]]:
    return [{"group": name, "bytes": count} for name, count in counts.items()]


def report(
    name: str, folder: Path, shape: tuple[int, int, int] = (3, 32, 32), **options: Any
) -> tuple[Page, MadeUp]:
    """Return the report of a lab on made-up results, and its commands."""
    options = {"data": "d.npz", "class_names": "n.txt", "seed": 7, "device": "cpu", **options}
    commands = MadeUp(folder / name, shape)
    steps = Steps(folder / name, commands, {})
    return do_lab(LABS[name], steps, LabOptions(**options)), commands


def rows(page: Page, caption: str) -> list[list[Any]]:
    """Return the rows of the table whose caption begins so."""
    found = [part for part in page.parts() if isinstance(part, Table)]
    (table,) = [each for each in found if each.caption.startswith(caption)]
    return [list(row) for row in table.rows]


def figures(page: Page) -> list[str]:
    """Return the names of the figures, in their order."""
    return [part.file.name for part in page.parts() if isinstance(part, Figure)]


def texts(page: Page) -> str:
    """Return the prose of a report."""
    return "\n".join(part.markdown for part in page.parts() if isinstance(part, Text))
