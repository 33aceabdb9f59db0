"""Writing answers with transformers: how tokens are chosen, one answer, and many together."""
