"""Examples → the token ids and labels that a training reads."""
