"""What is inside a `.t7`, told without torch and without reading a tensor: `torchlift inspect`."""

from .layers import Layer
from .report import Inspection, inspect, inspect_value
from .storage_usage import Bytes
from .tree import Node, describe, value_tree

__all__ = [
    "Bytes",
    "Inspection",
    "Layer",
    "Node",
    "describe",
    "inspect",
    "inspect_value",
    "value_tree",
]
