"""Doses in text: what is prescribed or advised, and how it stands to the largest labelled doses."""
