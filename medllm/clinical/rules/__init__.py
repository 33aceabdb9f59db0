"""The rules: rows with their sources, as they ship and as a hospital adds them."""
