"""Measures: numbers with their uncertainty."""
