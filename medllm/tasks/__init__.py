"""Tasks: the words that put a row to a model, and how its answer is scored."""
