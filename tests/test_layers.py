"""The contract of every converter: Torch7's outputs and gradients for Torch7's inputs.

Torch7 computed and wrote each case of `fixtures/layers` in float32. Tolerances are relative to the
largest expected value: 1e-5 for outputs and 1e-4 for gradients, which allows another order of
summation.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from recorded_support import compare_with_torch7
from support import FIXTURES, proof

from torchlift.converters import t7
from torchlift.converters.modules import convert_recorded

FAMILIES = sorted(
    path.stem for path in (FIXTURES / "layers").glob("*.t7") if path.stem != "criterions"
)


def cases() -> list[Any]:
    return [
        pytest.param(case, id=f"{family}-{case['name']}")
        for family in FAMILIES
        for case in t7.load(FIXTURES / "layers" / f"{family}.t7").values()
    ]


@pytest.mark.parametrize("case", cases())
def test_outputs_and_gradients_equal_torch7(
    case: t7.LuaTable, record_property: Callable[[str, object], None]
) -> None:
    conversion = convert_recorded(case["module"])
    for kind, reason in compare_with_torch7(conversion, case).items():
        record_property("proved", proof(conversion, case["class"], kind, reason))
