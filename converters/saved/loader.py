"""Reading `model.safetensors` with torch alone: every `model.py` contains these definitions.

`folder.load` reads the same file with the package safetensors, and checks more.
"""

from __future__ import annotations

import json
from pathlib import Path

import torch
from torch import nn

DTYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}


def read_tensors(file: Path) -> dict[str, torch.Tensor]:
    """Read the tensors of a safetensors file: a JSON header, then the values of all tensors."""
    content = bytearray(file.read_bytes())
    start = 8 + int.from_bytes(content[:8], "little")
    header = json.loads(content[8:start])
    header.pop("__metadata__", None)
    data, tensors = torch.frombuffer(content, dtype=torch.uint8), {}
    for name, entry in header.items():
        dtype, shape = DTYPES[entry["dtype"]], entry["shape"]
        first, last = (start + offset for offset in entry["data_offsets"])
        # The copy is aligned: matrix products of unaligned values round differently.
        tensors[name] = data[first:last].clone().view(dtype).reshape(shape)
    return tensors


def fill(
    network: nn.Module,
    tensors: dict[str, torch.Tensor],
    tied: dict[str, str],
) -> nn.Module:
    """Assign the tensors to a network; tied names share one tensor."""
    for name, _ in network.named_parameters():
        if name in tensors:
            tensors[name] = nn.Parameter(tensors[name])
    for name, first in tied.items():
        tensors[name] = tensors[first]
    network.load_state_dict(tensors, assign=True)
    return network.eval()
