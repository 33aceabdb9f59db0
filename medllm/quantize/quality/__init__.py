"""What a quantized model lost against its parent, and what to try next."""
