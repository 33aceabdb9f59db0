"""Measurements in text: what was measured, its value in the usual unit, and where it stands."""

from medllm.clinical.measurements.finding import find_measurements
from medllm.clinical.measurements.measurement import Measurement

__all__ = ["Measurement", "find_measurements"]
