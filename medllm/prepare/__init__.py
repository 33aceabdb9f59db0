"""prepare: datasets → train, validation and test files of Examples."""
