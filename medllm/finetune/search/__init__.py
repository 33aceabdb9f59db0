"""The search for good settings: trials, each a training."""
