"""The mean and the standard deviation of a metric over several seeds."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Spread:
    """A metric of several runs that differ in their seed alone.

    Attributes:
        average: The mean.
        deviation: The sample standard deviation, with n - 1 in the denominator; None for one run.
        count: The number of runs, n.
    """

    average: float
    deviation: float | None
    count: int

    @classmethod
    def of(cls, values: Iterable[float]) -> Spread:
        """Return the spread of one value or more.

        Example:
            >>> Spread.of([0.5, 1.0])
            Spread(average=0.75, deviation=0.3535533905932738, count=2)
        """
        numbers = list(values)
        if not all(map(math.isfinite, numbers)):
            return cls(math.nan, math.nan if len(numbers) > 1 else None, len(numbers))
        deviation = statistics.stdev(numbers) if len(numbers) > 1 else None
        return cls(statistics.fmean(numbers), deviation, len(numbers))

    def to_json(self, metric: str) -> dict[str, Any]:
        """Return the spread of a metric as JSON values."""
        return {
            "metric": metric,
            "average": self.average,
            "deviation": self.deviation,
            "count": self.count,
        }

    def text(self, decimals: int = 4) -> str:
        """Return the spread for people.

        Example:
            >>> Spread(0.75, 0.3536, 2).text(), Spread(12.5, None, 1).text(1)
            ('0.7500 ± 0.3536', '12.5')
        """
        known = [each for each in (self.average, self.deviation) if each is not None]
        return " ± ".join(fixed(each, decimals) for each in known)


def fixed(value: float, decimals: int) -> str:
    """Return a number with so many decimals, unless it is too large to be of use with them.

    Example:
        >>> fixed(0.5, 4), fixed(26205459449897.0, 4)
        ('0.5000', '2.621e+13')
    """
    return f"{value:.{decimals}f}" if abs(value) < 1e5 or value != value else f"{value:.4g}"
