"""Filters with known weights, which show what a convolution does to a photograph.

The network is not for training: every layer runs on the image itself, so that their feature maps
can be compared (`torchlift plot feature-maps`).
"""

from __future__ import annotations

import torch
from torch import nn

from ...converters.images.preprocessing import Preprocessing
from ...converters.saved import SavedModel

#: Common 3×3 filters of image processing (Gonzalez and Woods, Digital Image Processing).
_KERNELS = {
    "blur": [[1 / 9, 1 / 9, 1 / 9], [1 / 9, 1 / 9, 1 / 9], [1 / 9, 1 / 9, 1 / 9]],
    "sharpen": [[0, -1, 0], [-1, 5, -1], [0, -1, 0]],
    "outline": [[-1, -1, -1], [-1, 8, -1], [-1, -1, -1]],
    # Sobel filters; they respond to changes from dark to bright, downwards and to the right.
    "horizontal_edges": [[-1, -2, -1], [0, 0, 0], [1, 2, 1]],
    "vertical_edges": [[-1, 0, 1], [-2, 0, 2], [-1, 0, 1]],
}  # fmt: skip


class PhotoFilters(nn.Module):
    """Convolution and pooling layers, each of which runs on the gray image (N, 1, H, W).

    The filters keep the size of the image (padding 1). Further layers repeat `vertical_edges` with
    other paddings and strides.
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
        """Run every layer on the image, and return the output of the last one."""
        outputs: list[torch.Tensor] = [layer(input) for layer in self.children()]
        return outputs[-1]


def photo_filters() -> SavedModel:
    """Return the filters as a model; commands name it `python:…photo_filters:photo_filters`."""
    return SavedModel(PhotoFilters().eval(), "features", preprocessing=Preprocessing("gray"))


def _filter(name: str, padding: int = 0, stride: int = 1) -> nn.Conv2d:
    layer = nn.Conv2d(1, 1, 3, stride, padding, bias=False)
    layer.weight = nn.Parameter(torch.tensor(_KERNELS[name]).float()[None, None])
    return layer
