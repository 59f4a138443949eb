"""`torchlift probe`."""

from __future__ import annotations

import csv as csv_files
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Group
from rich.markup import escape
from rich.table import Table

from ..converters.errors import TorchliftError
from .evaluate import class_table
from .result import CommandResult, table

if TYPE_CHECKING:
    from ..transfer.data import Dataset
    from ..transfer.probe import ProbeResult

_COLUMNS = (
    *("features", "dimensions", "method", "setting"),
    *("val_accuracy", "test_accuracy", "test_std"),
)


def probe(
    features: list[str],
    *,
    test: str | None = None,
    layers: str | None = None,
    methods: str = "logistic,knn,network",
    val_fraction: float = 0.2,
    test_fraction: float = 0.2,
    seed: int = 0,
    repeats: int = 1,
    csv: str | None = None,
) -> CommandResult:
    """Tell how well stored features tell classes apart, layer by layer.

    Everything is chosen on validation examples, the best layer and method too; the test part is
    only reported.

    Args:
        features: What extract wrote: folders, .t7 or .npz files.
        test: Features of the test part, one for each of the former, with commas between.
        layers: Only these layers, with commas between.
        methods: logistic (regression), knn, network (Linear, ReLU, Linear), with commas between.
        val_fraction: Share of the examples that settings are chosen by.
        test_fraction: Share that is tested on, where neither --test nor the data has a test part.
        seed: Of every draw.
        repeats: How many seeds are used, one after the other, for means and deviations.
        csv: A file to write the table to.
    """
    from ..transfer.probe import ProbeOptions, best_of
    from ..transfer.probe import probe as probe_layer

    options = ProbeOptions(val_fraction, test_fraction, seed, repeats)
    results = [
        probe_layer(name, data, method.strip(), test_data, options)
        for name, data, test_data in _layers(features, test, layers)
        for method in methods.split(",")
    ]
    if csv is not None:
        with Path(csv).open("w", newline="", encoding="utf-8") as stream:
            writer = csv_files.DictWriter(stream, _COLUMNS, extrasaction="ignore")
            writer.writeheader()
            writer.writerows(result.to_json() for result in results)
    best = best_of(results)
    notes = [f"{r.features}, {r.method}: {note}" for r in results for note in r.notes]
    return CommandResult(
        {
            "best": {"features": best.features, "method": best.method},
            "results": [result.to_json() for result in results],
            "notes": notes,
        },
        Group(
            _comparison(results),
            "",
            f"best by validation: {escape(best.features)} with {best.method}, "
            f"test accuracy {best.test_accuracy:.4f}",
            class_table(best.evaluation),
            *(f"note: {escape(note)}" for note in notes),
        ),
    )


def _layers(
    features: list[str], test: str | None, layers: str | None
) -> list[tuple[str, Dataset, Dataset | None]]:
    """Every layer with its name, its features and those to test on."""
    from ..transfer.features.files import read_features

    tests = [] if test is None else test.split(",")
    if tests and len(tests) != len(features):
        raise TorchliftError(f"--test names {len(tests)} for {len(features)} of features")
    wanted = None if layers is None else [name.strip() for name in layers.split(",")]
    found = []
    for index, place in enumerate(features):
        stored = read_features(place)
        tested = read_features(tests[index]) if tests else {}
        for name in wanted or stored:
            if name not in stored or (tests and name not in tested):
                where = tests[index] if name in stored else place
                raise TorchliftError(f"{where}: no layer {name!r}")
            data, test_data = stored[name], tested.get(name)
            if test_data is not None and test_data.images.shape[1] != data.images.shape[1]:
                raise TorchliftError(
                    f"{name}: {data.images.shape[1]} numbers an example in {place}, "
                    f"{test_data.images.shape[1]} in {tests[index]}"
                )
            label = name if len(features) == 1 else f"{Path(place).name}:{name}"
            found.append((label, data, test_data))
    return found


def _comparison(results: list[ProbeResult]) -> Table:
    numbers = ("dimensions", "validation", "test", "±")
    view = table(
        "features", "dimensions", "method", "setting", "validation", "test", "±", right=numbers
    )
    for result in sorted(results, key=lambda result: -result.val_accuracy):
        view.add_row(
            escape(result.features),
            f"{result.dimensions:,}",
            result.method,
            result.setting,
            f"{result.val_accuracy:.4f}",
            f"{result.test_accuracy:.4f}",
            f"{result.test_std:.4f}" if len(result.test_accuracies) > 1 else "",
        )
    return view
