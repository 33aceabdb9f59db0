"""GGUF files: their types, their importance matrix, and what lies beside them."""
