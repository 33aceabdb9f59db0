"""Kinds of task that read marked texts, what a model has kept, how fast it is, and rubrics."""
