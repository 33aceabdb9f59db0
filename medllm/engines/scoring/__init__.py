"""Scoring with transformers: what is read once, what is read together, and the passes."""
