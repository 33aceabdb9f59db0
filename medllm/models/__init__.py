"""Models: finding, loading and prompting them."""
