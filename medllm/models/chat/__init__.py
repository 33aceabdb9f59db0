"""Messages → text → token ids, as a model's chat template has it."""
