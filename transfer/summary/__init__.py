"""What a network does to the shape of its input, layer by layer, and what that costs."""

from ..errors import SummaryError
from .formulas import formula, transposed_size, window_count
from .walk import LayerRow, Summary, summarize

__all__ = [
    "LayerRow",
    "Summary",
    "SummaryError",
    "formula",
    "summarize",
    "transposed_size",
    "window_count",
]
