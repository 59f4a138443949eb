"""`torchlift.transfer` from Python: what the commands do, with the same numbers, and callbacks.

What is protected: `extract_features`, `fit` and `evaluate` are the commands' own code, a callback
sees each epoch and can end the training, and importing the names costs nothing.
"""

from __future__ import annotations

import csv
import json
import pkgutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from sklearn.linear_model import LogisticRegression
from support import FIXTURES
from torch import nn
from training_support import PREPROCESSING, QUIET, classifier, difference

import torchlift.transfer
from torchlift.cli.main import main
from torchlift.converters import TorchliftError, requirements
from torchlift.converters.images.preprocessing import Preprocessing
from torchlift.converters.onnx import export
from torchlift.converters.saved import SavedModel, load, open_model
from torchlift.transfer import (
    Augmentation,
    Dataset,
    Features,
    Freezing,
    Optimization,
    Run,
    SplitOptions,
    evaluate,
    extract_features,
    fit,
    open_data,
    split,
)
from torchlift.transfer.errors import LayerError
from torchlift.transfer.runs import read_run
from torchlift.transfer.training.run_folder import RunFolder

DIGITS = FIXTURES / "digits"
MODEL, TRAIN, TEST, MEAN_STD = (
    str(DIGITS / name)
    for name in (
        "digits-lenet5-bn.t7",
        "digits-train.t7",
        "digits-test.t7",
        "digits_meanStd.t7",
    )
)
SHORT = Optimization(epochs=2, batch_size=32, lr=0.05)


@pytest.fixture(scope="module")
def network() -> SavedModel:
    return open_model(MODEL, mean_std=MEAN_STD)


@pytest.fixture(scope="module")
def digits() -> Any:
    return open_data(TRAIN, limit=120)


