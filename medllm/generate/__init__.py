"""generate: a model's answers to one prompt or to a file of prompts."""
