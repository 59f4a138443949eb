"""What differs between two files: `.t7`, the folder of a saved model, `.onnx`."""

from .differences import Difference
from .files import Comparison, compare_files

__all__ = ["Comparison", "Difference", "compare_files"]
