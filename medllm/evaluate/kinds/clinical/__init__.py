"""Kinds of clinical tasks, whose answers are held against medical knowledge."""