def result_of(capsys: pytest.CaptureFixture[str], *words: str) -> Any:
    assert main([*words, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_features_are_those_of_extract(
    network: SavedModel, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file, layers = tmp_path / "features.npz", ["get(8)", "penultimate"]
    words = ("extract", MODEL, TEST, str(file), f"--mean-std={MEAN_STD}", "--limit=90")
    result_of(capsys, *words, f"--layers={','.join(layers)}")
    found = extract_features(network, open_data(TEST, limit=90), layers)
    with np.load(file) as stored:
        for name, array in found.arrays.items():
            assert np.array_equal(array, stored[f"data/{name}"])
        assert found.classes is not None
        assert np.array_equal(found.classes, stored["labels"])
    assert found.to_numpy("7").shape == (90, 400)
    assert found.to_numpy().shape == (90, 484) == (90, len(found.columns()))


def test_features_become_a_data_frame(network: SavedModel, tmp_path: Path) -> None:
    pytest.importorskip("pandas")
    images = np.random.default_rng(0).integers(0, 256, (4, 1, 32, 32), np.uint8)
    splits = np.array(["train", "train", "test", "test"])
    ids = np.array(["a.png", "b.png", "c.png", "d.png"])
    names, notes = ("cat", "dog"), ("as found",)
    data = Dataset(images, np.array([1, 0, 1, 1]), names, notes, ids, splits)
    features = extract_features(network, data)
    assert features.notes == ("as found", *network.notes)
    assert network.notes
    table = features.to_pandas()
    assert table.columns[:3].tolist() == ["label", "split", "penultimate_0"]
    assert table["label"].tolist() == ["dog", "cat", "dog", "dog"]
    assert table.loc["c.png", "split"] == "test"
    assert np.array_equal(table.iloc[:, 2:].to_numpy(), features.to_numpy())
    table.to_csv(tmp_path / "table.csv")


def test_a_data_frame_without_pandas_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(requirements, "is_installed", lambda package: package != "pandas")
    with pytest.raises(
        ImportError, match=r"to_pandas needs pandas: pip install 'torchlift\[data\]'"
    ):
        Features({"0": np.zeros((2, 3), np.float32)}).to_pandas()


def test_fit_is_finetune(
    network: SavedModel, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ("finetune", MODEL, TRAIN, f"--mean-std={MEAN_STD}", "--limit=120", "--device=cpu")
    options = ("--epochs=2", "--batch-size=32", "--lr=0.05", "--head=probe", "--tracker=none")
    more = ("--freeze=all-but-head", "--crop-padding=2", f"--output={tmp_path / 'command'}")
    report = result_of(capsys, *words, *options, *more)
    rows: list[dict[str, float]] = []
    result = fit(
        network,
        open_data(TRAIN, limit=120),
        tmp_path / "python",
        head="probe",
        optimization=SHORT,
        freezing=Freezing("all-but-head"),
        augmentation=Augmentation(crop_padding=2),
        run=QUIET,
        callbacks=[rows.append],
    )
    command = load(tmp_path / "command" / "model")
    assert difference(result.model.module, command.module) == 0
    assert rows == result.history == report["history"]
    assert result.evaluation == report["evaluation"]
    # The same notes; the command also says what the options decided about the file.
    assert set(result.notes) <= set(report["notes"])
    assert difference(load(result.folder.model).module, command.module) == 0


def test_a_head_that_is_kept_keeps_the_order_of_its_classes(tmp_path: Path) -> None:
    network = nn.Sequential(nn.Flatten(), nn.Linear(64, 2))
    preprocessing = Preprocessing("gray")
    model = SavedModel(network, "logits", (1, 8, 8), ["light", "dark"], preprocessing)
    images = np.zeros((40, 1, 8, 8), np.uint8)
    images[1::2] = 255
    data = Dataset(images, np.arange(40) % 2, ("dark", "light"))
    steps = Optimization(epochs=3, batch_size=8, lr=0.1)
    result = fit(model, data, tmp_path, head="keep", optimization=steps, run=QUIET)
    assert result.model.labels == ["light", "dark"]
    light = result.model.module(torch.ones(1, 1, 8, 8))
    assert light.argmax().item() == 0


def test_fit_is_train(tmp_path: Path, capsys: pytest.CaptureFixture[str], digits: Any) -> None:
    words = ("train", "softmax", TRAIN, "--limit=120", "--device=cpu", "--tracker=none")
    options = ("--epochs=2", "--batch-size=32", "--lr=0.05", f"--output={tmp_path / 'command'}")
    report = result_of(capsys, *words, *options, "--val-fraction=0.3")
    shares = SplitOptions(val_fraction=0.3)
    result = fit(
        "softmax",
        digits,
        tmp_path / "python",
        optimization=SHORT,
        run=QUIET,
        split_options=shares,
    )
    assert result.history == report["history"]
    assert result.notes == report["notes"]
    command, python = (
        yaml.safe_load((tmp_path / name / "config.yaml").read_text(encoding="utf-8"))
        for name in ("command", "python")
    )
    assert command["val_fraction"] == python["val_fraction"] == 0.3


def test_a_callback_ends_the_training_and_resuming_goes_on(digits: Any, tmp_path: Path) -> None:
    options = replace(SHORT, epochs=4)

    def train(folder: str, run: Run = QUIET, last: int = 9, resume: Any = "never") -> Any:
        others: list[float] = []
        callbacks = [lambda row: row["epoch"] >= last, lambda row: others.append(row["epoch"])]
        run = replace(run, resume=resume)
        return fit(
            "softmax",
            digits,
            tmp_path / folder,
            optimization=options,
            run=run,
            callbacks=callbacks,
        ), others

    stopped, seen = train("run", last=2)
    assert [row["epoch"] for row in stopped.history] == seen == [1, 2]
    assert "a callback ended the training after epoch 2 of 4" in stopped.notes
    assert stopped.evaluation["epoch"] in (1, 2)
    with (tmp_path / "run" / "metrics.csv").open() as file:
        assert len(list(csv.DictReader(file))) == 2
    assert read_run(tmp_path / "run", "run").status == "finished"
    resumed, seen = train("run", resume="auto")
    assert seen == [3, 4]
    whole, _ = train("whole")
    assert resumed.history == whole.history
    assert difference(resumed.model.module, whole.model.module) == 0


def test_a_callback_cannot_change_the_results(digits: Any, tmp_path: Path) -> None:
    once = replace(SHORT, epochs=1)
    changing = [lambda row: row.clear(), lambda row: row.update(val_accuracy=2.0)]
    result = fit("softmax", digits, tmp_path, optimization=once, run=QUIET, callbacks=changing)
    (row,) = result.history
    assert row["epoch"] == 1
    assert 0 <= row["val_accuracy"] <= 1
    assert RunFolder(tmp_path).read_metrics() == [row]


def test_an_error_in_a_callback_keeps_the_epochs_before_it(digits: Any, tmp_path: Path) -> None:
    def failing(row: dict[str, float]) -> None:
        if row["epoch"] == 2:
            raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        fit("softmax", digits, tmp_path, optimization=SHORT, run=QUIET, callbacks=[failing])
    run = replace(QUIET, resume="auto")
    resumed = fit("softmax", digits, tmp_path, optimization=SHORT, run=run)
    assert len(resumed.history) == 2
    assert (tmp_path / "evaluation.json").is_file()


def test_the_network_that_is_given_stays_as_it_is(digits: Any, tmp_path: Path) -> None:
    model = classifier()
    before = {name: value.clone() for name, value in model.module.state_dict().items()}
    splits = split(digits, val_fraction=0.1)
    result = fit(model, splits, tmp_path, optimization=SHORT, run=QUIET)
    assert model.preprocessing == PREPROCESSING
    assert all(value.equal(before[name]) for name, value in model.module.state_dict().items())
    assert difference(result.model.module, model.module) > 0
    extract_features(model.module, np.zeros((2, 1, 32, 32), np.float32), "0")


def test_evaluate_is_the_command(network: SavedModel, capsys: pytest.CaptureFixture[str]) -> None:
    report = result_of(capsys, "evaluate", MODEL, TEST, f"--mean-std={MEAN_STD}")
    found = evaluate(network, TEST).to_json()
    assert sorted(found.pop("notes")) == sorted(report.pop("notes"))
    assert {name: report[name] for name in found} == found


def test_of_a_dataset_by_name_the_test_split_is_evaluated(
    network: SavedModel, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "digits.npz"
    result_of(capsys, "split", TEST, str(file), "--test-fraction=0.2", "--val-fraction=0.2")
    assert evaluate(network, file).count == 100
    assert evaluate(network, open_data(file)).count == 500
    with pytest.raises(TorchliftError, match="no labels"):
        evaluate(network, np.zeros((2, 1, 32, 32), np.uint8))


def test_random_weights_are_said(digits: Any) -> None:
    found = evaluate(
        "torchvision:squeezenet1_1", Dataset(np.zeros((1, 3, 224, 224), np.float32), np.array([0]))
    )
    assert "no weights were given: they are random" in found.notes[-1]


@pytest.mark.slow
def test_an_onnx_file_has_features_and_is_evaluated(
    network: SavedModel, tmp_path: Path, digits: Any
) -> None:
    file = tmp_path / "digits.onnx"
    export(network, file)
    assert evaluate(file, TEST).correct == evaluate(network, TEST).correct
    found = extract_features(str(file), digits).to_numpy()
    # Another program's sums in float32, of numbers up to 10.
    expected = extract_features(network, digits).to_numpy()
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-4)
    probe = LogisticRegression(max_iter=300).fit(found, digits.classes)
    assert probe.score(found, digits.classes) > 0.95


@pytest.mark.parametrize(
    ("model", "options", "message"),
    [
        ("softmax", {"head": "probe"}, "softmax has no head to keep or to begin with"),
        ("nowhere.t7", {}, "nowhere.t7"),
        ("x.onnx", {}, r"x\.onnx is an exported graph"),
        (MODEL, {"head": "none"}, "head='none': expected 'zeros', 'probe' or 'keep'"),
        ("softmax", {"run": Run(output="run")}, "output='run'"),
        ("softmax", {"run": Run(repeats=3)}, "fit trains once"),
        ("softmax", {"split_options": SplitOptions(test_data="nowhere.npz")}, "nowhere.npz"),
    ],
)
def test_what_is_wrong_is_said_before_anything_is_written(
    model: str, options: dict[str, Any], message: str, digits: Any, tmp_path: Path
) -> None:
    with pytest.raises(TorchliftError, match=message):
        fit(model, digits, tmp_path / "run", **options)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("group", "option"),
    [
        (Optimization, {"optimizer": "sdg"}),
        (Optimization, {"lr": "fnid"}),
        (Optimization, {"sampling": "random"}),
        (Optimization, {"monitor": "f2"}),
        (Run, {"precision": "int8"}),
        (Run, {"resume": True}),
        (Augmentation, {"auto_augment": "augmix"}),
    ],
    ids=str,
)
def test_a_misspelled_choice_is_an_error(group: Any, option: dict[str, Any]) -> None:
    """The command line refuses it before; Python does not look at annotations."""
    ((name, value),) = option.items()
    with pytest.raises(TorchliftError, match=f"{name}={value!r}: expected '"):
        group(**option)


def test_numbers_of_numpy_and_whole_rates_are_numbers(digits: Any, tmp_path: Path) -> None:
    """As in `for lr in np.logspace(…)`."""
    steps = Optimization(epochs=np.int64(1), lr=np.float64(1))  # type: ignore[arg-type]  # numpy's
    fit("softmax", digits, tmp_path / "numpy", optimization=steps, run=QUIET, seed=np.int64(3))
    plain = Optimization(epochs=1, lr=1)
    fit("softmax", digits, tmp_path / "plain", optimization=plain, run=QUIET, seed=3)
    rows = [(tmp_path / name / "metrics.csv").read_bytes() for name in ("numpy", "plain")]
    assert rows[0] == rows[1]


def test_features_of_a_layer_that_was_not_named_are_not_there() -> None:
    features = Features({"0": np.zeros((2, 3), np.float32), "1": np.ones((2, 1), np.float32)})
    assert features.to_numpy("1").tolist() == [[1], [1]]
    with pytest.raises(LayerError, match=r"no features of '2': there are 0, 1$"):
        features.to_numpy("2")


def test_an_exported_graph_does_not_run_in_torch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(LayerError, match=r"m\.ONNX: an \.onnx .* onnxruntime: leave out backend=…"):
        extract_features(tmp_path / "m.ONNX", np.zeros((1, 1, 2, 2)), backend="torch")
    # Only what is there is missed.
    for backend in (None, "onnxruntime"):
        with pytest.raises(TorchliftError, match=r"such file|cannot be read"):
            extract_features(tmp_path / "m.ONNX", np.zeros((1, 1, 2, 2)), backend=backend)


def test_a_name_that_the_package_does_not_have_is_missed_as_of_any_module() -> None:
    assert not hasattr(torchlift.transfer, "extract")
    with pytest.raises(AttributeError, match=r"'torchlift\.transfer' has no attribute 'extract'"):
        torchlift.transfer.extract  # noqa: B018  # what is missed is said when it is asked for
    assert callable(torchlift.transfer.__getattr__("fit"))


def test_importing_the_package_loads_none_of_the_large_ones() -> None:
    code = """
import sys, torchlift.transfer
print({"torch", "sklearn", "pandas", "PIL", "onnxruntime"} & set(sys.modules))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout == "set()\n", done.stderr


def test_no_module_takes_the_name_of_a_function() -> None:
    """Importing `torchlift.transfer.NAME` would put the module in the place of the function."""
    modules = {module.name for module in pkgutil.iter_modules(torchlift.transfer.__path__)}
    assert not modules.intersection(torchlift.transfer.__all__)
