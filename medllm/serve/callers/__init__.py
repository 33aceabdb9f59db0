"""Who may ask: keys and their limits, and the access of requests."""
