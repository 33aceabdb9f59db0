"""merge: an adapter folded into its base, and proven right."""
