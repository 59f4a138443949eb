"""The dataset of a lab: what is on disk, what torchvision downloads, or the digits.

Whichever it is, the first step of a lab writes it to one file with a training, a validation and a
test part, and all further commands name that file alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from ..data import class_count, open_data
from ..errors import LabError
from ..reports import Step
from .options import LabOptions
from .steps import Steps

#: Where torchvision puts what it downloads.
_DOWNLOADS = "data"

#: What torchvision calls each dataset, where our reader finds it there, and how much it is.
_SOURCES = {
    "MNIST": ("MNIST", f"{_DOWNLOADS}/MNIST", "12 MB"),
    "CIFAR-10": ("CIFAR10", f"{_DOWNLOADS}/cifar-10-batches-py", "170 MB"),
}

#: CIFAR-10's classes; its .t7 files do not name them.
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
    """A lab's dataset, divided.

    Attributes:
        word: the file, as every command takes it.
        step: the command that wrote it; its result has the parts' sizes and the classes.
        is_digits: whether the digits stand in for the lab's own data.
    """

    word: str
    step: Step
    is_digits: bool


def prepare_data(
    steps: Steps,
    options: LabOptions,
    dataset: Literal["MNIST", "CIFAR-10"],
    *,
    val: float,
    test: float = 0.2,
    limit: int | None = None,
    classes: str | None = None,
    digit_classes: str | None = None,
) -> LabData:
    """Write the lab's dataset to `data.npz` in its folder, with its three parts.

    Args:
        steps: of the lab.
        options: of the lab; what they say about the data goes before what the lab says.
        dataset: the lab's own.
        val: share of the training pictures that is kept for validation.
        test: share that is kept for testing, where the data has no test part of its own.
        limit: at most so many pictures, drawn by seed; each part gives its share.
        classes: only these, by name, such as `airplane,bird`.
        digit_classes: the same where the digits stand in, such as `3,8`.

    Raises:
        LabError: when the data cannot be read.
    """
    source, is_digits = _source(steps, options, dataset)
    names = options.class_names
    if dataset == "CIFAR-10" and names is None and not is_digits:
        names = _cifar_names(steps, source)
    step = steps.run(
        "split",
        source,
        steps.path("data.npz"),
        val_fraction=val,
        test_fraction=test,
        test_data=options.test_data,
        class_names=names,
        classes=digit_classes if is_digits else classes,
        limit=options.limit or limit,
        seed=options.seed,
        overwrite=True,
    )
    return LabData(str(steps.path("data.npz")), step, is_digits)


def _source(steps: Steps, options: LabOptions, dataset: str) -> tuple[str, bool]:
    """The word of the dataset, and whether it is the digits for want of another."""
    name, place, size = _SOURCES[dataset]
    if options.data is not None:
        return options.data, False
    if options.download:
        _download(name, dataset)
        return place, False
    steps.note(
        f"The digits of scikit-learn stand in for {dataset}: give `--data`, or `--download` to "
        f"have torchvision download it ({size}, into the folder `{_DOWNLOADS}`)."
    )
    return "digits", True


def _cifar_names(steps: Steps, source: str) -> str | None:
    """A file of CIFAR-10's names, for ten classes that have none."""
    data = open_data(source)
    if data.names is not None or class_count(data) != len(_CIFAR_CLASSES):
        return None
    file = steps.path("classes.txt")
    file.write_text("".join(f"{name}\n" for name in _CIFAR_CLASSES), encoding="utf-8")
    steps.note(f"`{source}` does not name its classes: they are given CIFAR-10's, in its order.")
    return str(file)


def _download(name: str, dataset: str) -> None:
    from torchvision import datasets

    for train in (True, False):
        try:
            getattr(datasets, name)(_DOWNLOADS, train=train, download=True)
        except (OSError, RuntimeError) as error:
            raise LabError(
                f"{dataset} could not be downloaded ({error}); give --data, or leave out "
                "--download for the digits"
            ) from None
