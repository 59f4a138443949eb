"""Checking that an `.onnx` file computes what its model computes."""

from .check import check
from .profiles import PROFILES, Profile
from .report import CheckReport, write_check_report

__all__ = ["PROFILES", "CheckReport", "Profile", "check", "write_check_report"]
