"""Inspect the contents of a `.t7` without torch and without reading tensors."""

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
