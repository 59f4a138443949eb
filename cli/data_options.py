"""The options of every command that opens a dataset."""

from __future__ import annotations

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
        class_names: Names of the data's classes: a .t7 list, or a text file with one name a line.
        split: Only the data's own train, val or test.
        limit: At most so many images, drawn by seed.
        first_label: The label of the first class; by default 0 if that label occurs, else 1.
        image_size: Height and width that a folder's images are brought to, such as 224: the shorter
            side is scaled and the center is cropped.
        on_error: What to do with an unreadable image or a label out of range; --skip-bad stands for
            --on-error skip.
        seed: Seed of all random draws.
    """

    classes: list[str] | None = None
    class_names: str | None = None
    split: Literal["train", "val", "test"] | None = None
    limit: Count | None = None
    first_label: int | None = None
    image_size: tuple[int, int] | None = None
    on_error: Literal["raise", "skip"] = "raise"
    seed: CountOrZero = 0

    def open(self, source: str) -> Dataset | ImageFiles:
        """Return the images of a source (see `open_data`).

        Raises:
            TorchliftError: when they cannot be read, or have no such split or class.
        """
        from ..converters.labels import read_labels
        from ..transfer.data import open_data

        return open_data(
            source,
            classes=self.classes,
            limit=self.limit,
            first_label=self.first_label,
            names=None if self.class_names is None else read_labels(self.class_names),
            size=self.image_size,
            split=self.split,
            on_error=self.on_error,
            seed=self.seed,
        )


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
