"""The libraries that several formats are made with."""
