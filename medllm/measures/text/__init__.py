"""Measures of a written answer beside its reference and its source; all are pure functions."""
