"""One module a format: `check_ahead` says what can be known early, `make` makes it."""
