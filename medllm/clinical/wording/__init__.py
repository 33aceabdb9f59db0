"""How an answer is written: look-alike names, abbreviations, unknown words, its language."""
