"""serve: a model behind an OpenAI-compatible address."""
