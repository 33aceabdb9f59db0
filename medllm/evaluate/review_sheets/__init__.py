"""Blinded sheets: outputs of several models side by side, rated by people, and read back."""
