"""The dataset of a lab: given by the user, downloaded by torchvision, or scikit-learn's digits.

The first command of a lab writes the dataset to one file with a training, a validation and a test
split. All later commands read that file.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from ...converters.files import atomic_path
from ..data import class_count, open_data
from ..errors import LabError
from ..reports import Step
from .options import LabOptions
from .steps import Steps

#: The folder that torchvision downloads to.
_DOWNLOADS = "data"

#: For each dataset: its class in torchvision, where its files are after a download, and the size.
_SOURCES = {
    "MNIST": ("MNIST", f"{_DOWNLOADS}/MNIST", "12 MB"),
    "CIFAR-10": ("CIFAR10", f"{_DOWNLOADS}/cifar-10-batches-py", "170 MB"),
}

#: The dataset that needs no files.
_DIGITS = "sklearn:digits"

#: The classes of CIFAR-10; `.t7` files of it do not name them.
_CIFAR_CLASSES = (
    "airplane",
    "automobile",
    "bird",
    "cat",
    "deer",
    "dog",
    "frog",
    "horse",
    "ship",
    "truck",
)


@dataclass(frozen=True)
class LabData:
    """The dataset of a lab, with its three splits.

    Attributes:
        path: The file.
        step: The command that wrote it.
        is_digits: Whether scikit-learn's digits replace the lab's own dataset.
    """

    path: str
    step: Step
    is_digits: bool

    @property
    def class_names(self) -> list[str]:
        """The names of the classes."""
        return [row["label"] for row in self.step.result["classes"]]

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """The shape of an image: (C, H, W)."""
        channels, height, width = self.step.result["image_shape"]
        return channels, height, width

    @property
    def counts(self) -> dict[str, int]:
        """The number of images in each split: `train`, `val`, `test`."""
        return {row["split"]: row["count"] for row in self.step.result["splits"]}


def prepare_data(
    steps: Steps,
    options: LabOptions,
    dataset: Literal["MNIST", "CIFAR-10"],
    *,
    val_fraction: float,
    test_fraction: float = 0.2,
    limit: int | None = None,
    classes: str | None = None,
    digit_classes: str | None = None,
) -> LabData:
    """Write the dataset of a lab to `data.npz` in its folder, with its three splits.

    Args:
        steps: The steps of the lab.
        options: The options of the lab; they take precedence over the arguments below.
        dataset: The lab's own dataset.
        val_fraction: The fraction of the training images that becomes the validation split.
        test_fraction: The fraction that becomes the test split, if the data has none.
        limit: The largest number of images; the sample is random and keeps the proportions of
            splits and classes.
        classes: The names of the only classes to use, such as `airplane,bird`.
        digit_classes: The same for scikit-learn's digits, such as `3,8`.

    Raises:
        LabError: When the data cannot be read.
    """
    source, is_digits = _source(steps, options, dataset)
    class_names = options.class_names
    if dataset == "CIFAR-10" and class_names is None and not is_digits:
        class_names = _cifar_names(steps, source)
    step = steps.run(
        "split",
        source,
        steps.path("data.npz"),
        val_fraction=val_fraction,
        test_fraction=test_fraction,
        test_data=options.test_data,
        class_names=class_names,
        classes=digit_classes if is_digits else classes,
        limit=options.limit or limit,
        seed=options.seed,
        overwrite=True,
    )
    return LabData(str(steps.path("data.npz")), step, is_digits)


def _source(steps: Steps, options: LabOptions, dataset: str) -> tuple[str, bool]:
    """Return the name of the dataset to use, and whether the digits replace the lab's own."""
    torchvision_class, folder, size = _SOURCES[dataset]
    if options.data is not None:
        return options.data, False
    if options.download:
        _download(torchvision_class, dataset)
        return folder, False
    steps.note(
        f"This report uses scikit-learn's digits instead of {dataset}. Name a dataset with "
        f"`data=…`, or use `download=True` to download {dataset} with torchvision ({size}, into "
        f"the folder `{_DOWNLOADS}`)."
    )
    return _DIGITS, True


def _cifar_names(steps: Steps, source: str) -> str | None:
    """Write the class names of CIFAR-10 to a file, for a dataset of ten classes without names."""
    data = open_data(source)
    if data.names is not None or class_count(data) != len(_CIFAR_CLASSES):
        return None
    file = steps.path("classes.txt")
    with atomic_path(file) as path:
        path.write_text("".join(f"{name}\n" for name in _CIFAR_CLASSES), encoding="utf-8")
    steps.note(f"`{source}` has no class names; the names of CIFAR-10 are used, in its order.")
    return str(file)


def _download(torchvision_class: str, dataset: str) -> None:
    from torchvision import datasets

    for train in (True, False):
        try:
            getattr(datasets, torchvision_class)(_DOWNLOADS, train=train, download=True)
        except (OSError, RuntimeError) as error:
            raise LabError(
                f"{dataset} could not be downloaded ({error}); name a dataset with data=…, or "
                "omit download=True to use scikit-learn's digits"
            ) from None
