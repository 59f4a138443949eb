"""A training that diverges stops at once, says so, and keeps what was good."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from training_support import digit_splits, trained

from torchlift.transfer.errors import DivergedError
from torchlift.transfer.training.loop import diverged, require_finite_loss
from torchlift.transfer.training.options import Optimization
from torchlift.transfer.training.run_folder import RunFolder


class Spoiled(nn.Module):
    """A network whose outputs, or whose weights only, are spoiled from some call in training on."""

    def __init__(self, call: int, where: str) -> None:
        super().__init__()
        self.linear = nn.Linear(1024, 10)
        self.call, self.where, self.calls = call, where, 0

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        self.calls += self.training
        late = self.calls >= self.call
        outputs: torch.Tensor = self.linear(images.flatten(1))
        if late and self.where == "training" and self.training:
            return outputs * torch.nan
        if late and self.where == "validation" and not self.training:
            return outputs * torch.inf
        if late and self.where == "weights" and self.training:
            # The loss of this step is finite; its gradients are not.
            outputs.register_hook(lambda gradient: gradient * torch.inf)
        return outputs


def spoiled(call: int, where: str) -> Any:
    return Spoiled(call, where)


# 130 images in batches of 32 are four updates an epoch.
@pytest.mark.parametrize(
    ("where", "call", "reason"),
    [
        ("training", 6, "the training loss is nan"),
        ("validation", 8, "the validation loss is"),
        ("weights", 8, "the validation loss is nan|linear.weight"),
        ("weights", 5, "the training loss is nan"),
    ],
)
def test_it_stops_in_the_epoch_and_keeps_the_checkpoint_before(
    where: str, call: int, reason: str, tmp_path: Path
) -> None:
    network = spoiled(call, where)
    with pytest.raises(DivergedError, match=f"diverged in epoch 2: ({reason})") as caught:
        trained(digit_splits(), tmp_path / "run", network=network, epochs=5)
    message = str(caught.value)
    assert caught.value.epoch == 2
    assert "the checkpoint of epoch 1 is kept; try a lower rate such as lr=0.005" in message
    assert "clip_norm=1" in message
    run = RunFolder(tmp_path / "run")
    assert [path.name for path in run.checkpoints.iterdir()] == ["epoch-0001"]
    assert [row["epoch"] for row in run.read_metrics()] == [1]
    assert not run.is_finished()
    if where == "training":
        # At once: not even the rest of the epoch is computed.
        assert network.calls == call


def test_weights_are_looked_at_where_no_loss_shows_them(tmp_path: Path) -> None:
    """The last update of an epoch spoils them, and there is no validation split."""
    splits = digit_splits()
    whole = type(splits)(splits.train, splits.val.take([]), splits.test)  # type: ignore[arg-type]  # no image
    with pytest.raises(DivergedError, match=r"epoch 1: linear\.weight\[0, \d+\] is nan"):
        trained(whole, tmp_path / "run", network=spoiled(4, "weights"), epochs=1)
    assert not (tmp_path / "run" / "checkpoints").exists()


def test_the_advice_leaves_out_what_is_given_already(tmp_path: Path) -> None:
    with pytest.raises(DivergedError, match=r"epoch 1: .*; try a lower rate such as lr=0\.005$"):
        trained(digit_splits(), tmp_path / "run", network=spoiled(1, "training"), clip_norm=2.0)


@pytest.mark.parametrize("loss", ["nan", "inf", "-inf"])
def test_a_loss_beyond_all_numbers_is_one_that_diverged(loss: str) -> None:
    require_finite_loss(1e300, "training", 3, Optimization())
    with pytest.raises(DivergedError, match=rf"epoch 3: the training loss is {loss}; ") as caught:
        require_finite_loss(float(loss), "training", 3, Optimization())
    assert caught.value.epoch == 3


def test_of_the_first_epoch_there_is_no_checkpoint_before() -> None:
    assert "is kept" not in str(diverged("why", 1, Optimization()))
    assert "why; the checkpoint of epoch 1 is kept; try" in str(diverged("why", 2, Optimization()))
    assert "lr=…" in str(diverged("why", 2, Optimization(lr="find")))
