"""What a network does to the shape of its input, layer by layer, and what each layer costs."""

from ...converters.requirements import require

require("torchlift.transfer.summary", "torch")

from ..errors import SummaryError
from .formulas import formula, transposed_size, window_count
from .layers import LayerRow, Summary, summarize

__all__ = [
    "LayerRow",
    "Summary",
    "SummaryError",
    "formula",
    "summarize",
    "transposed_size",
    "window_count",
]
