"""Engines: how a model answers and how it scores, behind one protocol."""
