"""`torchlift probe`."""

from __future__ import annotations

import csv as csv_files
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from rich.console import Group
from rich.table import Table

from ..converters.errors import TorchliftError
from .errors import UsageError
from .evaluate import class_table
from .model_options import run_plugin
from .outputs import output_suffix
from .result import CommandResult, table
from .values import Count, CountOrZero, Fraction

if TYPE_CHECKING:
    from ..converters.saved import SavedModel
    from ..transfer.data import Dataset
    from ..transfer.probe import ProbeResult

_COLUMNS = (
    *("layer", "dimensions", "method", "setting"),
    *("val_accuracy", "test_accuracy", "test_std"),
)

#: What a file of several seeds says of each metric.
_KINDS = ("mean", "deviation")

#: What the table calls metrics; those but the accuracies are shown for several seeds.
_NAMES = {
    "val_accuracy": "validation",
    "test_accuracy": "test",
    "test_loss": "test loss",
    "test_f1": "test F1",
    "test_ece": "test ECE",
}


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
    save: str | None = None,
    model: str | None = None,
    plugin: str | None = None,
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
        save: A folder for the best logistic regression, with the network up to its layer, as a
            saved model; evaluate, export and the others take it.
        model: For --save, where the network of the features is now; by default where it was.
        plugin: For --save, a Python file with converters for classes of your own; it is run.
        overwrite: Replace what is there.
    """
    if csv is not None:
        output_suffix(csv, [".csv"])
    _check_words(features, methods, save, model, plugin)
    from ..converters.files import atomic_path, check_output
    from ..transfer.probe import ProbeOptions, best_of, match_test_features
    from ..transfer.probe import probe as probe_layer
    from ..transfer.probe_methods import METHODS

    if csv is not None:
        check_output(csv, overwrite)
    options = ProbeOptions(val_fraction, test_fraction, seed, repeats, match_classes)
    pairs = _layers(features, test, layers)
    # What does not match, or could not be saved, is an error before the first of many fits.
    for pair in pairs:
        if pair.test_data is not None:
            match_test_features(pair.test_data, pair.data, match_classes)
    networks = {} if save is None else _networks(pairs, save, model, plugin, overwrite)
    results = [
        probe_layer(pair.label, pair.data, method, pair.test_data, options)
        for pair in pairs
        for method in methods or METHODS
    ]
    if csv is not None:
        with atomic_path(csv) as path, path.open("w", newline="", encoding="utf-8") as stream:
            spread = [f"{name}_{kind}" for name in results[0].metrics for kind in _KINDS]
            columns = [*_COLUMNS, *(spread if repeats > 1 else ())]
            writer = csv_files.DictWriter(stream, columns, extrasaction="ignore")
            writer.writeheader()
            writer.writerows({**result.to_json(), **_spreads(result)} for result in results)
    best = best_of(results)
    notes = [f"{r.layer}, {r.method}: {note}" for r in results for note in r.notes]
    saved = None
    if save is not None:
        saved = best_of(results, "logistic")
        if saved is not best:
            notes.append(
                f"saved was {saved.layer} with logistic, the best regression: {best.method} is not "
                "saved"
            )
        _save(saved, networks[saved.layer], save, overwrite)
    files = [name for name in (csv, save) if name is not None]
    return CommandResult(
        {
            "best": {"layer": best.layer, "method": best.method},
            "results": [result.to_json() for result in results],
            "saved": saved and {"layer": saved.layer, "method": saved.method, "file": save},
            "files": files,
            "notes": notes,
        },
        Group(
            _comparison(results),
            "",
            f"best by validation: {best.layer} with {best.method}, "
            f"test accuracy {best.test_accuracy:.4f}",
            class_table(best.evaluation),
            *(f"note: {note}" for note in notes),
            *(f"wrote {name}" for name in files),
        ),
    )


@dataclass(frozen=True)
class _Layer:
    """The features of a layer.

    Attributes:
        label: What the table calls it.
        place: The store or file that it is from.
        name: Its name there.
        data: The features.
        test_data: Those to test on, if they are others.
    """

    label: str
    place: str
    name: str
    data: Dataset
    test_data: Dataset | None


def _check_words(
    features: list[str],
    methods: list[Literal["logistic", "knn", "network"]] | None,
    save: str | None,
    model: str | None,
    plugin: str | None,
) -> None:
    """Check what the words alone tell.

    Raises:
        UsageError: If they do not fit together.
    """
    if save is None and (model or plugin):
        raise UsageError(f"--{'model' if model else 'plugin'} is for --save")
    if save is None:
        return
    output_suffix(save, [""])
    if methods is not None and "logistic" not in methods:
        raise UsageError("--save saves a logistic regression: --methods must hold logistic")
    if model is not None and len(features) > 1:
        raise UsageError("--model names one model: give the features of one")


def _networks(
    layers: list[_Layer], save: str, model: str | None, plugin: str | None, overwrite: bool
) -> dict[str, SavedModel]:
    """Return what computes each layer's features, by the layer's label.

    Raises:
        TorchliftError: If a network is not there, is another one, or cannot be cut, or the folder
            may not be written.
    """
    from ..converters.overwriting import check_output_folder
    from ..converters.saved.folder import SAVED_MODEL
    from ..transfer.features.model_source import reopen
    from ..transfer.features.store import is_feature_store, open_store
    from ..transfer.probe_network import feature_network

    check_output_folder(save, SAVED_MODEL, overwrite)
    for place in {layer.place for layer in layers}:
        if not is_feature_store(place):
            raise TorchliftError(
                f"{place} does not say what its features were computed from: --save takes the "
                "folders that extract writes"
            )
    run_plugin(plugin)
    stores = {place: open_store(place) for place in dict.fromkeys(each.place for each in layers)}
    models = {place: reopen(store, model) for place, store in stores.items()}
    return {
        layer.label: feature_network(models[layer.place], stores[layer.place], layer.name)
        for layer in layers
    }


def _save(result: ProbeResult, features: SavedModel, folder: str, overwrite: bool) -> None:
    from ..converters.saved import save
    from ..transfer.probe_network import probe_network

    assert result.linear is not None
    labels = result.class_names
    model = probe_network(features, result.scale, result.linear, labels)
    model.notes.append(
        f"a logistic regression ({result.setting}) on the standardized features of {result.layer}"
    )
    save(model, folder, overwrite=overwrite)


def _layers(features: list[str], test: list[str] | None, layers: list[str] | None) -> list[_Layer]:
    """Every layer with its features and those to test on."""
    from ..transfer.features.files import read_features

    tests = test or []
    if tests and len(tests) != len(features):
        raise TorchliftError(f"--test names {len(tests)} for {len(features)} of features")
    folders = [Path(place).name for place in features]
    found = []
    for index, place in enumerate(features):
        # Two folders of one name are told apart by their paths.
        prefix = folders[index] if folders.count(folders[index]) == 1 else place
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
            label = name if len(features) == 1 else f"{prefix}:{name}"
            found.append(_Layer(label, place, name, data, test_data))
    return found


def _spreads(result: ProbeResult) -> dict[str, float | None]:
    """Return mean and deviation of each metric, by the name of its column."""
    return {
        f"{name}_{kind}": value
        for name, spread in result.metrics.items()
        for kind, value in zip(_KINDS, (spread.average, spread.deviation), strict=True)
    }


def _comparison(results: list[ProbeResult]) -> Table:
    several = len(results[0].test_accuracies) > 1
    metrics = list(_NAMES) if several else ["val_accuracy", "test_accuracy"]
    names = [_NAMES[metric] for metric in metrics]
    view = table(
        *("features", "dimensions", "method", "setting", *names), right=("dimensions", *names)
    )
    for result in sorted(results, key=lambda result: -result.val_accuracy):
        view.add_row(
            result.layer,
            f"{result.dimensions:,}",
            result.method,
            result.setting,
            *(result.metrics[metric].text() for metric in metrics),
        )
    return view
