"""A text as the rules read it: folded, in words and sentences, with the way back."""
