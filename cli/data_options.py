"""The options of every command that opens a dataset."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal

from .values import Count, CountOrZero

if TYPE_CHECKING:
    from ..transfer.data import Dataset, ImageFiles


@dataclass(frozen=True)
class DataOptions:
    """Which images to use.

    Attributes:
        classes: Only these classes, numbered anew in this order, such as airplane,bird.
        class_names: Names of the data's classes, where it has none, or their order, where it has
            names: a .t7 list, or a text file with one name a line.
        match_classes: How the data's classes are matched with those of the model or of other data:
            by name where both have names and by position where one has none, or by position.
        split: Only the data's own train, val or test.
        limit: At most so many images of all splits together, drawn by seed.
        first_label: The label of the first class; by default 0 if that label occurs, else 1.
        image_size: Height and width that a folder's images are brought to, such as 224: the shorter
            side is scaled and the center is cropped.
        on_error: What to do with an unreadable image or a label out of range; --skip-bad stands for
            --on-error skip.
        seed: Seed of all random draws.
    """

    classes: list[str] | None = None
    class_names: str | None = None
    match_classes: Literal["name", "position"] = "name"
    split: Literal["train", "val", "test"] | None = None
    limit: Count | None = None
    first_label: int | None = None
    image_size: tuple[int, int] | None = None
    on_error: Literal["raise", "skip"] = "raise"
    seed: CountOrZero = 0

    def open(self, source: str, *, as_test_data: bool = False) -> Dataset | ImageFiles:
        """Return the images of a source (see `open_data`).

        Args:
            source: A dataset.
            as_test_data: Whether it is tested on beside the dataset that is trained on: the class
                names are then for a source without names alone, and others are matched later.

        Raises:
            TorchliftError: when they cannot be read, or have no such split or class.
        """
        from ..converters.labels import read_labels
        from ..transfer.data import open_data

        names = None if self.class_names is None else read_labels(self.class_names)
        return open_data(
            source,
            class_names=None if as_test_data else names,
            default_class_names=names,
            classes=self.classes,
            limit=self.limit,
            first_label=self.first_label,
            size=self.image_size,
            split=self.split,
            on_error=self.on_error,
            seed=self.seed,
        )

    def open_for_onnx(
        self, source: str, file: str, labels: Sequence[str] | None = None
    ) -> tuple[Dataset | ImageFiles, list[str]]:
        """Return the images of a source, with the classes of an `.onnx` file, and notes on both.

        Args:
            source: A dataset, with labels or without.
            file: The `.onnx` file.
            labels: The names of its outputs; by default those in its metadata.

        Raises:
            TorchliftError: when one of them cannot be read, or the file lacks some of the classes.
        """
        from ..converters.onnx.onnx_file import axes, read_network
        from ..transfer.data import match_classes
        from ..transfer.data.class_matching import DATA_AND_MODEL
        from ..transfer.errors import DataError

        model, metadata = read_network(file)
        images = self.open(source)
        if images.classes is None or metadata.output_kind == "features":
            return images, list(images.notes)
        sizes = [axes(value) for value in model.graph.output if len(axes(value)) > 1]
        # A convolution gives the scores of classes as (N, classes, 1, 1).
        last = [size for size in sizes[0][1:] if size != 1][-1:] if sizes else []
        count = last[0] if last and isinstance(last[0], int) else None
        names = labels or metadata.labels
        try:
            matched, notes = match_classes(
                images, names, self.match_classes, DATA_AND_MODEL, count or None
            )
        except DataError as error:
            raise DataError(f"{file}: {error}") from None
        return matched, [*images.notes, *notes]


#: Every image.
ALL_DATA = DataOptions()


def given_options(options: Any, usual: Any) -> list[str]:
    """Return the names of the options in a group that differ from their defaults.

    Example:
        >>> given_options(DataOptions(limit=3), ALL_DATA)
        ['limit']
    """
    defaults = asdict(usual)
    return [name for name, value in asdict(options).items() if value != defaults[name]]
