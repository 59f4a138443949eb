"""The options of a lab; the command line makes an option of each field."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from ..errors import LabError


@dataclass(frozen=True)
class LabOptions:
    """The data, the models and the size of a lab.

    Attributes:
        data: The lab's dataset, in any form that train takes; by default scikit-learn's digits.
        test_data: The test split, if it is a dataset of its own.
        class_names: Names of the dataset's classes: a .t7 list, or a text file with one name a
            line.
        download: Download the lab's own dataset with torchvision into the folder data.
        model: A pretrained AlexNet of Torch7, for the labs that use one.
        labels: Class names of that model: a .t7 list, or a text file with one name a line.
        mean_std: Mean and std of that model: a .t7 with {mean=…, std=…}. Images are then resized
            as Torch7's image.scale does.
        plugin: A Python file with converters for that model's own classes; it is run.
        photo: A photograph, for the labs that use one.
        full: Use all images, and the number of epochs of the original lab.
        limit: The largest number of images, in the dataset and in the test data.
        epochs: The number of epochs of every training.
        device: auto, cpu or cuda.
        seed: The seed of every random choice.
    """

    data: str | None = None
    test_data: str | None = None
    class_names: str | None = None
    download: bool = False
    model: str | None = None
    labels: str | None = None
    mean_std: str | None = None
    plugin: str | None = None
    photo: str | None = None
    full: bool = False
    limit: int | None = None
    epochs: int | None = None
    device: Literal["auto", "cpu", "cuda"] = "auto"
    seed: int = 0

    def __post_init__(self) -> None:
        for name, lowest in (("seed", 0), ("epochs", 1), ("limit", 1)):
            value = getattr(self, name)
            if value is not None and value < lowest:
                raise LabError(f"{name}={value} must be at least {lowest}")

    def epoch_count(self, small: int, full: int) -> int:
        """Return `epochs` if it is given, else the number for the small or the full lab."""
        if self.epochs is not None:
            return self.epochs
        return full if self.full else small

    @property
    def model_options(self) -> dict[str, str | None]:
        """Options of the commands that open `model`.

        The labs trained AlexNet on images that Torch7's `image.scale` had resized; the file with
        mean and std does not say so.
        """
        resize = None if self.mean_std is None else "image.scale-bilinear"
        return {
            "labels": self.labels,
            "mean_std": self.mean_std,
            "resize": resize,
            "plugin": self.plugin,
        }
