"""How good a classifier is: counted, calibrated, and written to a folder."""

from .files import read_evaluation, write_evaluation
from .outcomes import Outcomes, concatenate_outcomes, outcomes
from .results import Bin, ClassResult, Evaluation, Mistake, summarize
from .run import evaluate

__all__ = [
    "Bin",
    "ClassResult",
    "Evaluation",
    "Mistake",
    "Outcomes",
    "concatenate_outcomes",
    "evaluate",
    "outcomes",
    "read_evaluation",
    "summarize",
    "write_evaluation",
]
