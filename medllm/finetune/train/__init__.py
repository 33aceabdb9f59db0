"""One training: its base, its adapter, its trainer, and what watches it."""
