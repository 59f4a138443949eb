"""How good a classifier is: counted, calibrated, written down and drawn."""

from .files import read_evaluation, write_evaluation
from .outcomes import Outcomes, outcomes, together
from .results import Bin, ClassResult, Evaluation, Mistake, summarized
from .run import evaluate

__all__ = [
    "Bin",
    "ClassResult",
    "Evaluation",
    "Mistake",
    "Outcomes",
    "evaluate",
    "outcomes",
    "read_evaluation",
    "summarized",
    "together",
    "write_evaluation",
]
