"""Kinds whose answers are compared with a reference text."""
