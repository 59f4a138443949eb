"""What can be chosen about a lab; the command line makes an option of each."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class LabOptions:
    """What a lab is done with, and how much of it.

    Attributes:
        data: The lab's dataset, in any form that train takes; else the digits, which are
            always there.
        test_data: Its test part, where that stands elsewhere.
        class_names: Names of its classes: a .t7 list, or a text file with one name a line.
        download: Have torchvision download the lab's own dataset into the folder data.
        model: A pretrained AlexNet of Torch7, for the labs that use one.
        labels: Names of what it tells apart: a .t7 list, or a text file with one name a line.
        mean_std: What it was trained with: a .t7 with {mean=…, std=…}.
        photo: A photograph, for the labs that use one.
        full: The lab's own settings: all pictures, all epochs.
        limit: At most so many pictures of the data, and of the test data.
        epochs: So many epochs of each training, whatever the lab says.
        device: auto, cpu or cuda.
        seed: Of all chance.
    """

    data: str | None = None
    test_data: str | None = None
    class_names: str | None = None
    download: bool = False
    model: str | None = None
    labels: str | None = None
    mean_std: str | None = None
    photo: str | None = None
    full: bool = False
    limit: int | None = None
    epochs: int | None = None
    device: Literal["auto", "cpu", "cuda"] = "auto"
    seed: int = 0

    def sized(self, small: int, full: int) -> int:
        """The number of epochs: the one asked for, or that of the small or the full lab."""
        if self.epochs is not None:
            return self.epochs
        return full if self.full else small
