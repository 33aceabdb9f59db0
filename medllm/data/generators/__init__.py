"""Datasets that are written on the spot, of a seed."""
