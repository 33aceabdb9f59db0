"""Measurements in text: what was measured, its value in the usual unit, and where it stands."""
