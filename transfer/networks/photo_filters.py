"""Filters with known numbers, to see what a convolution does to a photograph.

It is no network to train: every layer takes the image itself, so that their feature maps can be
laid side by side (`torchlift plot feature-maps`).
"""

from __future__ import annotations

import torch
from torch import nn

from ...converters.images.preprocessing import Preprocessing
from ...converters.saved import SavedModel

#: Filters of 3×3, as image processing has them (Gonzalez and Woods, Digital Image Processing).
_KERNELS = {
    "blur": [[1 / 9, 1 / 9, 1 / 9], [1 / 9, 1 / 9, 1 / 9], [1 / 9, 1 / 9, 1 / 9]],
    "sharpen": [[0, -1, 0], [-1, 5, -1], [0, -1, 0]],
    "outline": [[-1, -1, -1], [-1, 8, -1], [-1, -1, -1]],
    # Sobel's filters: dark to bright, downwards and to the right.
    "horizontal_edges": [[-1, -2, -1], [0, 0, 0], [1, 2, 1]],
    "vertical_edges": [[-1, 0, 1], [-2, 0, 2], [-1, 0, 1]],
}  # fmt: skip


class PhotoFilters(nn.Module):
    """Convolutions and poolings beside each other, each on the grey image (N, 1, H, W).

    The filters keep the image's size (padding 1); `vertical_edges` stands there again with other
    padding and stride.
    """

    def __init__(self) -> None:
        super().__init__()
        for name in _KERNELS:
            self.add_module(name, _filter(name, padding=1))
        self.no_padding = _filter("vertical_edges")
        self.padding_2 = _filter("vertical_edges", padding=2)
        self.stride_2 = _filter("vertical_edges", padding=1, stride=2)
        self.stride_4 = _filter("vertical_edges", padding=1, stride=4)
        self.max_pool_2 = nn.MaxPool2d(2)
        self.max_pool_8 = nn.MaxPool2d(8)
        self.average_pool_2 = nn.AvgPool2d(2)
        self.average_pool_8 = nn.AvgPool2d(8)

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """Run every layer on the image; gives what the last one gives."""
        for layer in self.children():
            output = layer(input)
        return output


def photo_filters() -> SavedModel:
    """The filters, which take photographs of any size; a command names them by this function."""
    return SavedModel(PhotoFilters().eval(), "features", preprocessing=Preprocessing("gray"))


def _filter(name: str, padding: int = 0, stride: int = 1) -> nn.Conv2d:
    layer = nn.Conv2d(1, 1, 3, stride, padding, bias=False)
    layer.weight = nn.Parameter(torch.tensor(_KERNELS[name]).float()[None, None])
    return layer
