"""What `torchlift plot` is asked for, and what it draws."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from ..transfer.data.augmentation import Augmentation
from .data_options import DataOptions
from .errors import UsageError
from .model_options import ModelOptions
from .values import CountOrZero

if TYPE_CHECKING:
    import numpy as np
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class PlotOptions:
    """How to draw it.

    Attributes:
        layers: Names with commas between: PyTorch's (1.8) or Lua paths (get(2):get(9)); of an .onnx
            file also values' names. By default the first convolution (and what follows it, for
            feature-maps), or the first linear layer.
        titles: The title of each source in the plot, with commas between.
        scale: One color scale for all that is compared, or one for each tile.
        shape: Shape of the image that a linear layer takes, such as 28x28 or 3x32x32.
        image: The input of the network: an image file, a dataset (see --index), or china or flower,
            two photographs that come with scikit-learn.
        index: Index of the image in a dataset, from 0.
        model: The model whose predictions are drawn beside the samples.
        data: Labeled images that a model is evaluated on.
        arrays: An .npz file for the values of filters, weights or feature maps.
        augmented: Draw beside each sample what augmentation makes of it in five epochs.
    """

    layers: list[str] | None = None
    titles: list[str] | None = None
    scale: Literal["together", "each"] = "together"
    shape: tuple[int, ...] | None = None
    image: str | None = None
    index: CountOrZero = 0
    model: str | None = None
    data: str | None = None
    arrays: str | None = None
    augmented: bool = False


@dataclass(frozen=True)
class PlotResult:
    """A plot and the values behind it.

    Attributes:
        figure: the plot.
        data: its values, as JSON.
        lines: for people.
        notes: what was assumed or left out.
        arrays: the arrays that it shows.
    """

    figure: Figure
    data: dict[str, Any]
    lines: Sequence[str] = ()
    notes: Sequence[str] = ()
    arrays: dict[str, np.ndarray] = field(default_factory=dict)


@dataclass(frozen=True)
class PlotRequest:
    """The arguments of the command: sources, and all options."""

    sources: Sequence[str]
    plot_options: PlotOptions
    model_options: ModelOptions
    data_options: DataOptions
    augmentation: Augmentation

    @property
    def layers(self) -> list[str]:
        """The names of the layers."""
        return self.plot_options.layers or []

    @property
    def titles(self) -> list[str]:
        """The title of each source."""
        titles = self.plot_options.titles
        if titles and len(titles) != len(self.sources):
            raise UsageError(
                f"{len(titles)} --titles for {len(self.sources)} sources: give one for each"
            )
        if titles and self.plot_options.arrays and len(set(titles)) < len(titles):
            raise UsageError("--arrays names arrays by their titles: give different --titles")
        names = [_title(source) for source in self.sources]
        # Sources of one name are told apart by their paths.
        return titles or [
            name if names.count(name) == 1 else source
            for name, source in zip(names, self.sources, strict=True)
        ]

    @property
    def source(self) -> str:
        """The only source."""
        if len(self.sources) > 1:
            raise UsageError(f"{len(self.sources)} sources: this kind of plot takes one")
        return self.sources[0]


def _title(source: str) -> str:
    """Return the title of a source; a run keeps its network in a folder `model`."""
    path = Path(source)
    if path.name in ("model", "metrics.csv"):
        return path.resolve().parent.name
    if not path.exists():
        return source.rpartition(":")[2]
    return path.resolve().stem if path.is_file() else path.resolve().name
