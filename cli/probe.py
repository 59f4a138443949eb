"""`torchlift probe`."""

from __future__ import annotations

import csv as csv_files
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from rich.console import Group
from rich.table import Table

from ..converters.errors import TorchliftError
from .evaluate import class_table
from .outputs import output_suffix
from .result import CommandResult, table
from .values import Count, CountOrZero, Fraction

if TYPE_CHECKING:
    from ..transfer.data import Dataset
    from ..transfer.probe import ProbeResult

_COLUMNS = (
    *("layer", "dimensions", "method", "setting"),
    *("val_accuracy", "test_accuracy", "test_std"),
)


def probe(
    features: list[str],
    *,
    test: list[str] | None = None,
    layers: list[str] | None = None,
    methods: list[Literal["logistic", "knn", "network"]] | None = None,
    val_fraction: Fraction = 0.2,
    test_fraction: Fraction = 0.2,
    seed: CountOrZero = 0,
    repeats: Count = 1,
    match_classes: Literal["name", "position"] = "name",
    csv: str | None = None,
    overwrite: bool = False,
) -> CommandResult:
    """Measure how well stored features separate classes, layer by layer.

    Settings, the best layer and the best method are chosen on validation examples; the test split
    is only reported.

    Args:
        features: What extract wrote: folders, .t7 or .npz files.
        test: Features of the test split, one for each of the former, with commas between.
        layers: Only these layers, with commas between.
        methods: logistic (regression), knn, network (Linear, ReLU, Linear), with commas between;
            all of them by default.
        val_fraction: Fraction of the examples that settings are chosen on.
        test_fraction: Fraction that is tested on, where neither --test nor the data has a test
            split.
        seed: Seed of all random draws.
        match_classes: How the classes of --test are matched: by name where both sides have names
            and by position where one has none, or by position.
        repeats: How many seeds are used, one after the other, for means and deviations.
        csv: A .csv file for the table.
        overwrite: Replace a file that is there.
    """
    if csv is not None:
        output_suffix(csv, [".csv"])
    from ..converters.files import atomic_path, check_output
    from ..transfer.probe import ProbeOptions, best_of, match_test_features
    from ..transfer.probe import probe as probe_layer
    from ..transfer.probe_methods import METHODS

    if csv is not None:
        check_output(csv, overwrite)
    options = ProbeOptions(val_fraction, test_fraction, seed, repeats, match_classes)
    pairs = _layers(features, test, layers)
    for _, data, test_data in pairs:
        if test_data is not None:
            # What does not match is an error before the first of many fits.
            match_test_features(test_data, data, match_classes)
    results = [
        probe_layer(name, data, method, test_data, options)
        for name, data, test_data in pairs
        for method in methods or METHODS
    ]
    if csv is not None:
        with atomic_path(csv) as path, path.open("w", newline="", encoding="utf-8") as stream:
            writer = csv_files.DictWriter(stream, _COLUMNS, extrasaction="ignore")
            writer.writeheader()
            writer.writerows(result.to_json() for result in results)
    best = best_of(results)
    notes = [f"{r.layer}, {r.method}: {note}" for r in results for note in r.notes]
    return CommandResult(
        {
            "best": {"layer": best.layer, "method": best.method},
            "results": [result.to_json() for result in results],
            "files": [] if csv is None else [csv],
            "notes": notes,
        },
        Group(
            _comparison(results),
            "",
            f"best by validation: {best.layer} with {best.method}, "
            f"test accuracy {best.test_accuracy:.4f}",
            class_table(best.evaluation),
            *(f"note: {note}" for note in notes),
        ),
    )


def _layers(
    features: list[str], test: list[str] | None, layers: list[str] | None
) -> list[tuple[str, Dataset, Dataset | None]]:
    """Every layer with its name, its features and those to test on."""
    from ..transfer.features.files import read_features

    tests = test or []
    if tests and len(tests) != len(features):
        raise TorchliftError(f"--test names {len(tests)} for {len(features)} of features")
    found = []
    for index, place in enumerate(features):
        stored = read_features(place)
        tested = read_features(tests[index]) if tests else {}
        for name in layers or stored:
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
            result.layer,
            f"{result.dimensions:,}",
            result.method,
            result.setting,
            f"{result.val_accuracy:.4f}",
            f"{result.test_accuracy:.4f}",
            f"{result.test_std:.4f}" if len(result.test_accuracies) > 1 else "",
        )
    return view
