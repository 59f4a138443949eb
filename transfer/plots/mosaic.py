"""Many small pictures as one: filters, units and feature maps side by side.

The size of everything is known before it is drawn, so that it is placed by inches.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import matplotlib
import numpy as np
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Colormap, Normalize
from matplotlib.figure import Figure
from matplotlib.text import Text
from matplotlib.ticker import MaxNLocator

from .figures import SIGNED, fit_texts, new_figure, short, styled

#: Dots of a tile's longer side, at least: what is smaller is drawn with larger dots, so that the
#: gaps between the tiles stay narrow.
_SIDE = 32
#: Numbers in an inch, so that a tile of few numbers is not blown up.
_NUMBERS_PER_INCH = 28
#: Inches of a panel where its tiles let it, and of a tile at least, without and with a label.
_PANEL_WIDTH, _PANEL_HEIGHT, _TILE, _LABELLED_TILE = 4.6, 6.0, 0.2, 0.8
#: Inches of the strip for a tile's label, for a panel's title, between panels, of a whole line.
_LABEL, _TITLE, _GAP, _LINE = 0.2, 0.32, 0.25, 11.5
#: Inches of the bar of colours, and of the numbers beside it.
_BAR_WIDTH, _BAR_HEIGHT, _BAR_NUMBERS = 0.14, 2.5, 0.7
#: The fraction of the numbers that have colours of their own.
_SHOWN = 0.995
#: Inches that a letter of a title takes, at most on average.
_LETTER = 0.085


@dataclass(frozen=True)
class Panel:
    """Tiles that belong together.

    Attributes:
        title: stands above them.
        tiles: (n, H, W) numbers, or (n, H, W, 3) where they are read as colours.
        labels: one above each tile; None for none.
        columns: tiles in a row; None for as many as look well.
        scale: what its colours stand for, where that is known: (0, 255) of a picture.
    """

    title: str
    tiles: np.ndarray
    labels: Sequence[str] | None = None
    columns: int | None = None
    scale: tuple[float, float] | None = None


def scale_of(arrays: Sequence[np.ndarray]) -> tuple[float, float]:
    """The smallest and the largest number that colours stand for, in all of some arrays.

    It begins at 0 where nothing is negative; otherwise 0 is in its middle. The half percent of the
    numbers that are the largest have the last colour, so that a few do not leave all others grey.
    """
    numbers = np.concatenate([array[np.isfinite(array)].ravel() for array in arrays])
    if not numbers.any():
        return 0.0, 1.0
    sizes = np.abs(numbers)
    limit = float(np.quantile(sizes, _SHOWN, method="higher") or sizes.max())
    return (-limit if numbers.min() < 0 else 0.0), limit


@styled
def draw_panels(groups: Sequence[Sequence[Panel]], together: bool = True) -> Figure:
    """Panels from left to right and from top to bottom.

    Args:
        groups: the panels of each have one scale, so that they can be compared.
        together: whether a group has one scale; otherwise each tile has its own, which is said
            above the tile.
    """
    groups = groups if together else [[_ranged(panel) for panel in group] for group in groups]
    blocks = [block for group in groups for block in _blocks(group, together)]
    lines = list(_lines(blocks))
    width = max(sum(block.width for block in line) for line in lines) + _GAP
    height = sum(max(block.height for block in line) for line in lines) + _GAP / 2
    figure = new_figure(width, height)
    figure.set_layout_engine("none")
    rooms: dict[Text, float] = {}
    top = 0.0
    for line in lines:
        left = _GAP
        for block in line:
            rooms |= block.draw(figure, left, top)
            left += block.width
        top += max(block.height for block in line)
    fit_texts(rooms)
    return figure


@dataclass(frozen=True)
class _Mosaic:
    """A panel and where its tiles stand on its canvas, in dots of the canvas.

    Attributes:
        panel: what is drawn.
        columns: tiles in a row.
        zoom: dots of the canvas for one number.
        gap: dots between tiles.
        strip: dots above a tile, for its label.
        width: of the panel in inches.
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
        columns = panel.columns or _columns(count, height / width)
        rows = math.ceil(count / columns)
        zoom = math.ceil(_SIDE / max(height, width))
        widest = min(_PANEL_WIDTH / columns, _PANEL_HEIGHT / rows * width / height)
        largest = max(1.0, width / _NUMBERS_PER_INCH)
        inches = max(min(widest, largest), _LABELLED_TILE if panel.labels else _TILE)
        strip = math.ceil(_LABEL / inches * width * zoom) if panel.labels else 0
        gap = max(1, round(max(height, width) * zoom / 16))
        return cls(panel, columns, zoom, gap, strip, inches * columns)

    @property
    def tile(self) -> tuple[int, int]:
        """Height and width of a tile."""
        return self.panel.tiles.shape[1] * self.zoom, self.panel.tiles.shape[2] * self.zoom

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the canvas."""
        down, across = self._steps()
        rows = math.ceil(len(self.panel.tiles) / self.columns)
        return rows * down - self.gap, self.columns * across - self.gap

    @property
    def height(self) -> float:
        """Of the panel in inches."""
        return self.width * self.size[0] / self.size[1]

    def corner(self, index: int) -> tuple[int, int]:
        """Top and left of a tile."""
        row, column = divmod(index, self.columns)
        down, across = self._steps()
        return row * down + self.strip, column * across

    def canvas(self, scales: Sequence[tuple[float, float]]) -> np.ndarray:
        """All tiles on white, (H, W, 3), each with the numbers that its colours stand for."""
        canvas = np.ones((*self.size, 3))
        height, width = self.tile
        for index, (tile, scale) in enumerate(zip(self.panel.tiles, scales, strict=True)):
            top, left = self.corner(index)
            large = _colored(tile, scale).repeat(self.zoom, axis=0).repeat(self.zoom, axis=1)
            canvas[top : top + height, left : left + width] = large
        return canvas

    def _steps(self) -> tuple[int, int]:
        height, width = self.tile
        return height + self.gap + self.strip, width + self.gap


@dataclass(frozen=True)
class _Block:
    """Panels side by side, and the bar of their colours.

    Attributes:
        mosaics: the panels.
        scale: what their colours stand for; None where each tile has its own.
    """

    mosaics: Sequence[_Mosaic]
    scale: tuple[float, float] | None

    @property
    def width(self) -> float:
        """In inches, with the gap behind it."""
        panels = sum(_room(mosaic) + _GAP for mosaic in self.mosaics)
        return panels + (_BAR_WIDTH + _BAR_NUMBERS if self.scale else 0)

    @property
    def height(self) -> float:
        """In inches, with the title above."""
        return _TITLE + max(max(mosaic.height for mosaic in self.mosaics), _BAR_WIDTH * 4) + 0.1

    def draw(self, figure: Figure, left: float, top: float) -> dict[Text, float]:
        """Draw it; gives every text that may be too long, and how many inches it has."""
        rooms = {}
        for mosaic in self.mosaics:
            panel = mosaic.panel
            axes = figure.add_axes(
                _place(figure, left, top + _TITLE, mosaic.width, mosaic.height), frameon=False
            )
            axes.set(xticks=[], yticks=[])
            known = panel.scale or self.scale
            scales = [known or scale_of([tile]) for tile in panel.tiles]
            axes.imshow(mosaic.canvas(scales), aspect="auto")
            rooms[axes.set_title(panel.title, loc="left")] = _room(mosaic)
            inch = mosaic.size[1] / mosaic.width
            for index, label in enumerate(panel.labels or ()):
                y, x = mosaic.corner(index)
                middle = x + mosaic.tile[1] / 2
                text = axes.text(
                    middle, y - 0.03 * inch, short(label, 40), ha="center", va="bottom", size=7.5
                )
                rooms[text] = mosaic.tile[1] / inch
            left += _room(mosaic) + _GAP
        if self.scale:
            high = min(_BAR_HEIGHT, max(mosaic.height for mosaic in self.mosaics))
            place = _place(figure, left - _GAP / 2, top + _TITLE, _BAR_WIDTH, max(high, 0.5))
            shown = ScalarMappable(Normalize(*self.scale), _colors(self.mosaics, self.scale))
            bar = figure.colorbar(
                shown, cax=figure.add_axes(place), format="{x:.3g}", extend=self._extend(self.scale)
            )
            bar.outline.set_visible(False)
            bar.locator = MaxNLocator(max(2, round(max(high, 0.5) / 0.5)))
        return rooms

    def _extend(self, scale: tuple[float, float]) -> str:
        """Which end of the bar stands for numbers beyond it too, as matplotlib calls it."""
        tiles = [mosaic.panel.tiles for mosaic in self.mosaics]
        below = any(bool((numbers < scale[0]).any()) for numbers in tiles)
        above = any(bool((numbers > scale[1]).any()) for numbers in tiles)
        return {(True, False): "min", (False, True): "max", (True, True): "both"}.get(
            (below, above), "neither"
        )


def _blocks(group: Sequence[Panel], together: bool) -> Iterator[_Block]:
    """The panels of a group: by themselves, or as many with one bar as fit in a line."""
    if not together or all(panel.scale for panel in group):
        yield from (_Block([_Mosaic.of(panel)], None) for panel in group)
        return
    scale = scale_of([panel.tiles for panel in group])
    waiting: list[_Mosaic] = []
    for mosaic in map(_Mosaic.of, group):
        if waiting and _Block([*waiting, mosaic], scale).width > _LINE:
            yield _Block(waiting, scale)
            waiting = []
        waiting.append(mosaic)
    yield _Block(waiting, scale)


def _lines(blocks: Sequence[_Block]) -> Iterator[list[_Block]]:
    """Blocks one after another, as many as fit in a line."""
    line: list[_Block] = []
    for block in blocks:
        if line and sum(each.width for each in [*line, block]) > _LINE:
            yield line
            line = []
        line.append(block)
    yield line


def _room(mosaic: _Mosaic) -> float:
    """Inches of a panel, or of its title where that is wider."""
    return max(mosaic.width, min(len(mosaic.panel.title) * _LETTER, _PANEL_WIDTH))


def _place(
    figure: Figure, left: float, top: float, width: float, height: float
) -> tuple[float, float, float, float]:
    """A place in inches from the top left, as matplotlib counts: in fractions from the bottom left."""
    whole_width, whole_height = figure.get_size_inches()
    bottom = whole_height - top - height
    return left / whole_width, bottom / whole_height, width / whole_width, height / whole_height


def _columns(count: int, ratio: float) -> int:
    """Tiles in a row, so that the whole is a little wider than high and its last row is full.

    Args:
        count: of the tiles.
        ratio: height by width of one.
    """
    best = max(1, round(math.sqrt(count * ratio * 1.3)))
    near = range(max(1, best - 1), min(count, best + 2) + 1)
    return min(near, key=lambda columns: (-count % columns, abs(columns - best), -columns))


def _colored(tile: np.ndarray, scale: tuple[float, float]) -> np.ndarray:
    """Numbers as colours (H, W, 3) from 0 to 1; what is no finite number is white."""
    low, high = scale
    fractions = (tile.astype(np.float64) - low) / (high - low)
    if tile.ndim == 2:
        return _color_map(tile.ndim, scale)(np.ma.masked_invalid(fractions))[..., :3]
    return np.clip(np.where(np.isfinite(fractions), fractions, 1.0), 0, 1)


def _colors(mosaics: Sequence[_Mosaic], scale: tuple[float, float]) -> Colormap:
    return _color_map(min(mosaic.panel.tiles[0].ndim for mosaic in mosaics), scale)


def _color_map(axes: int, scale: tuple[float, float]) -> Colormap:
    """The colours of numbers: grey from 0 up; of colours, each of the three goes so."""
    name = SIGNED if scale[0] < 0 and axes == 2 else "gray"
    return matplotlib.colormaps[name].with_extremes(bad="white")


def _ranged(panel: Panel) -> Panel:
    """A panel that tells the range of each of its tiles, where it is not known."""
    if panel.scale is not None:
        return panel
    ranges = [f"{tile.min():.3g} to {tile.max():.3g}" for tile in panel.tiles]
    named = zip(panel.labels or [""] * len(ranges), ranges, strict=True)
    labels = [f"{label}: {said}" if label else said for label, said in named]
    return Panel(panel.title, panel.tiles, labels, panel.columns)
