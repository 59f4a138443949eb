"""Checkpoints of a training: what they hold, and what a kill may leave of one that is removed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn
from training_support import difference

from torchlift.transfer.errors import TrainingError
from torchlift.transfer.training.checkpoints import (
    Kept,
    TrainingState,
    load_best,
    load_last_checkpoint,
    remove_superseded,
    save_checkpoint,
    saved_epochs,
)
from torchlift.transfer.training.optimizer import moving_average

#: The first epoch is the worst: its checkpoint is removed when that of the third is written.
HISTORY: list[dict[str, float]] = [
    {"epoch": epoch, "val_accuracy": accuracy} for epoch, accuracy in ((1, 0.1), (2, 0.9), (3, 0.5))
]
FILES = ("average.safetensors", "model.safetensors", "state.pt")


def state(epochs: int = 0, value: float = 0.0) -> TrainingState:
    """Return the state of a training with a moving average, which is ten times the weights."""
    network = nn.Linear(1, 1, bias=False)
    nn.init.constant_(network.weight, value)
    average = moving_average(network, 0.9, torch.device("cpu"))
    nn.init.constant_(average.module.weight, 10 * value)
    optimizer = torch.optim.SGD(network.parameters(), 0.1)
    counts = {epoch: torch.full((3, 2), epoch) for epoch in range(1, epochs + 1)}
    done = HISTORY[:epochs], [0.5] * epochs
    return TrainingState(network, optimizer, average, None, *done, class_counts=counts)


@pytest.mark.parametrize("done", range(4))
def test_what_a_kill_left_of_a_checkpoint_is_removed_later(
    done: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After any of its files: what is left can still be told from the files of somebody else."""
    for epochs in (1, 2):
        save_checkpoint(tmp_path, state(epochs), Kept(best=2))
    assert sorted(file.name for file in (tmp_path / "epoch-0001").iterdir()) == list(FILES)
    left = iter(range(done))

    def killed(real: Any) -> Any:
        def remove(path: Path, **options: Any) -> None:
            if "epoch-0001" in path.parts and next(left, None) is None:
                raise KeyboardInterrupt
            real(path, **options)

        return remove

    with monkeypatch.context() as patch:
        for name in ("unlink", "rmdir"):
            patch.setattr(Path, name, killed(getattr(Path, name)))
        with pytest.raises(KeyboardInterrupt):
            remove_superseded(tmp_path, HISTORY[:2], Kept())
    assert len([*(tmp_path / "epoch-0001").iterdir()]) == len(FILES) - done
    remove_superseded(tmp_path, HISTORY[:2], Kept())
    assert [path.name for path in tmp_path.iterdir()] == ["epoch-0002"]


def test_weights_average_and_counts_of_the_last_epoch_go_on_and_the_best_average_is_kept(
    tmp_path: Path,
) -> None:
    for epochs in (1, 2, 3):
        save_checkpoint(tmp_path, state(epochs, epochs))
    assert saved_epochs(tmp_path) == [2, 3]
    resumed = state()
    load_last_checkpoint(tmp_path, resumed)
    last = state(3, 3)
    assert difference(resumed.network, last.network) == 0
    assert resumed.average is not None
    assert resumed.evaluated.weight.item() == 30
    assert (resumed.history, resumed.seconds) == (HISTORY, [0.5] * 3)
    counts = {epoch: each.tolist() for epoch, each in resumed.class_counts.items()}
    assert counts == {epoch: [[epoch] * 2] * 3 for epoch in (1, 2, 3)}
    load_best(tmp_path, resumed)
    # What is saved is the average; the weights beside it are of no use any more.
    assert (resumed.evaluated.weight.item(), resumed.network.weight.item()) == (20, 3)


def test_a_checkpoint_of_0_1_0_has_no_counts_of_classes(tmp_path: Path) -> None:
    save_checkpoint(tmp_path, state(1, 1))
    file = tmp_path / "epoch-0001" / "state.pt"
    content = torch.load(file, weights_only=True)
    del content["class_counts"]
    torch.save(content, file)
    resumed = state()
    load_last_checkpoint(tmp_path, resumed)
    assert (resumed.history, resumed.class_counts) == (HISTORY[:1], {})
    # So it is with a run that has no checkpoint yet.
    began = state()
    load_last_checkpoint(tmp_path / "none", began)
    load_best(tmp_path / "none", began)
    assert (began.history, began.network.weight.item()) == ([], 0)


@pytest.mark.parametrize("file", ["model.safetensors", "average.safetensors"])
@pytest.mark.parametrize("change", ["less", "more", "other"])
def test_weights_of_another_network_are_refused_by_their_file(
    change: str, file: str, tmp_path: Path
) -> None:
    """Half of a network would go on from the last epoch, and the rest from the beginning."""
    save_checkpoint(tmp_path, state(1, 1))
    path = tmp_path / "epoch-0001" / file
    tensors = load_file(path)
    name = next(name for name in tensors if name.endswith("weight"))
    changed = {"less": {}, "more": tensors | {"x": torch.ones(1)}, "other": tensors}[change]
    if change == "other":
        changed[name] = torch.ones(2, 2)
    save_file(changed, path)
    for load in (load_last_checkpoint, load_best):
        resumed = state()
        resumed.history = HISTORY[:1]
        if load is load_best and file == "model.safetensors":
            continue  # The average alone is read.
        with pytest.raises(
            TrainingError, match=rf"{file}: the checkpoint is damaged or of another"
        ):
            load(tmp_path, resumed)
