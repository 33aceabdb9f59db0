"""Configuration: one YAML dialect, one loader, strict models."""
