"""Rules of models and data as Python code has them: what is opened, copied, noted and refused."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from checkpoint_support import module, numbers, sequential, view, write
from torch import nn

from torchlift.converters.images.preprocessing import Preprocessing
from torchlift.converters.saved import SavedModel, load, open_model, save
from torchlift.transfer import sources
from torchlift.transfer.data import Dataset, Splits, dataset_from, open_data
from torchlift.transfer.data.image_folder_index import ClassIndex
from torchlift.transfer.data.write_image_folder import write_image_folder
from torchlift.transfer.errors import DataError, NetworkError
from torchlift.transfer.evaluation import evaluate, outcomes, read_evaluation, summarize
from torchlift.transfer.evaluation.files import write_evaluation
from torchlift.transfer.heads import replace_head
from torchlift.transfer.memory_format import to_channels_last
from torchlift.transfer.probe import ProbeOptions, probe
from torchlift.transfer.sources import opened_model, opened_predictor
from torchlift.transfer.sweep import Sweep, Trial
from torchlift.transfer.torch7_weights import fill_from_t7


def test_a_network_of_a_t7_keeps_a_batch_of_one_also_when_it_was_saved(tmp_path: Path) -> None:
    """Torch7 took an image alone for an example; of a folder or a file every input is a batch."""
    opened = open_model(write(sequential(view(12)), tmp_path))
    save(opened, tmp_path / "m")
    for network in (opened.module, load(tmp_path / "m").module):
        for count in (1, 2):
            assert network(torch.zeros(count, 3, 4)).shape == (count, 12)


def test_a_network_that_is_given_is_copied_and_put_at_rest() -> None:
    network = nn.Sequential(nn.Linear(2, 2), nn.Dropout()).train()
    opened = opened_model(network)
    assert not any(layer.training for layer in opened.module.modules())
    assert all(layer.training for layer in network.modules())
    assert opened.module[0].weight is not network[0].weight


@pytest.mark.parametrize("name", ["m.onnx", "m.PT2", Path("m.pt2")])
def test_an_exported_graph_is_no_network_to_change(name: Any) -> None:
    with pytest.raises(NetworkError, match="is an exported graph"):
        opened_model(name)


def test_a_predictor_runs_where_it_is_told_and_says_what_was_noted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made: list[Any] = []

    def predictor(model: SavedModel, provider: str) -> Any:
        made.append((model, provider))
        return SimpleNamespace(note="")

    monkeypatch.setattr(sources, "TorchPredictor", predictor)
    model = SavedModel(nn.Flatten(), "logits", notes=["one", "two"])
    assert opened_predictor(model, "cuda").note == "one; two"
    assert made[0][1] == "cuda"
    assert made[0][0] is not model


def test_to_channels_last_leaves_a_network_at_rest_in_either_format() -> None:
    class Flat(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x.view(len(x), -1)

    plain = nn.Sequential(nn.Conv2d(2, 3, 2), nn.BatchNorm2d(3)).train()
    flat = nn.Sequential(nn.Conv2d(2, 3, 2), nn.BatchNorm2d(3), Flat()).train()
    for network, is_last in ((plain, True), (flat, False)):
        to_channels_last(network, torch.randn(2, 2, 4, 4))
        weight = network[0].weight
        assert weight.is_contiguous(memory_format=torch.channels_last) is is_last
        assert weight.is_contiguous() is not is_last
        assert not network.training
        # Nothing was learned from the example.
        assert not network[1].running_mean.any()


def test_the_biases_of_a_new_convolution_are_one_and_those_of_a_linear_layer_zero() -> None:
    """A ReLU behind the convolution has no gradient at zero."""
    convolution = nn.Sequential(nn.Conv2d(2, 3, 1), nn.Flatten())
    replace_head(convolution, 4, output_kind="logits")
    assert convolution[0].bias.tolist() == [1] * 4
    linear = nn.Sequential(nn.Linear(2, 3))
    replace_head(linear, 4)
    assert linear[0].bias.tolist() == [0] * 4


def test_what_is_said_of_a_probe_is_said_of_its_first_seed() -> None:
    random = np.random.default_rng(0)
    features = random.normal(size=(90, 3)).astype(np.float32)
    data = Dataset(features, (features[:, 0] > 0).astype(int) + 0, ("no", "yes"))
    both = probe("x", data, "network", None, ProbeOptions(seed=4, repeats=2))
    first, second = (probe("x", data, "network", None, ProbeOptions(seed=seed)) for seed in (4, 5))
    assert both.evaluation == first.evaluation != second.evaluation
    assert both.setting == first.setting
    assert np.array_equal(both.scale.mean, first.scale.mean)
    assert [row.label for row in both.evaluation.classes] == ["no", "yes"]


def test_runs_that_one_metric_decided_are_sorted_by_it(tmp_path: Path) -> None:
    """Runs of different ones by their accuracy."""

    def run(monitors: dict[str, str]) -> list[str]:
        def train(trial: Trial, folder: Path) -> None:
            folder.mkdir(parents=True)
            lr = float(trial["lr"])
            row = {"epoch": 1, "val_accuracy": lr, "val_loss": lr, "val_f1": 1 - lr}
            (folder / "metrics.jsonl").write_text(json.dumps(row) + "\n", encoding="utf-8")
            (folder / "evaluation.json").write_text('{"split": null}', encoding="utf-8")
            config = f"monitor: {monitors[trial['lr']]}\n"
            (folder / "config.yaml").write_text(config, encoding="utf-8")

        sweep = Sweep(tmp_path / "-".join(monitors.values()), [{"lr": lr} for lr in monitors], {})
        sweep.run(train)
        assert all(row["val_accuracy"] == float(str(row["lr"])) for row in sweep.rows())
        return [str(row["lr"]) for row in sweep.rows()]

    assert run({"0.25": "accuracy", "0.75": "accuracy"}) == ["0.75", "0.25"]
    assert run({"0.25": "loss", "0.75": "loss"}) == ["0.25", "0.75"]
    assert run({"0.25": "f1", "0.75": "f1"}) == ["0.25", "0.75"]
    assert run({"0.25": "f1", "0.75": "loss"}) == ["0.75", "0.25"]


def test_the_statistics_of_a_network_in_a_file_are_taken_too(tmp_path: Path) -> None:
    norm = module(
        "nn.BatchNormalization",
        weight=numbers(3), bias=numbers(3), running_mean=numbers(3),
        running_var=abs(numbers(3)) + 1, eps=1e-5, momentum=0.1, affine=True,
    )  # fmt: skip
    file = write(sequential(view(3), norm), tmp_path)
    filled = nn.Sequential(nn.Flatten(), nn.BatchNorm1d(3))
    notes = fill_from_t7(filled, file)
    for name in ("weight", "bias", "running_mean", "running_var"):
        given = getattr(filled[1], name).detach().numpy()
        assert np.array_equal(given, np.float32(norm[name]))
    assert filled[1].num_batches_tracked == 0
    assert not any("no running statistics" in note for note in notes)


def test_an_evaluation_of_no_images_is_none(tmp_path: Path) -> None:
    result = summarize(outcomes(np.eye(2), "probabilities", np.array([0, 1])), ["a", "b"])
    write_evaluation(result, tmp_path)
    file = tmp_path / "evaluation.json"
    values = json.loads(file.read_text(encoding="utf-8"))
    for change in ({"count": 0}, {"classes": [], "confusion": []}):
        file.write_text(json.dumps(values | change), encoding="utf-8")
        with pytest.raises(DataError, match="there are no classes or no images"):
            read_evaluation(file)


def test_notes_are_kept_beside_that_on_scores_that_are_no_numbers() -> None:
    scores = np.array([[0.5, np.nan], [0.9, 0.1]])
    found = outcomes(scores, "probabilities", np.array([0, 0]))
    result = summarize(found, ["a", "b"], notes=["a note"])
    assert result.notes == ["a note", "the scores of 1 of 2 images are not numbers"]


def test_colors_that_are_converted_are_noted_once() -> None:
    network = nn.Sequential(nn.Flatten(), nn.Linear(4, 2))
    model = SavedModel(network, "logits", (1, 2, 2), ["a", "b"], Preprocessing("gray"))
    data = Dataset(np.zeros((2, 3, 2, 2), np.uint8), np.array([0, 1]), ("a", "b"))
    notes = evaluate(model, data, provider="cpu").notes
    assert notes == ["the images are RGB and are converted to gray, which the network takes"]


def test_images_of_zeros_are_inputs_unless_they_are_bytes() -> None:
    zeros = np.zeros((2, 1, 2, 2))
    for array, dtype in ((zeros, np.float64), (zeros.astype(np.uint8), np.uint8)):
        assert dataset_from(_table(array)).images.dtype == dtype
    assert dataset_from(_table(np.ones((2, 1, 2, 2)))).images.dtype == np.uint8


def _table(images: np.ndarray) -> Any:
    from torchlift.converters.t7 import LuaTable

    return LuaTable({"data": images, "label": np.array([1, 2])})


@pytest.mark.parametrize("name", ["d.npz", "d.NPZ"])
def test_a_suffix_may_have_capital_letters(name: str, tmp_path: Path) -> None:
    with (tmp_path / name).open("wb") as stream:
        np.savez(stream, x=np.zeros((2, 1, 2, 2), np.uint8), y=[0, 1])
    assert len(open_data(tmp_path / name)) == 2


def test_a_choice_that_leaves_no_image_is_an_error(tmp_path: Path) -> None:
    images = np.zeros((3, 1, 2, 2), np.uint8)
    np.savez(tmp_path / "d.npz", x=images, y=[0, 1, 1], classes=["cat", "dog", "owl"])
    with pytest.raises(DataError, match=r"d\.npz: no images are left"):
        open_data(tmp_path / "d.npz", classes=["owl"])


def test_classes_have_names_if_all_of_them_have(tmp_path: Path) -> None:
    index = ClassIndex({"1": None, "2": "cat"})
    assert index.labels(("1", "2")) is None
    assert index.labels(("2",)) == ("cat",)
    assert ClassIndex({}).labels(("x", "y")) == ("x", "y")


def test_a_class_name_without_a_letter_has_a_folder_all_the_same(tmp_path: Path) -> None:
    data = Dataset(np.zeros((3, 1, 2, 2), np.uint8), np.arange(3), ("...", "  ", "a/b"))
    write_image_folder(data, tmp_path / "images")
    folders = sorted(path.name for path in (tmp_path / "images").iterdir() if path.is_dir())
    assert folders == ["a_b", "class", "class-2"]
    assert open_data(tmp_path / "images").names == ("...", "  ", "a/b")


def test_a_long_class_name_has_a_folder_of_sixty_letters(tmp_path: Path) -> None:
    """Two that differ behind them have different ones; both names are kept."""
    names = ("x" * 60 + "ant", "x" * 60 + "bee")
    write_image_folder(
        Dataset(np.zeros((2, 1, 2, 2), np.uint8), np.arange(2), names), tmp_path / "i"
    )
    folders = sorted(path.name for path in (tmp_path / "i").iterdir() if path.is_dir())
    assert folders == ["x" * 60, "x" * 60 + "-2"]
    assert open_data(tmp_path / "i").names == names


def test_an_empty_split_keeps_what_is_known_of_it() -> None:
    data = Dataset(np.zeros((3, 1, 2, 2), np.uint8), np.arange(3) % 2, ("a", "b"), ("n",))
    splits = Splits(data, data.take(np.arange(0)), data, ("how",))
    decoded = splits.in_memory()
    assert (decoded.val.names, decoded.notes) == (("a", "b"), ("how",))
    assert len(decoded.val) == 0
