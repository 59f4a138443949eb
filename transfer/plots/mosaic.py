"""Grids of small images: filters, units and feature maps.

The sizes of all elements are known before anything is drawn, so that they are placed by inches.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.text import Text
from matplotlib.ticker import MaxNLocator

from .color_scales import color_map, colored, scale_of
from .figures import fit_texts, new_figure, short, styled

#: Pixels of a tile's longer side, at least. Smaller tiles are enlarged, so that the gaps between
#: them stay narrow.
_SIDE = 32
#: Values in an inch, at most, so that a tile with few values does not become large.
_VALUES_PER_INCH = 28
#: Inches: the largest panel, and the smallest tile without and with a label.
_PANEL_WIDTH, _PANEL_HEIGHT, _TILE, _LABELED_TILE = 4.6, 6.0, 0.2, 0.8
#: Inches: a tile's label, a panel's title, the gap between panels, the width of a row of panels.
_LABEL, _TITLE, _GAP, _ROW_WIDTH = 0.2, 0.32, 0.25, 11.5
#: Inches: the width and the height of a color bar, and the width of the numbers beside it.
_BAR_WIDTH, _BAR_HEIGHT, _BAR_NUMBERS = 0.14, 2.5, 0.7
#: Inches: an average letter of a title, at most.
_LETTER = 0.085


@dataclass(frozen=True)
class Panel:
    """Tiles that belong together.

    Attributes:
        title: The title above the tiles.
        tiles: (n, H, W) values, or (n, H, W, 3) values that are shown as colors.
        labels: A label above each tile; None for none.
        columns: Tiles in a row; None to choose a number.
        scale: The values of the first and the last color, if known: (0, 255) for an image.
    """

    title: str
    tiles: np.ndarray
    labels: Sequence[str] | None = None
    columns: int | None = None
    scale: tuple[float, float] | None = None


@styled
def draw_panels(groups: Sequence[Sequence[Panel]], shared_scale: bool = True) -> Figure:
    """Draw panels from left to right and from top to bottom.

    Args:
        groups: Groups of panels to compare.
        shared_scale: Whether a group has one color scale. Otherwise each tile has its own, and
            its range is part of the label.
    """
    if not shared_scale:
        groups = [[_with_ranges(panel) for panel in group] for group in groups]
    blocks = [block for group in groups for block in _blocks(group, shared_scale)]
    rows = list(_rows(blocks))
    width = max(sum(block.width for block in row) for row in rows) + _GAP
    height = sum(max(block.height for block in row) for row in rows) + _GAP / 2
    figure = new_figure(width, height)
    figure.set_layout_engine("none")
    widths: dict[Text, float] = {}
    top = 0.0
    for row in rows:
        left = _GAP
        for block in row:
            widths |= block.draw(figure, left, top)
            left += block.width
        top += max(block.height for block in row)
    fit_texts(widths)
    return figure


@dataclass(frozen=True)
class _Mosaic:
    """A panel and the layout of its tiles on a canvas.

    `torchvision.utils.make_grid` has no space for labels above the tiles, and pads the outside
    of a grid, but not of a single tile.

    Attributes:
        panel: The panel.
        columns: Tiles in a row.
        zoom: Pixels of the canvas for one value, along each axis.
        gap: Pixels between tiles.
        strip: Pixels above a tile, for its label.
        width: Width of the panel in inches.
    """

    panel: Panel
    columns: int
    zoom: int
    gap: int
    strip: int
    width: float

    @classmethod
    def of(cls, panel: Panel) -> _Mosaic:
        count, height, width = panel.tiles.shape[:3]
        columns = panel.columns or _best_columns(count, height / width)
        rows = math.ceil(count / columns)
        zoom = math.ceil(_SIDE / max(height, width))
        available = min(_PANEL_WIDTH / columns, _PANEL_HEIGHT / rows * width / height)
        largest = max(1.0, width / _VALUES_PER_INCH)
        inches = max(min(available, largest), _LABELED_TILE if panel.labels else _TILE)
        strip = math.ceil(_LABEL / inches * width * zoom) if panel.labels else 0
        gap = max(1, round(max(height, width) * zoom / 16))
        return cls(panel, columns, zoom, gap, strip, inches * columns)

    @property
    def tile(self) -> tuple[int, int]:
        """Height and width of a tile in pixels."""
        return self.panel.tiles.shape[1] * self.zoom, self.panel.tiles.shape[2] * self.zoom

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the canvas in pixels."""
        row_height, column_width = self._steps()
        rows = math.ceil(len(self.panel.tiles) / self.columns)
        return rows * row_height - self.gap, self.columns * column_width - self.gap

    @property
    def height(self) -> float:
        """Height of the panel in inches."""
        return self.width * self.size[0] / self.size[1]

    @property
    def space(self) -> float:
        """Inches for the panel, or for its title if that is wider."""
        return max(self.width, min(len(self.panel.title) * _LETTER, _PANEL_WIDTH))

    def corner(self, index: int) -> tuple[int, int]:
        """Return the top and the left of a tile."""
        row, column = divmod(index, self.columns)
        row_height, column_width = self._steps()
        return row * row_height + self.strip, column * column_width

    def canvas(self, scales: Sequence[tuple[float, float]]) -> np.ndarray:
        """Return all tiles on white, (H, W, 3), each with its color scale."""
        canvas = np.ones((*self.size, 3))
        height, width = self.tile
        for index, (tile, scale) in enumerate(zip(self.panel.tiles, scales, strict=True)):
            top, left = self.corner(index)
            pixels = colored(tile, scale).repeat(self.zoom, axis=0).repeat(self.zoom, axis=1)
            canvas[top : top + height, left : left + width] = pixels
        return canvas

    def _steps(self) -> tuple[int, int]:
        """Return the distances between rows and between columns of tiles."""
        height, width = self.tile
        return height + self.gap + self.strip, width + self.gap


