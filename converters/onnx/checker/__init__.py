"""Comparing an ONNX file with the model that it should be."""

from .check import check
from .profiles import PROFILES, Profile
from .report import CheckReport, write_check_report

__all__ = ["PROFILES", "CheckReport", "Profile", "check", "write_check_report"]