@dataclass(frozen=True)
class _Block:
    """Panels side by side, and their color bar.

    Attributes:
        mosaics: The panels.
        scale: The values of the first and the last color; None if each tile has its own.
    """

    mosaics: Sequence[_Mosaic]
    scale: tuple[float, float] | None

    @property
    def width(self) -> float:
        """Width in inches, with the gap to the right."""
        panels = sum(mosaic.space + _GAP for mosaic in self.mosaics)
        return panels + (_BAR_WIDTH + _BAR_NUMBERS if self.scale else 0)

    @property
    def height(self) -> float:
        """Height in inches, with the title."""
        return _TITLE + max(max(mosaic.height for mosaic in self.mosaics), _BAR_WIDTH * 4) + 0.1

    def draw(self, figure: Figure, left: float, top: float) -> dict[Text, float]:
        """Draw the block, and return the space in inches for each text that may be too long."""
        widths = {}
        for mosaic in self.mosaics:
            panel = mosaic.panel
            axes = figure.add_axes(
                _place(figure, left, top + _TITLE, mosaic.width, mosaic.height), frameon=False
            )
            axes.set(xticks=[], yticks=[])
            known = panel.scale or self.scale
            scales = [known or scale_of([tile]) for tile in panel.tiles]
            axes.imshow(mosaic.canvas(scales), aspect="auto")
            widths[axes.set_title(panel.title, loc="left")] = mosaic.space
            pixels_per_inch = mosaic.size[1] / mosaic.width
            for index, label in enumerate(panel.labels or ()):
                y, x = mosaic.corner(index)
                text = axes.text(
                    x + mosaic.tile[1] / 2,
                    y - 0.03 * pixels_per_inch,
                    short(label, 40),
                    ha="center",
                    va="bottom",
                    size=7.5,
                )
                widths[text] = mosaic.tile[1] / pixels_per_inch
            left += mosaic.space + _GAP
        if self.scale:
            height = max(min(_BAR_HEIGHT, max(mosaic.height for mosaic in self.mosaics)), 0.5)
            place = _place(figure, left - _GAP / 2, top + _TITLE, _BAR_WIDTH, height)
            axes_of_values = min(mosaic.panel.tiles[0].ndim for mosaic in self.mosaics)
            colors = ScalarMappable(Normalize(*self.scale), color_map(axes_of_values, self.scale))
            bar = figure.colorbar(
                colors,
                cax=figure.add_axes(place),
                format="{x:.3g}",
                extend=self._extend(self.scale),
            )
            bar.outline.set_visible(False)
            bar.locator = MaxNLocator(max(2, round(height / 0.5)))
        return widths

    def _extend(self, scale: tuple[float, float]) -> str:
        """Return which ends of the scale also stand for values beyond them (`colorbar`)."""
        tiles = [mosaic.panel.tiles for mosaic in self.mosaics]
        below = any(bool((values < scale[0]).any()) for values in tiles)
        above = any(bool((values > scale[1]).any()) for values in tiles)
        return {(True, False): "min", (False, True): "max", (True, True): "both"}.get(
            (below, above), "neither"
        )


def _blocks(group: Sequence[Panel], shared_scale: bool) -> Iterator[_Block]:
    """Yield single panels, or as many panels with one color bar as fit in a row."""
    if not shared_scale or all(panel.scale for panel in group):
        yield from (_Block([_Mosaic.of(panel)], None) for panel in group)
        return
    scale = scale_of([panel.tiles for panel in group])
    mosaics: list[_Mosaic] = []
    for mosaic in map(_Mosaic.of, group):
        if mosaics and _Block([*mosaics, mosaic], scale).width > _ROW_WIDTH:
            yield _Block(mosaics, scale)
            mosaics = []
        mosaics.append(mosaic)
    yield _Block(mosaics, scale)


def _rows(blocks: Sequence[_Block]) -> Iterator[list[_Block]]:
    """Yield rows of as many blocks as fit."""
    row: list[_Block] = []
    for block in blocks:
        if row and sum(each.width for each in [*row, block]) > _ROW_WIDTH:
            yield row
            row = []
        row.append(block)
    yield row


def _place(
    figure: Figure, left: float, top: float, width: float, height: float
) -> tuple[float, float, float, float]:
    """Convert a place in inches from the top left to fractions from the bottom left."""
    whole_width, whole_height = figure.get_size_inches()
    bottom = whole_height - top - height
    return left / whole_width, bottom / whole_height, width / whole_width, height / whole_height


def _best_columns(count: int, ratio: float) -> int:
    """Return how many tiles to place in a row, so that a panel is a little wider than high.

    Numbers of columns that fill the last row are preferred.

    Args:
        count: Number of tiles.
        ratio: Height of a tile divided by its width.
    """
    best = min(count, max(1, round(math.sqrt(count * ratio * 1.3))))
    candidates = range(max(1, best - 1), min(count, best + 2) + 1)
    return min(candidates, key=lambda columns: (-count % columns, abs(columns - best), -columns))


def _with_ranges(panel: Panel) -> Panel:
    """Return a panel whose labels contain the range of each tile, unless its scale is known."""
    if panel.scale is not None:
        return panel
    ranges = [f"{tile.min():.3g} to {tile.max():.3g}" for tile in panel.tiles]
    pairs = zip(panel.labels or [""] * len(ranges), ranges, strict=True)
    labels = [f"{label}: {range_}" if label else range_ for label, range_ in pairs]
    return Panel(panel.title, panel.tiles, labels, panel.columns)
